"""What a sandbox is given, how its worker is launched, and what a backend has to provide.

A backend only describes how to launch; starting, talking to and ending the worker is the same for all (see
worker_process.py).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from toolsmith.sandbox.grants import Grant
from toolsmith.sandbox.limits import Enforcement, Limits
from toolsmith.sandbox.proxy import Dialer

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
