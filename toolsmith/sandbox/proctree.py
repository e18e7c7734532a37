"""A process and its descendants, as /proc tells them, or `ps` where there is no /proc.

Runs on the host and in the worker.

What is not covered: a process that forks between two looks. Callers repeat until nothing new turns up. What
`ps` tells is a tenth of a second old, and counts memory that is shared once for each process.
"""

import contextlib
import os
import re
import signal
import time

HAS_PROC = os.path.exists("/proc/self/stat")  # noqa: PTH110  (pathlib would cost each start)
_PSS = re.compile(rb"^Pss:\s+(\d+)", re.MULTILINE)


def tree(pid: int) -> list[int]:
    """`pid` and its live descendants, parents first; zombies are left out, their children are not."""
    if not HAS_PROC:
        return _tree_of(_table(), pid)
    found, todo = [], [pid]
    while todo:
        current = todo.pop(0)
        if _alive(current):
            found.append(current)
        todo += children(current)
    return found


def _alive(pid: int) -> bool:
    try:
        stat = _read(f"/proc/{pid}/stat")
    except OSError:
        return False
    return stat.rpartition(b")")[2].split()[0] not in (b"Z", b"X")


def children(pid: int) -> list[int]:
    """The direct children of `pid`, zombies too; none where there is no /proc."""
    found: list[int] = []
    with contextlib.suppress(OSError):
        # Each thread has a list of its own: the list of the process alone would hide forks made in threads.
        for thread in os.listdir(f"/proc/{pid}/task"):  # noqa: PTH208  (called every 30 ms)
            with contextlib.suppress(OSError):
                found += map(int, _read(f"/proc/{pid}/task/{thread}/children").split())
    return found


def _read(path: str) -> bytes:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(fd, 1 << 16)
    finally:
        os.close(fd)


def _table() -> dict[int, tuple[int, str, int]]:
    import subprocess  # costs each start, and is needed only here

    command = ["/bin/ps", "-axo", "pid=,ppid=,stat=,rss="]
    return parsed(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def parsed(listing: str) -> dict[int, tuple[int, str, int]]:
    """What `ps` tells, by pid: the parent's pid, the state, and the bytes held."""
    rows = (line.split() for line in listing.splitlines())
    return {int(pid): (int(parent), state, int(rss) << 10) for pid, parent, state, rss in rows}


def _tree_of(table: dict[int, tuple[int, str, int]], pid: int) -> list[int]:
    found, todo = [], [pid]
    while todo:
        current = todo.pop(0)
        if current in table and not table[current][1].startswith("Z"):
            found.append(current)
        todo += [child for child, (parent, *_) in table.items() if parent == current]
    return found


def memory(pids: list[int]) -> int:
    """Bytes held by `pids` together; what they share is counted once."""
    if not HAS_PROC:
        table = _table()
        return sum(table[pid][2] for pid in pids if pid in table)
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


def freeze(top: int, spare: int = 0) -> list[int]:
    """Stops all descendants of `top` but `spare`, and returns them; new ones found on the way too."""
    stopped: list[int] = []
    while new := [pid for pid in tree(top)[1:] if pid not in stopped and pid != spare]:
        for pid in new:
            send(pid, signal.SIGSTOP)
        stopped += new
    return stopped


def thaw(pids: list[int]) -> None:
    for pid in pids:
        send(pid, signal.SIGCONT)


def end_descendants(top: int, patience_s: float = 2.0, spare: int = 0) -> bool:
    """Ends all descendants of `top` but `spare`; True when none is left. Stopped first, none forks away."""
    deadline = time.monotonic() + patience_s
    while True:
        for pid in freeze(top, spare):
            send(pid, signal.SIGKILL)
        if not set(tree(top)[1:]) - {spare}:
            return True
        if time.monotonic() > deadline:
            return False
        time.sleep(0.001)
