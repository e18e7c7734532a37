"""Memory on a Qdrant server: the same protocol, the same vectors, one collection.

The collection `orch_mem` is made at first use, with an index for each field that is filtered by. A write
returns when the server has applied it; how durable that is then is the server's own affair.

Word rarity is counted within the kinds and the scope of a search, which a server must know how to do
(`idf` in its search parameters).

Dense vectors are added to the collection under their names, which a server can from version 1.18 on.

What is not covered: several replicas with weak consistency; a text that another process changes while the
vector of the earlier one is attached, which then stays until it is changed again. The contract suite runs
against a real server only where ORCH_TEST_QDRANT_URL names one.
"""

import itertools
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from uuid import UUID

from qdrant_client import QdrantClient, models
from qdrant_client.common.client_exceptions import QdrantException, ResourceExhaustedResponse
from qdrant_client.http.exceptions import ApiException, UnexpectedResponse

from memory.embedder import DenseVector, Embedder, default_embedder
from memory.errors import EmbeddingFailed, MemoryBusy, MemoryUnavailable
from memory.records import At, Hit, Place, Record, Scope, from_payload, moment, to_payload
from memory.store import Memory, Query, as_kinds, by_place, newest_first, other_size

COLLECTION = "orch_mem"

_INDEXED = {
    **dict.fromkeys(("kind", "user", "project", "session"), models.PayloadSchemaType.KEYWORD),
    **dict.fromkeys(("valid_from", "valid_to"), models.PayloadSchemaType.DATETIME),
    "seq": models.PayloadSchemaType.INTEGER,
}
_BATCH = 256
_PAGE = 1000
_REFUSED = (401, 403)
_CONFLICT = 409


