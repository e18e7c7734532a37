"""What a sandbox is given, its limits, how its worker is launched, and the errors.

The kernel refuses to exceed a *hard* limit. The host measures a *polled* limit while a step runs, so a step
can exceed it for a moment before it is ended. A backend only describes how to launch; starting, talking to
and ending the worker is the same for all (see worker_process.py).

Not covered: memory that no process maps (bubblewrap's /tmp, at most 64 MB) is not counted.

RuntimeError
├── SandboxUnavailable   no backend works on this system
└── SandboxError         a step failed
    └── SandboxClosed    the sandbox was interrupted or cleaned up
"""

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from toolsmith.sandbox.processes import SandboxProcesses
from toolsmith.sandbox.proxy import Dialer, Grant


class SandboxUnavailable(RuntimeError):
    """No backend works on this system; `str()` says what to install or allow."""


class SandboxError(RuntimeError):
    """A step failed; `str()` is what the agent reads: no host paths, the same text on every backend."""


class SandboxClosed(SandboxError):
    """The sandbox was interrupted or cleaned up; neither a running nor a later step will finish."""


MEMORY_EVERY_S = 0.15
FOLDERS_EVERY_S = 2.0
GRACE_S = 1.0


@dataclass(frozen=True)
class Limits:
    """The limits of one sandbox. A step that exceeds one is ended, and the Python state is rolled back."""

    wall_s: float = 30.0
    """Seconds per step, without the time that host tools take. Hard, with a second of grace to stop in."""

    memory_mb: int = 2048
    """Hard as address space of each process; polled, every 150 ms, as the sum over all processes."""

    processes: int = 64
    """Hard under bubblewrap for ordinary users; polled, every 30 ms, for root and under Landlock."""

    disk_mb: int = 512
    """Hard as the size of each file; polled as growth of the workspace since the sandbox was made.

    The private temporary folder is a memory file system of at most 64 MB under bubblewrap; under Landlock it
    counts as part of the workspace.
    """

    output_chars: int = 50_000
    """Hard: what a step and its child processes print beyond this is dropped, and the cut is marked."""

    calls: int = 50
    """Hard: calls of host tools per step."""

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value <= 0:
                raise ValueError(f"limit {name} must be above zero, not {value!r}")


@dataclass(frozen=True)
class Enforcement:
    """How one backend enforces one limit; an empty text means it does not do it that way."""

    limit: str
    """The field of `Limits`."""
    hard: str = ""
    """What is refused as soon as it exceeds the limit."""
    polled: str = ""
    """What is measured while a step runs, and ends it a moment later."""

    @property
    def grade(self) -> str:
        return " and ".join(word for word in ("hard", "polled") if getattr(self, word)) or "not enforced"

    def __str__(self) -> str:
        if self.hard and self.polled:
            return f"hard: {self.hard}; polled: {self.polled}"
        return self.hard or self.polled


def enforcement_by_rlimits(
    *, hard_memory: bool = True, hard_processes: bool = False
) -> tuple[Enforcement, ...]:
    """How limits are enforced if the kernel can limit single processes only.

    `hard_memory`, `hard_processes`: whether the kernel limits a process's memory and the user's processes.
    """
    each_process = "each process" if hard_memory else ""
    counted = {"hard": "by the kernel, for this user"} if hard_processes else {"polled": "every 30 ms"}
    return (
        Enforcement("wall_s", hard="interrupted, and ended after a second of grace"),
        Enforcement("output_chars", hard="the rest is dropped"),
        Enforcement("calls", hard="further calls are refused"),
        Enforcement("memory_mb", hard=each_process, polled="all together, every 150 ms"),
        Enforcement("processes", **counted),
        Enforcement("disk_mb", hard="each file", polled="growth of the workspace, at least every 2 s"),
    )


