"""Records as points of a Qdrant Edge shard, and reads as its filters.

All filterable fields are in one list of tags with one index, because every index of the engine makes each
opening slower: `u:` the user, `p:` the project or none, `k:` the kind, `s:` the session, `@` the position in
it. Two more are optional: `ended` for a record that no longer holds when it is written, and never will again,
and `bounded` for a record with a start or end time that the reader must compare.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import qdrant_edge as qe

from memory.embedder import Embedder
from memory.records import At, Position, Record, Scope, from_payload, resolve_time, to_payload

INDEX = "within"

StoredVectors = Mapping[UUID, Mapping[str, Any]]
"""The dense vectors of records, by record and name."""

_ENDED = "ended"
_BOUNDED = "bounded"
_PAGE = 1000


@dataclass(frozen=True)
class ReadFilter:
    """The restriction of a read: a filter for the engine, and the time, which is compared here."""

    filter: qe.Filter
    at: datetime | None

    def holds(self, record: Record) -> bool:
        return self.at is None or record.holds(self.at)

    @property
    def bounded(self) -> qe.Filter | None:
        """The filter of the records whose times must be compared; None if there is no time to compare."""
        if self.at is None:
            return None
        return qe.Filter(must=[self.filter, _tagged(_BOUNDED)])


def read_filter(kinds: list[str], scope: Scope, at: At, session: str | None = None) -> ReadFilter:
    must: list[qe.FieldCondition] = [_tagged(f"u:{scope.user}")]
    if scope.project is not None:
        must.append(_tagged("p:", f"p:{scope.project}"))
    if kinds:
        must.append(_tagged(*(f"k:{kind}" for kind in kinds)))
    if session is not None:
        must.append(_tagged(f"s:{session}"))
    # For the present, records that have ended are excluded without comparing times.
    never = [_tagged(_ENDED)] if at == "now" else []
    return ReadFilter(qe.Filter(must=list(must), must_not=list(never)), resolve_time(at))


def with_positions(base: ReadFilter, positions: Iterable[Position]) -> qe.Filter:
    return qe.Filter(must=[base.filter, _tagged(*map(_position_tag, positions))])


def point(record: Record, embedder: Embedder, dense: Mapping[str, list[float]]) -> qe.Point:
    """The record as it is stored, with its dense vectors."""
    vector = embedder.document(record.text)
    named: dict[str, qe.NamedVector] = {embedder.name: sparse(vector.indices, vector.values), **dense}
    return qe.Point(id=record.id, vector=named, payload={**to_payload(record), INDEX: _tags(record)})


def stored_vectors(shard: qe.EdgeShard, records: Iterable[Record], names: Iterable[str]) -> StoredVectors:
    """The dense vectors of the records that are stored with the same text."""
    wanted = {record.id: record.text for record in records}
    found = shard.retrieve(list(wanted), ["text"], list(names))
    return {
        UUID(str(known.id)): dict(known.vector) if isinstance(known.vector, dict) else {}
        for known in found
        if _payload(known).get("text") == wanted[UUID(str(known.id))]
    }


def without_vector(base: ReadFilter, name: str) -> qe.Filter:
    return qe.Filter(must=[base.filter], must_not=[qe.HasVectorCondition(name)])


def renewed(found: qe.Record) -> qe.Point:
    """A stored point in the form of this version; a record that cannot be read is kept unchanged."""
    payload: dict[str, Any] = dict(found.payload or {})
    if INDEX not in payload:
        names = {"u": "user", "p": "project", "k": "kind"}
        payload[INDEX] = [f"{sign}:{payload.get(name, '')}" for sign, name in names.items()]
    return qe.Point(id=found.id, vector=found.vector or {}, payload=payload)


def records(points: Iterable[qe.Record | qe.ScoredPoint]) -> Iterator[Record]:
    return (from_payload(_payload(point)) for point in points)


def pages(shard: qe.EdgeShard, only: qe.Filter | None, *, vectors: bool) -> Iterator[list[qe.Record]]:
    offset: qe.PointId | None = None
    while True:
        page, offset = shard.scroll(
            qe.ScrollRequest(offset=offset, limit=_PAGE, filter=only, with_payload=True, with_vector=vectors)
        )
        yield page
        if offset is None:
            return


def sparse(indices: Iterable[int], values: Iterable[float]) -> qe.SparseVector:
    return qe.SparseVector(list(indices), list(values))


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


def _payload(point: qe.Record | qe.ScoredPoint) -> Mapping[str, Any]:
    return point.payload or {}
