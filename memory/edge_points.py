"""Records as the points of a Qdrant Edge shard, and what a read asks for as its filters.

All that is filtered by lies in one list of tags with one index, because each index of the engine makes every
opening slower: `u:` the user, `p:` the project or none, `k:` the kind, `s:` the session, `@` the place in
it. Two more are set where they apply: `ended` for what holds no more when it is written, which it never will
again, and `bounded` for what begins or ends at a time that the reader has to compare.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import qdrant_edge as qe

from memory.embedder import Embedder
from memory.records import At, Place, Record, Scope, from_payload, moment, to_payload

INDEX = "within"

Dense = Mapping[UUID, Mapping[str, Any]]
"""The dense vectors of records by their names."""

_ENDED = "ended"
_BOUNDED = "bounded"
_PAGE = 1000


@dataclass(frozen=True)
class Within:
    """What a read keeps to: a filter for the engine, and the time, which is compared here."""

    filter: qe.Filter
    at: datetime | None

    def holds(self, record: Record) -> bool:
        return self.at is None or record.holds(self.at)

    @property
    def bounded(self) -> qe.Filter | None:
        """The part of it that has to be compared; None where nothing has."""
        if self.at is None:
            return None
        return qe.Filter(must=[self.filter, _tagged(_BOUNDED)])


def within(kinds: list[str], scope: Scope, at: At, session: str | None = None) -> Within:
    must: list[qe.FieldCondition] = [_tagged(f"u:{scope.user}")]
    if scope.project is not None:
        must.append(_tagged("p:", f"p:{scope.project}"))
    if kinds:
        must.append(_tagged(*(f"k:{kind}" for kind in kinds)))
    if session is not None:
        must.append(_tagged(f"s:{session}"))
    # What has ended stays so: that is known without comparing times, as long as the time is now.
    never = [_tagged(_ENDED)] if at == "now" else []
    return Within(qe.Filter(must=list(must), must_not=list(never)), moment(at))


def at_places(base: Within, places: Iterable[Place]) -> qe.Filter:
    return qe.Filter(must=[base.filter, _tagged(*(_place(place) for place in places))])


def point(record: Record, embedder: Embedder, dense: Mapping[str, list[float]]) -> qe.Point:
    """The record as it is stored, with the dense vectors that it has."""
    vector = embedder.document(record.text)
    named: dict[str, qe.NamedVector] = {embedder.name: sparse(vector.indices, vector.values), **dense}
    return qe.Point(id=record.id, vector=named, payload={**to_payload(record), INDEX: _tags(record)})


def dense_of(shard: qe.EdgeShard, records: Iterable[Record], names: Iterable[str]) -> Dense:
    """The dense vectors of those of the records that are stored with the same text."""
    wanted = {record.id: record.text for record in records}
    found = shard.retrieve(list(wanted), ["text"], list(names))
    return {
        UUID(str(known.id)): dict(known.vector) if isinstance(known.vector, dict) else {}
        for known in found
        if _payload(known).get("text") == wanted[UUID(str(known.id))]
    }


def lacking(base: Within, name: str) -> qe.Filter:
    return qe.Filter(must=[base.filter], must_not=[qe.HasVectorCondition(name)])


def renewed(found: qe.Record) -> qe.Point:
    """A stored point as this version writes it. A record that it cannot read is kept as it is."""
    payload: dict[str, Any] = dict(found.payload or {})
    if INDEX not in payload:
        payload[INDEX] = [f"{sign}:{payload.get(name, '')}" for sign, name in _ALWAYS.items()]
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


_ALWAYS = {"u": "user", "p": "project", "k": "kind"}


def _tags(record: Record) -> list[str]:
    tags = [f"u:{record.scope.user}", f"p:{record.scope.project or ''}", f"k:{record.kind}"]
    if record.session is not None:
        tags.append(f"s:{record.session}")
    if record.place is not None:
        tags.append(_place(record.place))
    if record.valid_to is not None and record.valid_to <= datetime.now(UTC):
        tags.append(_ENDED)
    if record.valid_from is not None or record.valid_to is not None:
        tags.append(_BOUNDED)
    return tags


def _place(place: Place) -> str:
    return f"@{place.seq}:{place.session}"


def _tagged(*tags: str) -> qe.FieldCondition:
    return qe.FieldCondition(key=INDEX, match=qe.MatchAny(list(tags)))


def _payload(point: qe.Record | qe.ScoredPoint) -> Mapping[str, Any]:
    return point.payload or {}
