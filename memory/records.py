"""The frozen values that memory stores and returns, their form as a Qdrant payload, and memory's errors.

A record's id follows from its scope, kind and key, so writing the same record twice changes nothing and
a retry is always safe; new content under an existing key replaces the old content.

A record may also have a position (`session`, `seq`), a time in which it holds (`valid_from`, `valid_to`), a
`source`, and a history of use. All of these are optional, so records of earlier versions remain readable.

    MemoryFault
    ├── MemoryUnavailable   the store cannot be used: the disk is full, no permission
    │   └── MemoryAway      its server cannot be used now: it is away, refuses the key, or is too old
    ├── MemoryBusy          other processes held the store for longer than the caller was ready to wait
    └── EmbeddingFailed     the embedding model returned no usable vectors

Each message says what to do. An error never means that an acknowledged record was lost. A wrong argument
raises `ValueError`.

What is not covered: forgetting by age. `kind` is open: the ones named here are those that are written.
"""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, NamedTuple, Self
from uuid import UUID, uuid5

from pydantic import BaseModel, ConfigDict, Field, JsonValue, field_validator, model_validator


class MemoryFault(Exception):
    """Base of all errors of memory; a run can continue without recall."""


class MemoryUnavailable(MemoryFault):
    """The store cannot be opened, read or written until the user fixes what the message names."""


class MemoryAway(MemoryUnavailable):
    """The server cannot be used until someone fixes what the message names; writes may wait for it."""


class RecordDamaged(MemoryUnavailable):
    """What is stored of a record is no record of any version."""


class RecordTooNew(MemoryUnavailable):
    """A later version of orch wrote the record, and this one cannot read it."""


class MemoryBusy(MemoryFault):
    """Other processes held the lock for the whole waiting time; try again."""


class EmbeddingFailed(MemoryFault):
    """An embedding model returned no usable vectors; records are still found by their words."""


TURN = "turn"
"""A message of a conversation, at its position."""
SESSION = "session"
"""A conversation as a whole."""
FACT = "fact"
"""Something learned about the user, which may stop holding."""
RUN = "run"
TOOL = "tool"
USAGE = "usage"
"""One use of a tool or a plan: the request and the result."""
CHUNK = "chunk"
"""A piece of a document, at its position."""

Trust = Literal["own", "file", "web"]
"""The origin of the content: the orchestrator itself, a file of the user, or the open web."""

At = datetime | Literal["now", "ever"]
"""The time at which records have to hold. "ever" includes those that no longer hold, or do not hold yet."""

LOCAL_USER = "local"
"""The owner of a folder's records. A folder has one owner, whatever the system calls them."""

SCHEMA_VERSION = 2

MOST_USES = 10**6
"""Further uses are not counted."""

_OPTIONAL = {
    *("session", "seq", "valid_from", "valid_to", "superseded_by"),
    *("source", "last_used", "uses", "pinned"),
}
_NAMESPACE = UUID("6f1a3c52-7c0e-5d3b-9d6a-0f5b8a2f4e11")


class Scope(BaseModel):
    """The owner of a record: a user, and a project or None if the record is not tied to one.

    A read in a scope without a project sees all records of that user. A read in a project sees the records of
    that project and those without a project. Records of other users are never visible.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    user: Annotated[str, Field(min_length=1)] = LOCAL_USER
    project: Annotated[str, Field(min_length=1)] | None = None

    @property
    def user_wide(self) -> "Scope":
        """The same user without a project."""
        return Scope(user=self.user)

    def covers(self, other: "Scope") -> bool:
        """Whether a record of scope `other` can be read and deleted from this scope."""
        if self.user != other.user:
            return False
        return self.project is None or other.project in (None, self.project)


class Position(NamedTuple):
    """A position in a conversation or document; neighbours differ by one in `seq`."""

    session: str
    seq: int


class Source(BaseModel):
    """The source of a record. `ref` names it (a path, an address, a run), `quote` cites it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    type: Literal["user", "tool", "file", "web", "model"]
    ref: str = ""
    quote: str = ""


