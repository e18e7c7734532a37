"""An exclusive lock on a file, between processes and between threads of one process.

The lock is the kernel's: it falls away with its holder, also after `kill -9`. What is not covered: file
systems on which locks do not work between machines (some NFS mounts), and order: the kernel keeps no
queue, waiters poll, so a holder rests a few milliseconds after release to let another one in.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import portalocker

from .errors import MemoryBusy, MemoryUnavailable

_REST_S: Final = 0.004
_POLL_S: Final = (0.001, 0.006)


@contextmanager
def exclusive(path: Path, *, wait_s: float) -> Iterator[None]:
    """Hold the lock file at `path`; MemoryBusy when it is not had within `wait_s` seconds."""
    try:
        file = path.open("a+b")
    except OSError as exc:
        raise MemoryUnavailable(f"The memory's lock {path} cannot be opened: {exc.strerror}.") from exc
    with file:
        _acquire(file.fileno(), path, wait_s)
        try:
            yield
        finally:
            # Closing alone would leave it to a child that was forked meanwhile.
            portalocker.unlock(file.fileno())
            time.sleep(_REST_S)


def _acquire(descriptor: int, path: Path, wait_s: float) -> None:
    deadline = time.monotonic() + wait_s
    flags = portalocker.LockFlags.EXCLUSIVE | portalocker.LockFlags.NON_BLOCKING
    while True:
        try:
            portalocker.lock(descriptor, flags)
            return
        except portalocker.exceptions.AlreadyLocked as exc:
            if time.monotonic() >= deadline:
                raise MemoryBusy(
                    f"The memory in {path.parent} was in use by others for {wait_s:g} s; try again."
                ) from exc
        except portalocker.exceptions.LockException as exc:
            raise MemoryUnavailable(
                f"The memory in {path.parent} cannot be locked ({exc}); keep it on a local disk."
            ) from exc
        time.sleep(random.uniform(*_POLL_S))
