"""A process and its descendants, as /proc tells them; runs on the host and in the worker's first process.

What is not covered: a process that forks between two looks. Callers repeat until nothing new turns up.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import time

_PSS = re.compile(rb"^Pss:\s+(\d+)", re.MULTILINE)


def tree(pid: int) -> list[int]:
    """`pid` and its live descendants, parents first; zombies are left out, their children are not."""
    found, todo = [], [pid]
    while todo:
        current = todo.pop(0)
        if _alive(current):
            found.append(current)
        todo += _children(current)
    return found


def _alive(pid: int) -> bool:
    try:
        stat = _read(f"/proc/{pid}/stat")
    except OSError:
        return False
    return stat.rpartition(b")")[2].split()[0] not in (b"Z", b"X")


def _children(pid: int) -> list[int]:
    children: list[int] = []
    with contextlib.suppress(OSError):
        # Each thread has a list of its own: the list of the process alone would hide forks made in threads.
        for thread in os.listdir(f"/proc/{pid}/task"):  # noqa: PTH208  (called every 30 ms)
            with contextlib.suppress(OSError):
                children += map(int, _read(f"/proc/{pid}/task/{thread}/children").split())
    return children


def _read(path: str) -> bytes:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(fd, 1 << 16)
    finally:
        os.close(fd)


def memory(pids: list[int]) -> int:
    """Bytes held by `pids` together; what they share is counted once."""
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            if found := _PSS.search(_read(f"/proc/{pid}/smaps_rollup")):
                total += int(found[1]) << 10
    return total


def send(pid: int, number: signal.Signals) -> None:
    """Sends a signal; a process that has gone is no fault."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)


def freeze(top: int) -> list[int]:
    """Stops all descendants of `top` and returns them. New ones found on the way are stopped too."""
    stopped: list[int] = []
    while new := [pid for pid in tree(top)[1:] if pid not in stopped]:
        for pid in new:
            send(pid, signal.SIGSTOP)
        stopped += new
    return stopped


def thaw(pids: list[int]) -> None:
    for pid in pids:
        send(pid, signal.SIGCONT)


def end_descendants(top: int, patience_s: float = 2.0) -> bool:
    """Ends all descendants of `top`; True when none is left. Stopped first, none can fork away."""
    deadline = time.monotonic() + patience_s
    while True:
        for pid in freeze(top):
            send(pid, signal.SIGKILL)
        if not tree(top)[1:]:
            return True
        if time.monotonic() > deadline:
            return False
        time.sleep(0.001)
