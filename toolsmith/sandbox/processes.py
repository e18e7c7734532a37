"""The processes of a sandbox, through /proc, or through `ps` on systems without /proc.

The functions run on the host and in the worker; `SandboxProcesses` is the host's control over one sandbox.
Between two requests everything but the nanny is stopped, so nothing inside runs unobserved.

Not covered: a process that forks between two looks. Callers repeat until nothing new turns up. What `ps`
reports is a tenth of a second old, and counts shared memory once for each process.
"""

import contextlib
import os
import re
import signal
import time

HAS_PROC = os.path.exists("/proc/self/stat")  # noqa: PTH110  (pathlib would cost each start)
SETTLE_S = 3.0  # a fork bomb on a busy machine takes long to die, and rolling back waits for that
_PSS = re.compile(rb"^Pss:\s+(\d+)", re.MULTILINE)


class Unsettled(Exception):
    """Processes of a step outlived it."""


class SandboxProcesses:
    """The processes that descend from the one that the host started."""

    def __init__(self, top: int, *, dies_with_top: bool) -> None:
        """`top`: the nanny. `dies_with_top`: it is the first process of a namespace."""
        self._top, self._dies_with_top = top, dies_with_top
        self._generation = 0
        self._suspended: list[int] = []

    def settle(self) -> None:
        """Waits until one process is left beside the nanny, and stops it. Raises Unsettled."""
        deadline = time.monotonic() + SETTLE_S
        while True:
            pids = tree(self._top)[1:]
            if len(pids) == 1:
                send(pids[0], signal.SIGSTOP)
                if tree(self._top)[1:] == pids:
                    self._generation = pids[0]
                    return
            if not HAS_PROC:
                for pid in pids[1:]:  # code inside cannot list its processes, so the host ends what it left
                    send(pid, signal.SIGKILL)
            if time.monotonic() > deadline:
                raise Unsettled("processes of the step outlived it")
            time.sleep(0.0005)

    def wake(self) -> None:
        """Lets the settled process run again."""
        send(self._generation, signal.SIGCONT)

    def suspend(self) -> None:
        """Stops all processes in the middle of a step."""
        self._suspended = freeze(self._top)

    def resume(self) -> None:
        """Lets the processes run again that `suspend` stopped."""
        suspended, self._suspended = self._suspended, []
        for pid in suspended:
            send(pid, signal.SIGCONT)

    def end_step(self) -> None:
        """Has the snapshot end the step."""
        send(self._generation, signal.SIGUSR1)

    def count(self) -> int:
        """How many there are, without the nanny and the snapshot."""
        return len(tree(self._top)) - 2

    def memory(self) -> int:
        """Bytes that all hold together."""
        return memory(tree(self._top))

    def kill(self) -> None:
        """Ends all of them. Safe to call from any thread."""
        if self._dies_with_top:
            send(self._top, signal.SIGKILL)
        else:
            end_descendants(self._top)


def tree(pid: int) -> list[int]:
    """`pid` and its live descendants, parents first; zombies are left out, their children are not."""
    table = {} if HAS_PROC else _process_table()
    found, todo = [], [pid]
    while todo:
        current = todo.pop(0)
        if HAS_PROC:
            alive, below = _alive(current), children(current)
        else:
            alive = current in table and not table[current][1].startswith("Z")
            below = [child for child, (parent, *_) in table.items() if parent == current]
        if alive:
            found.append(current)
        todo += below
    return found


def _alive(pid: int) -> bool:
    try:
        stat = _read(f"/proc/{pid}/stat")
    except OSError:
        return False
    return stat.rpartition(b")")[2].split()[0] not in (b"Z", b"X")


def children(pid: int) -> list[int]:
    """The direct children of `pid`, zombies too; none without /proc."""
    found: list[int] = []
    with contextlib.suppress(OSError):
        # Each thread has its own list: the main thread's alone would hide forks made in other threads.
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


def _process_table() -> dict[int, tuple[int, str, int]]:
    import subprocess  # costs each start, and only systems without /proc need it

    command = ["/bin/ps", "-axo", "pid=,ppid=,stat=,rss="]
    return parse_ps(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def parse_ps(listing: str) -> dict[int, tuple[int, str, int]]:
    """By pid: the parent's pid, the state, and the bytes held."""
    rows = (line.split() for line in listing.splitlines())
    return {int(pid): (int(parent), state, int(rss) << 10) for pid, parent, state, rss in rows}


def memory(pids: list[int]) -> int:
    """Bytes held by `pids` together; what they share is counted once."""
    if not HAS_PROC:
        table = _process_table()
        return sum(table[pid][2] for pid in pids if pid in table)
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            if found := _PSS.search(_read(f"/proc/{pid}/smaps_rollup")):
                total += int(found[1]) << 10
    return total


def send(pid: int, number: signal.Signals) -> None:
    """Sends a signal; does nothing if the process has ended."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)


def freeze(top: int, spare: int = 0) -> list[int]:
    """Stops all descendants of `top` but `spare`, also those that start meanwhile, and returns them."""
    stopped: list[int] = []
    while new := [pid for pid in tree(top)[1:] if pid not in stopped and pid != spare]:
        for pid in new:
            send(pid, signal.SIGSTOP)
        stopped += new
    return stopped


def end_descendants(top: int, patience_s: float = 2.0, spare: int = 0) -> None:
    """Ends all descendants of `top` but `spare`. They are stopped first, so that none forks away."""
    deadline = time.monotonic() + patience_s
    while True:
        for pid in freeze(top, spare):
            send(pid, signal.SIGKILL)
        if not set(tree(top)[1:]) - {spare} or time.monotonic() > deadline:
            return
        time.sleep(0.001)
