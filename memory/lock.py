"""An exclusive lock on a file, between processes and between threads of one process, in the order of coming.

The lock is the kernel's: it falls away with its holder, also after `kill -9`. The kernel keeps no order among
those who ask again and again, and on a busy machine one of many can be passed over for long. So each takes
a ticket first, a file beside the lock that it keeps locked while it waits; whoever has the oldest takes the
lock next. The ticket of one who died is not locked any more, and is cleared away; that of one who was stopped
(Ctrl-Z) counts no longer than its owner wanted to wait.

What is not covered: file systems on which locks do not work between machines (some NFS mounts), and a clock
that is set back, which lets those who come then go first.
"""

import os
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO
from uuid import uuid4

import portalocker

from memory.errors import MemoryBusy, MemoryUnavailable

_POLL_S = (0.001, 0.006)
_STALE_S = 600.0
_TRY = portalocker.LockFlags.EXCLUSIVE | portalocker.LockFlags.NON_BLOCKING


@contextmanager
def exclusive(path: Path, *, wait_s: float) -> Iterator[None]:
    """Hold the lock file at `path`; MemoryBusy when it is not had within `wait_s` seconds."""
    with _opened(path) as file:
        _acquire(file.fileno(), path, wait_s)
        try:
            yield
        finally:
            # Closing alone would leave it to a child that was forked meanwhile.
            portalocker.unlock(file.fileno())


def _acquire(descriptor: int, path: Path, wait_s: float) -> None:
    deadline = time.monotonic() + wait_s
    with _told(path), _ticket(path, wait_s) as ticket:
        while not (_is_first(ticket) and _is_locked(descriptor, path)):
            if time.monotonic() >= deadline:
                raise MemoryBusy(
                    f"The memory in {path.parent} was in use by others for {wait_s:g} s; try again."
                )
            time.sleep(random.uniform(*_POLL_S))


def _opened(path: Path) -> IO[bytes]:
    with _told(path):
        return path.open("a+b")


@contextmanager
def _told(lock: Path) -> Iterator[None]:
    """The system's faults as ours."""
    try:
        yield
    except OSError as exc:
        raise MemoryUnavailable(f"The memory's lock {lock} cannot be opened: {exc.strerror}.") from exc


@contextmanager
def _ticket(lock: Path, wait_s: float) -> Iterator[Path]:
    """A place in the queue, for as long as one waits; its name says from when on and until when."""
    queue, now = lock.with_name(f"{lock.name}.queue"), time.time_ns()
    ticket = queue / f"{now:020d}-{now + int(wait_s * 1e9):020d}-{uuid4().hex}"
    # It is locked before it has its name, so that nobody takes it for one whose owner has died.
    unlocked = queue / f".{ticket.name}"
    queue.mkdir(exist_ok=True)
    with unlocked.open("wb") as file:
        try:
            _is_locked(file.fileno(), lock)
            unlocked.rename(ticket)
            yield ticket
        finally:
            for name in (ticket, unlocked):
                name.unlink(missing_ok=True)
            portalocker.unlock(file.fileno())


def _is_first(ticket: Path) -> bool:
    """Whether nobody who is alive came earlier."""
    for name in sorted(os.listdir(ticket.parent)):  # noqa: PTH208 - names, at each look
        other = ticket.with_name(name)
        if name.startswith("."):
            _clear_stale(other)
        elif name >= ticket.name:
            return True
        elif _is_waiting(other):
            return False
    return True


def _is_waiting(ticket: Path) -> bool:
    """Whether the owner of a ticket is alive and asks still; the ticket of a dead one is cleared away."""
    if time.time_ns() > int(ticket.name.split("-")[1]):
        return False
    try:
        with ticket.open("rb") as file:
            portalocker.lock(file.fileno(), portalocker.LockFlags.SHARED | portalocker.LockFlags.NON_BLOCKING)
            ticket.unlink(missing_ok=True)
            portalocker.unlock(file.fileno())
    except portalocker.exceptions.AlreadyLocked:
        return True
    except FileNotFoundError:
        pass
    return False


def _clear_stale(unlocked: Path) -> None:
    with suppress(OSError):
        if time.time() - unlocked.stat().st_mtime > _STALE_S:
            unlocked.unlink()


def _is_locked(descriptor: int, path: Path) -> bool:
    """Whether the lock could be had at once."""
    try:
        portalocker.lock(descriptor, _TRY)
    except portalocker.exceptions.AlreadyLocked:
        return False
    except portalocker.exceptions.LockException as exc:
        raise MemoryUnavailable(
            f"The memory in {path.parent} cannot be locked ({exc}); keep it on a local disk."
        ) from exc
    return True
