"""Writes that wait for their store, in files, and the lock by which processes take turns at it.

    outbox = Outbox(folder, warn)
    outbox.put(records)                     # durable when it returns
    for batch in outbox.pending():          # oldest first
        store.add(outbox.read(batch))
        outbox.discard([batch])

A file gets its final name by an atomic rename, so a reader sees complete batches only. Names begin with the
time, so batches are stored in the order in which they were written. A batch that is stored and not yet
discarded when its process is killed is stored again: ids follow from what a record is about, so that changes
nothing. The bytes of a stored batch are unlinked, not overwritten.

What is not covered: a clock that is set back between two batches with the same key.
"""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

from pydantic import TypeAdapter, ValidationError

from memory.records import MemoryBusy, MemoryUnavailable, Record
from orchestrator_cli.durable.files import write_atomic
from orchestrator_cli.durable.locks import LockTimeout, LockUnsupported, acquire

_BATCH = TypeAdapter(list[Record])
_STALE_S = 600.0


@contextmanager
def exclusive(path: Path, *, wait_s: float) -> Iterator[None]:
    """Hold the lock file at `path`, in the order of arrival.

    Raises `MemoryBusy` after `wait_s` seconds, and `MemoryUnavailable` if it cannot be locked.
    """
    try:
        lock = acquire(path, wait_s=wait_s, fair=True)
    except LockTimeout as exc:
        raise MemoryBusy(
            f"The memory in {path.parent} was in use by other processes for {wait_s:g} s; try again."
        ) from exc
    except LockUnsupported as exc:
        raise MemoryUnavailable(
            f"The memory in {path.parent} has no lock: {exc.strerror}; keep it on a local disk."
        ) from exc
    except OSError as exc:
        raise MemoryUnavailable(f"The memory's lock {path} cannot be opened: {exc.strerror}.") from exc
    with lock:
        yield


class Outbox:
    """The batches in `folder`, which is created if it is missing.

    `max_bytes` limits what may wait there; None for no limit.
    """

    def __init__(
        self,
        folder: Path,
        warn: Callable[[str], None],
        remedy: str = "",
        *,
        max_bytes: int | None = None,
    ) -> None:
        self.folder = folder
        self._warn, self._remedy = warn, remedy
        self._max_bytes = max_bytes

    def put(self, records: Sequence[Record]) -> None:
        """Store a batch durably, without a lock. Raises `MemoryUnavailable` if there is no room for it."""
        name = f"{time.time_ns():020d}-{uuid4().hex}"
        content = _BATCH.dump_json(list(records))
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            if self._max_bytes is not None and self.size + len(content) > self._max_bytes:
                raise MemoryUnavailable(
                    f"Nothing was remembered: {self._max_bytes // 2**20} MB of writes wait in {self.folder} "
                    "already, which is as much as may wait."
                )
            write_atomic(self.folder / f"{name}.json", content, mode=0o600)
        except OSError as exc:
            raise MemoryUnavailable(
                f"Nothing was remembered: {self.folder} cannot be written ({exc.strerror}). "
                "Free some space or repair its permissions."
            ) from exc

    @property
    def size(self) -> int:
        """The bytes of all that waits."""
        sizes = 0
        for batch in self.pending():
            # Another process may have stored it meanwhile.
            with suppress(FileNotFoundError):
                sizes += batch.stat().st_size
        return sizes

    def pending(self) -> list[Path]:
        """The waiting batches, oldest first."""
        return sorted(self.folder.glob("*.json"))

    def read(self, batch: Path) -> list[Record]:
        """The records of a batch. A damaged one is put aside, with a warning, and what of it can be read
        takes its place."""
        content = batch.read_bytes()
        try:
            return _BATCH.validate_json(content)
        except ValidationError:
            found = _records_in(content.decode("utf-8", "replace"))
            aside = self.set_aside(batch)
            write_atomic(batch, _BATCH.dump_json(found), mode=0o600)
            self._warn(
                f"A batch of memory writes was damaged. {len(found):,} of its records could be read and "
                f"were kept. It is unchanged in {aside}. {self._remedy}"
            )
            return found

    def set_aside(self, batch: Path) -> Path:
        """Rename a batch so that it waits no longer; returns its new path."""
        aside = batch.with_suffix(".unreadable")
        batch.rename(aside)
        return aside

    def discard(self, batches: Sequence[Path]) -> None:
        """Delete batches that are stored, and unfinished ones of killed writers."""
        for batch in batches:
            batch.unlink(missing_ok=True)
        for unfinished in self.folder.glob(".*.tmp"):
            with suppress(FileNotFoundError):
                if time.time() - unfinished.stat().st_mtime > _STALE_S:
                    unfinished.unlink()


def _records_in(text: str) -> list[Record]:
    """The whole records in a list of them that is damaged."""
    found, decoder, at = list[Record](), json.JSONDecoder(), text.find("{")
    while at >= 0:
        try:
            value, end = decoder.raw_decode(text, at)
            found.append(Record.model_validate(value))
        except (ValueError, RecursionError):
            end = at + 1
        at = text.find("{", end)
    return found
