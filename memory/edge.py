"""Memory in a folder: Qdrant's own engine in the process, shared safely by many processes and threads.

Operations take turns (see `edge_folder`), and one turn can serve several of them. A write that does not get
its turn at once goes to the outbox, which is durable too, and the next turn of any process stores it; so
reads see every acknowledged write.

A delete takes the records out at once. The engine keeps deleted text in its log, so the process then copies
what remains into a new shard (see `compaction`), in slices between which others get their turns, and returns
when the old one is gone. That takes seconds at 100,000 records: delete many at once rather than one by one.
Reads of very many records take several turns as well, and then see each record as it is at its own turn.

A damaged shard (the engine cannot read it, records are missing, or a record is unreadable) is renamed to
`shard.corrupt-<time>`, and memory continues with what can be read of it (see `salvage`); `warn`
receives how much that is and where the damaged files are. A full disk, missing permissions and the like are
not damage: they raise `MemoryUnavailable` and change nothing.

All filterable fields are in one list of tags with one index, because every index of the engine makes each
opening slower: `u:` the user, `p:` the project or none, `k:` the kind, `s:` the session, `@` the position in
it. Two more are optional: `ended` for a record that no longer holds when it is written, and never will again,
and `bounded` for a record with a start or end time that the reader must compare.

What is not covered: overwriting deleted bytes on the disk, and what `edge_folder` excludes.
"""

import copy
import itertools
import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self
from uuid import UUID

import qdrant_edge as qe

from memory.compaction import sliced
from memory.edge_folder import INDEX, EdgeFolder
from memory.embedder import DenseVector, Embedder, SparseVector, default_embedder
from memory.outbox import Outbox
from memory.records import (
    At,
    Hit,
    MemoryBusy,
    MemoryUnavailable,
    Position,
    Record,
    Scope,
    resolve_time,
    to_payload,
)
from memory.store import (
    PayloadReader,
    Query,
    as_kinds,
    by_position,
    check_size,
    in_order,
    newest_first,
    owner_of,
)

_LOG = logging.getLogger(__name__)
_ENDED = "ended"
_BOUNDED = "bounded"
_DELETED_AT_ONCE = 1000
"""How many records are deleted in one turn."""
_ERASING_WAIT_S = 600.0
"""How long a process that has deleted something waits for another one that is erasing."""


