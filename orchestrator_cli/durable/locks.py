"""Locks on files, between processes and between threads of one process.

The kernel releases a lock when its holder ends, also after `kill -9`. It keeps no order among those who
ask again and again, and on a busy machine one of many can be passed over for long. So with `fair`, each
takes a ticket first: a file beside the lock, locked while its owner waits. The oldest ticket takes the lock
next. The ticket of a process that died is unlocked, and is removed; that of one that was stopped (Ctrl-Z)
counts no longer than its owner wanted to wait.

Not covered: file systems on which locks do not work between machines (some NFS mounts), and, for `fair`,
a clock that is set back, which lets those who come later go first.
"""

import errno
import os
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self
from uuid import uuid4

_STALE_S = 600.0


class LockTimeout(TimeoutError):
    """Others held the lock for as long as the caller was ready to wait."""


class LockUnsupported(OSError):
    """The file system cannot lock the file."""


@dataclass(frozen=True)
class FileLock:
    """A lock that is held until the end of a `with` block."""

    file: int
    """A descriptor of the lock file, open for reading and appending."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        # Closing alone would leave the lock to a child that was forked meanwhile.
        _unlock(self.file)
        os.close(self.file)


def acquire(
    path: Path, *, wait_s: float, shared: bool = False, fair: bool = False, poll_s: float = 0.006
) -> FileLock:
    """Lock a file, which is made if it is missing; its folder is not.

    Args:
        wait_s: how long to wait for others, in seconds.
        shared: let others have the lock as well, if they ask for it shared.
        fair: serve those who wait in the order in which they came.
        poll_s: the longest time between two looks, in seconds.

    Raises:
        LockTimeout: others held it for `wait_s` seconds.
        LockUnsupported: the file system has no locks.
        OSError: the file cannot be opened.
    """
    file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        if fair:
            deadline = time.monotonic() + wait_s
            with _ticket(path, wait_s) as ticket:
                _await(lambda: _is_first(ticket) and try_lock(file), deadline, poll_s)
        else:
            wait_for_lock(file, wait_s=wait_s, shared=shared, poll_s=poll_s)
    except BaseException:
        os.close(file)
        raise
    return FileLock(file)


def wait_for_lock(file: int, *, wait_s: float, shared: bool = False, poll_s: float = 0.006) -> None:
    """Lock an open file until its descriptor is closed. Raises as `acquire`."""
    _await(lambda: try_lock(file, shared=shared), time.monotonic() + wait_s, poll_s)


def try_lock(file: int, *, shared: bool = False) -> bool:
    """Lock an open file or folder, and return whether it was free. Raises `LockUnsupported`."""
    # Not at the top: it brings in the client of a database if that is installed, which takes 0.1 s.
    import portalocker

    kind = portalocker.LockFlags.SHARED if shared else portalocker.LockFlags.EXCLUSIVE
    try:
        portalocker.lock(file, kind | portalocker.LockFlags.NON_BLOCKING)
    except portalocker.exceptions.AlreadyLocked:
        return False
    except portalocker.exceptions.LockException as exc:
        raise LockUnsupported(errno.ENOLCK, f"it cannot be locked ({exc})") from exc
    return True


def _unlock(file: int) -> None:
    import portalocker

    portalocker.unlock(file)


def _await(is_had: Callable[[], bool], deadline: float, poll_s: float) -> None:
    while not is_had():
        if time.monotonic() >= deadline:
            raise LockTimeout(errno.ETIMEDOUT, "others hold its lock")
        time.sleep(random.uniform(poll_s / 6, poll_s))


# --- the queue of a fair lock


@contextmanager
def _ticket(lock: Path, wait_s: float) -> Iterator[Path]:
    """A place in the queue while the caller waits; its name says since when and until when."""
    queue, now = lock.with_name(f"{lock.name}.queue"), time.time_ns()
    ticket = queue / f"{now:020d}-{now + int(wait_s * 1e9):020d}-{uuid4().hex}"
    # It is locked before it has its name, so that others do not take its owner for dead.
    unlocked = queue / f".{ticket.name}"
    queue.mkdir(exist_ok=True)
    with unlocked.open("wb") as file:
        try:
            try_lock(file.fileno())
            unlocked.rename(ticket)
            yield ticket
        finally:
            for name in (ticket, unlocked):
                name.unlink(missing_ok=True)
            _unlock(file.fileno())


def _is_first(ticket: Path) -> bool:
    """Whether no one who is alive came earlier."""
    for name in sorted(os.listdir(ticket.parent)):  # noqa: PTH208 - names, at each look
        other = ticket.with_name(name)
        if name.startswith("."):
            with suppress(OSError):
                if time.time() - other.stat().st_mtime > _STALE_S:
                    other.unlink()
        elif name >= ticket.name:
            return True
        elif _is_waiting(other):
            return False
    return True


def _is_waiting(ticket: Path) -> bool:
    """Whether the owner of a ticket is alive and still waits; removes the ticket of a dead one."""
    if time.time_ns() > int(ticket.name.split("-")[1]):
        return False
    try:
        with ticket.open("rb") as file:
            if not try_lock(file.fileno(), shared=True):
                return True
            ticket.unlink(missing_ok=True)
            _unlock(file.fileno())
    except FileNotFoundError:
        pass
    return False
