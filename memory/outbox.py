"""Writes that could not wait for the shard: one fsynced file each, until the next holder takes them in.

A file appears under its final name by an atomic rename, so a reader meets whole batches or none. Names
begin with the time, so batches are taken in the order in which they were written.

What is not covered: the bytes of a taken batch are unlinked, not overwritten on the disk.
"""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from uuid import uuid4

from pydantic import TypeAdapter, ValidationError

from memory.errors import MemoryUnavailable
from memory.records import Record
from orchestrator_cli.durable.files import write_atomic

_BATCH = TypeAdapter(list[Record])
_STALE_S = 600.0


class Outbox:
    def __init__(self, folder: Path, warn: Callable[[str], None]) -> None:
        self._folder = folder
        self._warn = warn

    def put(self, records: Sequence[Record]) -> None:
        """Keep a batch durably; needs no lock."""
        name = f"{time.time_ns():020d}-{uuid4().hex}"
        try:
            write_atomic(self._folder / f"{name}.json", _BATCH.dump_json(list(records)))
        except OSError as exc:
            raise MemoryUnavailable(
                f"Nothing was remembered: {self._folder} cannot be written ({exc.strerror}). "
                "Free some space or mend its permissions."
            ) from exc

    def pending(self) -> list[Path]:
        """The batches that wait, oldest first."""
        return sorted(self._folder.glob("*.json"))

    def read(self, batch: Path) -> list[Record]:
        """The records of a batch. A batch that cannot be read is put aside by name, with a warning."""
        try:
            return _BATCH.validate_json(batch.read_bytes())
        except ValidationError:
            aside = batch.with_suffix(".unreadable")
            batch.rename(aside)
            self._warn(f"A batch of memory writes could not be read and was kept as {aside}.")
            return []

    def discard(self, batches: Sequence[Path]) -> None:
        """Forget batches that are durable elsewhere, and what killed writers left half written."""
        for batch in batches:
            batch.unlink(missing_ok=True)
        for unfinished in self._folder.glob(".*.tmp"):
            if _age_s(unfinished) > _STALE_S:
                unfinished.unlink(missing_ok=True)


def _age_s(path: Path) -> float:
    try:
        return time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return 0.0
