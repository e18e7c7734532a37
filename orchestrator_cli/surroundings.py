"""Where a run happens, as models see it: date, system, Python, git, and how the project's tests are run.

Files of the folder are read as data and in bounds; no program of the folder or of git runs, because both do
what the folder's settings say. Names that come from the folder are the folder's words.

Not covered: a repository that the workspace is only a part of, untracked and staged files, and filters of
git, which make an unchanged file look changed.
"""

import hashlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import re
import stat
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict

from orchestrator_cli.durable.foreign import excerpt

PACKAGES = (
    *("numpy", "pandas", "polars", "scipy", "sklearn", "matplotlib", "PIL", "openpyxl", "pypdf", "docx"),
    *("requests", "httpx", "bs4", "lxml", "yaml", "jinja2", "pydantic", "jsonschema", "sqlalchemy", "pytest"),
)
"""Modules that models like to import, and that are named if they are there."""
VERSIONED = {name: name for name in ("numpy", "pandas", "polars", "scipy", "matplotlib", "pydantic")} | {
    "sklearn": "scikit-learn",
    "sqlalchemy": "SQLAlchemy",
}
"""Those of which models know several versions that differ in use, with their packages."""
OCCASION_CHARS = 20_000
FILE_BYTES, INDEX_BYTES, HASHED_BYTES = 256 << 10, 16 << 20, 4 << 20
TRACKED_FILES = 5_000
"""More are not looked at: the planner's request waits for it, 30 ms for so many."""
_NAME = r"[A-Za-z0-9][\w:.-]{0,39}"
_TOX = r"^\[pytest\]|^(commands[ \t]*=)?[ \t]*(python -m )?pytest\b"
"""A table of pytest's, or a line of tox's commands or dependencies that begins with it."""
_LINK, _SUBMODULE = 0o120000, 0o160000


class Surroundings(BaseModel):
    """What is said of a run's place and time. The defaults are those of a run on recorded replies."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    now: str = "Thursday, 2026-01-01, 12:00"
    zone: str = "UTC"
    system: str = "Linux"
    python: str = "3"
    packages: tuple[str, ...] = ()
    """Well-known modules that code may import besides the standard library, some with their version."""
    has_git: bool = False
    branch: str = ""
    """Of the workspace; empty if it has none."""
    is_changed: bool | None = None
    """Whether tracked files differ from git's index; None if that is not known."""
    tests: tuple[str, ...] = ()
    """The commands that run the project's tests."""
    occasion: str = ""
    """What set a run of a schedule off, such as the body of a request: foreign text."""

    @property
    def shown_occasion(self) -> str:
        """As models see it; a process is given all of it."""
        return excerpt(self.occasion, OCCASION_CHARS)


def surroundings_of(root: Path) -> Surroundings:
    """Those of a workspace, now."""
    now, git = datetime.now().astimezone(), root / ".git"
    head = _text(git / "HEAD").strip()
    return Surroundings(
        now=f"{now:%A, %Y-%m-%d, %H:%M}",
        zone=f"{now.tzname()} (UTC{now:%z})",
        system=f"{platform.system()} {platform.machine()}",
        python=platform.python_version(),
        packages=tuple(map(_with_version, filter(importlib.util.find_spec, PACKAGES))),
        has_git=bool(head),
        branch=head.removeprefix("ref: refs/heads/")[:100] if head.startswith("ref: refs/heads/") else "",
        is_changed=_is_changed(root) if head else None,
        tests=tuple(dict.fromkeys(_test_commands(root))),
    )


def _with_version(module: str) -> str:
    with suppress(importlib.metadata.PackageNotFoundError):
        if module in VERSIONED:
            major, minor = importlib.metadata.version(VERSIONED[module]).split(".")[:2]
            return f"{module} {major}.{minor}"
    return module


