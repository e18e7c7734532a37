"""The second choice: Landlock and seccomp, which need nothing installed and no privilege.

The worker locks itself in before it runs any code (see landlock.py). It can read /usr, the interpreter and
the user's packages; it can write the workspace and a private temporary folder; signals, abstract sockets
and TCP end at its border; sockets, namespaces, file attributes and other processes are denied by seccomp.

What is not covered: there are no namespaces, so the workspace has its real path, names and sizes of files
outside can be asked for, and process ids of the host can be listed (not read). `chmod` and `utime` do
nothing. The number of processes is polled.
"""

import binascii
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from toolsmith.sandbox import backend as shared
from toolsmith.sandbox.backend import Launch, Room
from toolsmith.sandbox.limits import Kept, kept_with_rlimits
from toolsmith.sandbox.seccomp import filter_program
from toolsmith.sandbox.shipping import boot_source

_READABLE = (
    *("/usr", "/lib", "/lib64", "/bin", "/sbin"),
    *("/etc/ld.so.cache", "/etc/alternatives", "/etc/localtime", "/etc/ssl/certs", "/etc/fonts"),
    *("/dev/urandom", "/dev/random", "/dev/zero"),
)


@dataclass(frozen=True)
class Landlock:
    """The kernel's Landlock, at version `abi`."""

    abi: int
    name: str = "landlock"
    hard_processes: bool = False
    weaker: tuple[str, ...] = (
        "The workspace has its real path inside, and names and sizes of files outside can be asked for.",
        "Ids of the host's processes can be listed, though nothing about them can be read.",
        "chmod and utime do nothing.",
    )

    @property
    def connections(self) -> Literal["granted", "never", "open"]:
        return "granted"

    @property
    def kept(self) -> tuple[Kept, ...]:
        return kept_with_rlimits(hard_processes=self.hard_processes)

    @property
    def detail(self) -> str:
        return f"Landlock ABI {self.abi} with seccomp"

    def launch(self, room: Room, rx: int, tx: int) -> Launch:
        scratch = Path(tempfile.mkdtemp(prefix="orch-sandbox-")).resolve()
        workspace = str(room.workspace)
        readable = [*_READABLE, *shared.python_folders(), *shared.own_packages(room)]
        rules = [(path, "read") for path in readable]
        program = filter_program(namespaces=False, connections=room.network is not None)
        rules.append((workspace, "write" if room.writable else "read"))
        rules += [(str(scratch), "write"), ("/dev/null", "write"), ("/proc", "list")]
        return Launch(
            argv=shared.interpreter_argv(boot_source(), rx, tx),
            env={**shared.environment(str(scratch)), **room.environment},
            settings={
                "pid_namespace": False,
                "alone": True,
                "confine": {
                    "rules": rules,
                    "filter_base64": binascii.b2a_base64(program).decode(),
                },
                "rlimits": shared.rlimits(room.limits, count_processes=False),
                "scratch": str(scratch),
            },
            workspace=workspace,
            packages=str(room.packages) if room.packages else None,
            cwd=room.workspace,
            scratch=scratch,
            aliases={**shared.python_aliases(), **shared.package_aliases(room), str(scratch): "/tmp"},
        )
