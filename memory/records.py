"""The frozen values that memory keeps and gives back, and their form as a Qdrant payload.

A record's id follows from its scope, kind and key, so writing the same thing twice changes nothing and
a retry is always safe; writing a new content under an old key replaces the old content.

Beside what it says a record may have a place (`session`, `seq`), a time in which it holds (`valid_from`,
`valid_to`), where it was taken from (`source`) and how it was used since. All of that may be left out, and
what an earlier version wrote without it is read as before.

What is not covered: forgetting by age. `kind` is open: the ones named here are those that are written.
"""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, NamedTuple, Self
from uuid import UUID, uuid5

from pydantic import BaseModel, ConfigDict, Field, JsonValue, field_validator, model_validator

from memory.errors import MemoryUnavailable

TURN = "turn"
"""One thing said in a conversation, at its place in it."""
SESSION = "session"
"""A conversation as a whole."""
FACT = "fact"
"""Something learned, which may cease to hold."""
RUN = "run"
TOOL = "tool"
USAGE = "usage"
"""One use of a tool or a plan: what was asked, and what came of it."""
CHUNK = "chunk"
"""A piece of a document, at its place in it."""

Trust = Literal["own", "file", "web"]
"""Where the content came from: the orchestrator itself, a file of the user, or the open web."""

At = datetime | Literal["now", "ever"]
"""The time at which what is read has to hold; "ever" brings what has ceased to hold, or will only later."""

SCHEMA_VERSION = 2

_FEW = {
    *("session", "seq", "valid_from", "valid_to", "superseded_by"),
    *("source", "last_used", "uses", "pinned"),
}
_NAMESPACE = UUID("6f1a3c52-7c0e-5d3b-9d6a-0f5b8a2f4e11")


class Scope(BaseModel):
    """Whose memory it is. `project=None` means the user's own, tied to no project.

    Reading in a scope without a project sees all of that user's records; reading in a project sees that
    project's records and those tied to none. Another user's records are never seen.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    user: Annotated[str, Field(min_length=1)] = "local"
    project: Annotated[str, Field(min_length=1)] | None = None

    def covers(self, other: "Scope") -> bool:
        """Whether a record of scope `other` may be read and deleted from here."""
        if self.user != other.user:
            return False
        return self.project is None or other.project in (None, self.project)


class Place(NamedTuple):
    """Where in a conversation or a document something stands; neighbours differ by one in `seq`."""

    session: str
    seq: int


class Source(BaseModel):
    """Where a content was taken from. `ref` names it (a path, an address, a run), `quote` cites it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    type: Literal["user", "tool", "file", "web", "model"]
    ref: str = ""
    quote: str = ""


