"""Moves records in and out of a store: as lines of JSON, or from one store to another.

    path.write_text("".join(to_jsonl(store.scan())))
    result = import_records(store, from_jsonl(path.read_text().splitlines()))
    result.differing    # exist with other content, which stays unless `replace=True`

    moved = migrate(source, target)
    moved.copied        # written now
    moved.there         # were already there, identical
    moved.newer         # the target had newer content, which stays

A migration takes every record of every scope, or all of one user, whether it still holds or not. Each batch
is read back and compared before the next is written, so what is counted has arrived. An interrupted migration
can be run again and continues: ids follow from what a record is about. The source is only read.

What is not covered: vectors. The target makes sparse ones from the text; dense ones are left behind, and
`dense.fill_vectors` makes them again. Records written to the source during a migration need another one. Nor
is it checked who wrote a file of lines: it says itself how far it is trusted, see `as_untrusted`.
"""

import json
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from pydantic import ValidationError

from memory.learning import deciding
from memory.records import (
    LOCAL_USER,
    SCHEMA_VERSION,
    MemoryFault,
    MemoryUnavailable,
    Record,
    Scope,
    from_payload,
    record_id,
    to_payload,
)
from memory.store import Memory, MemoryStore

MAX_FAULTS = 10
_BATCH = 500


@dataclass(frozen=True)
class ImportResult:
    added: list[Record] = field(default_factory=list)
    same: list[Record] = field(default_factory=list)
    """Already there with the same content."""
    differing: list[Record] = field(default_factory=list)
    """Already there with other content, which was kept, or replaced on request."""


@dataclass(frozen=True)
class MigrationResult:
    copied: int = 0
    there: int = 0
    newer: int = 0

    @property
    def total(self) -> int:
        return self.copied + self.there + self.newer

    def __add__(self, other: "MigrationResult") -> "MigrationResult":
        return MigrationResult(self.copied + other.copied, self.there + other.there, self.newer + other.newer)


def to_jsonl(records: Iterable[Record]) -> Iterator[str]:
    for record in records:
        yield record.model_dump_json(exclude_defaults=True) + "\n"


def from_jsonl(lines: Iterable[str]) -> list[Record]:
    """The records; empty lines are skipped. Raises `ValueError` with the first faults and their line
    numbers."""
    records: list[Record] = []
    faults: list[str] = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            records.append(_stored_exactly(Record.model_validate(json.loads(line))))
        except ValidationError as exc:
            first = exc.errors(include_url=False)[0]
            faults.append(f"line {number}: {'.'.join(map(str, first['loc'])) or 'record'}: {first['msg']}")
        except (ValueError, RecursionError, MemoryFault) as exc:
            faults.append(f"line {number}: {exc}")
        if len(faults) >= MAX_FAULTS:
            break
    if faults:
        raise ValueError("\n".join(faults))
    return records


def _stored_exactly(record: Record) -> Record:
    """The record. Raises `ValueError` or `MemoryFault` if a store would return another one, or none."""
    if record.schema_version > SCHEMA_VERSION:
        raise ValueError(
            f"schema_version: {record.schema_version} is of a later version of orch; upgrade orch"
        )
    if from_payload(to_payload(record)) != record:
        raise ValueError("record: it cannot be stored exactly")
    return record


def as_untrusted(record: Record) -> Record:
    """The record marked as data from a file that others may have written, without what decides."""
    return deciding(record if record.trust == "web" else record.model_copy(update={"trust": "file"}))


def import_records(memory: Memory, records: Sequence[Record], *, replace: bool = False) -> ImportResult:
    """Add the records that are not there yet. Existing ones keep their content, unless `replace` is true."""
    result = ImportResult()
    latest = {record.id: record for record in records}
    with memory.opened() as turn:
        for batch in _batches(latest.values()):
            there = _stored(batch, turn)
            new = [record for record in batch if record.id not in there]
            known = [record for record in batch if record.id in there]
            # A record that was marked as untrusted when it was imported is the same.
            differing = [r for r in known if r not in (there[r.id], as_untrusted(there[r.id]))]
            turn.add([*new, *(differing if replace else ())])
            result.added.extend(new)
            result.differing.extend(differing)
            result.same.extend(record for record in known if record not in differing)
    return result


def owned_by(user: str, records: Iterable[Record]) -> list[Record]:
    """The records as those of `user`: a person is called one way in a folder and another on a server."""
    found = list(records)
    scopes = {record.scope: record.scope.model_copy(update={"user": user}) for record in found}
    moved = {record.id: record_id(scopes[record.scope], record.kind, record.key) for record in found}

    def owned(record: Record) -> Record:
        successor = moved.get(record.superseded_by) if record.superseded_by else None
        return record.model_copy(
            update={"scope": scopes[record.scope], "superseded_by": successor or record.superseded_by}
        )

    return [owned(record) for record in found]


def local_id(record: Record) -> UUID:
    """The id that the record has in a folder, whatever its owner is called where it is stored."""
    return owned_by(LOCAL_USER, [record])[0].id


def migrate(
    source: MemoryStore,
    target: MemoryStore,
    on_progress: Callable[[int, int], None] | None = None,
    *,
    users: tuple[str, str] | None = None,
    without: Collection[str] = (),
) -> MigrationResult:
    """Copy all records of `source` into `target`.

    `users` are a user in the source, whose records alone are copied, and the name of the same person in the
    target. Records of the kinds `without` are left out.

    `on_progress` receives how many records are done and how many there are. Raises `MemoryUnavailable` if
    the target does not return what was written, and what the stores raise.
    """
    records = source.scan() if users is None else source.all((), Scope(user=users[0]), at="ever")
    records = [record for record in records if record.kind not in without]
    if users is not None:
        records = owned_by(users[1], records)
    moved = MigrationResult()
    for batch in _batches(records):
        moved += _copy_batch(batch, target)
        if on_progress is not None:
            on_progress(moved.total, len(records))
    return moved


def _copy_batch(batch: list[Record], target: MemoryStore) -> MigrationResult:
    there = _stored(batch, target)
    same = [record for record in batch if there.get(record.id) == record]
    newer = [r for r in batch if r.id in there and there[r.id].changed > r.changed]
    done = {record.id for record in (*newer, *same)}
    rest = [record for record in batch if record.id not in done]
    target.add(rest)
    written = _stored(rest, target)
    lost = [record for record in rest if written.get(record.id) != record]
    if lost:
        raise MemoryUnavailable(
            f"{len(lost)} of {len(rest)} records came back different from what was written, the first a "
            f"{lost[0].kind} with the key {lost[0].key!r}. The source is unchanged; try again."
        )
    return MigrationResult(copied=len(rest), there=len(same), newer=len(newer))


def _batches(records: Iterable[Record]) -> Iterator[list[Record]]:
    """Batches of one user's records each, because a store is read for one user at a time."""
    by_user: defaultdict[str, list[Record]] = defaultdict(list)
    for record in records:
        by_user[record.scope.user].append(record)
    for mine in by_user.values():
        yield from (mine[start : start + _BATCH] for start in range(0, len(mine), _BATCH))


def _stored(records: Sequence[Record], memory: Memory) -> dict[UUID, Record]:
    """The stored versions of the records, which are of one user."""
    if not records:
        return {}
    scope = Scope(user=records[0].scope.user)
    return {found.id: found for found in memory.get([record.id for record in records], scope, at="ever")}
