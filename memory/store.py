"""The interface of memory, independent of the engine behind it.

Contract, checked by the same test suite for every engine:

- `add` is durable when it returns: the records survive a `kill -9` of any process. Repeating it changes
  nothing; new content under an existing key replaces the old content.
- Every read and delete has a scope (see `Scope`), and sees everything acknowledged before it began, by any
  process.
- A read returns the records that hold at the time `at`, by default now; `at="ever"` returns all. A delete
  includes records that no longer hold.
- A deleted record does not reappear in any read.
- A record that cannot be read is skipped by every read, and the first one is named in a warning; it can be
  deleted by its id.
- `search` by a dense vector finds the nearest of the records that have a vector of that name and size;
  nothing if there are none. The store never makes such vectors.
- `kinds` is one kind, several, or `()` for all; `session` limits the read to one conversation or document.
- Any method may raise `MemoryBusy` or `MemoryUnavailable`.

Operations that belong together share one turn in an `opened()` block:

    with store.opened() as memory:
        hits = memory.search(Query(...))
        memory.add([...])

Other processes wait meanwhile, so the block must not do anything slow, such as asking a model. In the block,
an `add` is durable when it returns, as always; deleted text is erased from the disk when the block ends. If
the turn cannot be had, `MemoryBusy` is raised before the block begins.

What is not covered: filters on `data`, and forgetting by age.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol
from uuid import UUID

from memory.embedder import DenseVector
from memory.records import (
    At,
    EmbeddingFailed,
    Hit,
    MemoryUnavailable,
    Position,
    Record,
    RecordDamaged,
    Scope,
    from_payload,
    resolve_time,
)


@dataclass(frozen=True, kw_only=True)
class Query:
    """A search, and the records to search in."""

    what: str | DenseVector = field(kw_only=False)
    """A text finds records that share words with it; a vector finds the nearest records."""
    kinds: str | Collection[str]
    scope: Scope
    limit: int = 10
    """The maximum number of hits; none if below 1."""
    at: At = "now"
    session: str | None = None


class Memory(Protocol):
    """Records that can be read and written, also within a turn."""

    def add(self, records: Iterable[Record]) -> None:
        """Store the records; durable on return."""
        ...

    def search(self, query: Query) -> list[Hit]:
        """The hits, best first.

        A score is the weight of the shared words, or the cosine, from -1 to 1.
        """
        ...

    def get(self, ids: Iterable[UUID], scope: Scope, *, at: At = "now") -> list[Record]:
        """The records with these ids, in the given order, without missing ones and those out of scope."""
        ...

    def at_positions(
        self, positions: Iterable[Position], *, kinds: str | Collection[str], scope: Scope, at: At = "now"
    ) -> list[Record]:
        """The records at these positions, sorted by position; for the neighbours of a record."""
        ...

    def all(
        self, kinds: str | Collection[str], scope: Scope, *, at: At = "now", session: str | None = None
    ) -> list[Record]:
        """All records of the kinds, newest first."""
        ...

    def delete(self, ids: Iterable[UUID], scope: Scope) -> int:
        """Delete the records with these ids that are in the scope; returns how many there were."""
        ...

    def count(
        self, kinds: str | Collection[str], scope: Scope, *, at: At = "now", session: str | None = None
    ) -> int: ...

    def opened(self) -> AbstractContextManager["Memory"]:
        """Share one turn between several operations, see above; within a turn, this is the same turn."""
        ...


class MemoryStore(Memory, Protocol):
    """A store as its owner sees it; it must be closed."""

    def scan(self) -> list[Record]:
        """All records of all scopes, whether they hold or not, to move or examine them."""
        ...

    def missing_vectors(
        self, name: str, kinds: str | Collection[str], scope: Scope, *, limit: int | None = None
    ) -> list[Record]:
        """Records without a dense vector of that name, whether they hold or not."""
        ...

    def put_vectors(self, vectors: Iterable[tuple[Record, DenseVector]]) -> int:
        """Store dense vectors of these records, all of one name; returns how many were stored.

        A record that was deleted, or whose text has changed, is skipped. A vector stays until the text of
        its record changes. Raises `EmbeddingFailed` if existing vectors of that name have another size.
        """
        ...

    def vectors(self) -> dict[str, int]:
        """How many records of all scopes have a dense vector, by the vector's name."""
        ...

    def drop_vectors(self, name: str, scope: Scope) -> None:
        """Delete the dense vectors of that name of the scope's user. In a folder, which has one owner, these
        are all of them."""
        ...

    def close(self) -> None:
        """Release all resources; the store cannot be used afterwards."""
        ...


def check_size(name: str, known: int | None, size: int) -> bool:
    """Whether there are vectors of that name, which have `known` dimensions.

    Raises `EmbeddingFailed` if new ones would have another size.
    """
    if known not in (None, size):
        raise EmbeddingFailed(
            f"its stored vectors have {known} dimensions and its new ones {size}, so the name now means "
            f"another model; make all of them again with orch memory embed --anew ({name})."
        )
    return known is not None


class PayloadReader:
    """Reads payloads, and skips those that cannot be read; `warn` receives the id of the first one."""

    def __init__(self, warn: Callable[[str], None], on_damage: Callable[[], None] | None = None) -> None:
        """`on_damage` is called instead of `warn` for a record that is damaged."""
        self._warn, self._on_damage = warn, on_damage
        self._has_warned = False

    def read(self, ident: object, payload: Mapping[str, Any] | None) -> Record | None:
        try:
            return from_payload(payload or {})
        except MemoryUnavailable as exc:
            if isinstance(exc, RecordDamaged) and self._on_damage is not None:
                self._on_damage()
            elif not self._has_warned:
                self._has_warned = True
                self._warn(
                    f"Record {ident} is skipped, as are all that cannot be read: {exc} "
                    f"To delete it: orch memory forget {ident}"
                )
            return None


def owner_of(payload: Mapping[str, Any] | None) -> Scope | None:
    """The scope in a payload, also if the rest of it cannot be read; None if it has none."""
    user, project = ((payload or {}).get(name) for name in ("user", "project"))
    try:
        return Scope(user=user, project=project or None) if isinstance(user, str) else None
    except ValueError:
        return None


def in_order(records: Iterable[Record], ids: Iterable[UUID], scope: Scope, at: At) -> list[Record]:
    """Those of the records that hold and can be read from the scope, in the order of `ids`."""
    found, time = {record.id: record for record in records}, resolve_time(at)
    chosen = (found[id_] for id_ in ids if id_ in found)
    return [r for r in chosen if scope.covers(r.scope) and (time is None or r.holds(time))]


def as_kinds(kinds: str | Collection[str]) -> list[str]:
    """A list of kinds; a single string is one kind."""
    return [kinds] if isinstance(kinds, str) else list(kinds)


def newest_first(records: Iterable[Record]) -> list[Record]:
    return sorted(records, key=lambda record: (record.created, record.id), reverse=True)


def by_position(records: Iterable[Record]) -> list[Record]:
    return sorted(records, key=lambda record: (record.position or Position("", 0), record.created, record.id))