def used_bytes(folder: Path) -> int:
    """Bytes on disk of all files below `folder`; links are not followed.

    Not `os.walk`, which recurses before Python 3.12: code inside can nest folders deeper than that allows.
    """
    total, folders = 0, [str(folder)]
    while folders:
        try:
            with os.scandir(folders.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(entry.path)
                        continue
                    try:
                        total += entry.stat(follow_symlinks=False).st_blocks * 512
                    except OSError:
                        continue
        except OSError:
            continue
    return total


class DiskGauge:
    """Growth of some folders since the gauge was made.

    Walking a large tree is slow. The gauge walks it once half of the remaining allowance has gone from the
    file system's free space, and otherwise every two seconds, for at most a fifth of the time.
    """

    def __init__(self, folders: list[Path], limit_bytes: int) -> None:
        self._folders, self._limit = folders, limit_bytes
        self._baseline = sum(map(used_bytes, folders))
        self._grown, self._free = 0, self._free_bytes()
        self._walked_at, self._cost_s = time.monotonic(), 0.0

    def over(self) -> bool:
        """Whether the limit was exceeded, as far as the gauge knows without undue cost."""
        since = time.monotonic() - self._walked_at
        lost = self._free - self._free_bytes()
        suspicious = lost > max(0, self._limit - self._grown) // 2
        if since > 5 * self._cost_s and (suspicious or since > FOLDERS_EVERY_S):
            started = time.monotonic()
            self._free = self._free_bytes()
            self._grown = sum(map(used_bytes, self._folders)) - self._baseline
            self._walked_at = time.monotonic()
            self._cost_s = self._walked_at - started
        return self._grown > self._limit

    def _free_bytes(self) -> int:
        stats = [os.statvfs(folder) for folder in self._folders]
        return sum(stat.f_bfree * stat.f_frsize for stat in stats)


@dataclass
class LimitMonitor:
    """Measures one running step. `paused_s`: time the step waited for the host, not charged to it."""

    processes: SandboxProcesses
    limits: Limits
    disk: DiskGauge
    wall_s: float
    started: float = field(default_factory=time.monotonic)
    paused_s: float = 0.0
    _memory_at: float = field(default_factory=time.monotonic)

    def exceeded(self) -> str | None:
        """The limit that was exceeded, in words for the agent; None if none was."""
        now = time.monotonic()
        if now - self.started - self.paused_s > self.wall_s + GRACE_S:
            return f"the step took longer than {self.wall_s:g} s and could not be interrupted"
        if self.processes.count() > self.limits.processes:
            return f"the step started more than {self.limits.processes} processes"
        if now - self._memory_at < MEMORY_EVERY_S:
            return None
        self._memory_at = now
        if self.processes.memory() > self.limits.memory_mb << 20:
            return f"the step's processes together held more than {self.limits.memory_mb} MB of memory"
        if self.disk.over():
            return f"the workspace grew by more than {self.limits.disk_mb} MB"
        return None


SHOWN_WORKSPACE = "/workspace"
"""The workspace's name in every text that leaves the sandbox, whatever its path inside."""
TOOL_PACKAGES = "/opt/tool-packages"
"""The path of a tool's own packages, if the backend has a root of its own."""


@dataclass(frozen=True)
class Network:
    """The connections that code inside may make."""

    grants: tuple[Grant, ...]
    dialer: Dialer


@dataclass(frozen=True)
class SandboxSpec:
    """What one worker is given. `workspace` is an existing folder, resolved."""

    workspace: Path
    writable: bool
    limits: Limits
    environment: Mapping[str, str] = field(default_factory=dict)
    """Set inside, in addition to `environment()`. May be secret, so it never appears on a command line."""
    network: Network | None = None
    packages: Path | None = None
    """A folder of installed packages, in addition to the interpreter's; resolved. Never writable inside."""


@dataclass(frozen=True)
class Launch:
    """How to start one worker."""

    argv: tuple[str, ...]
    env: Mapping[str, str]
    settings: Mapping[str, Any]
    """For the worker: pid_namespace, alone, confine, rlimits, scratch."""
    workspace: str
    """The workspace's path as code inside sees it."""
    cwd: Path | None = None
    scratch: Path | None = None
    """A private temporary folder on the host, deleted when the worker has ended."""
    passed_fds: tuple[int, ...] = ()
    """Besides the worker's own two; closed on the host once the process has started."""
    pid_report: int | None = None
    """A file in which the launcher has reported the worker's pid, as JSON `child-pid`, when it is ready."""
    aliases: Mapping[str, str] = field(default_factory=dict)
    """Paths that code inside can see, and what to call them in texts."""
    packages: str | None = None
    """The path of the spec's packages as code inside sees it."""


class Backend(Protocol):
    """One way to confine a worker."""

    @property
    def name(self) -> str:
        """The name that `choose_backend` takes."""

    @property
    def detail(self) -> str:
        """For people: which program or kernel interface, and its version."""

    @property
    def hard_processes(self) -> bool:
        """Whether the kernel enforces the number of processes; otherwise it is polled."""

    @property
    def connections(self) -> Literal["granted", "never", "open"]:
        """Whether code inside can be granted connections; "open" if nothing keeps it from making them."""

    @property
    def enforcement(self) -> tuple[Enforcement, ...]:
        """How each limit is enforced: one entry for each field of `Limits`."""

    @property
    def weaknesses(self) -> tuple[str, ...]:
        """What does not hold here that holds under bubblewrap, one sentence each."""

    def launch(self, spec: SandboxSpec, rx: int, tx: int) -> Launch:
        """Prepares to start one worker that reads from `rx` and writes to `tx`. Raises OSError."""


def environment(home: str) -> dict[str, str]:
    """The fixed variables inside. Home is the temporary folder: caches are not results."""
    return {
        "HOME": home,
        "TMPDIR": home,
        "USER": "sandbox",
        "LOGNAME": "sandbox",
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "LANG": "C.UTF-8",
        "PYTHONHASHSEED": "0",
        "PYTHONDONTWRITEBYTECODE": "1",
        "OMP_NUM_THREADS": "1",  # threads at start would rule out snapshots
        "OPENBLAS_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
        "MPLBACKEND": "Agg",
    }


def rlimits(limits: Limits, *, count_processes: bool) -> dict[str, int]:
    """Limits the kernel enforces on every process inside, by their names in the module `resource`."""
    found = {
        "RLIMIT_AS": limits.memory_mb << 20,
        "RLIMIT_FSIZE": limits.disk_mb << 20,
        "RLIMIT_NOFILE": 256,
        "RLIMIT_CORE": 0,
    }
    if count_processes:
        found["RLIMIT_NPROC"] = limits.processes + 2  # and the nanny and the snapshot
    return found
