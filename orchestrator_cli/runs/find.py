"""Past and present runs: find one by name, and its status.

A run without an end in its journal has died, unless a process holds its lock. Everything is read
from the journal, so a run can be inspected while another process executes it. The name of its folder is the
id of a run; a journal that names another run is damaged.
"""

import contextlib
import json
import shlex
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, NamedTuple

from orchestrator_cli import events
from orchestrator_cli.durable.files import read_records
from orchestrator_cli.durable.foreign import foreign_line
from orchestrator_cli.durable.held_folder import has_mark
from orchestrator_cli.errors import RunFailed, UsageError
from orchestrator_cli.events import Event
from orchestrator_cli.journal.journal import EventStream, EventView, lock_owner, read_journal, run_lock
from orchestrator_cli.runs.beginnings import newest_first
from orchestrator_cli.settings import Settings
from orchestrator_cli.state import RunState, fold
from orchestrator_cli.workspace.folder import adopt_commit, history_folder
from orchestrator_cli.workspace.history import CommitHistory
from orchestrator_cli.workspace.usable import check_folder

LAST = "last"
DEMO = "demo"
"""The folder in `home` that is the home of `orch demo`."""

Status = Literal["running", "paused", "died", "interrupted", "failed", "completed", "cancelled", "planned"]


@dataclass(frozen=True)
class PastRun:
    """A run with a journal. `root` is its workspace."""

    run: str
    home: Path
    root: Path
    mark: str = ""
    """Of the workspace, see `held_folder`; empty if it is unknown, or the user has named the folder."""

    @property
    def history(self) -> CommitHistory:
        return CommitHistory(history_folder(self.home, self.run))

    @property
    def folder(self) -> Path:
        return self.home / "runs" / self.run

    @property
    def journal(self) -> Path:
        return self.folder / "journal.jsonl"

    def events(self) -> list[Event]:
        """All events of the journal. Raises `RunFailed` if a part of it is missing."""
        return list(read_journal(self.journal))


def find_run(settings: Settings, name: str) -> PastRun:
    """A run by its id, the end of its id, or `last` for the newest of this workspace.

    Includes the runs of `orch demo`, which has a home of its own. Raises `UsageError`.
    """
    name = name.rstrip(".,;:")  # copied with the end of a sentence
    if name == LAST:
        return next(_here(settings))
    matching = [path for path in _journals(settings) if path.parent.name.endswith(name)] if name else []
    exact = [path for path in matching if path.parent.name == name]
    found = [past_run(path) for path in exact or matching]
    if exact and found == [None]:
        check_names_itself(exact[0])
    if len(found) != 1 or found[0] is None:
        which = ", ".join(sorted(path.parent.name for path in matching))
        raise UsageError(
            f"Several runs end in {name}: {which}." if len(found) > 1 else f"There is no run {name}.",
            f"List them with: orch runs --all; `{LAST}` is the newest of a workspace.",
        )
    return found[0]


class ChangedRun(NamedTuple):
    past: PastRun
    newer: int
    """How many runs of its workspace began later, and have changed no files."""


def last_changed(settings: Settings) -> ChangedRun:
    """The newest run of this workspace that has changed files; the newest of all if none has.

    Raises `UsageError` if there is none.
    """
    newest = None
    for newer, past in enumerate(_here(settings)):
        newest = newest or past
        if past.history.records():
            return ChangedRun(past, newer)
    assert newest is not None
    return ChangedRun(newest, 0)


def _here(settings: Settings) -> Iterator[PastRun]:
    """The runs of this workspace, newest first. Raises `UsageError` if there is none."""
    root, found = settings.workspace.resolve(), False
    for path in journals_of(settings):
        past = past_run(path)
        if past is not None and past.root == root:
            found = True
            yield past
    if not found:
        raise UsageError(f"No run has worked on {root}.", "Name its workspace with -C, or the run by its id.")


def journals_of(settings: Settings) -> list[Path]:
    """Newest first."""
    return newest_first(_journals(settings))


def _journals(settings: Settings) -> list[Path]:
    return [path for home in homes_of(settings) for path in (home / "runs").glob("*/journal.jsonl")]


def homes_of(settings: Settings) -> tuple[Path, ...]:
    """The homes that may hold runs: `orch demo` has one of its own."""
    return settings.home, settings.home / DEMO


def past_run(journal: Path) -> PastRun | None:
    """The run of a journal; None if it cannot be read."""
    with contextlib.suppress(OSError, RunFailed):
        return _run_of(journal)
    return None


def check_names_itself(journal: Path) -> None:
    """Raise `RunFailed` if a journal is that of another run than its folder is named after, and `OSError`."""
    _run_of(journal)


