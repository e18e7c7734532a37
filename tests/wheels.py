"""Wheels made on the spot, in a folder, and a package index for them on the loopback."""

import base64
import hashlib
import http.server
import io
import re
import subprocess
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MARK = "def shout(text):\n    from tinydep import END\n    return text.upper() + END\n"

SHOUTING: dict[str, Any] = {
    "name": "shout_text",
    "purpose": "Shout a text, with the package tinymark.",
    "inputs": {"text": {"type": "string", "description": "The text."}},
    "output_type": "string",
    "output_description": "The text in capitals, with the end that tinymark gives it.",
    "errors": [{"type": "ValueError", "when": "the text is empty"}],
    "packages": ["tinymark>=1.0"],
    "examples": [{"title": "a word", "arguments": {"text": "hello"}, "expected": "HELLO!"}],
}
SHOUTING_CASES = {
    "cases": [
        {"title": "capitals stay", "arguments": {"text": "Ab"}, "expected": "AB!"},
        {"title": "signs stay", "arguments": {"text": "a-b"}, "expected": "A-B!"},
        {"title": "nothing", "arguments": {"text": ""}, "error": "ValueError", "edge": True},
    ]
}
SHOUTING_CODE = '''from smolagents import tool
from tinymark import shout


@tool
def shout_text(text: str) -> str:
    """Shout a text.

    Args:
        text: The text.

    Returns:
        The text in capitals, with its end.
    """
    if not text:
        raise ValueError("the text is empty")
    return shout(text)
'''


def tiny(folder: Path) -> Path:
    """The folder with `tinymark` 1.0 and 1.2, which needs `tinydep`, and `tinysrc`, which has to be built."""
    for version, text in (("1.0", MARK.replace("upper", "title")), ("1.2", MARK)):
        wheel(folder, "tinymark", version, {"tinymark/__init__.py": text}, ["tinydep>=1"])
    wheel(folder, "tinydep", "1.0", {"tinydep.py": 'END = "!"\n'})
    source(folder, "tinysrc")
    return folder


def wheel(
    folder: Path,
    name: str,
    version: str,
    files: Mapping[str, str],
    needs: Sequence[str] = (),
    record: str = "",
) -> Path:
    """A wheel of pure Python. `record`: instead of its list of files."""
    info = f"{name}-{version}.dist-info"
    needed = "".join(f"Requires-Dist: {need}\n" for need in needs)
    whole = {
        **files,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needed}",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    rows = "".join(f"{path},sha256={_short(text)},{len(text.encode())}\n" for path, text in whole.items())
    folder.mkdir(parents=True, exist_ok=True)
    place = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(place, "w") as archive:
        for path, text in {**whole, f"{info}/RECORD": f"{record or rows}{info}/RECORD,,\n"}.items():
            archive.writestr(zipfile.ZipInfo(path), text)
    return place


def source(folder: Path, name: str) -> None:
    """A package without a wheel, which leaves a file beside itself when it is built."""
    files = {
        "PKG-INFO": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
        "setup.py": f"import pathlib\npathlib.Path({str(folder / 'built')!r}).touch()\n"
        f"from setuptools import setup\nsetup(name={name!r}, version='1.0')\n",
    }
    with tarfile.open(folder / f"{name}-1.0.tar.gz", "w:gz") as archive:
        for path, text in files.items():
            member = tarfile.TarInfo(f"{name}-1.0/{path}")
            member.size = len(text.encode())
            archive.addfile(member, io.BytesIO(text.encode()))


def environment(cache: Path, **index: str) -> dict[str, str]:
    """What makes uv see these wheels and nothing else: its own cache, and no configuration of the user."""
    fixed = {"PATH": "/usr/bin:/bin", "HOME": str(cache), "UV_NO_CONFIG": "1", "UV_HTTP_RETRIES": "0"}
    return {**fixed, "UV_CACHE_DIR": str(cache / "uv"), "no_proxy": "127.0.0.1", **index}


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """The address of an index with the files of a folder."""

    class Index(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args: object) -> None:
            super().__init__(*args, directory=str(folder))  # type: ignore[arg-type]

        def do_GET(self) -> None:
            asked = re.fullmatch(r"/simple/([a-z0-9-]+)/", self.path)
            if asked is None:
                return super().do_GET()
            found = [path for path in sorted(folder.iterdir()) if path.name.startswith(f"{asked[1]}-")]
            links = [f'<a href="/{p.name}#sha256={_digest(p)}">{p.name}</a>' for p in found]
            body = f"<!DOCTYPE html><html><body>{''.join(links)}</body></html>".encode()
            self.send_response(200 if found else 404)
            self.send_header("Content-Type", "text/html")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
            return None

        def log_message(self, *_: object) -> None:
            """Silent."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Index) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/simple"
        finally:
            server.shutdown()
            thread.join()


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _short(text: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()


@dataclass(frozen=True)
class Ended:
    """What a program gave."""

    code: int
    out: str
    err: str


def run_here(environment: Mapping[str, str]) -> Callable[[Sequence[str], str], Ended]:
    """Runs programs as children of this process, in an environment."""

    def run(argv: Sequence[str], given: str) -> Ended:
        own = dict(environment)
        ran = subprocess.run(argv, input=given, env=own, cwd="/", capture_output=True, text=True)
        return Ended(ran.returncode, ran.stdout, ran.stderr)

    return run
