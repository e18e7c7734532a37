"""The packages of built tools: resolved once, installed once per lock, and reinstalled if they are missing.

    ROOT/5f0c…/site/           what the tool's sandbox can read and import
              /manifest.json   the lock, and the hash of every file
        /.locks/5f0c….lock     held during installation

A folder is named after the lock and the Python version. Tools with the same lock share it; nothing is ever
installed into orch's own environment. A folder is built beside its place, renamed, and compared with its
manifest before use, so a partial installation or a changed file is never used: it is installed again.

Only wheels are installed, because building from source would run a package's code on the host. `uv` does the
work and finds the index through the user's own configuration. It runs in the root folder, so no file of a
workspace can configure it. What is in its cache is installed without a connection.

Nothing of a package is imported or run here. Right after an installation every file must match the package's
RECORD; later, files are compared with the manifest.

Not covered: whether a package does what its name promises, which is why its code runs in the tool's sandbox;
and someone who changes both a file and the manifest.
"""

import base64
import hashlib
import inspect
import json
import os
import re
import secrets
import shutil
import sys
import sysconfig
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import distributions
from pathlib import Path
from typing import Protocol

from orchestrator_cli.durable.locks import LockTimeout, acquire
from orchestrator_cli.durable.text import truncate
from toolsmith.errors import PackagesUnavailable
from toolsmith.permissions import Installation, PackageLock, read_lock

PATIENCE_S = 600.0
REASON_CHARS = 600
_UNREACHED = 2
"""uv's exit code if it could not reach the index; 1 means that no versions fit."""
_BINARY = ("--only-binary", ":all:")
_PLACED = ("--link-mode", "copy", "--compile-bytecode")
"""Copies, since a link into uv's cache would let a change here become a change there. Compiled, which runs
nothing of it, since no sandbox can keep what it compiles and each would do it again."""
_SOURCE = re.compile(r"no (?:usable|compatible|matching)? ?wheels|source distribution|building from source")
_ADDRESS = re.compile(r"\b[a-z][a-z0-9+.-]{0,30}://[^\s`'\")]+|(?<![\w.])/(?:[\w.@+-]+/)+[\w.@+-]*")


class ProgramResult(Protocol):
    """The result of a program."""

    @property
    def code(self) -> int: ...

    @property
    def out(self) -> str: ...

    @property
    def err(self) -> str: ...


Command = Callable[[Sequence[str], str], ProgramResult]
"""Runs a program in the root folder with a text on its standard input; what it raises passes through."""


