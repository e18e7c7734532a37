"""Memory on a Qdrant server: the same protocol, the same vectors, one collection.

The server is first asked at the first operation: for its version, and for the collection `orch_mem`, which is
created with an index for each filterable field. A write returns when the server has applied it; its
durability is that of the server. A request whose connection breaks, or that is answered with "try again", is
sent again, at most twice: each changes nothing if it was carried out already.

Word rarity is counted within the kinds and the scope of a search, and dense vectors are added to the
collection by name; so the server has to be of version 1.19 or later.

What is not covered: several replicas with weak consistency; a text that another process changes while a
vector of the old text is stored (the vector stays until the text changes again). The contract suite runs
against a real server only if ORCH_TEST_QDRANT_URL names one. For writes that wait for a server, see
`waiting`.
"""

import itertools
import logging
import time
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from json import JSONDecodeError
from typing import Any
from uuid import UUID

import httpx
from qdrant_client import QdrantClient, models
from qdrant_client.common.client_exceptions import QdrantException
from qdrant_client.http.exceptions import ApiException, ResponseHandlingException, UnexpectedResponse

from memory.address import check_address, sends_openly
from memory.embedder import DenseVector, Embedder, default_embedder
from memory.records import (
    At,
    Hit,
    MemoryUnavailable,
    Position,
    Record,
    Scope,
    resolve_time,
    to_payload,
)
from memory.server_errors import check_version, explained, is_missing_collection
from memory.store import (
    Memory,
    PayloadReader,
    Query,
    as_kinds,
    by_position,
    check_size,
    in_order,
    newest_first,
    owner_of,
)

COLLECTION = "orch_mem"

_LOG = logging.getLogger(__name__)

_INDEXED = {
    **dict.fromkeys(("kind", "user", "project", "session"), models.PayloadSchemaType.KEYWORD),
    **dict.fromkeys(("valid_from", "valid_to"), models.PayloadSchemaType.DATETIME),
    "seq": models.PayloadSchemaType.INTEGER,
}
_BATCH = 256
_PAGE = 1000
_CONFLICT = 409
_SHORT_S = 3.0
_PAUSES_S = (0.1, 0.4)
"""How long a request waits before it is sent again."""
_LONGEST_PAUSE_S = 2.0
_TRY_AGAIN = (429, 502, 503, 504)
_BROKEN = (httpx.ReadError, httpx.WriteError, httpx.RemoteProtocolError)


_WARNED: set[str] = set()
"""The addresses about which this process has warned: a command opens stores more than once."""


