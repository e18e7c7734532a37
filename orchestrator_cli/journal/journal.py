"""The journal of a run, and the one place where events are numbered and sent out.

A fact is numbered, written to `journal.jsonl` and fsynced, and only then shown: what a person
saw is on disk. Pieces of the answer as it streams are shown and not journaled; `RunFinished`
holds the whole. Values that would make a line long lie beside the journal, see `blobs`.

What is not covered: a journal in which a line before the last was damaged is read without it.
"""

import json
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol, runtime_checkable

from orchestrator_cli.durable.files import append, is_torn, make_folders, read_records, sync_folder
from orchestrator_cli.errors import RunFailed
from orchestrator_cli.events import AgentStepped, AnswerDelta, Event, Fact, Spent, SubtaskStarted
from orchestrator_cli.journal.blobs import LARGE, BlobMissing, Blobs
from orchestrator_cli.state import RunState, apply

PASSING = (SubtaskStarted, AgentStepped, Spent)
"""Facts on which nothing is built before the next one, which brings them to the disk with it."""


class View(Protocol):
    def __call__(self, event: Event, state: RunState) -> None:
        """Show an event; `state` is the run right after it."""

    def close(self) -> None: ...


@runtime_checkable
class CatchesUp(Protocol):
    """A view that has to know what came before, when a run goes on in another process."""

    def catch_up(self, found: Sequence[Event]) -> None:
        """Told once, before any new event: all that the journal holds."""


@dataclass
class _Written:
    """An event that is in the journal's file, and maybe not on the disk yet."""

    event: Event
    state: RunState
    shown: bool = False


class EventStream:
    """Takes facts from any thread, keeps the run's state, and hands events to the views in order.

    Threads that emit at the same time share one fsync: whoever comes first writes through and shows
    what has gathered meanwhile, and the others find their events shown. Nobody waits for that with a
    fact that is `PASSING`. Views are called under a lock. A view or journal that cannot write ends the
    run with `RunFailed`, because a run that nobody can review must not go on.
    """

    def __init__(
        self,
        run: str,
        journal: Path,
        views: Iterable[View],
        *,
        state: RunState = RunState(),  # noqa: B008 - it is frozen
        mask: Callable[[Fact], Fact] = lambda fact: fact,
    ) -> None:
        """
        Args:
            state: the run after the events that the journal holds already.
            mask: takes the secrets of the run out of a fact.
        """
        self.run = run
        self._state = state
        self._views = tuple(views)
        self._mask = mask
        self._writing = threading.Lock()
        self._showing = threading.RLock()
        """Taken before `_writing` where both are."""
        self._unshown: deque[_Written] = deque()
        # What a later version has written and this one passes over has its numbers too.
        self._seq = max(state.last, _last_number(journal))
        self._blobs = blobs_of(journal)
        make_folders(journal.parent, 0o700)
        new = not journal.exists()
        self._file = journal.open("a+b", buffering=0)
        if new:
            sync_folder(journal.parent)
        if is_torn(self._file.fileno()):
            self._file.write(b"\n")

    @property
    def state(self) -> RunState:
        """The run after the newest event. Frozen, so it can be read without a lock."""
        return self._state

    def emit(self, fact: Fact) -> None:
        """Number, journal, apply and show one fact. Raises `RunFailed` if it cannot be written."""
        self.decide(lambda _: fact)

    def decide(self, choose: Callable[[RunState], Fact | None]) -> bool:
        """Emit what `choose` makes of the state of this very moment, before any other event.

        Returns whether there was an event: None is none. Raises what `choose` raises, and then nothing
        has happened.
        """
        try:
            written = self._write(choose)
            if written is None:
                return False
            fact = written.event.data
            if not isinstance(fact, PASSING):
                with self._showing:
                    if not written.shown:
                        self._show()
            # Also what has come meanwhile from those that do not wait.
            while self._unshown and self._showing.acquire(blocking=False):
                try:
                    self._show()
                finally:
                    self._showing.release()
            return True
        except OSError as exc:
            raise RunFailed(
                f"The record of the run cannot be written: {exc}",
                "Free some disk space or mend the permissions; the workspace holds what was finished.",
            ) from exc

    def close(self) -> None:
        with self._showing, self._writing:
            self._file.close()
            for view in self._views:
                view.close()

    def _write(self, choose: Callable[[RunState], Fact | None]) -> _Written | None:
        with self._writing:
            chosen = choose(self._state)
            if chosen is None:
                return None
            fact = self._mask(chosen)
            event = Event(run=self.run, seq=self._seq + 1, time=datetime.now(UTC), data=fact)
            if not isinstance(fact, AnswerDelta):
                self._append(event)
            self._state = apply(self._state, event)
            written = _Written(event, self._state)
            self._unshown.append(written)
            return written

    def _append(self, event: Event) -> None:
        line = event.json_line()
        if len(line) > LARGE:
            row = self._blobs.take_out(json.loads(line))
            line = json.dumps(row, ensure_ascii=False, separators=(",", ":"))
        # Brought to the disk when it is shown, with the others that were written meanwhile.
        append(self._file.fileno(), line.encode() + b"\n", sync=False)
        self._seq = event.seq

    def _show(self) -> None:
        """Bring what was written to the disk, and show it in order."""
        with self._writing:
            gathered = self._unshown
            self._unshown = deque()
        try:
            if any(not isinstance(one.event.data, AnswerDelta) for one in gathered):
                os.fsync(self._file.fileno())
            while gathered:
                one = gathered.popleft()
                one.shown = True
                for view in self._views:
                    view(one.event, one.state)
        finally:
            # After a fault the others, which wait for theirs, try it themselves.
            with self._writing:
                self._unshown.extendleft(reversed(gathered))


def _last_number(journal: Path) -> int:
    if not journal.exists():
        return 0
    return max(read_records(journal, lambda line: int(json.loads(line)["seq"])), default=0)


def read_journal(path: Path) -> Iterator[Event]:
    """The events of a journal; a torn last line and what only a later version knows are passed over.

    Raises `RunFailed` where a value that lies beside the journal is gone or damaged.
    """
    blobs = blobs_of(path)

    def parse(line: bytes) -> Event:
        if LARGE_MARK in line:
            return Event.model_validate(blobs.put_back(json.loads(line)), extra="ignore")
        return Event.model_validate_json(line, extra="ignore")

    try:
        yield from read_records(path, parse)
    except BlobMissing as exc:
        raise RunFailed(f"{exc}.", "Put it back from a copy; without it the run cannot be read.") from exc


LARGE_MARK = b',"large":['


def blobs_of(journal: Path) -> Blobs:
    return Blobs(journal.with_name("blobs"))


Emit = Callable[[Fact], None]
