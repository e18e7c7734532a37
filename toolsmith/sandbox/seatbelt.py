"""For macOS: `sandbox-exec` with a profile that denies by default.

It can read the system, the interpreter and the user's packages, and write the workspace and a private
temporary folder; there is no network, and signals stay inside.

What is not covered: this was never tried, because it needs macOS; only its profile and its arguments are
tested. The probe refuses it where it does not hold, as on systems where Apple has switched `sandbox-exec`
off. There are no namespaces and no filter of system calls. Memory and processes are polled through `ps`, and
a process that leaves its family (two forks) is neither counted nor ended, though it stays confined.
"""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from toolsmith.sandbox import backend as shared
from toolsmith.sandbox.backend import Launch, Room
from toolsmith.sandbox.limits import Kept, kept_by_the_host
from toolsmith.sandbox.shipping import boot_source

PROGRAM = "/usr/bin/sandbox-exec"
_READABLE = ("/usr", "/bin", "/System", "/Library/Frameworks", "/private/etc/ssl", "/private/var/db/timezone")
_DEVICES = ("/dev/random", "/dev/urandom", "/dev/zero")


@dataclass(frozen=True)
class Seatbelt:
    """`program` is `sandbox-exec`."""

    program: str = PROGRAM
    name: str = "sandbox-exec"
    detail: str = "macOS sandbox-exec"
    hard_processes: bool = False
    weaker: tuple[str, ...] = (
        "A step that crashes or has to be ended takes the Python state with it.",
        "There are no namespaces and no filter of system calls.",
        "Processes that leave their family are neither counted nor ended, though they stay confined.",
    )

    @property
    def connections(self) -> Literal["granted", "never", "open"]:
        return "never"

    @property
    def kept(self) -> tuple[Kept, ...]:
        return (
            *kept_by_the_host(),
            Kept("memory_mb", polled="all together, every 150 ms"),
            Kept("processes", polled="every 30 ms"),
            Kept("disk_mb", hard="each file", polled="growth of the workspace, at least every 2 s"),
        )

    def launch(self, room: Room, rx: int, tx: int) -> Launch:
        scratch = Path(tempfile.mkdtemp(prefix="orch-sandbox-")).resolve()
        counted = shared.rlimits(room.limits, count_processes=False)
        return Launch(
            argv=self.arguments(room, scratch, rx, tx),
            env={**shared.environment(str(scratch)), **room.environment},
            settings={
                "pid_namespace": False,
                "alone": False,
                "confine": None,
                # macOS counts address space that nobody asked for
                "rlimits": {name: value for name, value in counted.items() if name != "RLIMIT_AS"},
                "scratch": str(scratch),
            },
            workspace=str(room.workspace),
            packages=str(room.packages) if room.packages else None,
            cwd=room.workspace,
            scratch=scratch,
            aliases={**shared.python_aliases(), **shared.package_aliases(room), str(scratch): "/tmp"},
        )

    def arguments(self, room: Room, scratch: Path, rx: int, tx: int) -> tuple[str, ...]:
        """The command. Paths are parameters of the profile, so that none of them can change its meaning."""
        readable = [*_READABLE, *shared.python_folders(), *shared.own_packages(room)]
        given = {"WORKSPACE": str(room.workspace), "SCRATCH": str(scratch)}
        given |= {f"READ{number}": path for number, path in enumerate(readable)}
        return (
            self.program,
            *(word for pair in given.items() for word in ("-D", "=".join(pair))),
            *("-p", profile(len(readable), writable=room.writable)),
            *shared.interpreter_argv(boot_source(), rx, tx),
        )


def profile(readable: int, *, writable: bool) -> str:
    """The rules, in the language of sandbox-exec; `readable` counts the parameters READ0, READ1, …"""
    reads = " ".join(f'(subpath (param "READ{number}"))' for number in range(readable))
    devices = " ".join(f'(literal "{path}")' for path in _DEVICES)
    writes = '(subpath (param "SCRATCH"))' + (' (subpath (param "WORKSPACE"))' if writable else "")
    return "\n".join(
        [
            "(version 1)",
            "(deny default)",
            "(deny network*)",
            "(allow process-fork process-exec)",
            "(allow signal (target same-sandbox))",
            "(allow sysctl-read)",
            '(allow file-read-metadata (literal "/") (subpath "/private/var") (subpath "/usr"))',
            f'(allow file-read* {reads} {devices} (subpath (param "WORKSPACE")))',
            f'(allow file-read* file-write* {writes} (literal "/dev/null"))',
        ]
    )