class ServerStore:
    """A `MemoryStore` on the server at `url`; `client` replaces the connection, for tests."""

    def __init__(
        self,
        url: str,
        api_key: str | None = None,
        *,
        client: QdrantClient | None = None,
        embedder: Embedder | None = None,
        timeout_s: int = 10,
    ) -> None:
        self._url = url
        self._embedder = embedder or default_embedder()
        with self._translated():
            # The version check would warn, not fail, when the server cannot be reached.
            self._client = client or QdrantClient(
                url=url, api_key=api_key, timeout=timeout_s, check_compatibility=False
            )
            self._ensure_collection()
            self._ensure_indexes()

    def add(self, records: Iterable[Record]) -> None:
        latest = list({record.id: record for record in records}.values())
        with self._translated():
            names = list(self._dense()) if latest else []
            for start in range(0, len(latest), _BATCH):
                batch = latest[start : start + _BATCH]
                dense = self._dense_of(batch, names) if names else {}
                points = [self._point(record, dense.get(record.id, {})) for record in batch]
                self._client.upsert(COLLECTION, points, wait=True)

    @contextmanager
    def opened(self) -> Iterator[Memory]:
        """The server serves each operation by itself; there is no turn to wait for."""
        yield self

    def search(self, query: Query) -> list[Hit]:
        within = _filter(as_kinds(query.kinds), query.scope, query.at, query.session)
        with self._translated():
            asked = self._asked(query.what, within) if query.limit > 0 else None
            if asked is None:
                return []
            response = self._client.query_points(
                COLLECTION, **asked, query_filter=within, limit=query.limit, with_payload=True
            )
        return [Hit(record=from_payload(point.payload or {}), score=point.score) for point in response.points]

    def _asked(self, what: str | DenseVector, within: models.Filter) -> dict[str, Any] | None:
        """What is searched for as the server takes it; None if nothing can be found by it."""
        if isinstance(what, DenseVector):
            is_known = self._dense().get(what.name) == len(what.values)
            return {"query": list(what.values), "using": what.name} if is_known else None
        vector = self._embedder.query(what)
        if not vector.indices:
            return None
        return {
            "query": models.SparseVector(indices=list(vector.indices), values=list(vector.values)),
            "using": self._embedder.name,
            "search_params": models.SearchParams(idf=models.IdfCorpusParams(corpus=within)),
        }

    def get(self, ids: Iterable[UUID], scope: Scope, *, at: At = "now") -> list[Record]:
        wanted = list(dict.fromkeys(ids))
        if not wanted:
            return []
        with self._translated():
            points = self._client.retrieve(COLLECTION, [str(id_) for id_ in wanted], with_payload=True)
        found = {record.id: record for record in (from_payload(point.payload or {}) for point in points)}
        chosen = [found[id_] for id_ in wanted if id_ in found and scope.covers(found[id_].scope)]
        time = moment(at)
        return [record for record in chosen if time is None or record.holds(time)]

    def placed(
        self, places: Iterable[Place], *, kinds: str | Collection[str], scope: Scope, at: At = "now"
    ) -> list[Record]:
        wanted: dict[str, set[int]] = {}
        for place in places:
            wanted.setdefault(place.session, set()).add(place.seq)
        if not wanted:
            return []
        any_of = [_at_places(session, sorted(seqs)) for session, seqs in wanted.items()]
        base = _filter(as_kinds(kinds), scope, at, None)
        with self._translated():
            found = self._scroll(models.Filter(must=[base, models.Filter(should=list(any_of))]))
            return by_place(from_payload(point.payload or {}) for point in found)

    def all(
        self, kinds: str | Collection[str], scope: Scope, *, at: At = "now", session: str | None = None
    ) -> list[Record]:
        within = _filter(as_kinds(kinds), scope, at, session)
        with self._translated():
            return newest_first(from_payload(point.payload or {}) for point in self._scroll(within))

    def delete(self, ids: Iterable[UUID], scope: Scope) -> int:
        doomed = [str(record.id) for record in self.get(ids, scope, at="ever")]
        if doomed:
            with self._translated():
                self._client.delete(COLLECTION, models.PointIdsList(points=list(doomed)), wait=True)
        return len(doomed)

    def count(
        self, kinds: str | Collection[str], scope: Scope, *, at: At = "now", session: str | None = None
    ) -> int:
        within = _filter(as_kinds(kinds), scope, at, session)
        with self._translated():
            return self._client.count(COLLECTION, count_filter=within, exact=True).count

    def every(self) -> list[Record]:
        with self._translated():
            return [from_payload(point.payload or {}) for point in self._scroll(models.Filter())]

    def lacking(
        self, name: str, kinds: str | Collection[str], scope: Scope, *, limit: int | None = None
    ) -> list[Record]:
        within = _filter(as_kinds(kinds), scope, "ever", None)
        with self._translated():
            if name in self._dense():
                has = models.HasVectorCondition(has_vector=name)
                within = models.Filter(must=[within], must_not=[has])
            found = itertools.islice(self._scroll(within), limit)
            return [from_payload(point.payload or {}) for point in found]

    def attach(self, made: Iterable[tuple[Record, DenseVector]]) -> int:
        batch = list(made)
        if not batch:
            return 0
        (name,) = {vector.name for _, vector in batch}
        with self._translated():
            self._ensure_dense(name, len(batch[0][1].values))
            there = self._dense_of([record for record, _ in batch], [])
            points = [
                models.PointVectors(id=str(record.id), vector={name: list(vector.values)})
                for record, vector in batch
                if record.id in there
            ]
            if points:
                self._client.update_vectors(COLLECTION, points, wait=True)
        return len(points)

    def vectors(self) -> dict[str, int]:
        with self._translated():
            return {name: self._having(name) for name in self._dense()}

    def drop(self, name: str) -> None:
        with self._translated():
            if name in self._dense():
                self._client.delete_vector_name(COLLECTION, name, wait=True)

    def close(self) -> None:
        self._client.close()

    def _ensure_collection(self) -> None:
        if self._client.collection_exists(COLLECTION):
            return
        try:
            self._client.create_collection(
                COLLECTION,
                vectors_config={},
                sparse_vectors_config={
                    self._embedder.name: models.SparseVectorParams(modifier=models.Modifier.IDF)
                },
            )
        except UnexpectedResponse as exc:
            # Another process made it between the question and the order.
            if exc.status_code != _CONFLICT:
                raise

    def _ensure_indexes(self) -> None:
        """Those that are missing: an earlier version made fewer."""
        there = self._client.get_collection(COLLECTION).payload_schema
        for field, schema in _INDEXED.items():
            if field not in there:
                self._client.create_payload_index(COLLECTION, field, schema)

    def _ensure_dense(self, name: str, size: int) -> None:
        known = self._dense().get(name)
        if known not in (None, size):
            raise EmbeddingFailed(other_size(name, known, size))
        if known is None:
            config = models.DenseVectorConfig(size=size, distance=models.Distance.COSINE)
            self._client.create_vector_name(COLLECTION, name, models.DenseVectorNameConfig(dense=config))

    def _dense(self) -> dict[str, int]:
        """The names of the dense vectors, and their sizes."""
        vectors = self._client.get_collection(COLLECTION).config.params.vectors
        return {name: params.size for name, params in vectors.items()} if isinstance(vectors, dict) else {}

    def _dense_of(self, records: list[Record], names: list[str]) -> dict[UUID, dict[str, models.Vector]]:
        """The dense vectors of those of the records that are stored with the same text."""
        wanted = {str(record.id): record.text for record in records}
        found = self._client.retrieve(COLLECTION, list(wanted), with_payload=["text"], with_vectors=names)
        return {
            UUID(str(known.id)): dict(known.vector) if names and isinstance(known.vector, dict) else {}
            for known in found
            if (known.payload or {}).get("text") == wanted[str(known.id)]
        }

    def _having(self, name: str) -> int:
        has = models.Filter(must=[models.HasVectorCondition(has_vector=name)])
        return self._client.count(COLLECTION, count_filter=has, exact=True).count

    def _point(self, record: Record, dense: Mapping[str, models.Vector]) -> models.PointStruct:
        vector = self._embedder.document(record.text)
        sparse = models.SparseVector(indices=list(vector.indices), values=list(vector.values))
        return models.PointStruct(
            id=str(record.id), vector={self._embedder.name: sparse, **dense}, payload=to_payload(record)
        )

    def _scroll(self, within: models.Filter) -> Iterator[models.Record]:
        offset = None
        while True:
            page, offset = self._client.scroll(
                COLLECTION, scroll_filter=within, limit=_PAGE, offset=offset, with_payload=True
            )
            yield from page
            if offset is None:
                return

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """The one place where the client's faults become ours."""
        try:
            yield
        except ResourceExhaustedResponse as exc:
            raise MemoryBusy(f"The Qdrant server at {self._url} asks to wait; try again.") from exc
        except UnexpectedResponse as exc:
            remedy = "check memory.api_key" if exc.status_code in _REFUSED else "look at the server's log"
            raise MemoryUnavailable(
                f"The Qdrant server at {self._url} answered {exc.status_code} {exc.reason_phrase}; {remedy}."
            ) from exc
        except (ApiException, QdrantException) as exc:
            raise MemoryUnavailable(
                f"The Qdrant server at {self._url} cannot be reached ({exc}); start it, or unset memory.url "
                "to keep memory in a folder."
            ) from exc


def _filter(kinds: list[str], scope: Scope, at: At, session: str | None) -> models.Filter:
    must: list[models.Condition] = [
        models.FieldCondition(key="user", match=models.MatchValue(value=scope.user)),
    ]
    if scope.project is not None:
        must.append(models.FieldCondition(key="project", match=models.MatchAny(any=["", scope.project])))
    if kinds:
        must.append(models.FieldCondition(key="kind", match=models.MatchAny(any=kinds)))
    if session is not None:
        must.append(models.FieldCondition(key="session", match=models.MatchValue(value=session)))
    time = moment(at)
    if time is None:
        return models.Filter(must=must)
    # A field that a record does not have is in no range.
    never: list[models.Condition] = [
        models.FieldCondition(key="valid_to", range=models.DatetimeRange(lte=time)),
        models.FieldCondition(key="valid_from", range=models.DatetimeRange(gt=time)),
    ]
    return models.Filter(must=must, must_not=never)


def _at_places(session: str, seqs: list[int]) -> models.Filter:
    return models.Filter(
        must=[
            models.FieldCondition(key="session", match=models.MatchValue(value=session)),
            models.FieldCondition(key="seq", match=models.MatchAny(any=seqs)),
        ]
    )