class Packages:
    """The installed packages below one folder. Every method may be called from any thread and process."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._sound: dict[Path, tuple[str, Installation]] = {}
        """Installations that this process has compared with their manifest, with the stamp of their files."""

    def resolve(self, wanted: Sequence[str], run: Command) -> PackageLock:
        """The newest versions that fit together, with all that they depend on.

        Raises `PackagesUnavailable` if there are none, or one of them has no wheel.
        """
        options = ("pip", "compile", "-", "--generate-hashes", "--no-annotate", "--no-header")
        hidden = ("--no-emit-index-url", "--no-emit-find-links")
        names = ", ".join(wanted)
        ran = self._uv(run, (*options, *hidden, *_BINARY), "\n".join(wanted))
        if ran.code:
            unreached = "; make the package index reachable, and try again" if ran.code == _UNREACHED else ""
            raise PackagesUnavailable(f"the packages {names} cannot be had: {_reason(ran.err)}{unreached}")
        try:
            return read_lock(ran.out)
        except ValueError as exc:
            raise PackagesUnavailable(f"the packages {names} cannot be locked: {exc}") from exc

    def ensure(self, lock: PackageLock, run: Command) -> Installation:
        """The packages of a lock, installed if they are missing or changed.

        Raises `PackagesUnavailable` if that fails.
        """
        # Another Python, or another kind of machine, needs other files of the same packages.
        python = f"{sys.implementation.cache_tag} {sysconfig.get_platform()}"
        place = self.root / hashlib.sha256("\n".join([python, *lock.lines]).encode()).hexdigest()[:32]
        if there := self._there(place, lock):
            return there
        try:
            with self._making(place):
                if fault := _fault(place, lock):
                    self._make(place, lock, run, fault)
        except OSError as exc:
            raise PackagesUnavailable(f"the folder of packages cannot be written: {exc.strerror}") from exc
        if there := self._there(place, lock):
            return there
        raise PackagesUnavailable("its packages were changed while they were installed; try again")

    def _there(self, place: Path, lock: PackageLock) -> Installation | None:
        """The installation, if it is whole. Files are read once; later their metadata shows changes."""
        site = place / "site"
        try:
            stamp = _stamp(site)
            known = self._sound.get(place)
            if known is None or known[0] != stamp:
                if _fault(place, lock):
                    return None
                known = stamp, Installation(site, _module_names(site), lock)
                self._sound[place] = known
            return known[1]
        except OSError:
            return None

    def _make(self, place: Path, lock: PackageLock, run: Command, fault: str) -> None:
        for left in self.root.glob(f".{place.name}-*"):
            shutil.rmtree(left, ignore_errors=True)  # by a process that died here: the lock is ours now
        scratch = self.root / f".{place.name}-{secrets.token_hex(4)}"
        site, before = scratch / "site", scratch.with_name(f"{scratch.name}-before")
        site.mkdir(parents=True)
        try:
            self._install(site, lock, run, fault)
            taken = _file_hashes(site)
            manifest = json.dumps({"lock": list(lock.lines), "files": taken}, indent=1)
            (scratch / "manifest.json").write_text(manifest, encoding="utf-8")
            if place.exists():
                place.rename(before)
            scratch.rename(place)
        except Unsound as exc:
            raise PackagesUnavailable(f"the packages are not sound: {exc}; empty uv's cache") from exc
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
            shutil.rmtree(before, ignore_errors=True)

    def _install(self, site: Path, lock: PackageLock, run: Command, fault: str) -> None:
        options = ("pip", "install", "--require-hashes", "--no-deps", "-r", "-", "--target", str(site))
        ran = self._uv(run, (*options, *_BINARY, *_PLACED), "\n".join(lock.lines))
        if ran.code:
            problem = f"its packages ({', '.join(lock.versions)}) cannot be installed"
            remedy = "make the package index reachable, or have the tool built again"
            raise PackagesUnavailable(f"{problem} ({fault}): {_reason(ran.err)}; {remedy}")
        (site / ".lock").unlink(missing_ok=True)

    def _uv(self, run: Command, options: Sequence[str], given: str) -> ProgramResult:
        """The result of uv, from its cache if it could not reach the index."""
        from uv import find_uv_bin

        try:
            program = find_uv_bin()
        except FileNotFoundError as exc:
            raise PackagesUnavailable("uv is not installed beside orch; install orch again") from exc
        argv = (program, *options, "--python", sys.executable, "--quiet", "--color", "never")
        ran = run(argv, f"{given}\n")
        if ran.code != _UNREACHED:
            return ran
        again = run((*argv, "--offline"), f"{given}\n")
        return ran if again.code else again

    @contextmanager
    def _making(self, place: Path) -> Iterator[None]:
        file = self.root / ".locks" / f"{place.name}.lock"
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock = acquire(file, wait_s=PATIENCE_S, poll_s=0.05)
        except LockTimeout as exc:
            raise PackagesUnavailable(
                f"another process has been installing {place.name} for {PATIENCE_S:g} s; end it"
            ) from exc
        except OSError as exc:
            raise PackagesUnavailable(f"{file} cannot be locked: {exc.strerror}") from exc
        with lock:
            yield


def _fault(place: Path, lock: PackageLock) -> str:
    """Why the folder of a lock is not as it was made; empty if it is."""
    try:
        manifest = json.loads((place / "manifest.json").read_bytes())
        if manifest["lock"] != list(lock.lines):
            return "their manifest is of other packages"
        return _difference(place / "site", manifest["files"])
    except FileNotFoundError:
        return "they are not installed"
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return "their manifest cannot be read"


def _reason(said: str) -> str:
    """uv's message in one line, without addresses, because an index address may contain a password."""
    lines = (line.strip().removeprefix("error:").removeprefix("cause:").strip() for line in said.splitlines())
    text = _ADDRESS.sub("[address]", " ".join(filter(None, lines)))
    if _SOURCE.search(text):
        text = f"only wheels are installed, since to build a package runs its code on the host: {text}"
    return truncate(text, REASON_CHARS)