class ServerStore:
    """A `MemoryStore` on the server at `url`.

    `http` are options for its client, which are httpx's; `client` replaces the connection, for tests. `warn`
    receives the id of the first record that cannot be read, and if the key can be read on its way. Raises
    `MemoryUnavailable` for a wrong address.
    """

    def __init__(
        self,
        url: str,
        api_key: str | None = None,
        *,
        http: Mapping[str, Any] | None = None,
        client: QdrantClient | None = None,
        embedder: Embedder | None = None,
        timeout_s: int = 10,
        warn: Callable[[str], None] = _LOG.warning,
    ) -> None:
        self._reader = PayloadReader(warn)
        self._url, self._has_key = url, api_key is not None
        self._embedder = embedder or default_embedder()
        self._is_ready = False
        self._client = client or _connection(url, api_key, timeout_s, http or {})
        if api_key is not None and sends_openly(url) and url not in _WARNED:
            _WARNED.add(url)
            warn(
                f"The key of memory.api_key is sent to {url} over plain HTTP, so others on the network can "
                "read it; use https://."
            )

    def add(self, records: Iterable[Record]) -> None:
        latest = list({record.id: record for record in records}.values())
        with self._translated():
            names = list(self._dense()) if latest else []
            for start in range(0, len(latest), _BATCH):
                batch = latest[start : start + _BATCH]
                dense = self._stored_vectors(batch, names) if names else {}
                points = [self._point(record, dense.get(record.id, {})) for record in batch]
                self._client.upsert(COLLECTION, points, wait=True)

    @contextmanager
    def opened(self) -> Iterator[Memory]:
        """Does not wait: the server handles each operation by itself."""
        yield self

    def search(self, query: Query) -> list[Hit]:
        within = _filter(as_kinds(query.kinds), query.scope, query.at, query.session)
        with self._translated():
            arguments = self._query_arguments(query.what, within) if query.limit > 0 else None
            if arguments is None:
                return []
            response = self._client.query_points(
                COLLECTION, **arguments, query_filter=within, limit=query.limit, with_payload=True
            )
        return [
            Hit(record=record, score=point.score)
            for point in response.points
            for record in self._records([point])
        ]

    def _query_arguments(self, what: str | DenseVector, within: models.Filter) -> dict[str, Any] | None:
        """The query for the server; None if it cannot find anything."""
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
        return in_order(self._records(points), wanted, scope, at)

    def at_positions(
        self, positions: Iterable[Position], *, kinds: str | Collection[str], scope: Scope, at: At = "now"
    ) -> list[Record]:
        wanted: dict[str, set[int]] = {}
        for position in positions:
            wanted.setdefault(position.session, set()).add(position.seq)
        if not wanted:
            return []
        any_of = [
            models.Filter(
                must=[
                    models.FieldCondition(key="session", match=models.MatchValue(value=session)),
                    models.FieldCondition(key="seq", match=models.MatchAny(any=sorted(seqs))),
                ]
            )
            for session, seqs in wanted.items()
        ]
        base = _filter(as_kinds(kinds), scope, at, None)
        with self._translated():
            found = self._scroll(models.Filter(must=[base, models.Filter(should=list(any_of))]))
            return by_position(self._records(found))

    def all(
        self, kinds: str | Collection[str], scope: Scope, *, at: At = "now", session: str | None = None
    ) -> list[Record]:
        within = _filter(as_kinds(kinds), scope, at, session)
        with self._translated():
            return newest_first(self._records(self._scroll(within)))

    def delete(self, ids: Iterable[UUID], scope: Scope) -> int:
        wanted = [str(id_) for id_ in dict.fromkeys(ids)]
        if not wanted:
            return 0
        with self._translated():
            points = self._client.retrieve(COLLECTION, wanted, with_payload=["user", "project"])
            owners = {str(point.id): owner_of(point.payload) for point in points}
            doomed = [id_ for id_, owner in owners.items() if owner is not None and scope.covers(owner)]
            if doomed:
                self._client.delete(COLLECTION, models.PointIdsList(points=list(doomed)), wait=True)
        return len(doomed)

    def count(
        self, kinds: str | Collection[str], scope: Scope, *, at: At = "now", session: str | None = None
    ) -> int:
        within = _filter(as_kinds(kinds), scope, at, session)
        with self._translated():
            return self._client.count(COLLECTION, count_filter=within, exact=True).count

    def scan(self) -> list[Record]:
        with self._translated():
            return [*self._records(self._scroll(models.Filter()))]

    def missing_vectors(
        self, name: str, kinds: str | Collection[str], scope: Scope, *, limit: int | None = None
    ) -> list[Record]:
        within = _filter(as_kinds(kinds), scope, "ever", None)
        with self._translated():
            if name in self._dense():
                has = models.HasVectorCondition(has_vector=name)
                within = models.Filter(must=[within], must_not=[has])
            return list(itertools.islice(self._records(self._scroll(within)), limit))

    def put_vectors(self, vectors: Iterable[tuple[Record, DenseVector]]) -> int:
        batch = list(vectors)
        if not batch:
            return 0
        (name,) = {vector.name for _, vector in batch}
        with self._translated():
            size = len(batch[0][1].values)
            if not check_size(name, self._dense().get(name), size):
                config = models.DenseVectorConfig(size=size, distance=models.Distance.COSINE)
                self._client.create_vector_name(COLLECTION, name, models.DenseVectorNameConfig(dense=config))
            stored = self._stored_vectors([record for record, _ in batch], [])
            points = [
                models.PointVectors(id=str(record.id), vector={name: list(vector.values)})
                for record, vector in batch
                if record.id in stored
            ]
            if points:
                self._client.update_vectors(COLLECTION, points, wait=True)
        return len(points)

    def vectors(self) -> dict[str, int]:
        with self._translated():
            filters = {
                name: models.Filter(must=[models.HasVectorCondition(has_vector=name)])
                for name in self._dense()
            }
            return {
                name: self._client.count(COLLECTION, count_filter=has, exact=True).count
                for name, has in filters.items()
            }

    def drop_vectors(self, name: str, scope: Scope) -> None:
        with self._translated():
            if name not in self._dense():
                return
            mine = _filter([], scope.user_wide, "ever", None)
            has = models.HasVectorCondition(has_vector=name)
            others = models.Filter(must=[has], must_not=[mine])
            if self._client.count(COLLECTION, count_filter=others, exact=True).count:
                self._client.delete_vectors(COLLECTION, [name], models.FilterSelector(filter=mine), wait=True)
            else:
                self._client.delete_vector_name(COLLECTION, name, wait=True)

    def close(self) -> None:
        self._client.close()

    def _prepare(self) -> None:
        """Check the server's version, and create what is missing there."""
        check_version(self._client.info().version, self._url)
        if not self._client.collection_exists(COLLECTION):
            self._create_collection()
        # An earlier version made fewer indexes.
        existing = self._client.get_collection(COLLECTION).payload_schema
        for field, schema in _INDEXED.items():
            if field not in existing:
                self._client.create_payload_index(COLLECTION, field, schema)
        self._is_ready = True

    def _create_collection(self) -> None:
        try:
            self._client.create_collection(
                COLLECTION,
                vectors_config={},
                sparse_vectors_config={
                    self._embedder.name: models.SparseVectorParams(modifier=models.Modifier.IDF)
                },
            )
        except UnexpectedResponse as exc:
            # Another process created it in the meantime.
            if exc.status_code != _CONFLICT:
                raise

    def _dense(self) -> dict[str, int]:
        """The sizes of the dense vectors, by name."""
        vectors = self._client.get_collection(COLLECTION).config.params.vectors
        return {name: params.size for name, params in vectors.items()} if isinstance(vectors, dict) else {}

    def _stored_vectors(
        self, records: list[Record], names: list[str]
    ) -> dict[UUID, dict[str, models.Vector]]:
        """The dense vectors of the records that are stored with the same text."""
        wanted = {str(record.id): record.text for record in records}
        found = self._client.retrieve(COLLECTION, list(wanted), with_payload=["text"], with_vectors=names)
        return {
            UUID(str(known.id)): dict(known.vector) if names and isinstance(known.vector, dict) else {}
            for known in found
            if (known.payload or {}).get("text") == wanted[str(known.id)]
        }

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

    def _records(self, points: Iterable[models.Record | models.ScoredPoint]) -> Iterator[Record]:
        read = (self._reader.read(point.id, point.payload) for point in points)
        return (record for record in read if record is not None)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Prepare the server before the first operation, and translate the client's errors into ours."""
        try:
            if not self._is_ready:
                self._prepare()
            yield
        except (ApiException, QdrantException, JSONDecodeError, UnicodeDecodeError) as exc:
            if isinstance(exc, UnexpectedResponse) and is_missing_collection(exc):
                self._is_ready = False
            raise explained(exc, self._url, has_key=self._has_key) from exc


