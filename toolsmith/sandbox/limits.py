"""The limits of a sandbox, and the monitor that measures a running step against them from the host.

The kernel refuses to exceed a *hard* limit. The host measures a *polled* limit while a step runs, so a step
can exceed it for a moment before it is ended.

Not covered: memory that no process maps (bubblewrap's /tmp, at most 64 MB) is not counted.
"""

import os
import time
from dataclasses import dataclass, field
from pathlib import Path

from toolsmith.sandbox.processes import SandboxProcesses

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
