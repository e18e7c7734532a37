"""The journal of a run, its lock, and the one place where events are numbered and sent to the views.

A fact is numbered, written to `journal.jsonl` and fsynced, and only then shown: what a person saw is on disk.
Those that are `UNWRITTEN` are only shown.

Values that would make a line long are stored next to the journal, by the hash of their content:

    runs/RUN/blobs/SHA256        a text as it is, any other value as indented JSON

In the line of its event, a text with the file's name replaces the value, and `large` lists the replaced
places, so that no value can be mistaken for a reference. Contents are on the disk before the line.

The process that executes a run holds the run's lock until it ends. The system releases the lock of a dead
process, so an unfinished run without a lock has died.

A line that cannot be read is skipped; `damage` names those that held an event. A journal of a later schema is
refused. Not covered: file systems without locks between machines.
"""

import contextlib
import hashlib
import json
import os
import re
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from orchestrator_cli import __version__
from orchestrator_cli.durable.files import (
    append,
    is_torn,
    make_folders,
    naming,
    read_records,
    read_regular,
    read_whole,
    sync,
    sync_folder,
    write_atomic,
)
from orchestrator_cli.durable.locks import LockTimeout, LockUnsupported, acquire, try_lock
from orchestrator_cli.errors import RecoverableError, RunFailed, StorageFault, UsageError, storage_faults
from orchestrator_cli.events import (
    SCHEMA,
    UNWRITTEN,
    AgentStepped,
    Event,
    Fact,
    ModelAsked,
    Spent,
    SubtaskStarted,
)
from orchestrator_cli.state import RunState, apply

_DIGEST = re.compile(r"[0-9a-f]{64}")
_A_SCHEMA = re.compile(rb'"schema": ?(\d{1,9})')
KINDS = frozenset(kind.__name__ for kind in Fact.__subclasses__())
LARGE = 64 << 10
"""A value of more bytes as JSON is stored apart."""

LARGE_MARK = b',"large":['
PASSING = (SubtaskStarted, AgentStepped, ModelAsked, Spent)
"""Facts that need no fsync of their own: nothing depends on them before the next one is on disk."""

Emit = Callable[[Fact], None]


class EventView(Protocol):
    """Receives every event of a run, in order."""

    def __call__(self, event: Event, state: RunState) -> None:
        """Show an event; `state` is the run right after it."""

    def close(self) -> None: ...


@runtime_checkable
class CatchesUp(Protocol):
    """A view that needs the earlier events if a run is resumed in another process."""

    def catch_up(self, found: Sequence[Event]) -> None:
        """Called once, before any new event, with all events of the journal."""


@dataclass
class _Written:
    """An event in the journal's file, perhaps not on the disk yet."""

    event: Event
    state: RunState
    shown: bool = False


class EventStream:
    """Takes facts from any thread, keeps the run's state, and hands events to the views in order.

    Threads that emit at the same time share one fsync: the first syncs and shows all pending events,
    and the others find theirs shown. A `PASSING` fact is not waited for. Views are called under a
    lock. A view or journal that cannot write ends the run, because a run that cannot be reviewed must not
    continue: with `StorageFault` for an error of the system.
    """

    def __init__(
        self,
        run: str,
        journal: Path,
        views: Iterable[EventView],
        *,
        state: RunState = RunState(),  # noqa: B008 - it is frozen
        redact: Callable[[Fact], Fact] = lambda fact: fact,
        check: Callable[[], None] = lambda: None,
    ) -> None:
        """
        Args:
            state: the run after the events that the journal already holds.
            redact: removes the run's secrets from a fact.
            check: raises if nothing may be written any more.
        """
        self.run = run
        self.path = journal
        self._state = state
        self._views = tuple(views)
        self._redact, self.check = redact, check
        self._writing = threading.Lock()
        self._showing = threading.RLock()
        """Acquired before `_writing` if both are needed."""
        self._unshown: deque[_Written] = deque()
        # Events of a later version, which this one skips, have numbers too.
        written = read_records(journal, lambda line: int(_parsed(line)["seq"])) if journal.exists() else ()
        self._seq = max((state.last, *written))
        self.blobs = blobs_of(journal)
        make_folders(journal.parent, 0o700)
        new = not journal.exists()
        self._file = journal.open("a+b", buffering=0)
        if new:
            sync_folder(journal.parent)
        if is_torn(self._file.fileno()):
            append(self._file.fileno(), b"\n", sync=False)

    @property
    def state(self) -> RunState:
        """The run after the newest event. Frozen, so it can be read without a lock."""
        return self._state

    def emit(self, fact: Fact) -> None:
        """Number, journal, apply and show one fact. Raises as `decide` does."""
        self.decide(lambda _: fact)

    def decide(self, choose: Callable[[RunState], Fact | None]) -> bool:
        """Emit the fact that `choose` makes of the current state, before any other event.

        Returns whether there was one: `choose` may return None. If `choose` raises, nothing happens.
        Raises `StorageFault` if it cannot be written, and what views raise.
        """
        try:
            with storage_faults():
                return self._decide(choose)
        except OSError as exc:
            raise StorageFault.of(exc) from exc

    def _decide(self, choose: Callable[[RunState], Fact | None]) -> bool:
        written = self._write(choose)
        if written is None:
            return False
        fact = written.event.data
        if not isinstance(fact, PASSING):
            with self._showing:
                if not written.shown:
                    self._show()
        # Also show the events of threads that do not wait.
        while self._unshown and self._showing.acquire(blocking=False):
            try:
                self._show()
            finally:
                self._showing.release()
        return True

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
            self.check()
            fact = self._redact(chosen)
            event = Event(run=self.run, seq=self._seq + 1, time=datetime.now(UTC), data=fact)
            if not isinstance(fact, UNWRITTEN):
                self._append(event)
            self._state = apply(self._state, event)
            written = _Written(event, self._state)
            self._unshown.append(written)
            return written

    def _append(self, event: Event) -> None:
        line = event.json_line()
        if len(line) > LARGE:
            row = self.blobs.take_out(json.loads(line))
            line = json.dumps(row, ensure_ascii=False, separators=(",", ":"))
        # Synced when it is shown, with the others written meanwhile.
        append(self._file.fileno(), line.encode() + b"\n", sync=False)
        self._seq = event.seq

    def _show(self) -> None:
        """Sync the written events to the disk, and show them in order."""
        with self._writing:
            pending = self._unshown
            self._unshown = deque()
        try:
            if any(not isinstance(one.event.data, UNWRITTEN) for one in pending):
                sync(self._file.fileno())
            while pending:
                one = pending.popleft()
                one.shown = True
                for view in self._views:
                    view(one.event, one.state)
        finally:
            # After an error, the threads that wait for their events try it themselves.
            with self._writing:
                self._unshown.extendleft(reversed(pending))


