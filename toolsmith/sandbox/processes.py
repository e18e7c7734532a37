"""The processes of a sandbox, through /proc, or through `ps` on systems without /proc.

The functions run on the host and in the worker; `SandboxProcesses` is the host's control over one sandbox.
Between two requests everything but the nanny is stopped, so nothing inside runs unobserved (see watch.py).

A process is alive while any of its threads is. One whose main thread alone has ended looks like a zombie in
/proc/PID/stat, and its memory and files can only be read from the threads that are left (/proc/PID/task).

Not covered: a process that forks between two looks. Callers repeat until nothing new turns up. What `ps`
reports is a tenth of a second old, and counts shared memory once for each process.
"""

import contextlib
import functools
import os
import re
import resource
import signal
import threading
import time
from collections.abc import Iterable, Iterator

HAS_PROC = os.path.exists("/proc/self/stat")  # noqa: PTH110  (pathlib would cost each start)
SETTLE_S = 3.0  # a fork bomb on a busy machine takes long to die, and rolling back waits for that
_PSS = re.compile(rb"^Pss:\s+(\d+)", re.MULTILINE)
_TABLES = re.compile(rb"^VmPTE:\s+(\d+)", re.MULTILINE)
_MAPPING_BYTES = 512  # in the kernel, for one mapping, with its name and its policy
_LINK_BYTES = 64  # besides, for each process that it may have come from by forks
_STATE, _THREADS, _VIRTUAL, _RESIDENT = 0, 17, 20, 21  # fields of /proc/PID/stat after the name
_PIPE_PAGES = 16  # that a pipe holds at most; code inside cannot have it hold more
_LOOKS = 3  # at a process whose threads come and go
_HOLD_S = 1.0  # for stopping what is awake, on a busy machine
_RUNS = re.compile(rb"^(?:State:\s+|(?:non)?voluntary_ctxt_switches:\s+)(\w+)", re.MULTILINE)
_AWAKE, _STOPPED, _ENDED = (b"R", b"S"), b"T", (b"Z", b"X")  # D is left out: nothing runs in it

Look = dict[str, list[bytes]]
"""By the folder in /proc of each thread: its state, and how often it was taken off a processor."""


THREADS = 4
"""How many threads there may be for each process that the limit allows."""


class Unsettled(Exception):
    """Processes of a step outlived it."""


