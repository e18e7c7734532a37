"""The frozen values that memory keeps and gives back, and their form as a Qdrant payload.

A record's id follows from its scope, kind and key, so writing the same thing twice changes nothing and
a retry is always safe; writing a new content under an old key replaces the old content.

What is not covered: the only kinds written so far are "run" and "tool". `kind` is open: turns, facts,
documents and the like can be added without a change here. Validity periods and forgetting by age are
not modelled yet.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Final, Literal
from uuid import UUID, uuid5

from pydantic import BaseModel, ConfigDict, Field, JsonValue, field_validator

from .errors import MemoryUnavailable

RUN: Final = "run"
TOOL: Final = "tool"

Trust = Literal["own", "file", "web"]
"""Where the content came from: the orchestrator itself, a file of the user, or the open web."""

SCHEMA_VERSION: Final = 1

_NAMESPACE: Final = UUID("6f1a3c52-7c0e-5d3b-9d6a-0f5b8a2f4e11")


class Scope(BaseModel):
    """Whose memory it is. `project=None` means the user's own, tied to no project.

    Reading in a scope without a project sees all of that user's records; reading in a project sees that
    project's records and those tied to none. Another user's records are never seen.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    user: Annotated[str, Field(min_length=1)] = "local"
    project: Annotated[str, Field(min_length=1)] | None = None

    def covers(self, other: Scope) -> bool:
        """Whether a record of scope `other` may be read and deleted from here."""
        if self.user != other.user:
            return False
        return self.project is None or other.project in (None, self.project)


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
    schema_version: int = SCHEMA_VERSION

    @property
    def id(self) -> UUID:
        return record_id(self.scope, self.kind, self.key)

    @field_validator("created")
    @classmethod
    def _in_utc(cls, value: datetime) -> datetime:
        if value.tzinfo is None:
            raise ValueError("created has no time zone; use datetime.now(UTC)")
        return value.astimezone(UTC)

    @field_validator("key", "text", "data")
    @classmethod
    def _is_storable(cls, value: JsonValue) -> JsonValue:
        # Raises ValueError for NaN and for lone surrogates, which Python lets through and Qdrant refuses.
        _as_json(value).encode()
        return value


class Hit(BaseModel):
    """A record found by a search. `score` ranks within one search; two searches cannot be compared by it."""

    model_config = ConfigDict(frozen=True)

    record: Record
    score: float


def record_id(scope: Scope, kind: str, key: str) -> UUID:
    """The id a record with this scope, kind and key has, whether or not it exists."""
    # A JSON list keeps ("a", "b/c") apart from ("a/b", "c").
    return uuid5(_NAMESPACE, json.dumps([scope.user, scope.project, kind, key]))


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
    }


def from_payload(payload: Mapping[str, Any]) -> Record:
    """The inverse of `to_payload`; fields that a later version added are ignored."""
    try:
        scope = Scope(user=payload["user"], project=payload["project"] or None)
        known = {name: payload[name] for name in Record.model_fields if name in payload}
        return Record(**{**known, "scope": scope, "data": json.loads(payload["data"])})
    except (KeyError, ValueError) as exc:
        raise MemoryUnavailable(
            f"A remembered {payload.get('kind', 'record')} has schema {payload.get('schema_version')}, which "
            "this version cannot read; upgrade it."
        ) from exc


def _as_json(value: JsonValue) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)