def read_journal(path: Path) -> Iterator[Event]:
    """The events of a journal, without lines that cannot be read and events unknown to this version.

    Raises `RunFailed` if a value stored next to the journal is missing or damaged, and `JournalTooNew`.
    """
    _check_schema(path)
    try:
        yield from read_records(path, partial(event_of, blobs_of(path)))
    except BlobMissing as exc:
        raise RunFailed(f"{exc}.", "Restore it from a copy; without it the run cannot be read.") from exc


def event_of(blobs: "Blobs", line: bytes) -> Event:
    """The event in a line of a journal. Raises `ValueError` and `BlobMissing`."""
    if LARGE_MARK in line:
        return Event.model_validate(blobs.put_back(_parsed(line)), extra="ignore")
    return Event.model_validate_json(line, extra="ignore")


class JournalTooNew(RunFailed):
    """A later version of `orch` has changed the meaning of what the journal holds."""


def _check_schema(path: Path) -> None:
    # Quick, and wrong only about values that look the same.
    if all(int(number) <= SCHEMA for number in _A_SCHEMA.findall(read_whole(path))):
        return
    rows = [row for _, row in _rows(path)]
    newest = max((schema for row in rows if isinstance(schema := row.get("schema"), int)), default=SCHEMA)
    if newest > SCHEMA:
        said = [row["data"].get("version") for row in rows if isinstance(row.get("data"), dict)]
        writer = next((f"orch {version}" for version in reversed(said) if version), "a later version of orch")
        raise JournalTooNew(
            f"{path} was written by {writer}, in schema {newest}; orch {__version__} reads schema {SCHEMA}.",
            f"Use {writer} for this run.",
        )


def _rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The lines that are JSON objects, with their numbers."""
    for number, line in enumerate(read_whole(path).split(b"\n"), start=1):
        with contextlib.suppress(ValueError):
            if isinstance(row := _parsed(line), dict):
                yield number, row


def _parsed(line: bytes) -> Any:
    """A line's value. Raises `ValueError`, also for one that is nested too deeply."""
    try:
        return json.loads(line)
    except RecursionError as exc:
        raise ValueError("it is nested too deeply") from exc


def damage(path: Path) -> list[str]:
    """The lines of a journal whose events are lost, for people.

    The rest of a line whose writer was killed held no event: the next one has its number.
    """
    found, last = [], (0, 0)
    for number, row in _rows(path):
        seq = row.get("seq")
        if not isinstance(seq, int) or not _is_whole(row):
            continue
        if seq > last[1] + 1:
            lines = _range("line", last[0] + 1, max(number - 1, last[0] + 1))
            lost = _range("event", last[1] + 1, seq - 1)
            found.append(f"{path}: {lines} cannot be read; {lost} of the run lost")
        last = (number, seq)
    return found


