"""The one interface to memory, whatever engine is behind it.

Contract, checked by the same test suite for every engine:

- `add` is durable when it returns: after `kill -9` of any process the records are there. Repeating it
  changes nothing; a later content under the same key replaces the earlier one.
- Every read and every delete carries a scope (see `Scope`), and sees all that was acknowledged before it
  began, by whichever process.
- A read brings what holds at the time `at`, which is now unless it is said; `at="ever"` brings all. A
  delete reaches what has ceased to hold as well.
- A deleted record does not come back in any read.
- `search` by a dense vector finds those nearest to it of the records that have a vector of that name and
  size; nothing if none has one. The store never makes such vectors.
- `kinds` is one kind, several, or `()` for all; `session` keeps to the parts of one conversation or document.
- Any method may raise `MemoryBusy` or `MemoryUnavailable`.

Several operations that belong together are done within `opened()`, which takes its turn once for all:

    with store.opened() as memory:
        hits = memory.search(Query(...))
        memory.add([...])

Others wait meanwhile, so nothing slow is done in there: no model is asked, nobody is waited for. An `add`
within is durable when it returns, like any; what a `delete` within has taken out is gone from the disk when
the block is left. A fault while turning up, `MemoryBusy` say, is raised before the block begins.

What is not covered: filters on what the kinds keep in `data`, and forgetting by age.
"""

from collections.abc import Collection, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Protocol
from uuid import UUID

from memory.embedder import DenseVector
from memory.records import At, Hit, Place, Record, Scope


@dataclass(frozen=True, kw_only=True)
class Query:
    """What is searched for, and among which records."""

    what: str | DenseVector = field(kw_only=False)
    """A text finds records that share words with it; a vector, those nearest to it."""
    kinds: str | Collection[str]
    scope: Scope
    limit: int = 10
    """The most that is found; none if below 1."""
    at: At = "now"
    session: str | None = None


class Memory(Protocol):
    """What can be read and written."""

    def add(self, records: Iterable[Record]) -> None:
        """Keep the records; durable on return."""
        ...

    def search(self, query: Query) -> list[Hit]:
        """What the query finds, best first.

        A score is the weight of the words in common, or the cosine, from -1 to 1.
        """
        ...

    def get(self, ids: Iterable[UUID], scope: Scope, *, at: At = "now") -> list[Record]:
        """The records with these ids, in the order asked, leaving out what is absent or out of scope."""
        ...

    def placed(
        self, places: Iterable[Place], *, kinds: str | Collection[str], scope: Scope, at: At = "now"
    ) -> list[Record]:
        """The records at these places, in the order of their places; neighbours are found this way."""
        ...

    def all(
        self, kinds: str | Collection[str], scope: Scope, *, at: At = "now", session: str | None = None
    ) -> list[Record]:
        """Every record, newest first."""
        ...

    def delete(self, ids: Iterable[UUID], scope: Scope) -> int:
        """Delete the records with these ids that lie within the scope; how many there were."""
        ...

    def count(
        self, kinds: str | Collection[str], scope: Scope, *, at: At = "now", session: str | None = None
    ) -> int:
        """How many records there are."""
        ...

    def opened(self) -> AbstractContextManager["Memory"]:
        """Do several things in one turn, see above; within a turn, the same one."""
        ...


class MemoryStore(Memory, Protocol):
    """Memory that somebody has to close."""

    def every(self) -> list[Record]:
        """Each record of every scope, valid or not: for whoever owns the store and moves or examines it."""
        ...

    def lacking(
        self, name: str, kinds: str | Collection[str], scope: Scope, *, limit: int | None = None
    ) -> list[Record]:
        """Records without a dense vector of that name, whether they hold or not."""
        ...

    def attach(self, made: Iterable[tuple[Record, DenseVector]]) -> int:
        """Keep dense vectors of these records, all of one name; how many.

        A record that has gone, or says something else by now, is passed over. A vector stays until the
        text of its record changes. Raises `EmbeddingFailed` where those of that name have another size.
        """
        ...

    def vectors(self) -> dict[str, int]:
        """The names of the dense vectors there are, and how many records of all scopes have each."""
        ...

    def drop(self, name: str) -> None:
        """Take out all dense vectors of that name."""
        ...

    def close(self) -> None:
        """Give back what is held; the store is not used afterwards."""
        ...


def other_size(name: str, known: int | None, size: int) -> str:
    """What is said of vectors that do not fit those of the same name."""
    return (
        f"its vectors in memory have {known} numbers and new ones {size}, so another model answers to its "
        f"name; make all of them anew with orch memory embed --anew ({name})."
    )


def as_kinds(kinds: str | Collection[str]) -> list[str]:
    """`"run"` and `("run",)` mean the same; a bare string is not taken as letters."""
    return [kinds] if isinstance(kinds, str) else list(kinds)


def newest_first(records: Iterable[Record]) -> list[Record]:
    return sorted(records, key=lambda record: (record.created, record.id), reverse=True)


def by_place(records: Iterable[Record]) -> list[Record]:
    return sorted(records, key=lambda record: (record.place or Place("", 0), record.created, record.id))