def _connection(url: str, api_key: str | None, timeout_s: int, http: Mapping[str, Any]) -> QdrantClient:
    try:
        check_address(url)
    except ValueError as exc:
        raise MemoryUnavailable(f"memory.url cannot be used: {exc}.") from exc
    with warnings.catch_warnings():
        # Said by us if it matters: not on this machine.
        warnings.filterwarnings("ignore", message="Api key is used with an insecure connection")
        # The version is checked by us: this would warn, and not fail.
        client = QdrantClient(url=url, api_key=api_key, timeout=timeout_s, check_compatibility=False, **http)
    client.http.client.add_middleware(_sent_again)
    return client


def _sent_again(request: httpx.Request, send: Callable[[httpx.Request], httpx.Response]) -> httpx.Response:
    """Send a request, and again if that may help. A server that cannot be reached is not waited for."""
    # A GET is answered at once by a server that works; the first request is one.
    short = ("connect", "read") if request.method == "GET" else ("connect",)
    request.extensions["timeout"] = {**request.extensions["timeout"], **dict.fromkeys(short, _SHORT_S)}
    for pause in _PAUSES_S:
        try:
            response = send(request)
        except ResponseHandlingException as exc:
            if not isinstance(exc.source, _BROKEN):
                raise
        else:
            if response.status_code not in _TRY_AGAIN:
                return response
            wanted = response.headers.get("retry-after", "")
            if wanted.isdecimal():
                pause = min(max(float(wanted), pause), _LONGEST_PAUSE_S)  # noqa: PLW2901
        time.sleep(pause)
    return send(request)


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
    time = resolve_time(at)
    if time is None:
        return models.Filter(must=must)
    # A missing field is in no range.
    never: list[models.Condition] = [
        models.FieldCondition(key="valid_to", range=models.DatetimeRange(lte=time)),
        models.FieldCondition(key="valid_from", range=models.DatetimeRange(gt=time)),
    ]
    return models.Filter(must=must, must_not=never)
