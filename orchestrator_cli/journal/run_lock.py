"""Who has a run: the one process that carries it on holds the lock in its folder as long as it lives.

The system lets go of the lock of a process that died, so a run without an end that nobody holds
has died. What is not covered: file systems without locks between machines.
"""

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import portalocker
from portalocker import LockFlags
from portalocker.exceptions import AlreadyLocked, LockException

from orchestrator_cli.errors import UsageError

PATIENCE_S = 1.0
"""Whoever only looks whether a run is held has its lock for a moment."""


@contextlib.contextmanager
def held(folder: Path) -> Iterator[None]:
    """Have the run in this folder for oneself. Raises `UsageError` where another process has it."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (folder / "lock").open("a+") as file:
        deadline = time.monotonic() + PATIENCE_S
        while not _locked(file, LockFlags.EXCLUSIVE):
            if time.monotonic() > deadline:
                raise UsageError(
                    f"Run {folder.name} is going on in process {_read(file) or 'unknown'}.",
                    f"Wait for its end, or stop it: orch cancel {folder.name}",
                )
            time.sleep(0.02)
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def holder(folder: Path) -> int | None:
    """The process that has the run in this folder; None where nobody has, 0 where it cannot be told who."""
    try:
        with (folder / "lock").open("r") as file:
            return None if _locked(file, LockFlags.SHARED) else _read(file)
    except FileNotFoundError:
        return None


def _locked(file: IO[str], kind: LockFlags) -> bool:
    try:
        portalocker.lock(file, kind | LockFlags.NON_BLOCKING)
    except AlreadyLocked:
        return False
    except LockException as exc:
        raise UsageError(f"{file.name} cannot be locked: {exc}.", "Move ORCH_HOME to a local disk.") from exc
    return True


def _read(file: IO[str]) -> int:
    file.seek(0)
    text = file.read().strip()
    return int(text) if text.isdigit() else 0