def _is_whole(row: dict[str, Any]) -> bool:
    """Whether a line holds an event, or one of a kind that this version does not know."""
    data = row.get("data")
    if not isinstance(data, dict) or data.get("kind") not in KINDS or "large" in row:
        return isinstance(data, dict)
    with contextlib.suppress(ValueError):
        Event.model_validate(row, extra="ignore")
        return True
    return False


def _range(what: str, first: int, last: int) -> str:
    return f"{what} {first}" if first == last else f"{what}s {first} to {last}"


# --- large values

Place = tuple[str | int, ...]


class BlobMissing(RecoverableError):
    """A content that a journal refers to is missing or damaged."""


class Blobs:
    """The contents of one journal; the folder is created with the first."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def take_out(self, row: dict[str, Any]) -> dict[str, Any]:
        """The row, with the large values of its `data` stored apart. Raises `OSError`."""
        large: list[dict[str, Any]] = []
        data = {
            name: value if name == "kind" else self._smaller(value, ("data", name), large)
            for name, value in row["data"].items()
        }
        return {**row, "data": data, "large": large} if large else row

    def put_back(self, row: dict[str, Any]) -> dict[str, Any]:
        """The complete row. Raises `BlobMissing`, also for a reference that no journal of `orch` holds."""
        try:
            return self._complete(row)
        except (ValueError, LookupError, TypeError) as exc:
            raise BlobMissing(f"a reference to {self._folder} in the run's journal is damaged") from exc

    def _complete(self, row: dict[str, Any]) -> dict[str, Any]:
        # Values within another value were taken out before it.
        for large in reversed(row.pop("large", ())):
            *path, last = large["at"]
            around: Any = row
            for step in path:
                around = around[step]
            if not _DIGEST.fullmatch(large["sha256"]):
                raise ValueError(large["sha256"])  # it would name a file elsewhere
            text = self.content(large["sha256"]).decode()
            around[last] = text if large["form"] == "text" else json.loads(text)
        return row

    def _smaller(self, value: Any, place: Place, large: list[dict[str, Any]]) -> Any:
        if isinstance(value, dict):
            value = {key: self._smaller(item, (*place, key), large) for key, item in value.items()}
        elif isinstance(value, list):
            value = [self._smaller(item, (*place, n), large) for n, item in enumerate(value)]
        size = len(value) if isinstance(value, str) else len(json.dumps(value))
        if size <= LARGE:
            return value
        form = "text" if isinstance(value, str) else "json"
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=1)
        digest = self.keep(text.encode())
        large.append({"at": place, "sha256": digest, "form": form})
        return f"(see blobs/{digest})"

    def keep(self, content: bytes) -> str:
        """Store a content and return its hash. Raises `OSError`."""
        digest = hashlib.sha256(content).hexdigest()
        path = self._folder / digest
        if path.exists():
            return digest
        make_folders(self._folder, 0o700)
        write_atomic(path, content)
        return digest

    def content(self, digest: str) -> bytes:
        """A content by its hash. Raises `BlobMissing`."""
        path = self._folder / digest
        try:
            content = read_whole(path)
        except OSError as exc:
            raise BlobMissing(f"{path}, a part of the run's journal, cannot be read: {exc.strerror}") from exc
        if hashlib.sha256(content).hexdigest() != digest:
            raise BlobMissing(f"{path}, a part of the run's journal, is damaged")
        return content


def blobs_of(journal: Path) -> Blobs:
    return Blobs(journal.with_name("blobs"))


# --- the lock of a run

PATIENCE_S = 1.0
"""`lock_owner` takes the lock for a moment, too."""


@contextlib.contextmanager
def run_lock(folder: Path) -> Iterator[None]:
    """Lock the run in this folder. Raises `UsageError` if another process has it."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = folder / "lock"
    try:
        lock = acquire(path, wait_s=PATIENCE_S)
    except LockTimeout as exc:
        raise UsageError(
            f"Run {folder.name} is running in process {_read(path) or 'unknown'}.",
            f"Wait until it ends, or stop it: orch cancel {folder.name}",
        ) from exc
    except LockUnsupported as exc:
        raise _no_locks(path, exc) from exc
    with lock:
        with naming(lock.file):
            os.ftruncate(lock.file, 0)
            os.write(lock.file, str(os.getpid()).encode())
        yield


def lock_owner(folder: Path) -> int | None:
    """The id of the process that holds the lock; None if it is free, 0 if the id is unknown."""
    path = folder / "lock"
    try:
        # Another may have put a pipe there.
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            return None if try_lock(file.fileno(), shared=True) else _read(path)
    except FileNotFoundError:
        return None
    except LockUnsupported as exc:
        raise _no_locks(path, exc) from exc


def _no_locks(path: Path, exc: LockUnsupported) -> UsageError:
    return UsageError(f"{path} cannot be used: {exc.strerror}.", "Move ORCH_HOME to a local disk.")


def _read(path: Path) -> int:
    text = read_regular(path, 20).strip()
    return int(text) if text.isdigit() else 0
