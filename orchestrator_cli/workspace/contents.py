"""What programs execute or fetch of the content of a file, and whether it holds a secret."""

import contextlib
import os
import re
from collections.abc import Set
from dataclasses import asdict

from orchestrator_cli.cancellation import Cancellation
from orchestrator_cli.errors import WorkspaceFault
from orchestrator_cli.subprocesses.limited import CallLimits, LimitedCalls
from orchestrator_cli.tools.file_names import FileRule, canonical
from orchestrator_cli.tools.manifests import manifest_keys
from orchestrator_cli.workspace.file_state import FileStat
from orchestrator_cli.workspace.tree import Root

MAX_BYTES = 1 << 20
MAX_LOCK_BYTES = 64 << 20
"""Larger files are not read, so that any change of them counts."""
MAX_KEY_BYTES = 64 << 10
LIMITS = CallLimits(call_s=5, whole_s=20, cpu_s=10, memory_mb=1024)
"""For the manifests of one check."""
MARKS = re.compile(
    rb"PRIVATE KEY( BLOCK)?-----|PuTTY-User-Key-File-|AGE-SECRET-KEY-1|^[^\S\n]*client-key-data:",
    re.MULTILINE,
)
"""What a file holds that is hidden, unless the run made it."""
KEYS = (".key", ".pem")
"""Endings of names of keys. Those below, others with `key`, and names without an ending count too, except
for the data of tests."""
MAYBE_KEYS = re.compile(
    r"|\.(json|p8|pk8|rsa|ed25519|ecdsa|asc|ovpn|conf|cfg|bak|old|txt|ya?ml)", re.IGNORECASE
)
SAMPLES = re.compile(r"(^|/)(tests?|testing|testdata|fixtures|specs?|node_modules)/", re.IGNORECASE)


def holds_secret(tree: Root, path: str, state: FileStat) -> bool:
    """Whether a file holds a private key, by its first bytes, if a key may have such a name."""
    if not state.is_file or state.size > MAX_KEY_BYTES:
        return False
    suffix = os.path.splitext(path)[1].lower()  # noqa: PTH122 - of each file of a workspace
    may_be_one = "key" in suffix or MAYBE_KEYS.fullmatch(suffix)
    if not path.lower().endswith(KEYS) and (not may_be_one or SAMPLES.search(path)):
        return False
    with contextlib.suppress(OSError, WorkspaceFault), os.fdopen(tree.open_file(path), "rb") as file:
        return MARKS.search(file.read(4096)) is not None
    return False


def _content(tree: Root, path: str, limit: int) -> bytes | None:
    """The content of a file, empty if it is not there; None if it cannot be read, or is larger."""
    try:
        with os.fdopen(tree.open_file(path), "rb") as file:
            content = file.read(limit + 1)
    except (FileNotFoundError, NotADirectoryError):
        return b""
    except (OSError, WorkspaceFault):
        return None
    return content if len(content) <= limit else None


class ManifestReader:
    """Reads what programs execute of manifests, for one check of a commit.

    They are parsed in a process with limits, which the first of them starts and leaving the context ends.
    """

    def __init__(self, cancellation: Cancellation | None = None) -> None:
        self._calls = LimitedCalls(manifest_keys, LIMITS, cancellation)

    def executed_keys(self, tree: Root, path: str, rule: FileRule) -> object:
        """What a program executes of a file; a value like no other if it cannot be understood in time.

        Readers differ: what one of them may take for such a key or section counts.
        """
        content = _content(tree, path, MAX_BYTES)
        if content == b"":
            return {}
        try:
            return self._calls((content or b"\xff").decode("utf-8-sig"), asdict(rule))
        except ValueError:
            return content, object()

    def __enter__(self) -> "ManifestReader":
        return self

    def __exit__(self, *_: object) -> None:
        self._calls.close()


_HOST = re.compile(
    rb"""(?<=[a-z0-9+.-])://(?:[^/\s"'@]*@)?([^/\s"'?#]+)|\bgit@([\w.-]+):"""
    rb"""|\bfile:(?!//[^/\s"'?#])([^\s"']+)""",
    re.IGNORECASE,
)


REGISTRIES = frozenset(
    b"registry.npmjs.org registry.yarnpkg.com jsr.io npm.jsr.io pypi.org files.pythonhosted.org "
    b"index.crates.io static.crates.io rubygems.org repo.packagist.org repo.hex.pm pub.dev deno.land".split()
)
"""The sites that the locks of a new project name."""
_CRATES = b"https://github.com/rust-lang/crates.io-index"
_FUNDING = re.compile(rb'"url"\s*:\s*"[^"]*"')
_ESCAPED = re.compile(rb"\\u00([0-7][0-9a-f])", re.IGNORECASE)


def sites(tree: Root, path: str) -> Set[bytes] | None:
    """The sites and folders that a file names; None if it cannot be parsed."""
    content = _content(tree, path, MAX_LOCK_BYTES)
    if content is None:
        return None
    content = _ESCAPED.sub(lambda found: bytes([int(found[1], 16)]), content.replace(b"\\/", b"/"))
    if canonical(path.rpartition("/")[2]) in ("package-lock.json", "npm-shrinkwrap.json"):
        content = _FUNDING.sub(b"", content)  # npm only shows these
    return {b"".join(host).lower() for host in _HOST.findall(content.replace(_CRATES, b""))}


def marked_lines(tree: Root, path: str, rule: FileRule) -> set[str] | None:
    """The lines of a file that a rule is about; None if it cannot be read, or is too large."""
    content = _content(tree, path, MAX_BYTES)
    try:
        # What continues a line belongs to it, and readers take more than line feeds for its end.
        text = re.sub(r"\\\r?\n", "", (b"\xff" if content is None else content).decode("utf-8-sig"))
    except ValueError:
        return None
    return {line.strip() for line in text.splitlines() if re.match(rule.lines, line, re.IGNORECASE)}
