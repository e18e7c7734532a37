"""Erases the text of deleted records from an embedded memory, while other processes read and write.

The engine keeps deleted text in its log, so the remaining points are copied into a new shard, which replaces
the old one:

    .erasing               the ids deleted since the last compaction; removed when their text is gone
    .compacting            the lock of the process that compacts
    shard.compact/         the new shard
    shard.compact.changes  the ids written since the compaction began, one a line

The lock of the memory is held for a slice of the copying at a time: a tenth of a second, or twice the time
that opening takes. What others write meanwhile, they note in the changes, and the last slice copies it again
before it swaps the shards. A deletion meanwhile may concern a point that was copied already: its id stays in
`.erasing`, and its process compacts again.

A kill at any moment leaves the old shard or the new one, and `.erasing`; the next process to open the memory
compacts it from the beginning.
"""

import shutil
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any, Protocol

import qdrant_edge as qe

from memory.records import MemoryBusy, MemoryUnavailable
from orchestrator_cli.durable.files import append_line
from orchestrator_cli.durable.locks import LockTimeout, acquire

SLICE_S = 0.1
"""How long a slice reads points at least, in seconds."""
FEW = 200
"""How many changed points the last slice copies at most, with the lock held."""
NEW = "shard.compact"

_PAGE = 500
_POLL_S = 0.05


def slice_s(opened_s: float) -> float:
    """How long a slice reads points; at least as long as opening took, which is then half of the work."""
    return max(SLICE_S, opened_s)


def sliced(
    shard: qe.EdgeShard,
    only: qe.Filter | None,
    offset: "qe.PointId | None",
    *,
    vectors: bool,
    opened_s: float = 0.0,
) -> "tuple[list[qe.Record], qe.PointId | None]":
    """The points that match from `offset` on, as many as can be read in a slice; and where to go on.

    `opened_s` is how long opening the shard has taken. The place to go on is None after the last point.
    """
    until, found = time.monotonic() + slice_s(opened_s), list[qe.Record]()
    while True:
        page, offset = shard.scroll(
            qe.ScrollRequest(offset=offset, limit=_PAGE, filter=only, with_payload=True, with_vector=vectors)
        )
        found += page
        if offset is None or time.monotonic() > until:
            return found, offset


def renewed(found: Iterable[qe.Record], index: str) -> list[qe.Point]:
    """Stored points in the form of this version; a record that cannot be read is kept unchanged."""
    points = []
    for point in found:
        payload: dict[str, Any] = dict(point.payload or {})
        if index not in payload:
            names = {"u": "user", "p": "project", "k": "kind"}
            payload[index] = [f"{sign}:{payload.get(name, '')}" for sign, name in names.items()]
        points.append(qe.Point(id=point.id, vector=point.vector or {}, payload=payload))
    return points


class Shards(Protocol):
    """The shard of a memory, and what may replace it."""

    @property
    def opened_s(self) -> float:
        """How long the last opening of the shard has taken."""

    def turn(self) -> AbstractContextManager[qe.EdgeShard]:
        """The shard, with the lock of the memory held."""

    def create(self, name: str) -> qe.EdgeShard:
        """An empty shard of that name, of the same layout."""

    def layout(self) -> object:
        """Differs if the shard was replaced or got other vectors; the lock is held."""

    def swap(self, name: str) -> None:
        """Replace the closed shard by the one of that name; the lock is held."""