def _run_of(journal: Path) -> PastRun | None:
    """The run of a journal, in the workspace it was last resumed in. Raises `OSError` and `RunFailed`."""
    places = list(read_records(journal, _place, containing=b'"workspace":'))
    if not places:
        return None
    folder, (_, root, mark) = journal.parent, places[-1]
    if others := [run for run, *_ in places if run != folder.name]:
        raise RunFailed(
            f"The journal in {folder} names another run: {foreign_line(others[0], 100)}.",
            f"Somebody has copied or changed it. Look at {folder}, and remove it if you do not need it.",
        )
    return PastRun(folder.name, journal.parents[2], Path(root), mark)


def _place(line: bytes) -> tuple[object, str, str]:
    """The run, its workspace from now on, and the mark of that. Raises `LookupError` for other events."""
    row = json.loads(line)
    if row["data"]["kind"] not in ("RunStarted", "RunResumed"):
        raise LookupError(row["data"]["kind"])
    return row["run"], row["data"]["workspace"], row["data"].get("mark", "")


def check_is_same(past: PastRun, command: str, folder: int | None = None) -> None:
    """Raise `UsageError` if the workspace is another folder than the one that the run worked on.

    Args:
        command: the one that uses the folder all the same if it is named with `-C`.
        folder: a descriptor of the workspace, if it is open already.
    """
    place = past.root if folder is None else folder
    if past.root.exists() and not has_mark(place, past.mark):
        raise UsageError(
            f"{past.root} is not the folder that run {past.run} worked on: another one has its place.",
            "Nothing was changed. If you have restored or replaced it yourself, say so: "
            f"{command} -C {shlex.quote(str(past.root))}",
        )


def named_with(past: PastRun, name: str, folder: Path | None) -> PastRun:
    """The run, whatever its workspace is now if the user names that folder besides the run's own name."""
    is_named = folder is not None and name != LAST and folder.resolve() == past.root
    return replace(past, mark="") if is_named else past


def moved_to(past: PastRun, folder: Path) -> PastRun:
    """The run in a folder that the user has named: its own, or the one that its workspace was moved to.

    An interrupted commit moves along.
    """
    root = folder.resolve()
    past = replace(past, mark="")
    if root == past.root:
        return past
    check_folder(root)
    with run_lock(past.folder):
        adopt_commit(past.home, past.root, root)
    return replace(past, root=root)


@dataclass(frozen=True)
class FoundRun:
    """A run, its state, and whether a process executes it."""

    where: PastRun
    state: RunState
    status: Status
    pid: int | None = None
    """The process that executes it, if there is one and its id is known."""


def look_at(where: PastRun, found: Iterable[Event] | None = None) -> FoundRun:
    """The run as it is now; `found` are its events, if they were read already. Raises `RunFailed`."""
    # Before the journal is read: a run that ends in between then counts as ended, not as dead.
    pid = lock_owner(where.folder)
    state = fold(where.events() if found is None else found)
    status: Status
    if state.finished is not None:
        status = state.finished.outcome
    else:
        status = "running" if pid is not None else "paused" if state.paused else "died"
    return FoundRun(where, state, status, pid or None)


def recent(
    settings: Settings,
    *,
    everywhere: bool,
    limit: int,
    on_unread: Callable[[str], None] = lambda _: None,
) -> Iterator[FoundRun]:
    """The newest runs of the workspace, or of all workspaces, except those with an unreadable journal.

    Those are passed to `on_unread`, each as a line for people.
    """
    root = settings.workspace.resolve()
    for journal in journals_of(settings):
        try:
            where = _run_of(journal)
        except (RunFailed, OSError) as exc:
            if everywhere or isinstance(exc, RunFailed):
                on_unread(f"Run {journal.parent.name} cannot be read: {exc}")
            continue
        if where is None or not (everywhere or where.root == root):
            continue
        if limit <= 0:
            return
        limit -= 1
        try:
            found = look_at(where)
        except (RunFailed, OSError) as exc:
            on_unread(f"Run {where.run} cannot be read: {exc}")
        else:
            yield found


def end_run(where: PastRun, views: Iterable[EventView]) -> None:
    """Mark a run as cancelled that no process executes. Raises `UsageError`."""
    with run_lock(where.folder):
        state = fold(where.events())
        if state.finished is not None and state.finished.outcome in ("completed", "cancelled"):
            raise UsageError(
                f"Run {where.run} is {state.finished.outcome} already.",
                f"Undo its changes with: orch undo {where.run}",
            )
        stream = EventStream(where.run, where.journal, views, state=state)
        try:
            stream.emit(
                events.RunFinished(
                    outcome="cancelled",
                    answer="",
                    error="Cancelled.",
                    exit_code=130,
                    seconds=state.seconds,
                    usage=state.usage,
                    files=state.files,
                )
            )
        finally:
            stream.close()