class Record(BaseModel):
    """One thing that is remembered. `text` is what is searched, `data` what is returned."""

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
    """The conversation or document that the record is part of."""
    seq: Annotated[int, Field(ge=0, lt=2**53)] | None = None
    """Its position there."""
    valid_from: datetime | None = None
    """When it begins to hold; None if it always did."""
    valid_to: datetime | None = None
    """When it stops holding; None if it still holds."""
    superseded_by: UUID | None = None
    """The record that holds instead, from `valid_to` on."""
    source: Source | None = None
    last_used: datetime | None = None
    uses: Annotated[int, Field(ge=0, le=MOST_USES)] = 0
    pinned: bool = False
    """Whether the user wants it kept."""
    schema_version: Annotated[int, Field(ge=1, lt=2**53)] = SCHEMA_VERSION

    @property
    def id(self) -> UUID:
        return record_id(self.scope, self.kind, self.key)

    @property
    def position(self) -> Position | None:
        return None if self.session is None or self.seq is None else Position(self.session, self.seq)

    @property
    def changed(self) -> tuple[datetime, datetime]:
        """When it last changed, to compare two versions of a record."""
        return (self.last_used or self.created, self.created)

    @property
    def is_own(self) -> bool:
        """Whether it was written here, or imported as the user's own. Only such a record decides anything:
        what others wrote is data for a planner at most."""
        return self.trust == "own"

    @property
    def trusted(self) -> bool:
        """Whether it comes from the user or the orchestrator itself; files, tools and the web are
        untrusted."""
        return self.is_own and (self.source is None or self.source.type in ("user", "model"))

    def holds(self, at: datetime) -> bool:
        """Whether the record holds at that time."""
        begun = self.valid_from is None or self.valid_from <= at
        return begun and (self.valid_to is None or at < self.valid_to)

    def ended(self, at: datetime, by: UUID | None = None) -> Self:
        """A copy that stops holding at that time; `by` is the record that holds instead."""
        return self.model_copy(update={"valid_to": at.astimezone(UTC), "superseded_by": by})

    def used(self, at: datetime) -> Self:
        """A copy with one more use."""
        return self.model_copy(
            update={"uses": min(self.uses + 1, MOST_USES), "last_used": at.astimezone(UTC)}
        )

    @field_validator("created", "valid_from", "valid_to", "last_used")
    @classmethod
    def _in_utc(cls, value: datetime | None) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a time has no time zone; use datetime.now(UTC)")
        try:
            return value.astimezone(UTC)
        except (OverflowError, TypeError) as exc:
            raise ValueError("a time is not between the years 1 and 9999 in UTC") from exc

    @field_validator("key", "text", "data", "session", "source")
    @classmethod
    def _is_storable(cls, value: JsonValue | Source) -> JsonValue | Source:
        # Raises ValueError for NaN and for lone surrogates, which Python accepts and Qdrant rejects.
        _as_json([value.ref, value.quote] if isinstance(value, Source) else value).encode()
        return value

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        if self.superseded_by is not None and self.valid_to is None:
            raise ValueError("superseded_by needs valid_to, the time from which the other record holds")
        if self.seq is not None and self.session is None:
            raise ValueError("seq is a position in a session; name the session")
        return self


class Hit(BaseModel):
    """A record found by a search. Scores can be compared within one search only."""

    model_config = ConfigDict(frozen=True)

    record: Record
    score: float


def record_id(scope: Scope, kind: str, key: str) -> UUID:
    """The id of the record with this scope, kind and key, whether or not it exists."""
    # A JSON list distinguishes ("a", "b/c") from ("a/b", "c").
    return uuid5(_NAMESPACE, json.dumps([scope.user, scope.project, kind, key]))


def resolve_time(at: At) -> datetime | None:
    """`at` as a time in UTC; None for "ever"."""
    if isinstance(at, datetime):
        if at.tzinfo is None:
            raise ValueError("at has no time zone; use datetime.now(UTC)")
        return at.astimezone(UTC)
    return datetime.now(UTC) if at == "now" else None


def to_payload(record: Record) -> dict[str, Any]:
    """The record as a Qdrant payload: fields for filters are flat, `data` is JSON text.

    Text keeps `data` exactly; in a payload object, Qdrant would lose the last bit of its floats.
    """
    optional = record.model_dump(mode="json", include=_OPTIONAL, exclude_defaults=True)
    if "source" in optional:
        optional["source"] = _as_json(optional["source"])
    return {
        "kind": record.kind,
        "user": record.scope.user,
        # A missing value could not be matched by an index.
        "project": record.scope.project or "",
        "key": record.key,
        "text": record.text,
        "data": _as_json(record.data),
        "created": record.created.isoformat(),
        "trust": record.trust,
        "schema_version": record.schema_version,
        **optional,
    }


def from_payload(payload: Mapping[str, Any]) -> Record:
    """The inverse of `to_payload`; fields added by a later version are ignored."""
    try:
        scope = Scope(user=payload["user"], project=payload["project"] or None)
        # A later version may write None for a field that this one leaves out.
        known = {name: payload[name] for name in Record.model_fields if payload.get(name) is not None}
        for name in ("data", "source"):
            if name in known:
                known[name] = json.loads(known[name])
        return Record(**{**known, "scope": scope, "key": payload["key"]})
    except (KeyError, TypeError, ValueError, RecursionError) as exc:
        schema = payload.get("schema_version")
        if isinstance(schema, int) and schema > SCHEMA_VERSION:
            raise RecordTooNew(
                f"A remembered {payload.get('kind', 'record')} has schema {schema}, which this version of "
                "orch cannot read; upgrade orch."
            ) from exc
        raise RecordDamaged(
            "A remembered record cannot be read; the memory is repaired when it is next opened."
        ) from exc


def _as_json(value: JsonValue) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)
