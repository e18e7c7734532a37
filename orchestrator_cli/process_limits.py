"""The limits that a shell puts on this process (`ulimit`): too low ones are named before a run begins.

Without this, a run under such a limit ends at whatever meets it first: an import, a thread, the sandbox.
"""

import errno
import os
import resource
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from orchestrator_cli.errors import ConfigError


@dataclass(frozen=True)
class ProcessLimit:
    """One limit of `ulimit`."""

    flag: str
    name: str
    """In the module `resource`."""
    what: str
    least: int
    """What a run needs, in units of the kernel."""
    unit: int
    """Of the shell, in units of the kernel."""

    @property
    def remedy(self) -> str:
        return f"Allow more in the shell that starts orch: ulimit {self.flag} {self.least // self.unit}"

    def message(self, value: int) -> str:
        shown = value // self.unit
        return f"This shell allows too little {self.what} (ulimit {self.flag} {shown})."


FILES = ProcessLimit("-n", "RLIMIT_NOFILE", "open files for a run", 256, 1)
MEMORY = ProcessLimit("-v", "RLIMIT_AS", "memory for a run", 2 << 30, 1 << 10)
FILE_SIZE = ProcessLimit("-f", "RLIMIT_FSIZE", "space in one file for a run", 64 << 20, 1 << 10)
PROCESSES = ProcessLimit("-u", "RLIMIT_NPROC", "processes and threads for a run", 128, 1)


def check_process_limits() -> None:
    """Raise `ConfigError` for a limit that no run fits in. Raises the soft one for open files if it may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < FILES.least and (hard < 0 or hard >= FILES.least):
        resource.setrlimit(resource.RLIMIT_NOFILE, (FILES.least, hard))
    for limit in (FILES, MEMORY, FILE_SIZE):
        value = resource.getrlimit(getattr(resource, limit.name))[0]
        if value != resource.RLIM_INFINITY and value < limit.least:
            raise ConfigError(limit.message(value), limit.remedy)
    value = resource.getrlimit(resource.RLIMIT_NPROC)[0]
    # The kernel does not hold root to it, and counts all that the user runs.
    if os.geteuid() != 0 and 0 <= value < 32 * PROCESSES.least:
        used = sum(_threads(os.geteuid()))
        if value - used < PROCESSES.least:
            needed = used + 2 * PROCESSES.least
            raise ConfigError(
                f"{PROCESSES.message(value)} {used} are in use.",
                f"End some, or allow more in the shell that starts orch: ulimit -u {needed}",
            )


def _threads(user: int) -> Iterator[int]:
    """The number of threads of each process of a user."""
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if process.stat().st_uid == user:
                yield sum(1 for _ in (process / "task").iterdir())


def limit_met(exc: BaseException) -> ProcessLimit | None:
    """The limit that an error is about."""
    if isinstance(exc, MemoryError):
        return MEMORY
    if isinstance(exc, RuntimeError) and "start new thread" in str(exc):
        return PROCESSES
    known = {errno.EMFILE: FILES, errno.EFBIG: FILE_SIZE, errno.EAGAIN: PROCESSES, errno.ENOMEM: MEMORY}
    return known.get(exc.errno or 0) if isinstance(exc, OSError) else None
