"""The one interface to memory, whatever engine is behind it.

Contract, checked by the same test suite for every engine:

- `add` is durable when it returns: after `kill -9` of any process the records are there. Repeating it
  changes nothing; a later content under the same key replaces the earlier one.
- Every read and every delete carries a scope (see `Scope`), and sees all that was acknowledged before it
  began, by whichever process.
- A deleted record does not come back in any read.
- `kinds` is one kind, several, or `()` for all.
- Any method may raise `MemoryBusy` or `MemoryUnavailable`.

What is not covered: dense vectors, filters on the payload, and forgetting by age.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Protocol
from uuid import UUID

from .records import Hit, Record, Scope


class MemoryStore(Protocol):
    def add(self, records: Iterable[Record]) -> None:
        """Keep the records; durable on return."""
        ...

    def search(self, query: str, *, kinds: str | Collection[str], scope: Scope, limit: int = 10) -> list[Hit]:
        """Records that share words with the query, best first, at most `limit`."""
        ...

    def get(self, ids: Iterable[UUID], scope: Scope) -> list[Record]:
        """The records with these ids, in the order asked, leaving out what is absent or out of scope."""
        ...

    def all(self, kinds: str | Collection[str], scope: Scope) -> list[Record]:
        """Every record, newest first."""
        ...

    def delete(self, ids: Iterable[UUID], scope: Scope) -> int:
        """Delete the records with these ids that lie within the scope; how many there were."""
        ...

    def count(self, kinds: str | Collection[str], scope: Scope) -> int:
        """How many records there are."""
        ...

    def close(self) -> None:
        """Give back what is held; the store is not used afterwards."""
        ...


def as_kinds(kinds: str | Collection[str]) -> list[str]:
    """`"run"` and `("run",)` mean the same; a bare string is not taken as letters."""
    return [kinds] if isinstance(kinds, str) else list(kinds)


def newest_first(records: Iterable[Record]) -> list[Record]:
    return sorted(records, key=lambda record: (record.created, record.id), reverse=True)
