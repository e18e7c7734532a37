"""Memory in a folder: Qdrant's own engine in-process, shared safely by many processes and threads.

Operations take turns (see `edge_folder`), and one turn may serve several of them. A write that does not get
its turn at once goes to the outbox, which is durable too, and the next turn of anyone takes it in; so reads
see every acknowledged write.

Deleting rebuilds the shard from what remains and swaps it in, because the engine keeps deleted text in
its log. A crash in between leaves the old shard or the new one. It takes 0.2 s at 1,000 records and 8 s at
100,000, with the lock held: delete many at once rather than one by one.

A shard that the engine says it cannot read is renamed to `shard.corrupt-<time>`, `warn` is told where it
lies, and memory goes on empty: a run must not fail for lack of recall, and nothing is erased. A full disk,
missing permission and the like are not corruption: they raise `MemoryUnavailable` and touch nothing.

What is not covered: overwriting deleted bytes on the disk, and what `edge_folder` leaves out.
"""

import itertools
import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from uuid import UUID

import qdrant_edge as qe

from memory.edge_folder import EdgeFolder
from memory.edge_points import Within, at_places, dense_of, lacking, pages, point, records, sparse, within
from memory.embedder import DenseVector, Embedder, default_embedder
from memory.errors import EmbeddingFailed, MemoryBusy
from memory.outbox import Outbox
from memory.records import At, Hit, Place, Record, Scope
from memory.store import Memory, Query, as_kinds, by_place, newest_first, other_size

_LOG = logging.getLogger(__name__)


