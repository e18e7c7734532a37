"""Memory in a folder: Qdrant's own engine in the process, shared safely by many processes and threads.

Operations take turns (see `edge_folder`), and one turn can serve several of them. A write that does not get
its turn at once goes to the outbox, which is durable too, and the next turn of any process stores it; so
reads see every acknowledged write.

A delete rebuilds the shard from the remaining records and swaps it in, because the engine keeps deleted text
in its log. A crash in between leaves the old shard or the new one. The rebuild takes 0.2 s at 1,000 records
and 8 s at 100,000, with the lock held: delete many records at once rather than one by one.

A shard that the engine reports as unreadable is renamed to `shard.corrupt-<time>`, `warn` receives its path,
and memory starts empty: a run must not fail for lack of recall, and nothing is erased. A full disk, missing
permissions and the like are not corruption: they raise `MemoryUnavailable` and change nothing.

All filterable fields are in one list of tags with one index, because every index of the engine makes each
opening slower: `u:` the user, `p:` the project or none, `k:` the kind, `s:` the session, `@` the position in
it. Two more are optional: `ended` for a record that no longer holds when it is written, and never will again,
and `bounded` for a record with a start or end time that the reader must compare.

What is not covered: overwriting deleted bytes on the disk, and what `edge_folder` excludes.
"""

import copy
import itertools
import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self
from uuid import UUID

import qdrant_edge as qe

from memory.edge_folder import INDEX, EdgeFolder, Outbox, pages
from memory.embedder import DenseVector, Embedder, SparseVector, default_embedder
from memory.records import (
    At,
    Hit,
    MemoryBusy,
    Position,
    Record,
    Scope,
    from_payload,
    resolve_time,
    to_payload,
)
from memory.store import Query, as_kinds, by_position, check_size, in_order, newest_first

_LOG = logging.getLogger(__name__)
_ENDED = "ended"
_BOUNDED = "bounded"