class SandboxProcesses:
    """The processes that descend from the one that the host started."""

    def __init__(self, top: int, *, dies_with_top: bool, most: int) -> None:
        """`top`: the nanny. `dies_with_top`: it is the first process of a namespace.

        `most`: how many processes may run, without the nanny and the snapshot.
        """
        self.top, self._dies_with_top, self._most = top, dies_with_top, most
        self._generation = 0
        self._held = False
        self._asked = False
        self._room = 0  # how many may start before the next count
        self._full = self._ending = False
        self._guard = threading.Lock()

    def settle(self) -> None:
        """Waits until one process is left beside the nanny, and stops it. Raises Unsettled."""
        self._held = True
        deadline = time.monotonic() + SETTLE_S
        while True:
            pids = tree(self.top)[1:]
            if len(pids) == 1:
                send(pids[0], signal.SIGSTOP)
                if tree(self.top)[1:] == pids:
                    self._generation = pids[0]
                    self.hold()
                    return
            if not HAS_PROC:
                for pid in pids[1:]:  # code inside cannot list its processes, so the host ends what it left
                    send(pid, signal.SIGKILL)
            if time.monotonic() > deadline:
                raise Unsettled("processes of the step outlived it")
            time.sleep(0.0005)

    def wake(self) -> None:
        """Lets the settled process run again, and others start."""
        self._full = self._ending = self._held = False
        send(self._generation, signal.SIGCONT)

    def suspend(self) -> None:
        """Stops all processes in the middle of a step."""
        self._held = True
        freeze(self.top)
        self.hold()

    def resume(self) -> None:
        """Lets the processes run again that `suspend` stopped."""
        self._held = False
        for pid in tree(self.top)[1:]:
            send(pid, signal.SIGCONT)

    def hold(self, within_s: float = _HOLD_S) -> Look:
        """Stops whatever is awake until nothing is, for so long at most, and returns the last look."""
        deadline = time.monotonic() + within_s
        while True:
            look = self.look()
            awake = {int(thread.split("/")[2]) for thread, runs in look.items() if runs[0] in _AWAKE}
            if not awake or time.monotonic() > deadline:
                return look
            for pid in awake:
                send(pid, signal.SIGSTOP)
            time.sleep(0.0005)

    def look(self) -> Look:
        """All threads but the nanny's; none without /proc."""
        found = Look()
        for thread in self.threads():
            with contextlib.suppress(OSError):
                if len(runs := _RUNS.findall(_read(f"{thread}/status"))) == 3:
                    found[thread] = runs
        return found

    def end_step(self) -> None:
        """Has the snapshot end the step. Only the first call since `wake` counts; from any thread."""
        with self._guard:
            if not self._ending:
                self._ending = True
                send(self._generation, signal.SIGUSR1)

    def admit(self, *, thread: bool) -> bool:
        """Whether a process, or a thread, may start. The first that may not ends the step.

        After it none may until `wake`, and none while all are stopped: the kernel asks again as they go on.
        Called from the thread that answers for the kernel.
        """
        self._asked = True
        if self._held:
            return False
        if not self._full and self._room < 1:
            running, threads = census(self.top)
            self._room = min(self._most - running, self._most * THREADS - threads)
            self._full = (self._most * THREADS - threads if thread else self._room) < 1
            if self._full:
                self.end_step()
        self._room -= 1
        return not self._full

    def too_many(self) -> bool:
        """Whether more run than may; if the host is asked before each, whether one more was about to."""
        if self._asked:
            return self._full
        running, threads = census(self.top)
        return running > self._most or threads > self._most * THREADS

    def memory(self) -> int:
        """Bytes that all but the nanny hold together."""
        return memory(tree(self.top)[1:])

    def threads(self) -> Iterator[str]:
        """The folder in /proc of each thread of each process but the nanny; none without /proc."""
        for pid, _, count in list(_family(self.top))[1:]:
            if HAS_PROC and count:
                with contextlib.suppress(OSError):
                    yield from (f"/proc/{pid}/task/{name}" for name in os.listdir(f"/proc/{pid}/task"))  # noqa: PTH208

    def mounted(self, folders: Iterable[str]) -> tuple[int, int]:
        """Bytes and files on file systems that only they see, mounted at `folders`."""
        size = files = 0
        for folder in folders:
            with contextlib.suppress(OSError):
                found = os.statvfs(f"/proc/{self.top}/root{folder}")
                size += (found.f_blocks - found.f_bfree) * found.f_frsize
                files += found.f_files - found.f_ffree
        return size, files

    def kill(self) -> None:
        """Ends all of them. Safe to call from any thread."""
        if self._dies_with_top:
            send(self.top, signal.SIGKILL)
        else:
            end_descendants(self.top)


def has_run(before: Look, now: Look) -> bool:
    """Whether a thread is awake, was stopped and ran in between, or is new."""
    return any(
        runs[0] in _AWAKE
        or thread not in before
        or (before[thread][0] == _STOPPED and before[thread] != runs and runs[0] not in _ENDED)
        for thread, runs in now.items()
    )


def tree(pid: int) -> list[int]:
    """`pid` and its live descendants, parents first; zombies are left out, their children are not."""
    return [found for found, alive, _ in _family(pid) if alive]


def census(top: int) -> tuple[int, int]:
    """How many processes live below `top` but for one, and their threads; a zombie counts as a thread."""
    family = list(_family(top))
    return sum(alive for _, alive, _ in family) - 2, sum(threads for _, _, threads in family) - 2


def _family(top: int) -> Iterator[tuple[int, bool, int]]:
    """`top` and its descendants, parents first: the id, whether it lives, and how many threads it has."""
    table = {} if HAS_PROC else _process_table()
    todo = [top]
    while todo:
        current = todo.pop(0)
        if HAS_PROC:
            threads, below = _threads(current)
            yield current, bool(threads) and _alive(current), threads
        else:
            yield current, current in table and not table[current][1].startswith("Z"), 1
            below = [child for child, (parent, *_) in table.items() if parent == current]
        todo += below


