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

What is not covered: overwriting deleted bytes on the disk, and what `edge_folder` excludes.
"""

import itertools
import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from uuid import UUID

import qdrant_edge as qe

from memory.edge_folder import EdgeFolder, Outbox
from memory.edge_points import (
    ReadFilter,
    pages,
    point,
    read_filter,
    records,
    sparse,
    stored_vectors,
    with_positions,
    without_vector,
)
from memory.embedder import DenseVector, Embedder, default_embedder
from memory.records import At, EmbeddingFailed, Hit, MemoryBusy, Position, Record, Scope
from memory.store import Memory, Query, as_kinds, by_position, newest_first, size_mismatch

_LOG = logging.getLogger(__name__)


class EdgeStore:
    """A `MemoryStore` in the folder `path`, which is created if it is missing.

    `warn` receives one sentence if a shard or batch had to be put aside. A read waits up to `read_wait_s`
    for its turn, then raises `MemoryBusy`; a write never waits longer than `write_wait_s`.
    """

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
    def opened(self) -> Iterator[Memory]:
        with self._turn(self._read_wait_s) as turn:
            yield turn

    def add(self, records: Iterable[Record]) -> None:
        batch = list(records)
        if not batch:
            return
        try:
            with self._turn(self._write_wait_s) as turn:
                turn.add(batch)
        except MemoryBusy:
            self._outbox.put(batch)

    def search(self, query: Query) -> list[Hit]:
        if query.limit < 1 or (isinstance(query.what, str) and not self._embedder.query(query.what).indices):
            return []
        with self.opened() as memory:
            return memory.search(query)

    def get(self, ids: Iterable[UUID], scope: Scope, *, at: At = "now") -> list[Record]:
        wanted = list(ids)
        if not wanted:
            return []
        with self.opened() as memory:
            return memory.get(wanted, scope, at=at)

    def at_positions(
        self, positions: Iterable[Position], *, kinds: str | Collection[str], scope: Scope, at: At = "now"
    ) -> list[Record]:
        wanted = list(positions)
        if not wanted:
            return []
        with self.opened() as memory:
            return memory.at_positions(wanted, kinds=kinds, scope=scope, at=at)

    def all(
        self, kinds: str | Collection[str], scope: Scope, *, at: At = "now", session: str | None = None
    ) -> list[Record]:
        with self.opened() as memory:
            return memory.all(kinds, scope, at=at, session=session)

    def count(
        self, kinds: str | Collection[str], scope: Scope, *, at: At = "now", session: str | None = None
    ) -> int:
        with self.opened() as memory:
            return memory.count(kinds, scope, at=at, session=session)

    def delete(self, ids: Iterable[UUID], scope: Scope) -> int:
        wanted = list(ids)
        if not wanted:
            return 0
        with self.opened() as memory:
            return memory.delete(wanted, scope)

    def scan(self) -> list[Record]:
        with self._turn(self._read_wait_s) as turn:
            return list(turn.scan())

    def missing_vectors(
        self, name: str, kinds: str | Collection[str], scope: Scope, *, limit: int | None = None
    ) -> list[Record]:
        with self._turn(self._read_wait_s) as turn:
            return turn.missing_vectors(name, kinds, scope, limit)

    def put_vectors(self, vectors: Iterable[tuple[Record, DenseVector]]) -> int:
        batch = list(vectors)
        if not batch:
            return 0
        with self._turn(self._read_wait_s) as turn:
            return turn.put_vectors(batch)

    def vectors(self) -> dict[str, int]:
        with self._turn(self._read_wait_s) as turn:
            return turn.vectors()

    def drop_vectors(self, name: str) -> None:
        with self._turn(self._read_wait_s) as turn:
            turn.drop_vectors(name)

    def close(self) -> None:
        """Does nothing: no resources are held between turns."""

    def set_aside(self) -> list[Path]:
        """The unreadable shards that were put aside, oldest first."""
        return self._folder.set_aside()

    @contextmanager
    def _turn(self, wait_s: float) -> Iterator["_Turn"]:
        with self._folder.lock(wait_s), self._folder.shard() as shard:
            turn = _Turn(shard, self._embedder, self._folder)
            if batches := self._outbox.pending():
                turn.add(record for batch in batches for record in self._outbox.read(batch))
                self._outbox.discard(batches)
            try:
                yield turn
            finally:
                if turn.erased:
                    self._folder.erase(shard)


class _Turn:
    """Memory while the shard is open; `erased` is true if the shard still has the text of deleted records."""

    def __init__(self, shard: qe.EdgeShard, embedder: Embedder, folder: EdgeFolder) -> None:
        self._shard = shard
        self._embedder = embedder
        self._folder = folder
        self.erased = False

    def add(self, records: Iterable[Record]) -> None:
        latest = {record.id: record for record in records}
        if not latest:
            return
        names = self._folder.dense()
        dense = stored_vectors(self._shard, latest.values(), names) if names else {}
        points = [point(record, self._embedder, dense.get(record.id, {})) for record in latest.values()]
        self._shard.update(qe.UpdateOperation.upsert_points(points))
        # Without this, the engine's log survives a kill but not a power cut.
        self._shard.flush()

    def search(self, query: Query) -> list[Hit]:
        engine_query = self._engine_query(query.what) if query.limit > 0 else None
        if engine_query is None:
            return []
        only = read_filter(as_kinds(query.kinds), query.scope, query.at, query.session)
        fetched = query.limit
        while True:
            points = self._nearest(engine_query, only, fetched, by_rarity=isinstance(query.what, str))
            hits = [
                Hit(record=record, score=point.score)
                for point, record in zip(points, records(points), strict=True)
                if only.holds(record)
            ]
            if len(hits) >= query.limit or len(points) < fetched:
                return hits[: query.limit]
            # Some hits do not hold at that time: fetch more to replace them.
            fetched *= 2

    def _engine_query(self, what: str | DenseVector) -> qe.Query | None:
        """The query for the engine; None if it cannot find anything."""
        if isinstance(what, DenseVector):
            is_known = self._folder.dense().get(what.name) == len(what.values)
            return qe.Query.Nearest(list(what.values), using=what.name) if is_known else None
        vector = self._embedder.query(what)
        if not vector.indices:
            return None
        return qe.Query.Nearest(sparse(vector.indices, vector.values), using=self._embedder.name)

    def _nearest(
        self, query: qe.Query, only: ReadFilter, limit: int, *, by_rarity: bool
    ) -> list[qe.ScoredPoint]:
        return self._shard.query(
            qe.QueryRequest(
                limit=limit,
                query=query,
                filter=only.filter,
                params=qe.SearchParams(idf=qe.IdfParams(corpus=only.filter)) if by_rarity else None,
                with_payload=True,
            )
        )

    def get(self, ids: Iterable[UUID], scope: Scope, *, at: At = "now") -> list[Record]:
        wanted = list(dict.fromkeys(ids))
        only = read_filter([], scope, at)
        found = {record.id: record for record in records(self._shard.retrieve(list(wanted), True, False))}
        chosen = (found[id_] for id_ in wanted if id_ in found)
        return [record for record in chosen if scope.covers(record.scope) and only.holds(record)]

    def at_positions(
        self, positions: Iterable[Position], *, kinds: str | Collection[str], scope: Scope, at: At = "now"
    ) -> list[Record]:
        only = read_filter(as_kinds(kinds), scope, at)
        wanted = list(dict.fromkeys(positions))
        if not wanted:
            return []
        found = self._scroll(with_positions(only, wanted))
        return by_position(record for record in found if only.holds(record))

    def all(
        self, kinds: str | Collection[str], scope: Scope, *, at: At = "now", session: str | None = None
    ) -> list[Record]:
        only = read_filter(as_kinds(kinds), scope, at, session)
        return newest_first(record for record in self._scroll(only.filter) if only.holds(record))

    def count(
        self, kinds: str | Collection[str], scope: Scope, *, at: At = "now", session: str | None = None
    ) -> int:
        only = read_filter(as_kinds(kinds), scope, at, session)
        counted = self._shard.count(qe.CountRequest(exact=True, filter=only.filter))
        if only.bounded is None:
            return counted
        return counted - sum(not only.holds(record) for record in self._scroll(only.bounded))

    def delete(self, ids: Iterable[UUID], scope: Scope) -> int:
        doomed = [record.id for record in self.get(ids, scope, at="ever")]
        if doomed:
            self._folder.begin_erasing()
            self.erased = True
            # Delete at once, so that the records are gone from searches even if the rebuild fails.
            self._shard.update(qe.UpdateOperation.delete_points(list(doomed)))
            self._shard.flush()
        return len(doomed)

    @contextmanager
    def opened(self) -> Iterator[Memory]:
        yield self

    def scan(self) -> Iterator[Record]:
        return self._scroll(qe.Filter())

    def missing_vectors(
        self, name: str, kinds: str | Collection[str], scope: Scope, limit: int | None
    ) -> list[Record]:
        only = without_vector(read_filter(as_kinds(kinds), scope, "ever"), name)
        return list(itertools.islice(self._scroll(only), limit))

    def put_vectors(self, vectors: Sequence[tuple[Record, DenseVector]]) -> int:
        (name,) = {vector.name for _, vector in vectors}
        size, known = len(vectors[0][1].values), self._folder.dense().get(name)
        if known not in (None, size):
            raise EmbeddingFailed(size_mismatch(name, known, size))
        if known is None:
            self._shard.update(qe.UpdateOperation.create_dense_vector(name, size, qe.Distance.Cosine))
        stored = stored_vectors(self._shard, (record for record, _ in vectors), [])
        points = [
            qe.PointVectors(id=record.id, vector={name: list(vector.values)})
            for record, vector in vectors
            if record.id in stored
        ]
        if points:
            self._shard.update(qe.UpdateOperation.update_vectors(points))
        self._shard.flush()
        return len(points)

    def vectors(self) -> dict[str, int]:
        filters = {name: qe.Filter(must=[qe.HasVectorCondition(name)]) for name in self._folder.dense()}
        return {
            name: self._shard.count(qe.CountRequest(exact=True, filter=only))
            for name, only in filters.items()
        }

    def drop_vectors(self, name: str) -> None:
        if name not in self._folder.dense():
            return
        # Vectors reveal something of the text, so they are erased like deleted text.
        self._folder.begin_erasing()
        self.erased = True
        self._shard.update(qe.UpdateOperation.delete_vector_name(name))
        self._shard.flush()

    def _scroll(self, only: qe.Filter) -> Iterator[Record]:
        return records(point for page in pages(self._shard, only, vectors=False) for point in page)
