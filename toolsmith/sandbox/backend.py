"""What a backend is: the way one worker process is shut in. And what all backends share.

A backend only says how to launch; starting, talking and ending are the same for all (see process.py).
"""

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from toolsmith.sandbox.errors import SandboxUnavailable
from toolsmith.sandbox.grants import Grant
from toolsmith.sandbox.limits import Kept, Limits
from toolsmith.sandbox.processes import Processes
from toolsmith.sandbox.proxy import Dialer

SHOWN_WORKSPACE = "/workspace"
"""What the workspace is called in every text that leaves the sandbox, whatever it is called inside."""
TOOL_PACKAGES = "/opt/tool-packages"
"""Where a tool's own packages are, where the backend has a root of its own."""


@dataclass(frozen=True)
class Room:
    """What one worker is given. `workspace` is an existing folder, resolved."""

    workspace: Path
    writable: bool
    limits: Limits
    environment: Mapping[str, str] = field(default_factory=dict)
    """Set inside, besides what `environment()` names. May be secret: it stands on no command line."""
    network: "Network | None" = None
    packages: Path | None = None
    """A folder of installed packages, besides those of the interpreter; resolved. Never writable inside."""


@dataclass(frozen=True)
class Network:
    """The connections that code inside may make."""

    grants: tuple[Grant, ...]
    dialer: Dialer


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
    standard_streams: bool = False
    """Frames go over the command's standard input and output instead; output over its standard error."""
    processes: Callable[[int], Processes] | None = None
    """Makes what holds the sandbox's processes from the command's pid, where they are not its descendants."""
    aliases: Mapping[str, str] = field(default_factory=dict)
    """Paths that code inside can see, and what to call them instead."""
    packages: str | None = None
    """The path of the room's packages as code inside sees it."""


class Backend(Protocol):
    """One way to shut a worker in."""

    @property
    def name(self) -> str:
        """What `choose_backend` knows it by."""

    @property
    def detail(self) -> str:
        """For people: which program or kernel interface, and its version."""

    @property
    def hard_processes(self) -> bool:
        """Whether the kernel enforces the number of processes; otherwise it is polled."""

    @property
    def connections(self) -> Literal["granted", "never", "open"]:
        """Whether code inside can be granted connections; "open" where nothing keeps it from making them."""

    @property
    def kept(self) -> tuple[Kept, ...]:
        """How each limit is kept: one for each field of `Limits`."""

    @property
    def weaker(self) -> tuple[str, ...]:
        """What does not hold here that holds under bubblewrap, one sentence each."""

    def launch(self, room: Room, rx: int, tx: int) -> Launch:
        """Prepares to start one worker that reads from `rx` and writes to `tx`. Raises OSError."""


def client_environment() -> dict[str, str]:
    """What the client of a container engine needs to find its engine."""
    return {"PATH": os.defpath, "HOME": str(_home() or "/")}


def interpreter_argv(boot: str, rx: int, tx: int) -> tuple[str, ...]:
    """The worker's command.

    Not `-I`: its environment is ours anyway, and the hash seed in it makes the order of sets repeatable.
    """
    return (sys.executable, "-s", "-P", "-B", "-c", boot, str(rx), str(tx))


def environment(home: str) -> dict[str, str]:
    """All that code inside finds in `os.environ`. Home is the temporary folder: caches are no work result."""
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


def python_folders() -> list[str]:
    """Folders outside /usr that hold the interpreter and the user's packages, outermost first.

    Each appears under its own path and, if that differs, under its real one. Raises SandboxUnavailable when
    one of them holds the user's home, which would then be readable inside.
    """
    folders = {
        path for prefix in (sys.prefix, sys.base_prefix) for path in (prefix, os.path.realpath(prefix))
    }
    home = _home()
    for folder in folders:
        if home is not None and home.is_relative_to(folder):
            raise SandboxUnavailable(
                f"Python lives in {folder}, which holds the home folder {home}: the sandbox would show it. "
                "Use a Python in a folder of its own, such as a virtual environment."
            )
    return sorted((folder for folder in folders if not Path(folder).is_relative_to("/usr")), key=len)


def _home() -> Path | None:
    try:
        return Path.home().resolve()
    except RuntimeError:  # a user without a name, as in some containers
        return None


def interpreter_links() -> dict[str, str]:
    """Links on the way from `sys.executable` to the real program that lie outside `python_folders()`."""
    links: dict[str, str] = {}
    folders = [*python_folders(), "/usr"]
    current = Path(sys.executable)
    while current.is_symlink():
        target = os.readlink(current)  # noqa: PTH115  (a path as text)
        if not any(current.is_relative_to(folder) for folder in folders):
            links[str(current)] = target
        current = Path(os.path.normpath(current.parent / target))
    return links


def own_packages(room: Room) -> list[str]:
    """The folder of a tool's own packages, where there is one."""
    return [str(room.packages)] if room.packages else []


def package_aliases(room: Room) -> dict[str, str]:
    """What the folder of a tool's own packages is called in every text, wherever it lies."""
    return {str(room.packages): "<packages>", TOOL_PACKAGES: "<packages>"} if room.packages else {}


def python_aliases() -> dict[str, str]:
    """Paths of the interpreter that may show up in messages, and their names on every system."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    aliases: dict[str, str] = {}
    for prefix in {path for each in (sys.prefix, sys.base_prefix) for path in (each, os.path.realpath(each))}:
        aliases[f"{prefix}/lib/{version}/site-packages"] = "<packages>"
        aliases[f"{prefix}/lib/{version}"] = "<python>"
        aliases[f"{prefix}/bin/{version}"] = aliases[f"{prefix}/bin/python3"] = "<python>"
        if prefix != "/usr":
            aliases[prefix] = "<python>"
    return aliases
