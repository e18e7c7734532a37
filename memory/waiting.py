"""A store on a server that may be away: what is written meanwhile waits in files, and is sent later in order.

Before each operation, what waits is sent, oldest first and by one process at a time, so a read sees every
write that this machine has acknowledged. While the server cannot be used, a read raises `MemoryAway` and a
write goes to the outbox, which is durable. After a failure the server is not asked again for a second, then
for two, up to a minute, so that a run with many look-ups does not wait for each of them.

A write that waited changes nothing if the server has a newer version of the record by then (see
`Record.changed`), nor if it was sent before and its process was killed. What the server refuses for its
content is put aside, so that it does not hold up the rest.

What is not covered: deletes and vectors, which do not wait; writes that follow from what is read (facts that
contradict each other, positions in a conversation), which their callers have to do later; clocks of two
machines that differ by more than the time between two writes of the same record.
"""

import re
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit
from uuid import UUID

from memory.embedder import DenseVector
from memory.outbox import Outbox, exclusive
from memory.records import At, Hit, MemoryAway, MemoryBusy, MemoryUnavailable, Position, Record, Scope
from memory.store import MemoryStore, Query

MAX_WAITING_BYTES = 64 * 2**20
_FIRST_PAUSE_S = 1.0
_LONGEST_PAUSE_S = 60.0
_SENDING_WAIT_S = 10.0
_WRITE_WAIT_S = 0.05


class WaitingStore:
    """A `MemoryStore` in front of `server`, whose writes can wait in `outbox`.

    `warn` receives what could not be sent for good, and that a write waits if no read has failed before.
    """

    def __init__(self, server: MemoryStore, outbox: Outbox, warn: Callable[[str], None]) -> None:
        self._server, self._outbox, self._warn = server, outbox, warn
        self._fault: MemoryAway | None = None
        self._ask_again = 0.0
        self._pause_s = _FIRST_PAUSE_S
        self._is_reported = False

    def add(self, records: Iterable[Record]) -> None:
        batch = list(records)
        if not batch:
            return
        try:
            self._send_waiting(_WRITE_WAIT_S)
            with self._asked():
                self._server.add(batch)
        except (MemoryAway, MemoryBusy) as exc:
            self._outbox.put(batch)
            if not self._is_reported and isinstance(exc, MemoryAway):
                self._is_reported = True
                self._warn(f"{self._fault} What is to be remembered waits in {self._outbox.folder}.")

    @contextmanager
    def opened(self) -> Iterator[Self]:
        """Does not wait: the server handles each operation by itself."""
        with self._read():
            pass
        yield self

    def search(self, query: Query) -> list[Hit]:
        with self._read() as server:
            return server.search(query)

    def get(self, ids: Iterable[UUID], scope: Scope, *, at: At = "now") -> list[Record]:
        with self._read() as server:
            return server.get(ids, scope, at=at)

    def at_positions(
        self, positions: Iterable[Position], *, kinds: str | Collection[str], scope: Scope, at: At = "now"
    ) -> list[Record]:
        with self._read() as server:
            return server.at_positions(positions, kinds=kinds, scope=scope, at=at)

    def all(
        self, kinds: str | Collection[str], scope: Scope, *, at: At = "now", session: str | None = None
    ) -> list[Record]:
        with self._read() as server:
            return server.all(kinds, scope, at=at, session=session)

    def delete(self, ids: Iterable[UUID], scope: Scope) -> int:
        # What waits is sent first: a deleted record would come back with it.
        with self._read() as server:
            return server.delete(ids, scope)

    def count(
        self, kinds: str | Collection[str], scope: Scope, *, at: At = "now", session: str | None = None
    ) -> int:
        with self._read() as server:
            return server.count(kinds, scope, at=at, session=session)

    def scan(self) -> list[Record]:
        with self._read() as server:
            return server.scan()

    def missing_vectors(
        self, name: str, kinds: str | Collection[str], scope: Scope, *, limit: int | None = None
    ) -> list[Record]:
        with self._read() as server:
            return server.missing_vectors(name, kinds, scope, limit=limit)

    def put_vectors(self, vectors: Iterable[tuple[Record, DenseVector]]) -> int:
        with self._read() as server:
            return server.put_vectors(vectors)

    def vectors(self) -> dict[str, int]:
        with self._read() as server:
            return server.vectors()

    def drop_vectors(self, name: str, scope: Scope) -> None:
        with self._read() as server:
            server.drop_vectors(name, scope)

    def close(self) -> None:
        self._server.close()

    # --- asking the server

    @contextmanager
    def _read(self) -> Iterator[MemoryStore]:
        try:
            self._send_waiting(_SENDING_WAIT_S)
            with self._asked():
                yield self._server
        except MemoryAway as exc:
            self._is_reported = True
            waiting = len(self._outbox.pending())
            writes = "1 write waits" if waiting == 1 else f"{waiting:,} writes wait"
            said = f"{exc} {writes} in {self._outbox.folder}." if waiting else str(exc)
            raise MemoryAway(said) from exc

    @contextmanager
    def _asked(self) -> Iterator[None]:
        """Ask the server, unless it failed a moment ago: then raise the same fault."""
        if self._fault is not None and time.monotonic() < self._ask_again:
            raise self._fault
        try:
            yield
        except MemoryAway as exc:
            self._fault, self._ask_again = exc, time.monotonic() + self._pause_s
            self._pause_s = min(2 * self._pause_s, _LONGEST_PAUSE_S)
            raise
        self._fault, self._pause_s = None, _FIRST_PAUSE_S

    # --- sending what waits

    def _send_waiting(self, wait_s: float) -> None:
        """Send what waits. Raises `MemoryAway`, and `MemoryBusy` if another process sends for too long."""
        if not self._outbox.pending():
            return
        with exclusive(self._outbox.folder / ".sending", wait_s=wait_s):
            # What others put meanwhile is for the next turn, so that no one sends for all and keeps it.
            for batch in self._outbox.pending():
                self._send(batch)

    def _send(self, batch: Path) -> None:
        records = self._outbox.read(batch)
        try:
            with self._asked():
                self._server.add(self._not_older(records))
        except (MemoryAway, MemoryBusy):
            raise
        except MemoryUnavailable as exc:
            aside = self._outbox.set_aside(batch)
            self._warn(f"{exc} A write that waited was put aside: {aside}")
        else:
            self._outbox.discard([batch])

    def _not_older(self, records: list[Record]) -> list[Record]:
        """Those of which the server has no newer version."""
        there: dict[UUID, Record] = {}
        for user in {record.scope.user for record in records}:
            ids = [record.id for record in records if record.scope.user == user]
            there |= {found.id: found for found in self._server.get(ids, Scope(user=user), at="ever")}
        return [r for r in records if r.id not in there or there[r.id].changed <= r.changed]


def outbox_for(folder: Path, url: str, warn: Callable[[str], None]) -> Outbox:
    """The outbox of the server at `url`, in a folder for those of all servers."""
    host = re.sub(r"[^\w.-]", "-", urlsplit(url).netloc)
    return Outbox(
        folder / f"{host}-{sha256(url.encode()).hexdigest()[:8]}", warn, max_bytes=MAX_WAITING_BYTES
    )


def count_waiting(folder: Path) -> dict[Path, int]:
    """How many writes wait in each of the outboxes of all servers that holds some."""
    counts = {place: len(list(place.glob("*.json"))) for place in sorted(folder.glob("*"))}
    return {place: count for place, count in counts.items() if count}
