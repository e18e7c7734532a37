"""Records from one store to another: from the folder to a server, or back.

    moved = migrate(source, target)
    moved.copied        written now
    moved.there         were there already, just the same
    moved.newer         the target had a later content, which stays

Every record of every scope is taken, whether it holds or not. Each batch is read back from the target and
compared before the next is written, so what has been counted is there. Ids follow from what a record is
about: a migration that was broken off is begun again, and goes on where it was. The source is only read.

What is not covered: vectors. The target makes those of the words anew from the text; dense ones are left
behind, and `dense.fill` makes them for it. Nor what is written to the source while it is read, for which the
migration is run once more.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from uuid import UUID

from memory.errors import MemoryUnavailable
from memory.records import Record, Scope
from memory.store import MemoryStore

_BATCH = 500


@dataclass(frozen=True)
class Migrated:
    copied: int = 0
    there: int = 0
    newer: int = 0

    @property
    def total(self) -> int:
        return self.copied + self.there + self.newer

    def __add__(self, other: "Migrated") -> "Migrated":
        return Migrated(self.copied + other.copied, self.there + other.there, self.newer + other.newer)


def migrate(
    source: MemoryStore, target: MemoryStore, told: Callable[[int, int], None] | None = None
) -> Migrated:
    """Bring all records of `source` into `target`; `told` hears how many of how many are done.

    Raises `MemoryUnavailable` where the target does not give back what it was given, and what the stores
    raise.
    """
    records = source.every()
    moved = Migrated()
    for batch in _batches(records):
        moved += _move(batch, target)
        if told is not None:
            told(moved.total, len(records))
    return moved


def _batches(records: Sequence[Record]) -> Iterator[list[Record]]:
    """Parts of one user's records each, since a store is read for one user at a time."""
    by_user: defaultdict[str, list[Record]] = defaultdict(list)
    for record in records:
        by_user[record.scope.user].append(record)
    for mine in by_user.values():
        yield from (mine[start : start + _BATCH] for start in range(0, len(mine), _BATCH))


def _move(batch: list[Record], target: MemoryStore) -> Migrated:
    there = _read(batch, target)
    newer = [r for r in batch if r.id in there and there[r.id] != r and _is_later(there[r.id], r)]
    same = [r for r in batch if there.get(r.id) == r]
    settled = {record.id for record in (*newer, *same)}
    rest = [record for record in batch if record.id not in settled]
    target.add(rest)
    written = _read(rest, target)
    lost = [record for record in rest if written.get(record.id) != record]
    if lost:
        raise MemoryUnavailable(
            f"{len(lost)} of {len(rest)} records came back otherwise than they were written, the first a "
            f"{lost[0].kind} with the key {lost[0].key!r}. Nothing was taken from the source; try again."
        )
    return Migrated(copied=len(rest), there=len(same), newer=len(newer))


def _read(records: list[Record], store: MemoryStore) -> dict[UUID, Record]:
    if not records:
        return {}
    scope = Scope(user=records[0].scope.user)
    return {found.id: found for found in store.get([record.id for record in records], scope, at="ever")}


def _is_later(one: Record, other: Record) -> bool:
    return (one.last_used or one.created, one.created) > (other.last_used or other.created, other.created)
