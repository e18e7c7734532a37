"""What a sandbox is given, its limits, how its worker is launched, and the errors.

The kernel refuses to exceed a *hard* limit. The host measures a *polled* limit while code runs, so a step can
exceed it for a moment before it is ended. A backend only describes how to launch; starting, talking to
and ending the worker is the same for all (see worker_process.py).

Not covered: the kernel's own memory for files, locks and the like.

RuntimeError
├── SandboxUnavailable   no backend works on this system
│   └── SelfTestFault    no backend can be tested now
└── SandboxError         a step failed
    └── SandboxClosed    the sandbox was interrupted or cleaned up
"""

import errno
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from toolsmith.sandbox.disk import DiskGauge
from toolsmith.sandbox.processes import THREADS, SandboxProcesses
from toolsmith.sandbox.proxy import Dialer, Grant


class SandboxUnavailable(RuntimeError):
    """No backend works on this system; `str()` says what to install or allow."""


class SelfTestFault(SandboxUnavailable):
    """What the self-test tries to reach could not be made, so no backend can be tested.

    The first line of `str()` says why, the others what to do.
    """

    def __init__(self, cause: OSError) -> None:
        if cause.errno in (errno.EADDRINUSE, errno.EADDRNOTAVAIL):
            why = "no local port is free"
            remedy = "End programs that hold many connections, or widen net.ipv4.ip_local_port_range."
        else:
            why, remedy = str(cause), "Free what is missing, such as disk space or open files, and try again."
        super().__init__(f"The sandbox cannot be tested, because {why}.\n{remedy}")


class SandboxError(RuntimeError):
    """A step failed; `str()` is what the agent reads: no host paths, the same text on every backend.

    `raised` is the type and the message of what the code itself raised, None if something else ended it.
    """

    def __init__(self, text: str, raised: tuple[str, str] | None = None) -> None:
        super().__init__(text)
        self.raised = raised


class SandboxClosed(SandboxError):
    """The sandbox was interrupted or cleaned up; neither a running nor a later step will finish."""


MEMORY_EVERY_S = 0.15
GRACE_S = 1.0


@dataclass(frozen=True)
class Limits:
    """The limits of one sandbox. A step that exceeds one is ended, and the Python state is rolled back."""

    wall_s: float = 30.0
    """Seconds per step, without the time that host tools take. Hard, with a second of grace to stop in."""

    memory_mb: int = 2048
    """Hard as address space of each process; polled, every 150 ms, as the sum over all processes."""

    processes: int = 64
    """Hard under bubblewrap and Landlock, whose kernel asks the host before each; else polled, every 30 ms.

    There may be four threads for each.
    """

    disk_mb: int = 512
    """Hard as the size of each file; polled as growth of the workspace since the sandbox was made.

    Folders count too. A sparse file counts with all of its size, and so does a deleted one that a process
    still holds. The private temporary folder counts as part of the workspace; under bubblewrap it is a memory
    file system of at most 64 MB and counts as memory.
    """

    files: int = 50_000
    """Polled as growth of the number of files and folders, in the workspace and the temporary folder."""

    output_chars: int = 50_000
    """Hard: what a step and its child processes print beyond this is dropped, and the cut is marked."""

    calls: int = 50
    """Hard: calls of host tools per step."""

    built_calls: int = 10_000
    """Hard: calls of built tools per step, each of which the host makes in a sandbox of the tool's own."""

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

    `hard_memory`: whether the kernel limits a process's memory. `hard_processes`: whether it asks the host
    before one starts.
    """
    each_process = "each process" if hard_memory else ""
    counted = {"hard": "the host allows each"} if hard_processes else {"polled": "every 30 ms"}
    return (
        Enforcement("wall_s", hard="interrupted, and ended after a second of grace"),
        Enforcement("output_chars", hard="the rest is dropped"),
        Enforcement("calls", hard="further calls are refused"),
        Enforcement("built_calls", hard="further calls are refused"),
        Enforcement("memory_mb", hard=each_process, polled="all together, every 150 ms"),
        Enforcement("processes", **counted),
        Enforcement("disk_mb", hard="each file", polled="growth of the workspace, at least every 2 s"),
        Enforcement("files", polled="growth of the workspace, at least every 2 s"),
    )


@dataclass
class LimitMonitor:
    """Measures one running step. `paused_s`: time the step waited for the host, not charged to it."""

    processes: SandboxProcesses
    limits: Limits
    disk: DiskGauge
    wall_s: float
    mounts: tuple[str, ...] = ()
    """Memory file systems that only the processes see."""
    started: float = field(default_factory=time.monotonic)
    paused_s: float = 0.0
    _memory_at: float = field(default_factory=time.monotonic)

    def exceeded(self) -> str | None:
        """The limit that was exceeded, in words for the agent; None if none was."""
        now = time.monotonic()
        if now - self.started - self.paused_s > self.wall_s + GRACE_S:
            return f"the step took longer than {self.wall_s:g} s and could not be interrupted"
        if crowded := self.crowded():
            return crowded
        if now - self._memory_at < MEMORY_EVERY_S:
            return None
        self._memory_at = now
        return self.overused() or None

    def overused(self) -> str:
        """The limit of all but time that was exceeded, measured now; empty if none was."""
        if crowded := self.crowded():
            return crowded
        held, files = self.processes.mounted(self.mounts)
        if self.processes.memory() + held > self.limits.memory_mb << 20:
            return f"the step's processes together held more than {self.limits.memory_mb} MB of memory"
        if files > self.limits.files:
            return f"the temporary folder holds more than {self.limits.files} files"
        return self.disk.exceeded()

    def crowded(self) -> str:
        """The words for too many processes; empty if there are not."""
        most = self.limits.processes
        many = f"the step started more than {most} processes, or {most * THREADS} threads"
        return many if self.processes.too_many() else ""


SHOWN_READABLE = "<readable>"
"""The name of `SandboxSpec.readable` in every text that leaves the sandbox."""
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
    readable: Path | None = None
    """Another folder that code inside can read, under its own path; resolved. Never writable inside."""
    imports: bool = True
    """Whether code inside can import modules of the workspace, which then come before all others."""


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
    mounts: tuple[str, ...] = ()
    """Memory file systems that only the worker sees, by their paths inside."""
    asks_host: bool = False
    """Whether the kernel asks the host before a process starts, as it has to for granted connections too."""


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


def rlimits(limits: Limits, *, own_count: bool) -> dict[str, int]:
    """Limits the kernel enforces on every process inside, by their names in the module `resource`.

    `own_count`: whether the kernel counts the processes inside apart from the user's others.
    """
    found = {
        "RLIMIT_AS": limits.memory_mb << 20,
        "RLIMIT_FSIZE": limits.disk_mb << 20,
        "RLIMIT_NOFILE": 256,
        "RLIMIT_CORE": 0,
    }
    if sys.platform == "linux":
        found["RLIMIT_SIGPENDING"] = 256  # signals and timers, which count for all processes of the user
    if own_count:  # not the user's other processes
        found["RLIMIT_NPROC"] = limits.processes * THREADS + 2  # and the nanny and the snapshot
    return found
