"""The third choice: a container of Docker or Podman, where one of them answers and has the image.

No network, a read-only root, no capability, and memory and processes limited by the engine for all processes
together. On top of it the worker puts our seccomp filter on itself. Images are never downloaded.

Frames travel over the standard input and output of the engine's client, output over its standard error.
Pausing, stopping and ending go through the engine as well, which costs about a tenth of a second a step.

What is not covered: this was never tried against a real engine, only against a program that takes the same
arguments. The user's packages are there on Linux only, and work where the image's libraries fit them. Where
SELinux keeps containers from the workspace, the probe fails and the backend is refused.
"""

import binascii
import os
import secrets
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from toolsmith.sandbox import backend as shared
from toolsmith.sandbox.backend import SHOWN_WORKSPACE, TOOL_PACKAGES, Launch, Room
from toolsmith.sandbox.limits import Kept, Limits, kept_by_the_host
from toolsmith.sandbox.processes import ContainerProcesses, Processes
from toolsmith.sandbox.seccomp import filter_program
from toolsmith.sandbox.shipping import boot_source

IMAGE = f"python:{sys.version_info.major}.{sys.version_info.minor}-slim"
_PACKAGES = "/packages"
# The frames get descriptors of their own, and what code prints goes where it cannot be taken for one.
_APART = 'exec 3<&0 4>&1 </dev/null 1>&2; exec "$@"'
_RX, _TX = 3, 4


@dataclass(frozen=True)
class Container:
    """`engine` is "docker" or "podman", `program` its client."""

    engine: str
    program: str
    version: str
    image: str = IMAGE
    hard_processes: bool = True
    weaker: tuple[str, ...] = (
        "A step costs a tenth of a second more, and needs the engine to answer.",
        "The Python inside is the image's; the user's packages work where its libraries fit them.",
        "The engine's daemon, where it has one, runs as root.",
    )

    @property
    def name(self) -> str:
        return self.engine

    @property
    def detail(self) -> str:
        return f"{self.engine} {self.version} with the image {self.image}"

    @property
    def connections(self) -> Literal["granted", "never", "open"]:
        return "never"

    @property
    def kept(self) -> tuple[Kept, ...]:
        return (
            *kept_by_the_host(),
            Kept("memory_mb", hard="all processes together, by the engine"),
            Kept("processes", hard="by the engine"),
            Kept("disk_mb", hard="each file", polled="growth of the workspace, at least every 2 s"),
        )

    def launch(self, room: Room, rx: int, tx: int) -> Launch:  # noqa: ARG002  (they become 0 and 1)
        name = f"orch-{secrets.token_hex(8)}"
        return Launch(
            argv=self.arguments(room, name),
            env={**room.environment, **shared.client_environment()},
            settings={
                "pid_namespace": True,
                "alone": True,
                "confine": {
                    "rules": None,
                    "filter_base64": binascii.b2a_base64(filter_program(namespaces=True)).decode(),
                },
                "rlimits": shared.rlimits(room.limits, count_processes=False),
                "scratch": None,
            },
            workspace=SHOWN_WORKSPACE,
            packages=TOOL_PACKAGES if room.packages else None,
            standard_streams=True,
            processes=lambda _: self._processes(name),
            aliases={**shared.python_aliases(), **shared.package_aliases(room)},
        )

    def arguments(self, room: Room, name: str) -> tuple[str, ...]:
        """The command that starts the worker in a container called `name`."""
        return (
            *(self.program, "run", "--rm", "--interactive", "--name", name, "--pull", "never"),
            *("--network", "none", "--read-only", "--cap-drop", "ALL"),
            *("--security-opt", "no-new-privileges", "--hostname", "sandbox", "--log-driver", "none"),
            *_bounds(room.limits),
            *("--user", f"{os.getuid()}:{os.getgid()}"),
            *(("--userns", "keep-id") if self.engine == "podman" and os.getuid() else ()),
            *("--mount", _mount(str(room.workspace), SHOWN_WORKSPACE, writable=room.writable)),
            *_packages(),
            *_tool_packages(room),
            *("--workdir", SHOWN_WORKSPACE, "--entrypoint", "sh"),
            *(word for pair in _environment().items() for word in ("--env", "=".join(pair))),
            *(word for name in room.environment for word in ("--env", name)),  # from the client's own
            *(self.image, "-c", _APART, "sh", "python3"),
            *shared.interpreter_argv(boot_source(), _RX, _TX)[1:],
        )

    def _processes(self, name: str) -> Processes:
        listing = ("pid",) if self.engine == "podman" else ("-o", "pid")
        return ContainerProcesses(self.program, name, list_pids=listing)


def _bounds(limits: Limits) -> tuple[str, ...]:
    memory = f"{limits.memory_mb}m"
    return (
        *("--memory", memory, "--memory-swap", memory),
        *("--pids-limit", str(limits.processes + 2)),  # and the nanny and the snapshot
        *("--shm-size", "64m", "--tmpfs", "/tmp:rw,nosuid,nodev,size=64m,mode=1777"),
    )


def _mount(source: str, target: str, *, writable: bool) -> str:
    if "," in source or '"' in source:
        raise OSError(f"the engine cannot mount {source}: the path holds a comma or a quotation mark")
    return f"type=bind,source={source},target={target}" + ("" if writable else ",readonly")


def _packages() -> tuple[str, ...]:
    folder = Path(sysconfig.get_path("purelib")).resolve()
    if sys.platform != "linux" or not folder.is_dir():
        return ()
    return ("--mount", _mount(str(folder), _PACKAGES, writable=False))


def _tool_packages(room: Room) -> tuple[str, ...]:
    return ("--mount", _mount(str(room.packages), TOOL_PACKAGES, writable=False)) if room.packages else ()


def _environment() -> dict[str, str]:
    return {**shared.environment("/tmp"), "PYTHONPATH": _PACKAGES}
