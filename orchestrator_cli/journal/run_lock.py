"""Who has a run: the one process that carries it on holds the lock in its folder as long as it lives.

The system lets go of the lock of a process that died, so a run without an end that nobody holds
has died. What is not covered: file systems without locks between machines.
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from orchestrator_cli.durable.locks import LockTimeout, LockUnsupported, acquire, try_lock
from orchestrator_cli.errors import UsageError

PATIENCE_S = 1.0
"""Whoever only looks whether a run is held has its lock for a moment."""


@contextlib.contextmanager
def held(folder: Path) -> Iterator[None]:
    """Have the run in this folder for oneself. Raises `UsageError` where another process has it."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = folder / "lock"
    try:
        lock = acquire(path, wait_s=PATIENCE_S)
    except LockTimeout as exc:
        raise UsageError(
            f"Run {folder.name} is going on in process {_read(path) or 'unknown'}.",
            f"Wait for its end, or stop it: orch cancel {folder.name}",
        ) from exc
    except LockUnsupported as exc:
        raise _no_locks(path, exc) from exc
    with lock:
        os.ftruncate(lock.file, 0)
        os.write(lock.file, str(os.getpid()).encode())
        yield


def holder(folder: Path) -> int | None:
    """The process that has the run in this folder; None where nobody has, 0 where it cannot be told who."""
    path = folder / "lock"
    try:
        with path.open("rb") as file:
            return None if try_lock(file.fileno(), shared=True) else _read(path)
    except FileNotFoundError:
        return None
    except LockUnsupported as exc:
        raise _no_locks(path, exc) from exc


def _no_locks(path: Path, exc: LockUnsupported) -> UsageError:
    return UsageError(f"{path} cannot be used: {exc.strerror}.", "Move ORCH_HOME to a local disk.")


def _read(path: Path) -> int:
    text = path.read_text().strip()
    return int(text) if text.isdigit() else 0
