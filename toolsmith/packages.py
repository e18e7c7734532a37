"""The packages of built tools: resolved once, installed for one lock each, and made again when they are gone.

    ROOT/5f0c…/site/           what the sandbox of a tool can read and import
              /manifest.json   the lock, and the hash of every file
        /.locks/5f0c….lock     held while that is made

A folder is named after the lock and the Python that it was installed for. Tools with the same lock share
it; nothing is ever installed into the environment that orch itself runs in. It is made beside its place and
renamed, and compared with its manifest before use, so that half an installation, or a file that was
changed, is never taken for the real one: it is made again from the lock.

Only wheels are installed. Building from source would run a package's code on the host, which is the one
thing that a sandbox for its use cannot make good. `uv` does the work and finds the index by the user's own
configuration; it runs in the root folder, so that no file of a workspace can tell it otherwise. What is
in its cache is installed without a connection.

Not covered: whether a package is what its name promises. Its code runs in the sandbox of its tool, with what
that tool was given.
"""

import hashlib
import json
import re
import secrets
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from orchestrator_cli.durable.locks import LockTimeout, acquire
from orchestrator_cli.durable.text import truncate
from toolsmith import installed
from toolsmith.errors import PackagesUnavailable
from toolsmith.requirements import PackageLock, read_lock

PATIENCE_S = 600.0
REASON_CHARS = 600
_UNREACHED = 2
"""uv's exit code where it is not the packages that are wrong; 1 says that no versions fit."""
_BINARY = ("--only-binary", ":all:")
_PLACED = ("--link-mode", "copy", "--compile-bytecode")
"""Copies, since a link into uv's cache would let a change here become a change there. Compiled, which runs
nothing of it, since no sandbox can keep what it compiles and each would do it again."""
_SOURCE = re.compile(r"no (?:usable|compatible|matching)? ?wheels|source distribution|building from source")
_ADDRESS = re.compile(r"\b[a-z][a-z0-9+.-]*://[^\s`'\")]+|(?<![\w.])/(?:[\w.@+-]+/)+[\w.@+-]*")


class Ran(Protocol):
    """What a program came to."""

    @property
    def code(self) -> int: ...

    @property
    def out(self) -> str: ...

    @property
    def err(self) -> str: ...


Command = Callable[[Sequence[str], str], Ran]
"""Runs a program in the root folder with a text on its standard input; what it raises passes through."""


@dataclass(frozen=True)
class Ended:
    """A `Ran` of `run_here`."""

    code: int
    out: str
    err: str


@dataclass(frozen=True)
class Installation:
    """Installed packages: where they are, how they are imported, and which they are."""

    folder: Path
    modules: frozenset[str]
    lock: PackageLock


class Packages:
    """The installed packages below one folder. Every method may be called from any thread and process."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._sound: dict[Path, tuple[str, Installation]] = {}
        """What this process has compared with its manifest, with the stamp of its files before that."""

    def resolve(self, wanted: Sequence[str], run: Command) -> PackageLock:
        """The newest versions that fit together, with all that they depend on.

        Raises `PackagesUnavailable` where there are none, and where one of them is no wheel.
        """
        options = ("pip", "compile", "-", "--generate-hashes", "--no-annotate", "--no-header")
        hidden = ("--no-emit-index-url", "--no-emit-find-links")
        told = ", ".join(wanted)
        ran = self._uv(run, (*options, *hidden, *_BINARY), "\n".join(wanted))
        if ran.code:
            unreached = "; make the package index reachable, and try again" if ran.code == _UNREACHED else ""
            raise PackagesUnavailable(f"the packages {told} cannot be had: {_reason(ran.err)}{unreached}")
        try:
            return read_lock(ran.out)
        except ValueError as exc:
            raise PackagesUnavailable(f"the packages {told} cannot be locked: {exc}") from exc

    def ensure(self, lock: PackageLock, run: Command) -> Installation:
        """The packages of a lock, installed now where they are not there as they were.

        Raises `PackagesUnavailable` where that cannot be done.
        """
        place = self.root / _key(lock)
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
        """What is installed, where it is whole. Files are read once; later the system tells of changes."""
        site = place / "site"
        try:
            stamp = installed.stamp(site)
            known = self._sound.get(place)
            if known is None or known[0] != stamp:
                if _fault(place, lock):
                    return None
                known = stamp, Installation(site, installed.modules(site), lock)
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
            taken = installed.take(site)
            manifest = json.dumps({"lock": list(lock.lines), "files": taken}, indent=1)
            (scratch / "manifest.json").write_text(manifest, encoding="utf-8")
            if place.exists():
                place.rename(before)
            scratch.rename(place)
        except installed.Unsound as exc:
            raise PackagesUnavailable(f"the packages are not sound: {exc}; empty uv's cache") from exc
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
            shutil.rmtree(before, ignore_errors=True)

    def _install(self, site: Path, lock: PackageLock, run: Command, fault: str) -> None:
        options = (
            "pip",
            "install",
            "--require-hashes",
            "--no-deps",
            *_BINARY,
            *_PLACED,
            "--target",
            str(site),
        )
        ran = self._uv(run, (*options, "-r", "-"), "\n".join(lock.lines))
        if ran.code:
            told = f"its packages ({', '.join(lock.versions)}) cannot be installed"
            remedy = "make the package index reachable, or have the tool built anew"
            raise PackagesUnavailable(f"{told} ({fault}): {_reason(ran.err)}; {remedy}")
        (site / ".lock").unlink(missing_ok=True)

    def _uv(self, run: Command, options: Sequence[str], given: str) -> Ran:
        """What uv came to; where it could not reach the index, from what it has in its cache."""
        from uv import find_uv_bin

        try:
            program = find_uv_bin()
        except FileNotFoundError as exc:
            raise PackagesUnavailable("uv is not installed beside orch; install orch anew") from exc
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


def run_here(environment: Mapping[str, str] | None = None) -> Command:
    """Runs programs as children of this process; without an environment they have this process's own."""

    def run(argv: Sequence[str], given: str) -> Ended:
        try:
            ran = subprocess.run(
                argv,
                input=given,
                env=None if environment is None else dict(environment),
                cwd="/",
                capture_output=True,
                text=True,
                check=False,
                timeout=PATIENCE_S,
            )
        except subprocess.TimeoutExpired as exc:
            raise PackagesUnavailable(f"the package index took longer than {PATIENCE_S:g} s") from exc
        return Ended(ran.returncode, ran.stdout, ran.stderr)

    return run


def _key(lock: PackageLock) -> str:
    """Another Python, or another kind of machine, needs other files of the same packages."""
    python = f"{sys.implementation.cache_tag} {sysconfig.get_platform()}"
    return hashlib.sha256("\n".join([python, *lock.lines]).encode()).hexdigest()[:32]


def _fault(place: Path, lock: PackageLock) -> str:
    """Why the folder of a lock is not the one that was made; empty where it is."""
    try:
        manifest = json.loads((place / "manifest.json").read_bytes())
        if manifest["lock"] != list(lock.lines):
            return "their manifest is of other packages"
        return installed.change(place / "site", manifest["files"])
    except FileNotFoundError:
        return "they are not installed"
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return "their manifest cannot be read"


def _reason(said: str) -> str:
    """What uv said, in one line, without addresses: an index can have a password in its own."""
    lines = (line.strip().removeprefix("error:").removeprefix("cause:").strip() for line in said.splitlines())
    text = _ADDRESS.sub("[address]", " ".join(filter(None, lines)))
    if _SOURCE.search(text):
        text = f"only wheels are installed, since to build a package runs its code on the host: {text}"
    return truncate(text, REASON_CHARS)