class Record(BaseModel):
    """One thing remembered: `text` is what is searched, `data` what is given back."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
    key: Annotated[str, Field(min_length=1)]
    """The natural key within scope and kind: a run's id, a tool's name."""
    text: str
    data: dict[str, JsonValue] = Field(default_factory=dict)
    scope: Scope = Scope()
    created: datetime = Field(default_factory=lambda: datetime.now(UTC))
    trust: Trust = "own"
    session: Annotated[str, Field(min_length=1)] | None = None
    """The conversation or the document that it is a part of."""
    seq: Annotated[int, Field(ge=0, lt=2**53)] | None = None
    """Its place there."""
    valid_from: datetime | None = None
    """It holds from then on; without it, it always did."""
    valid_to: datetime | None = None
    """It holds no more from then on; without it, it still does."""
    superseded_by: UUID | None = None
    """The record that says what holds instead, from `valid_to` on."""
    source: Source | None = None
    last_used: datetime | None = None
    uses: Annotated[int, Field(ge=0)] = 0
    pinned: bool = False
    """The user wants it kept."""
    schema_version: int = SCHEMA_VERSION

    @property
    def id(self) -> UUID:
        return record_id(self.scope, self.kind, self.key)

    @property
    def place(self) -> Place | None:
        return None if self.session is None or self.seq is None else Place(self.session, self.seq)

    @property
    def trusted(self) -> bool:
        """Whether the user or the orchestrator itself said it; files, tools and the web tell anything."""
        return self.trust == "own" and (self.source is None or self.source.type in ("user", "model"))

    def holds(self, at: datetime) -> bool:
        begun = self.valid_from is None or self.valid_from <= at
        return begun and (self.valid_to is None or at < self.valid_to)

    def ended(self, at: datetime, by: UUID | None = None) -> Self:
        """The record as it is kept once it holds no more; `by` says what does instead."""
        return self.model_copy(update={"valid_to": at.astimezone(UTC), "superseded_by": by})

    def used(self, at: datetime) -> Self:
        """The record with one use more."""
        return self.model_copy(update={"uses": self.uses + 1, "last_used": at.astimezone(UTC)})

    @field_validator("created", "valid_from", "valid_to", "last_used")
    @classmethod
    def _in_utc(cls, value: datetime | None) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a time has no time zone; use datetime.now(UTC)")
        return value.astimezone(UTC)

    @field_validator("key", "text", "data", "session")
    @classmethod
    def _is_storable(cls, value: JsonValue) -> JsonValue:
        # Raises ValueError for NaN and for lone surrogates, which Python lets through and Qdrant refuses.
        _as_json(value).encode()
        return value

    @field_validator("source")
    @classmethod
    def _is_storable_too(cls, value: Source | None) -> Source | None:
        if value is not None:
            _as_json([value.ref, value.quote]).encode()
        return value

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        if self.superseded_by is not None and self.valid_to is None:
            raise ValueError("superseded_by says what holds instead; say in valid_to from when on")
        if self.seq is not None and self.session is None:
            raise ValueError("seq is a place within a session; name the session")
        return self


class Hit(BaseModel):
    """A record found by a search. `score` ranks within one search; two searches cannot be compared by it."""

    model_config = ConfigDict(frozen=True)

    record: Record
    score: float


def record_id(scope: Scope, kind: str, key: str) -> UUID:
    """The id a record with this scope, kind and key has, whether or not it exists."""
    # A JSON list keeps ("a", "b/c") apart from ("a/b", "c").
    return uuid5(_NAMESPACE, json.dumps([scope.user, scope.project, kind, key]))


def moment(at: At) -> datetime | None:
    """The time that is meant; None for "ever"."""
    if isinstance(at, datetime):
        if at.tzinfo is None:
            raise ValueError("at has no time zone; use datetime.now(UTC)")
        return at.astimezone(UTC)
    return datetime.now(UTC) if at == "now" else None


def to_payload(record: Record) -> dict[str, Any]:
    """The record as a Qdrant payload: what is filtered by lies flat, `data` is JSON text.

    As text `data` comes back exactly; as a payload object its floats would lose their last bit in Qdrant.
    """
    return {
        "kind": record.kind,
        "user": record.scope.user,
        # Qdrant matches values, not their absence, at the speed of an index.
        "project": record.scope.project or "",
        "key": record.key,
        "text": record.text,
        "data": _as_json(record.data),
        "created": record.created.isoformat(),
        "trust": record.trust,
        "schema_version": record.schema_version,
        **_told(record),
    }


def _told(record: Record) -> dict[str, Any]:
    """What few records have, of those that have it."""
    few = record.model_dump(mode="json", include=_FEW, exclude_defaults=True)
    return {name: _as_json(value) if name == "source" else value for name, value in few.items()}


def from_payload(payload: Mapping[str, Any]) -> Record:
    """The inverse of `to_payload`; fields that a later version added are ignored."""
    try:
        scope = Scope(user=payload["user"], project=payload["project"] or None)
        # None is what a later version may write for a field that is left out here.
        known = {name: payload[name] for name in Record.model_fields if payload.get(name) is not None}
        for name in ("data", "source"):
            if name in known:
                known[name] = json.loads(known[name])
        return Record(**{**known, "scope": scope, "key": payload["key"]})
    except (KeyError, ValueError) as exc:
        raise MemoryUnavailable(
            f"A remembered {payload.get('kind', 'record')} has schema {payload.get('schema_version')}, which "
            "this version cannot read; upgrade it."
        ) from exc


def _as_json(value: JsonValue) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)
