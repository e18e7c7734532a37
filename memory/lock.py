"""The lock of a memory: one process or thread at a time, in the order of coming. See `durable.locks`."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from memory.errors import MemoryBusy, MemoryUnavailable
from orchestrator_cli.durable.locks import LockTimeout, LockUnsupported, acquire


@contextmanager
def exclusive(path: Path, *, wait_s: float) -> Iterator[None]:
    """Hold the lock file at `path`. Raises `MemoryBusy` after `wait_s` seconds, `MemoryUnavailable`."""
    try:
        lock = acquire(path, wait_s=wait_s, fair=True)
    except LockTimeout as exc:
        raise MemoryBusy(
            f"The memory in {path.parent} was in use by others for {wait_s:g} s; try again."
        ) from exc
    except LockUnsupported as exc:
        raise MemoryUnavailable(
            f"The memory in {path.parent} has no lock: {exc.strerror}; keep it on a local disk."
        ) from exc
    except OSError as exc:
        raise MemoryUnavailable(f"The memory's lock {path} cannot be opened: {exc.strerror}.") from exc
    with lock:
        yield