class EdgeStore:
    """A `MemoryStore` in the folder `path`, made when it is missing.

    `warn` receives one sentence when a shard or a batch had to be put aside. A read waits up to
    `read_wait_s` for its turn, then raises `MemoryBusy`; a write never waits longer than `write_wait_s`.
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

    def placed(
        self, places: Iterable[Place], *, kinds: str | Collection[str], scope: Scope, at: At = "now"
    ) -> list[Record]:
        wanted = list(places)
        if not wanted:
            return []
        with self.opened() as memory:
            return memory.placed(wanted, kinds=kinds, scope=scope, at=at)

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

    def every(self) -> list[Record]:
        with self._turn(self._read_wait_s) as turn:
            return list(turn.every())

    def lacking(
        self, name: str, kinds: str | Collection[str], scope: Scope, *, limit: int | None = None
    ) -> list[Record]:
        with self._turn(self._read_wait_s) as turn:
            return turn.lacking(name, kinds, scope, limit)

    def attach(self, made: Iterable[tuple[Record, DenseVector]]) -> int:
        batch = list(made)
        if not batch:
            return 0
        with self._turn(self._read_wait_s) as turn:
            return turn.attach(batch)

    def vectors(self) -> dict[str, int]:
        with self._turn(self._read_wait_s) as turn:
            return turn.vectors()

    def drop(self, name: str) -> None:
        with self._turn(self._read_wait_s) as turn:
            turn.drop(name)

    def close(self) -> None:
        """Nothing is held between turns."""

    def set_aside(self) -> list[Path]:
        """The shards that could not be opened and were kept, oldest first."""
        return self._folder.set_aside()

    @contextmanager
    def _turn(self, wait_s: float) -> Iterator["_Turn"]:
        with self._folder.lock(wait_s), self._folder.shard() as shard:
            turn = _Turn(shard, self._embedder, self._folder)
            self._take_in(turn)
            try:
                yield turn
            finally:
                if turn.erased:
                    self._folder.erase(shard)

    def _take_in(self, turn: "_Turn") -> None:
        batches = self._outbox.pending()
        if not batches:
            return
        turn.add(record for batch in batches for record in self._outbox.read(batch))
        self._outbox.discard(batches)


class _Turn:
    """Memory while the shard is open; `erased` when something was deleted whose text lies in it still."""

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
        dense = dense_of(self._shard, latest.values(), names) if names else {}
        points = [point(record, self._embedder, dense.get(record.id, {})) for record in latest.values()]
        self._shard.update(qe.UpdateOperation.upsert_points(points))
        # The engine's log survives a kill without this, but not a power cut.
        self._shard.flush()

    def search(self, query: Query) -> list[Hit]:
        asked = self._asked(query.what) if query.limit > 0 else None
        if asked is None:
            return []
        only = within(as_kinds(query.kinds), query.scope, query.at, query.session)
        return self._hits(asked, only, query.limit, by_rarity=isinstance(query.what, str))

    def _asked(self, what: str | DenseVector) -> qe.Query | None:
        """What is searched for as the engine takes it; None if nothing can be found by it."""
        if isinstance(what, DenseVector):
            is_known = self._folder.dense().get(what.name) == len(what.values)
            return qe.Query.Nearest(list(what.values), using=what.name) if is_known else None
        vector = self._embedder.query(what)
        if not vector.indices:
            return None
        return qe.Query.Nearest(sparse(vector.indices, vector.values), using=self._embedder.name)

    def _hits(self, asked: qe.Query, only: Within, limit: int, *, by_rarity: bool) -> list[Hit]:
        fetched = limit
        while True:
            points = self._nearest(asked, only, fetched, by_rarity=by_rarity)
            hits = [
                Hit(record=record, score=point.score)
                for point, record in zip(points, records(points), strict=True)
                if only.holds(record)
            ]
            if len(hits) >= limit or len(points) < fetched:
                return hits[:limit]
            # Some of them do not hold at that time: the next ones take their places.
            fetched *= 2

    def _nearest(self, asked: qe.Query, only: Within, limit: int, *, by_rarity: bool) -> list[qe.ScoredPoint]:
        return self._shard.query(
            qe.QueryRequest(
                limit=limit,
                query=asked,
                filter=only.filter,
                params=qe.SearchParams(idf=qe.IdfParams(corpus=only.filter)) if by_rarity else None,
                with_payload=True,
            )
        )

    def get(self, ids: Iterable[UUID], scope: Scope, *, at: At = "now") -> list[Record]:
        wanted = list(dict.fromkeys(ids))
        only = within([], scope, at)
        found = {record.id: record for record in records(self._shard.retrieve(list(wanted), True, False))}
        chosen = (found[id_] for id_ in wanted if id_ in found)
        return [record for record in chosen if scope.covers(record.scope) and only.holds(record)]

    def placed(
        self, places: Iterable[Place], *, kinds: str | Collection[str], scope: Scope, at: At = "now"
    ) -> list[Record]:
        only = within(as_kinds(kinds), scope, at)
        wanted = list(dict.fromkeys(places))
        if not wanted:
            return []
        found = self._scroll(at_places(only, wanted))
        return by_place(record for record in found if only.holds(record))

    def all(
        self, kinds: str | Collection[str], scope: Scope, *, at: At = "now", session: str | None = None
    ) -> list[Record]:
        only = within(as_kinds(kinds), scope, at, session)
        return newest_first(record for record in self._scroll(only.filter) if only.holds(record))

    def count(
        self, kinds: str | Collection[str], scope: Scope, *, at: At = "now", session: str | None = None
    ) -> int:
        only = within(as_kinds(kinds), scope, at, session)
        counted = self._shard.count(qe.CountRequest(exact=True, filter=only.filter))
        if only.bounded is None:
            return counted
        return counted - sum(not only.holds(record) for record in self._scroll(only.bounded))

    def delete(self, ids: Iterable[UUID], scope: Scope) -> int:
        doomed = [record.id for record in self.get(ids, scope, at="ever")]
        if doomed:
            self._folder.begin_erasing()
            self.erased = True
            # At once, so that a rebuild that fails leaves the records out of every search all the same.
            self._shard.update(qe.UpdateOperation.delete_points(list(doomed)))
            self._shard.flush()
        return len(doomed)

    @contextmanager
    def opened(self) -> Iterator[Memory]:
        yield self

    def every(self) -> Iterator[Record]:
        return self._scroll(qe.Filter())

    def lacking(
        self, name: str, kinds: str | Collection[str], scope: Scope, limit: int | None
    ) -> list[Record]:
        only = lacking(within(as_kinds(kinds), scope, "ever"), name)
        return list(itertools.islice(self._scroll(only), limit))

    def attach(self, made: Sequence[tuple[Record, DenseVector]]) -> int:
        (name,) = {vector.name for _, vector in made}
        size, known = len(made[0][1].values), self._folder.dense().get(name)
        if known not in (None, size):
            raise EmbeddingFailed(other_size(name, known, size))
        if known is None:
            self._shard.update(qe.UpdateOperation.create_dense_vector(name, size, qe.Distance.Cosine))
        there = dense_of(self._shard, (record for record, _ in made), [])
        points = [
            qe.PointVectors(id=record.id, vector={name: list(vector.values)})
            for record, vector in made
            if record.id in there
        ]
        if points:
            self._shard.update(qe.UpdateOperation.update_vectors(points))
        self._shard.flush()
        return len(points)

    def vectors(self) -> dict[str, int]:
        having = {name: qe.Filter(must=[qe.HasVectorCondition(name)]) for name in self._folder.dense()}
        return {
            name: self._shard.count(qe.CountRequest(exact=True, filter=only)) for name, only in having.items()
        }

    def drop(self, name: str) -> None:
        if name not in self._folder.dense():
            return
        # They are erased like what is deleted: they tell something of the text.
        self._folder.begin_erasing()
        self.erased = True
        self._shard.update(qe.UpdateOperation.delete_vector_name(name))
        self._shard.flush()

    def _scroll(self, only: qe.Filter) -> Iterator[Record]:
        return records(point for page in pages(self._shard, only, vectors=False) for point in page)