class Compaction:
    """What was deleted from the memory in `root`, and its erasure."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._erasing = root / ".erasing"
        self._changes = root / f"{NEW}.changes"

    @property
    def is_due(self) -> bool:
        """Whether the files of the shard may still contain deleted text."""
        return self._erasing.exists()

    def deleted(self) -> frozenset[str]:
        """The ids whose text may still be in the files of the shard."""
        with suppress(FileNotFoundError):
            return frozenset(self._erasing.read_text(encoding="utf-8").split())
        return frozenset()

    def begin_erasing(self, ids: Iterable[object]) -> None:
        """Note durably that points are about to be deleted; the lock of the memory must be held."""
        append_line(self._erasing, " ".join(map(str, ids)).encode())

    def note_changes(self, ids: Iterable[object]) -> None:
        """Note that points are about to be written, if a compaction is under way; the lock must be held.

        This needs no sync: a power cut ends the compaction as well.
        """
        if self._changes.exists():
            append_line(self._changes, "\n".join(map(str, ids)).encode(), sync=False)

    def run(self, shards: Shards, index: str, wait_s: float) -> None:
        """Compact, unless another process has done it; returns when the text of earlier deletions is gone.

        Args:
            shards: the memory's.
            index: the payload field with the tags.
            wait_s: how long to wait for another process that compacts.

        Raises:
            MemoryBusy: another process is compacting, for longer than `wait_s` seconds.
            MemoryUnavailable: a second shard does not fit on the disk.
        """
        try:
            lock = acquire(self._root / ".compacting", wait_s=wait_s, poll_s=_POLL_S)
        except LockTimeout as exc:
            raise MemoryBusy(
                f"Deleted text is still on the disk in {self._root}, because another process is erasing an "
                "earlier deletion; the next command that opens the memory erases it."
            ) from exc
        with lock:
            while self.is_due:
                self._check_space()
                try:
                    if self._copied(shards, index):
                        return
                finally:
                    shutil.rmtree(self._root / NEW, ignore_errors=True)
                    self._changes.unlink(missing_ok=True)

    def _copied(self, shards: Shards, index: str) -> bool:
        """Copy and swap; False if the shard was replaced or got another layout meanwhile."""
        with shards.turn():
            covered, began = self._covered(), shards.layout()
            fresh = shards.create(NEW)
            # From here on, every process notes what it writes.
            self._changes.write_bytes(b"")

        def is_overtaken() -> bool:
            # An earlier version erases on its own, with the lock held, and removes the file.
            return not self.is_due or not self._covered().startswith(covered) or shards.layout() != began

        try:
            offset: qe.PointId | None = None
            while True:
                with shards.turn() as shard:
                    if is_overtaken():
                        return False
                    found, offset = sliced(shard, None, offset, vectors=True, opened_s=shards.opened_s)
                _put(fresh, found, index)
                if offset is None:
                    break
            fresh.flush()
            applied = 0
            while True:
                with shards.turn() as shard:
                    if is_overtaken():
                        return False
                    changed = self._changes.read_text(encoding="utf-8").split()[applied:]
                    applied += len(changed)
                    ids = list(dict.fromkeys(changed))
                    found = shard.retrieve(list(ids), True, True) if ids else []
                    if len(ids) <= FEW:
                        _apply(fresh, ids, found, index)
                        fresh.flush()
                        fresh.close()
                        shard.close()
                        shards.swap(NEW)
                        # Inside the turn, so that no one writes into the old shard or notes changes.
                        self._changes.unlink()
                        if self._covered() == covered:
                            self._erasing.unlink()
                        return True
                _apply(fresh, ids, found, index)
        finally:
            fresh.close()

    def _covered(self) -> bytes:
        return self._erasing.read_bytes() if self.is_due else b""

    def _check_space(self) -> None:
        shard = self._root / "shard"
        needed = sum(path.stat().st_blocks * 512 for path in _files(shard)) if shard.exists() else 0
        free = shutil.disk_usage(self._root).free
        if free < needed:
            raise MemoryUnavailable(
                f"Deleted text is still on the disk in {self._root}: erasing it needs {needed // 2**20 + 1} "
                f"MB for a moment, and {free // 2**20} MB are free. Free some space; the next command that "
                "opens the memory erases it."
            )


def _files(folder: Path) -> Iterator[Path]:
    for path in folder.rglob("*"):
        with suppress(FileNotFoundError):
            if path.is_file():
                yield path


def _put(fresh: qe.EdgeShard, found: Sequence[qe.Record], index: str) -> None:
    if found:
        fresh.update(qe.UpdateOperation.upsert_points(renewed(found, index)))


def _apply(fresh: qe.EdgeShard, ids: Sequence[str], found: Sequence[qe.Record], index: str) -> None:
    """Bring the changed points to their present state; those that were deleted are not found."""
    _put(fresh, found, index)
    if gone := set(ids) - {str(point.id) for point in found}:
        fresh.update(qe.UpdateOperation.delete_points(list(gone)))