class EdgeStore:
    """A `MemoryStore` in the folder `path`, which is created if it is missing.

    `warn` receives one sentence if a shard or batch had to be put aside. A read waits up to `read_wait_s`
    for its turn, then raises `MemoryBusy`; a write never waits longer than `write_wait_s`.
    """

    _shard: qe.EdgeShard
    """Only of the copy that a turn works with."""
    _in_turn = False
    _erased = False
    """Whether the shard still has the text of deleted records."""

    def __init__(
        self,
        path: Path,
        *,
        embedder: Embedder | None = None,
        warn: Callable[[str], None] = _LOG.warning,
        read_wait_s: float = 10.0,
        write_wait_s: float = 0.05,
    ) -> None:
        self._embedder = embedder or default_embedder()
        self._folder = EdgeFolder(path, self._embedder.name, warn)
        self._outbox = Outbox(self._folder.outbox, warn)
        self._read_wait_s = read_wait_s
        self._write_wait_s = write_wait_s

    @contextmanager
    def opened(self, wait_s: float | None = None) -> Iterator[Self]:
        if self._in_turn:
            yield self
            return
        with (
            self._folder.lock(self._read_wait_s if wait_s is None else wait_s),
            self._folder.shard() as shard,
        ):
            turn = copy.copy(self)
            turn._shard, turn._in_turn = shard, True
            if batches := self._outbox.pending():
                turn.add(record for batch in batches for record in self._outbox.read(batch))
                self._outbox.discard(batches)
            try:
                yield turn
            finally:
                if turn._erased:
                    self._folder.erase(shard)

    def add(self, records: Iterable[Record]) -> None:
        batch = list(records)
        latest = {record.id: record for record in batch}
        if not latest:
            return
        try:
            with self.opened(self._write_wait_s) as turn:
                dense = turn._stored_vectors(latest.values(), self._folder.dense())
                points = [turn._point(record, dense.get(record.id, {})) for record in latest.values()]
                turn._shard.update(qe.UpdateOperation.upsert_points(points))
                # Without this, the engine's log survives a kill but not a power cut.
                turn._shard.flush()
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
                found = zip(points, _records(points), strict=True)
                hits = [Hit(record=record, score=p.score) for p, record in found if only.holds(record)]
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
            return in_order(_records(turn._shard.retrieve(list(wanted), True, False)), wanted, scope, at)

    def at_positions(
        self, positions: Iterable[Position], *, kinds: str | Collection[str], scope: Scope, at: At = "now"
    ) -> list[Record]:
        wanted = list(dict.fromkeys(positions))
        if not wanted:
            return []
        only = _read_filter(kinds, scope, at)
        there = qe.Filter(must=[only.filter, _tagged(*map(_position_tag, wanted))])
        with self.opened() as turn:
            return by_position(record for record in turn._scroll(there) if only.holds(record))

    def all(
        self, kinds: str | Collection[str], scope: Scope, *, at: At = "now", session: str | None = None
    ) -> list[Record]:
        only = _read_filter(kinds, scope, at, session)
        with self.opened() as turn:
            return newest_first(record for record in turn._scroll(only.filter) if only.holds(record))

    def count(
        self, kinds: str | Collection[str], scope: Scope, *, at: At = "now", session: str | None = None
    ) -> int:
        only = _read_filter(kinds, scope, at, session)
        with self.opened() as turn:
            counted = turn._count(only.filter)
            if only.at is None:
                return counted
            bounded = qe.Filter(must=[only.filter, _tagged(_BOUNDED)])
            return counted - sum(not only.holds(record) for record in turn._scroll(bounded))

    def delete(self, ids: Iterable[UUID], scope: Scope) -> int:
        wanted = list(ids)
        if not wanted:
            return 0
        with self.opened() as turn:
            doomed = [record.id for record in turn.get(wanted, scope, at="ever")]
            if doomed:
                # Delete at once, so that the records are gone from searches even if the rebuild fails.
                turn._erase(qe.UpdateOperation.delete_points(list(doomed)))
        return len(doomed)

    def scan(self) -> list[Record]:
        with self.opened() as turn:
            return list(turn._scroll(qe.Filter()))

    def missing_vectors(
        self, name: str, kinds: str | Collection[str], scope: Scope, *, limit: int | None = None
    ) -> list[Record]:
        within = _read_filter(kinds, scope, "ever").filter
        only = qe.Filter(must=[within], must_not=[qe.HasVectorCondition(name)])
        with self.opened() as turn:
            return list(itertools.islice(turn._scroll(only), limit))

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
                turn._shard.update(qe.UpdateOperation.update_vectors(points))
            turn._shard.flush()
        return len(points)

    def vectors(self) -> dict[str, int]:
        with self.opened() as turn:
            return {
                name: turn._count(qe.Filter(must=[qe.HasVectorCondition(name)]))
                for name in self._folder.dense()
            }

    def drop_vectors(self, name: str) -> None:
        with self.opened() as turn:
            if name in self._folder.dense():
                # Vectors reveal something of the text, so they are erased like deleted text.
                turn._erase(qe.UpdateOperation.delete_vector_name(name))

    def close(self) -> None:
        """Does nothing: no resources are held between turns."""

    def set_aside(self) -> list[Path]:
        """The unreadable shards that were put aside, oldest first."""
        return self._folder.set_aside()

    # --- within a turn

    def _scroll(self, only: qe.Filter) -> Iterator[Record]:
        return _records(point for page in pages(self._shard, only, vectors=False) for point in page)

    def _count(self, only: qe.Filter) -> int:
        return self._shard.count(qe.CountRequest(exact=True, filter=only))

    def _erase(self, operation: qe.UpdateOperation) -> None:
        self._folder.begin_erasing()
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


def _records(points: Iterable[qe.Record | qe.ScoredPoint]) -> Iterator[Record]:
    return (from_payload(point.payload or {}) for point in points)


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
