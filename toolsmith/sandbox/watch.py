"""Measures a running step against its limits, from the host.

What is not covered: memory that no process maps (the /tmp of bubblewrap, at most 64 MB) is not counted.
"""

import os
import time
from dataclasses import dataclass, field
from pathlib import Path

from toolsmith.sandbox.limits import Limits
from toolsmith.sandbox.processes import Processes

MEMORY_EVERY_S = 0.15
FOLDERS_EVERY_S = 2.0
GRACE_S = 1.0


def used_bytes(folder: Path) -> int:
    """Bytes on disk of all files below `folder`; links are not followed.

    Not `os.walk`, which calls itself before Python 3.12: code inside can nest folders deeper than that goes.
    """
    total, folders = 0, [str(folder)]
    while folders:
        try:
            with os.scandir(folders.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(entry.path)
                    else:
                        total += _blocks(entry)
        except OSError:
            continue
    return total


def _blocks(entry: os.DirEntry[str]) -> int:
    try:
        return entry.stat(follow_symlinks=False).st_blocks * 512
    except OSError:
        return 0


class DiskGauge:
    """Growth of some folders since the gauge was made.

    Walking a large tree is slow, so it is walked when the file system has lost half of what was left to use,
    and otherwise every two seconds, never more than a fifth of the time.
    """

    def __init__(self, folders: list[Path], limit_bytes: int) -> None:
        self._folders, self._limit = folders, limit_bytes
        self._baseline = sum(map(used_bytes, folders))
        self._grown, self._free = 0, self._free_bytes()
        self._walked_at, self._cost_s = time.monotonic(), 0.0

    def over(self) -> bool:
        """Whether the limit was passed, as far as it is known without undue cost."""
        since = time.monotonic() - self._walked_at
        lost = self._free - self._free_bytes()
        suspicious = lost > max(0, self._limit - self._grown) // 2
        if since > 5 * self._cost_s and (suspicious or since > FOLDERS_EVERY_S):
            self._walk()
        return self._grown > self._limit

    def _walk(self) -> None:
        started = time.monotonic()
        self._free = self._free_bytes()
        self._grown = sum(map(used_bytes, self._folders)) - self._baseline
        self._walked_at = time.monotonic()
        self._cost_s = self._walked_at - started

    def _free_bytes(self) -> int:
        stats = [os.statvfs(folder) for folder in self._folders]
        return sum(stat.f_bfree * stat.f_frsize for stat in stats)


@dataclass
class Watch:
    """One step under watch. `held_s`: time that was not the step's own."""

    processes: Processes
    limits: Limits
    disk: DiskGauge
    wall_s: float
    started: float = field(default_factory=time.monotonic)
    held_s: float = 0.0
    _memory_at: float = field(default_factory=time.monotonic)

    def exceeded(self) -> str | None:
        """What was exceeded, told to the agent; None when nothing was."""
        now = time.monotonic()
        if now - self.started - self.held_s > self.wall_s + GRACE_S:
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