def _test_commands(root: Path) -> Iterator[str]:
    """From the names in the project's files."""
    ini = {"pyproject.toml": r"\[tool\.pytest", "setup.cfg": r"\[tool:pytest\]", "tox.ini": _TOX}
    matches = (re.search(part, _text(root / name), re.MULTILINE) for name, part in ini.items())
    if (root / "pytest.ini").exists() or any(matches):
        yield "pytest"
    with suppress(ValueError, RecursionError):
        found = json.loads(_text(root / "package.json") or "{}")
        scripts = found.get("scripts") if isinstance(found, dict) else None
        names = scripts if isinstance(scripts, dict) else {}
        yield from (f"npm run {name}" for name in names if "test" in name and re.fullmatch(_NAME, name))
    targets = re.findall(rf"^({_NAME})\s*:(?!=)", _text(root / "Makefile"), re.MULTILINE)
    yield from (f"make {name}" for name in targets if "test" in name or name == "check")
    for name, command in {"Cargo.toml": "cargo test", "go.mod": "go test ./...", "noxfile.py": "nox"}.items():
        if _text(root / name):
            yield command


# --- git's index


class _TrackedFile(NamedTuple):
    """A tracked file as git's index has it."""

    path: str
    mode: int
    size: int
    mtime: tuple[int, int]
    """Seconds and nanoseconds."""
    sha: bytes


def _is_changed(root: Path) -> bool | None:
    """Whether a tracked file is gone or differs; None if git's index does not tell."""
    try:
        entries = list(_entries(_bytes(root / ".git" / "index", INDEX_BYTES)))
        seen = [(entry, _differs(root, entry)) for entry in entries]
    except (OSError, ValueError, IndexError):
        return None
    if any(verdict for _, verdict in seen):
        return True
    unsure = [entry for entry, verdict in seen if verdict is None]
    if sum(entry.size for entry in unsure) > HASHED_BYTES:
        return None
    return any(_blob(_bytes(root / entry.path, entry.size)) != entry.sha for entry in unsure)


def _differs(root: Path, entry: _TrackedFile) -> bool | None:
    """None if only the content tells: another time, and the same size."""
    try:
        state = (root / entry.path).lstat()
    except (FileNotFoundError, NotADirectoryError):
        return True
    if entry.mode == _LINK:
        return not stat.S_ISLNK(state.st_mode)
    if not stat.S_ISREG(state.st_mode) or state.st_size & 0xFFFFFFFF != entry.size:
        return True
    return False if divmod(state.st_mtime_ns, 10**9) == entry.mtime else None


def _blob(content: bytes) -> bytes:
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).digest()


def _entries(data: bytes) -> Iterator[_TrackedFile]:
    """The tracked files. Raises `ValueError` and `IndexError`."""
    version, count = int.from_bytes(data[4:8]), int.from_bytes(data[8:12])
    if data[:4] != b"DIRC" or version not in (2, 3):
        raise ValueError("no index that is understood")
    if count > TRACKED_FILES:
        raise ValueError("too many files")
    at = 12
    for _ in range(count):
        numbers = [int.from_bytes(data[at + n : at + n + 4]) for n in range(0, 40, 4)]
        flags = int.from_bytes(data[at + 60 : at + 62])
        is_extended = bool(flags & 0x4000)
        start = at + (64 if is_extended else 62)
        end = data.index(b"\0", start)
        path = os.fsdecode(data[start:end])
        if path.startswith("/") or ".." in path.split("/"):
            raise ValueError("a path that leads out")
        is_left_out = flags & 0x8000 or (is_extended and data[at + 62] & 0x40)
        if not is_left_out and numbers[6] != _SUBMODULE:
            yield _TrackedFile(
                path, numbers[6], numbers[9], (numbers[2], numbers[3]), data[at + 40 : at + 60]
            )
        at += (end - at + 8) & ~7


def _text(path: Path) -> str:
    return _bytes(path, FILE_BYTES).decode(errors="replace")


def _bytes(path: Path, most: int) -> bytes:
    """The beginning of a file; empty for what is none, or a link."""
    with suppress(OSError):
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(fd, "rb") as file:
            return file.read(most) if stat.S_ISREG(os.fstat(fd).st_mode) else b""
    return b""


def time_zone() -> str:
    """The name of this machine's time zone, such as `Europe/Berlin`; `UTC` if it has none."""
    _, found, name = str(Path("/etc/localtime").resolve()).partition("/zoneinfo/")
    return name if found else "UTC"