# --- what is installed


class Unsound(Exception):
    """A folder of packages is not sound; the text says why, without the folder's name."""


def _file_hashes(folder: Path) -> dict[str, str]:
    """The SHA-256 of every file, by its path in the folder. Raises `Unsound`, `OSError`."""
    found = dict(_hashes(folder))
    for package in distributions(path=[str(folder)]):
        for file in package.files or ():
            if file.hash is None:
                continue
            try:  # RECORD has base64 without its padding.
                packed = base64.urlsafe_b64decode(file.hash.value + "=" * (-len(file.hash.value) % 4))
            except ValueError:
                packed = b""
            if found.get(str(file)) != packed.hex():
                raise Unsound(f"the file {file} of {package.name} is not the one that was packed")
    return found


def _difference(folder: Path, taken: Mapping[str, str]) -> str:
    """The first difference of a folder from its manifest; empty if there is none."""
    try:
        found = dict(_hashes(folder))
    except Unsound as exc:
        return str(exc)
    except OSError as exc:
        return f"it cannot be read: {exc.strerror}"
    if lacking := sorted(taken.keys() - found.keys()):
        return f"the file {lacking[0]} is missing"
    if strange := sorted(found.keys() - taken.keys()):
        return f"the file {strange[0]} was added"
    changed = sorted(path for path, value in taken.items() if found[path] != value)
    return f"the file {changed[0]} was changed" if changed else ""


def _stamp(folder: Path) -> str:
    """A hash of the metadata of every file. While it is the same, nothing was changed.

    It is valid in this process only, because inode numbers and times mean nothing elsewhere.
    """
    digest = hashlib.sha256()
    for place, _, files in os.walk(folder, onerror=_raise):
        for name in sorted(files):
            path = Path(place, name)
            seen = path.lstat()
            digest.update(
                f"{path}\0{seen.st_ino} {seen.st_size} {seen.st_mtime_ns} {seen.st_ctime_ns}\n".encode()
            )
    return digest.hexdigest()


def _module_names(folder: Path) -> frozenset[str]:
    """The names that the packages in a folder are imported by, at their top."""
    names: set[str | None] = set()
    for file in (file for package in distributions(path=[str(folder)]) for file in package.files or ()):
        if len(file.parts) == 1:
            names.add(inspect.getmodulename(file.name))
        elif file.suffix in (".py", ".so", ".pyd"):
            names.add(file.parts[0])
    return frozenset(name for name in names if name and name.isidentifier())


def _hashes(folder: Path) -> Iterator[tuple[str, str]]:
    for place, folders, files in os.walk(folder, onerror=_raise):
        for name in (*folders, *files):
            path = Path(place, name)
            if path.is_symlink() or not (path.is_file() or path.is_dir()):
                raise Unsound(f"{path.relative_to(folder)} is neither a file nor a folder")
        for name in files:
            path = Path(place, name)
            with path.open("rb") as content:
                yield path.relative_to(folder).as_posix(), hashlib.file_digest(content, "sha256").hexdigest()


def _raise(error: OSError) -> None:
    raise error
