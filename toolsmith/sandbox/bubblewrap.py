"""The first choice: namespaces through bubblewrap, with our seccomp filter.

The root inside is an allow-list: /usr, the interpreter, the user's packages, the workspace at /workspace.
What is not named does not exist there, secrets included. Code sees no process but its own, has no network
interface and no capability.

What is not covered: faults of the kernel, which is shared; /proc/self/mountinfo tells the workspace's real
path to code that looks for it. Nothing is ever mounted below the workspace (CVE-2026-87766).
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from toolsmith.sandbox import backend as shared
from toolsmith.sandbox.backend import SHOWN_WORKSPACE, TOOL_PACKAGES, Launch, Room
from toolsmith.sandbox.limits import Kept, kept_with_rlimits
from toolsmith.sandbox.seccomp import filter_program
from toolsmith.sandbox.shipping import boot_source

TMPFS_BYTES = 64 << 20
_ETC = ("ld.so.cache", "alternatives", "localtime", "ssl/certs", "fonts")


@dataclass(frozen=True)
class Bubblewrap:
    """bubblewrap at `program`; `disable_userns` needs version 0.8 and only doubles what seccomp denies."""

    program: str
    version: str
    disable_userns: bool = True
    name: str = "bubblewrap"
    weaker: tuple[str, ...] = ()

    @property
    def detail(self) -> str:
        return f"bubblewrap {self.version} at {self.program}"

    @property
    def hard_processes(self) -> bool:
        return os.geteuid() != 0  # the kernel exempts root

    @property
    def connections(self) -> Literal["granted", "never", "open"]:
        return "granted"

    @property
    def kept(self) -> tuple[Kept, ...]:
        return kept_with_rlimits(hard_processes=self.hard_processes)

    def launch(self, room: Room, rx: int, tx: int) -> Launch:
        seccomp = _file("seccomp", filter_program(namespaces=True, connections=room.network is not None))
        given = _file("environment", _set(room.environment).encode(errors="surrogateescape"))
        # A file and no pipe: where the host dies meanwhile, writing to a pipe would end bubblewrap's first
        # process, and its second one would wait for the first for ever.
        reported = os.memfd_create("report")
        return Launch(
            argv=self._arguments(room, rx, tx, (seccomp, given, reported)),
            env={},
            settings={
                "pid_namespace": True,
                "alone": True,
                "confine": None,
                "rlimits": shared.rlimits(room.limits, count_processes=True),
                "scratch": None,
            },
            workspace=SHOWN_WORKSPACE,
            packages=TOOL_PACKAGES if room.packages else None,
            passed_fds=(seccomp, given, reported),
            pid_report=os.dup(reported),
            aliases={**shared.python_aliases(), **shared.package_aliases(room)},
        )

    def _arguments(self, room: Room, rx: int, tx: int, fds: tuple[int, int, int]) -> tuple[str, ...]:
        seccomp, given, report = map(str, fds)
        return (
            self.program,
            *("--unshare-all", "--unshare-user"),
            *(("--disable-userns",) if self.disable_userns else ()),
            *("--new-session", "--as-pid-1", "--cap-drop", "ALL"),
            *("--uid", "1000", "--gid", "1000", "--hostname", "sandbox", "--clearenv"),
            *_system(),
            *_python(),
            *(("--ro-bind", str(room.packages), TOOL_PACKAGES) if room.packages else ()),
            # Root outside keeps its right to write sysctls, core_pattern among them: only a mount takes it.
            *(("--ro-bind", "/proc/sys", "/proc/sys") if os.geteuid() == 0 else ()),
            *("--bind" if room.writable else "--ro-bind", str(room.workspace), SHOWN_WORKSPACE),
            *("--remount-ro", "/", "--chdir", SHOWN_WORKSPACE),
            *(word for pair in shared.environment("/tmp").items() for word in ("--setenv", *pair)),
            *("--args", given, "--seccomp", seccomp, "--info-fd", report, "--"),
            *shared.interpreter_argv(boot_source(), rx, tx),
        )


def _file(name: str, content: bytes) -> int:
    """A file that only a descriptor leads to, to be read from its beginning."""
    fd = os.memfd_create(name)
    os.write(fd, content)
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


def _set(environment: Mapping[str, str]) -> str:
    """Arguments that other users cannot see in the process list."""
    return "".join(f"--setenv\0{name}\0{value}\0" for name, value in environment.items())


def _system() -> tuple[str, ...]:
    words = ["--ro-bind", "/usr", "/usr", "--proc", "/proc", "--dev", "/dev"]
    words += ["--perms", "1777", "--size", str(TMPFS_BYTES), "--tmpfs", "/tmp"]
    words += ["--size", str(TMPFS_BYTES), "--tmpfs", "/dev/shm"]
    for folder in ("bin", "sbin", "lib", "lib64"):
        if Path("/", folder).is_symlink():
            words += ["--symlink", f"usr/{folder}", f"/{folder}"]
        else:
            words += ["--ro-bind-try", f"/{folder}", f"/{folder}"]
    for name in _ETC:
        words += ["--ro-bind-try", f"/etc/{name}", f"/etc/{name}"]
    return tuple(words)


def _python() -> tuple[str, ...]:
    words: list[str] = []
    for folder in shared.python_folders():
        words += ["--ro-bind", folder, folder]
    for link, target in shared.interpreter_links().items():
        words += ["--symlink", target, link]
    return tuple(words)