def _alive(pid: int) -> bool:
    """Whether a thread of it lives: a main thread that has ended stays as a zombie, and counts the others."""
    try:
        found = _stat(f"/proc/{pid}")
    except OSError:
        return False
    return found[_STATE] not in (b"Z", b"X") or int(found[_THREADS]) > 1


def has_memory(thread: str) -> bool:
    """Whether the thread with this folder in /proc still has its memory; it gives that up as it ends."""
    try:
        return int(_stat(thread)[_VIRTUAL]) > 0
    except OSError:
        return False


def _stat(folder: str) -> list[bytes]:
    """The fields after the name, which may hold anything. Raises OSError."""
    return _read(f"{folder}/stat").rpartition(b")")[2].split()


def _threads(pid: int) -> tuple[int, list[int]]:
    """How many threads `pid` has, and its direct children, zombies too; none of both without /proc."""
    count, found = 0, list[int]()
    with contextlib.suppress(OSError):
        # Each thread has its own list: the main thread's alone would hide forks made in other threads.
        for thread in os.listdir(f"/proc/{pid}/task"):  # noqa: PTH208  (called every 30 ms)
            count += 1
            with contextlib.suppress(OSError):
                found += map(int, _read(f"/proc/{pid}/task/{thread}/children").split())
    return count, found


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
    """Bytes held by `pids` together, the kernel's for their mappings too; what they share is counted once.

    Each socket and pipe counts for what the kernel may hold in it; so does each descriptor of a process that
    hides.
    """
    if not HAS_PROC:
        table = _process_table()
        return sum(table[pid][2] for pid in pids if pid in table)
    buffers: set[str] = set()
    mapped = sum(_held(pid, buffers, len(pids)) for pid in pids)
    pipes = sum(name.startswith("pipe:") for name in buffers)
    return mapped + pipes * _PIPE_PAGES * resource.getpagesize() + (len(buffers) - pipes) * _socket_bytes()


def _held(pid: int, buffers: set[str], family: int) -> int:
    """Bytes that its threads share, which any that has not ended shows; sockets and pipes go into `buffers`.

    `family`: how many processes there are.
    """
    for _ in range(_LOOKS):
        with contextlib.suppress(OSError):
            for name in os.listdir(f"/proc/{pid}/task"):  # noqa: PTH208
                thread = f"/proc/{pid}/task/{name}"
                with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                    if has_memory(thread):
                        buffers |= _buffers(thread)
                        each = _MAPPING_BYTES + _LINK_BYTES * family
                        return _mapped(thread) + _tables(thread) + _mappings(thread) * each
    return 0


def _buffers(thread: str) -> set[str]:
    """Names of its sockets and pipes; of all its descriptors if they cannot be read."""
    folder = f"{thread}/fd"
    try:
        names = os.listdir(folder)  # noqa: PTH208
    except PermissionError:
        return {f"{folder}/{number}" for number in range(os.stat(folder).st_size)}  # noqa: PTH116
    found = set()
    for name in names:
        with contextlib.suppress(OSError):
            target = os.readlink(f"{folder}/{name}")  # noqa: PTH115
            if target.startswith(("socket:", "pipe:")):
                found.add(target)
    return found


def _tables(thread: str) -> int:
    """Bytes of page tables, which what is only read takes too."""
    found = _TABLES.search(_read(f"{thread}/status"))
    return int(found[1]) << 10 if found else 0


def _mappings(thread: str) -> int:
    """How many mappings it has; as many as it can have if it hides."""
    try:
        fd = os.open(f"{thread}/maps", os.O_RDONLY | os.O_CLOEXEC)
    except PermissionError:
        return int(_stat(thread)[_VIRTUAL]) // resource.getpagesize()
    with os.fdopen(fd, "rb", buffering=0) as file:
        return sum(part.count(b"\n") for part in iter(lambda: file.read(1 << 16), b""))


@functools.cache
def _socket_bytes() -> int:
    try:
        return int(_read("/proc/sys/net/core/wmem_default"))
    except OSError:
        return 208 << 10


def _mapped(thread: str) -> int:
    """Bytes, a part of what is shared. All of it for a process that hides, or that is ending just now."""
    with contextlib.suppress(OSError):
        if found := _PSS.search(_read(f"{thread}/smaps_rollup")):
            return int(found[1]) << 10
    return int(_stat(thread)[_RESIDENT]) * resource.getpagesize()


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
