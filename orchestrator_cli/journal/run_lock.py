"""The lock of a run: the process that executes the run holds it until it ends.

The system releases the lock of a dead process, so an unfinished run without a lock has died.
Not covered: file systems without locks between machines.
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from orchestrator_cli.durable.locks import LockTimeout, LockUnsupported, acquire, try_lock
from orchestrator_cli.errors import UsageError

PATIENCE_S = 1.0
"""`lock_owner` takes the lock for a moment, too."""


@contextlib.contextmanager
def run_lock(folder: Path) -> Iterator[None]:
    """Lock the run in this folder. Raises `UsageError` if another process has it."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = folder / "lock"
    try:
        lock = acquire(path, wait_s=PATIENCE_S)
    except LockTimeout as exc:
        raise UsageError(
            f"Run {folder.name} is running in process {_read(path) or 'unknown'}.",
            f"Wait until it ends, or stop it: orch cancel {folder.name}",
        ) from exc
    except LockUnsupported as exc:
        raise _no_locks(path, exc) from exc
    with lock:
        os.ftruncate(lock.file, 0)
        os.write(lock.file, str(os.getpid()).encode())
        yield


def lock_owner(folder: Path) -> int | None:
    """The id of the process that holds the lock; None if it is free, 0 if the id is unknown."""
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