class EdgeStore:
    """A `MemoryStore` in the folder `path`, which is created if it is missing.

    `warn` receives what happened if a damaged shard or batch had to be put aside, and `remedy` with it if
    records were lost. A read waits up to `read_wait_s`
    for its turn, then raises `MemoryBusy`; a write never waits longer than `write_wait_s`.
    """

    _shard: qe.EdgeShard
    """Only of the copy that a turn works with."""
    _in_turn = False
    _erased = False
    """Whether this turn has deleted something."""

    def __init__(
        self,
        path: Path,
        *,
        embedder: Embedder | None = None,
        warn: Callable[[str], None] = _LOG.warning,
        remedy: str = "",
        read_wait_s: float = 10.0,
        write_wait_s: float = 0.05,
    ) -> None:
        self._embedder = embedder or default_embedder()
        self._folder = EdgeFolder(path, self._embedder.name, warn, remedy)
        self._warn = warn
        self._reader = PayloadReader(warn, self._folder.suspect)
        self._outbox = Outbox(self._folder.outbox, warn, remedy)
        self._read_wait_s = read_wait_s
        self._write_wait_s = write_wait_s

    @contextmanager
    def opened(self, wait_s: float | None = None) -> Iterator[Self]:
        if self._in_turn:
            yield self
            return
        try:
            with self._turn(wait_s) as turn:
                yield turn
        finally:
            if self._folder.is_suspect:
                # Opening repairs, and reports the damage that this open met.
                with self._turn(wait_s):
                    pass
        self._erase(is_own=turn._erased)

    @contextmanager
    def _turn(self, wait_s: float | None = None) -> Iterator[Self]:
        with (
            self._folder.lock(self._read_wait_s if wait_s is None else wait_s),
            self._folder.shard() as shard,
        ):
            turn = copy.copy(self)
            turn._shard, turn._in_turn = shard, True
            if batches := self._outbox.pending():
                turn.add(record for batch in batches for record in self._outbox.read(batch))
                self._outbox.discard(batches)
            yield turn

    def _erase(self, *, is_own: bool) -> None:
        """Erase deleted text from the disk, between turns; `is_own` if this process has deleted it.

        What another process has deleted concerns only that process, unless it was killed.
        """
        if not self._folder.compaction.is_due:
            return
        try:
            self._folder.compact(_ERASING_WAIT_S if is_own else 0.0)
        except MemoryBusy:
            if is_own:
                raise
        except MemoryUnavailable as exc:
            if is_own:
                raise
            self._warn(str(exc))

    def add(self, records: Iterable[Record]) -> None:
        batch = list(records)
        latest = {record.id: record for record in batch}
        if not latest:
            return
        try:
            with self.opened(self._write_wait_s) as turn:
                self._folder.compaction.note_changes(latest)
                dense = turn._stored_vectors(latest.values(), self._folder.dense())
                points = [turn._point(record, dense.get(record.id, {})) for record in latest.values()]
                turn._shard.update(qe.UpdateOperation.upsert_points(points))
                # Without this, the engine's log survives a kill but not a power cut.
                turn._shard.flush()
                self._folder.note_count(turn._shard.info().points_count)
        except MemoryBusy:
            self._outbox.put(batch)

    def search(self, query: Query) -> list[Hit]:
        what = query.what if isinstance(query.what, DenseVector) else self._embedder.query(query.what)
        if query.limit < 1 or not what.values:
            return []
        only = _read_filter(query.kinds, query.scope, query.at, query.session)
        fetched = query.limit
        with self.opened() as turn:
            while True:
                points = turn._nearest(what, only.filter, fetched)
                found = ((point.score, record) for point in points for record in self._records([point]))
                hits = [Hit(record=record, score=score) for score, record in found if only.holds(record)]
                if len(hits) >= query.limit or len(points) < fetched:
                    return hits[: query.limit]
                # Some hits do not hold at that time: fetch more to replace them.
                fetched *= 2

    def _nearest(
        self, what: DenseVector | SparseVector, within: qe.Filter, limit: int
    ) -> list[qe.ScoredPoint]:
        params = None
        if isinstance(what, SparseVector):
            query = qe.Query.Nearest(_sparse(what), using=self._embedder.name)
            params = qe.SearchParams(idf=qe.IdfParams(corpus=within))
        elif self._folder.dense().get(what.name) == len(what.values):
            query = qe.Query.Nearest(list(what.values), using=what.name)
        else:
            return []
        return self._shard.query(
            qe.QueryRequest(limit=limit, query=query, filter=within, params=params, with_payload=True)
        )

    def get(self, ids: Iterable[UUID], scope: Scope, *, at: At = "now") -> list[Record]:
        wanted = list(dict.fromkeys(ids))
        if not wanted:
            return []
        with self.opened() as turn:
            found = self._records(turn._shard.retrieve(list(wanted), True, False))
            return in_order(found, wanted, scope, at)

    def at_positions(
        self, positions: Iterable[Position], *, kinds: str | Collection[str], scope: Scope, at: At = "now"
    ) -> list[Record]:
        wanted = list(dict.fromkeys(positions))
        if not wanted:
            return []
        only = _read_filter(kinds, scope, at)
        there = qe.Filter(must=[only.filter, _tagged(*map(_position_tag, wanted))])
        with self.opened() as turn:
            return by_position(record for record in turn._read(there) if only.holds(record))

    def all(
        self, kinds: str | Collection[str], scope: Scope, *, at: At = "now", session: str | None = None
    ) -> list[Record]:
        only = _read_filter(kinds, scope, at, session)
        return newest_first(record for record in self._read(only.filter) if only.holds(record))

    def count(
        self, kinds: str | Collection[str], scope: Scope, *, at: At = "now", session: str | None = None
    ) -> int:
        only = _read_filter(kinds, scope, at, session)
        with self.opened() as turn:
            counted = turn._count(only.filter)
            if only.at is None:
                return counted
            bounded = qe.Filter(must=[only.filter, _tagged(_BOUNDED)])
            return counted - sum(not only.holds(record) for record in turn._read(bounded))

    def delete(self, ids: Iterable[UUID], scope: Scope) -> int:
        wanted = list(dict.fromkeys(ids))
        if self._in_turn:
            return self._delete(wanted, scope) if wanted else 0
        deleted = 0
        for start in range(0, len(wanted), _DELETED_AT_ONCE):
            with self._turn() as turn:
                deleted += turn._delete(wanted[start : start + _DELETED_AT_ONCE], scope)
        if deleted:
            self._erase(is_own=True)
        return deleted

    def scan(self) -> list[Record]:
        return list(self._read(qe.Filter()))

    def missing_vectors(
        self, name: str, kinds: str | Collection[str], scope: Scope, *, limit: int | None = None
    ) -> list[Record]:
        within = _read_filter(kinds, scope, "ever").filter
        only = qe.Filter(must=[within], must_not=[qe.HasVectorCondition(name)])
        return list(itertools.islice(self._read(only), limit))

    def put_vectors(self, vectors: Iterable[tuple[Record, DenseVector]]) -> int:
        batch = list(vectors)
        if not batch:
            return 0
        (name,) = {vector.name for _, vector in batch}
        size = len(batch[0][1].values)
        with self.opened() as turn:
            if not check_size(name, self._folder.dense().get(name), size):
                turn._shard.update(qe.UpdateOperation.create_dense_vector(name, size, qe.Distance.Cosine))
            stored = turn._stored_vectors((record for record, _ in batch), [])
            points = [
                qe.PointVectors(id=record.id, vector={name: list(vector.values)})
                for record, vector in batch
                if record.id in stored
            ]
            if points:
                self._folder.compaction.note_changes(stored)
                turn._shard.update(qe.UpdateOperation.update_vectors(points))
            turn._shard.flush()
        return len(points)

    def vectors(self) -> dict[str, int]:
        with self.opened() as turn:
            return {
                name: turn._count(qe.Filter(must=[qe.HasVectorCondition(name)]))
                for name in self._folder.dense()
            }

    def drop_vectors(self, name: str, scope: Scope) -> None:  # noqa: ARG002
        with self.opened() as turn:
            if name in self._folder.dense():
                # Vectors reveal something of the text, so they are erased like deleted text.
                turn._remove(qe.UpdateOperation.delete_vector_name(name), [name])

    def close(self) -> None:
        """Does nothing: no resources are held between turns."""

    @property
    def root(self) -> Path:
        """The folder that it is in."""
        return self._folder.root

    def set_aside(self) -> list[Path]:
        """The unreadable shards that were put aside, oldest first."""
        return self._folder.set_aside()

    # --- within a turn

    def _read(self, only: qe.Filter) -> Iterator[Record]:
        """All records that match; outside of a turn, many of them take several."""
        offset: qe.PointId | None = None
        while True:
            with self.opened() as turn:
                found, offset = sliced(
                    turn._shard, only, offset, vectors=False, opened_s=self._folder.opened_s
                )
                records = list(self._records(found))
            yield from records
            if offset is None:
                return

    def _records(self, points: Iterable[qe.Record | qe.ScoredPoint]) -> Iterator[Record]:
        """The records of points; a damaged one is left out, and has the memory repaired."""
        read = (self._reader.read(point.id, point.payload) for point in points)
        return (record for record in read if record is not None)

    def _count(self, only: qe.Filter) -> int:
        return self._shard.count(qe.CountRequest(exact=True, filter=only))

    def _delete(self, ids: Sequence[UUID], scope: Scope) -> int:
        found = self._shard.retrieve(list(ids), ["user", "project"], False)
        doomed = [
            point.id
            for point in found
            if (owner := owner_of(point.payload)) is not None and scope.covers(owner)
        ]
        if doomed:
            self._folder.compaction.note_changes(doomed)
            self._folder.note_count(self._shard.info().points_count - len(doomed))
            self._remove(qe.UpdateOperation.delete_points(list(doomed)), doomed)
        return len(doomed)

    def _remove(self, operation: qe.UpdateOperation, what: Iterable[object]) -> None:
        """Take something out of the shard; its bytes are erased when the turn is over."""
        self._folder.compaction.begin_erasing(what)
        self._erased = True
        self._shard.update(operation)
        self._shard.flush()

    def _stored_vectors(
        self, records: Iterable[Record], names: Iterable[str]
    ) -> dict[UUID, Mapping[str, Any]]:
        """The dense vectors, by name, of the records that are stored with the same text."""
        wanted = {record.id: record.text for record in records}
        found = self._shard.retrieve(list(wanted), ["text"], list(names))
        return {
            UUID(str(known.id)): dict(known.vector) if isinstance(known.vector, dict) else {}
            for known in found
            if (known.payload or {}).get("text") == wanted[UUID(str(known.id))]
        }

    def _point(self, record: Record, dense: Mapping[str, list[float]]) -> qe.Point:
        sparse = _sparse(self._embedder.document(record.text))
        named: dict[str, qe.NamedVector] = {self._embedder.name: sparse, **dense}
        return qe.Point(id=record.id, vector=named, payload={**to_payload(record), INDEX: _tags(record)})


