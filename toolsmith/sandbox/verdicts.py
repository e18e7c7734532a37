"""Which backend has passed the self-test, kept for later commands: the test takes a tenth of a second.

A verdict counts for one boot of one kernel and one user, and for one state of all that decides how a sandbox
is made: this code, the interpreter and its folders, bubblewrap's program, capabilities, filters, namespaces,
limits and switches of the kernel. It only says which of the backends that are there now passes; nothing is
started that the file names. After a day, and after a worker that did not start, the test is made again.

Not covered: a profile of AppArmor or SELinux that changes while the system runs. It can keep a worker from
starting, but not let it do more: each start asks for all that confines it, and fails without it.
"""

import contextlib
import hashlib
import json
import os
import resource
import shutil
import stat
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from toolsmith.sandbox import confinement
from toolsmith.sandbox.bootstrap import python_folders

LASTS_S, SECOND_BEST_S = 86_400.0, 3_600.0
"""How long a verdict for the best backend counts, and one for another."""
MAX_BYTES = 100_000
SYSTEM_PROGRAM = Path("/usr/bin/bwrap")  # where distributions' AppArmor profiles expect it
_STATUS = ("Uid", "Gid", "Groups", "Cap", "NoNewPrivs", "Seccomp")
_SWITCHES = (
    *("kernel/unprivileged_userns_clone", "user/max_user_namespaces", "user/max_pid_namespaces"),
    *("kernel/apparmor_restrict_unprivileged_userns", "kernel/apparmor_restrict_unprivileged_unconfined"),
    *("kernel/yama/ptrace_scope", "kernel/random/boot_id"),
)
_relied_on: set[Path] = set()
_doubted = threading.Event()


@dataclass(frozen=True)
class Verdict:
    """What came out of the self-test."""

    backend: str
    """Its `repr`."""
    failures: dict[str, str]
    """Why each backend before it does not work, by its name."""
    lasts_s: float


def read(file: Path, prefer: str) -> Verdict | None:
    """The verdict for a preference that is kept in a file; None if there is none that counts here and now."""
    try:
        kept = json.loads(_own_text(file))
        found = kept["chosen"][prefer]
        failures = {str(name): str(why) for name, why in found["failures"].items()}
        verdict = Verdict(str(found["backend"]), failures, float(found["lasts_s"]))
        counts = kept["facts"] == _facts() and 0 <= _since_boot() - float(found["at"]) < verdict.lasts_s
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RuntimeError):
        return None
    if counts:
        _relied_on.add(file)
    return verdict if counts else None


def keep(file: Path, prefer: str, verdict: Verdict) -> None:
    """Keep a verdict in a file, if that can be written."""
    chosen: dict[str, Any] = {}
    with contextlib.suppress(OSError, ValueError, LookupError, TypeError, RuntimeError):
        kept = json.loads(_own_text(file))
        chosen = dict(kept["chosen"]) if kept["facts"] == _facts() else {}
    with contextlib.suppress(OSError, RuntimeError):
        chosen[prefer] = vars(verdict) | {"at": _since_boot()}
        _replace(file, json.dumps({"facts": _facts(), "chosen": chosen}))


def _replace(file: Path, text: str) -> None:
    """Replace a file in one step; only its owner can read it. Raises `OSError`."""
    descriptor, scratch = tempfile.mkstemp(dir=file.parent)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as opened:
            opened.write(text)
        Path(scratch).replace(file)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(scratch).unlink()
        raise


def doubt() -> None:
    """Remove the verdicts that this process has relied on: a worker did not start."""
    while _relied_on:
        _doubted.set()
        with contextlib.suppress(OSError):
            _relied_on.pop().unlink()


def take_doubt() -> bool:
    """Whether there was a doubt since the last call."""
    if was := _doubted.is_set():
        _doubted.clear()
    return was


def bubblewrap_program() -> str | None:
    return str(SYSTEM_PROGRAM) if SYSTEM_PROGRAM.exists() else shutil.which("bwrap")


def _own_text(file: Path) -> bytes:
    """Raises `OSError`, also for a file that another user could have written."""
    descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as opened:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o022:
            raise PermissionError(file)
        return opened.read(MAX_BYTES)


def _facts() -> str:
    """A digest of all that a verdict depends on."""
    program = bubblewrap_program()
    code = sorted(Path(__file__).parent.glob("*.py"))
    facts = [
        [*os.uname()],
        [_read("/proc/sys", name) for name in _SWITCHES],
        [line for line in _read("/proc/self/status").splitlines() if line.startswith(_STATUS)],
        [_read("/proc/self/attr/current"), _read("/sys/kernel/security/lsm")],
        [_link(f"/proc/self/ns/{name}") for name in ("user", "mnt", "pid", "net", "ipc", "uts", "cgroup")],
        [
            (name, resource.getrlimit(getattr(resource, name)))
            for name in dir(resource)
            if name[:7] == "RLIMIT_"
        ],
        [(str(file), _state(file)) for file in code],
        [sys.version, sys.executable, sys.prefix, _state(Path(sys.executable)), python_folders()],
        [program, _state(Path(program)) if program else None, confinement.abi()],
        [str(Path.home()), tempfile.gettempdir()],
    ]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def _state(file: Path) -> list[int]:
    found = file.stat()
    return [
        *(found.st_dev, found.st_ino, found.st_mode, found.st_uid, found.st_gid),
        *(found.st_size, found.st_mtime_ns, found.st_ctime_ns),
    ]


def _read(*path: str) -> str:
    try:
        return Path(*path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _link(path: str) -> str:
    try:
        return str(Path(path).readlink())
    except OSError:
        return ""


def _since_boot() -> float:
    """Seconds, those of sleep too; of no use after another boot, which is another verdict."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if sys.platform == "linux" else time.time()