@dataclass(frozen=True)
class _ReadFilter:
    """The restriction of a read: a filter for the engine, and the time, which is compared here."""

    filter: qe.Filter
    at: datetime | None

    def holds(self, record: Record) -> bool:
        return self.at is None or record.holds(self.at)


def _read_filter(
    kinds: str | Collection[str], scope: Scope, at: At, session: str | None = None
) -> _ReadFilter:
    must: list[qe.FieldCondition] = [_tagged(f"u:{scope.user}")]
    if scope.project is not None:
        must.append(_tagged("p:", f"p:{scope.project}"))
    if wanted := as_kinds(kinds):
        must.append(_tagged(*(f"k:{kind}" for kind in wanted)))
    if session is not None:
        must.append(_tagged(f"s:{session}"))
    # For the present, records that have ended are excluded without comparing times.
    never = [_tagged(_ENDED)] if at == "now" else []
    return _ReadFilter(qe.Filter(must=list(must), must_not=list(never)), resolve_time(at))


def _sparse(vector: SparseVector) -> qe.SparseVector:
    return qe.SparseVector(list(vector.indices), list(vector.values))


def _tags(record: Record) -> list[str]:
    tags = [f"u:{record.scope.user}", f"p:{record.scope.project or ''}", f"k:{record.kind}"]
    if record.session is not None:
        tags.append(f"s:{record.session}")
    if record.position is not None:
        tags.append(_position_tag(record.position))
    if record.valid_to is not None and record.valid_to <= datetime.now(UTC):
        tags.append(_ENDED)
    if record.valid_from is not None or record.valid_to is not None:
        tags.append(_BOUNDED)
    return tags


def _position_tag(position: Position) -> str:
    return f"@{position.seq}:{position.session}"


def _tagged(*tags: str) -> qe.FieldCondition:
    return qe.FieldCondition(key=INDEX, match=qe.MatchAny(list(tags)))
