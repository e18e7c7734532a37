"""The runs that were begun before: found by name, and what state each is in.

A run that ended without saying so has died, unless a process still has it. What it says at its
end is told by its journal alone, so a run can be looked at while another process carries it on.
"""

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from orchestrator_cli import events
from orchestrator_cli.errors import RunFailed, UsageError
from orchestrator_cli.events import Event
from orchestrator_cli.journal.journal import EventStream, View, read_journal
from orchestrator_cli.journal.run_lock import held, holder
from orchestrator_cli.settings import Settings
from orchestrator_cli.state import RunState, fold
from orchestrator_cli.workspace.folder import history_folder
from orchestrator_cli.workspace.history import History

LAST = "last"
DEMO = "demo"
"""The folder in `home` that is the home of `orch demo`."""

Status = Literal["running", "paused", "died", "interrupted", "failed", "completed", "cancelled"]


@dataclass(frozen=True)
class PastRun:
    """A run with a journal. `root` is the workspace it worked on."""

    run: str
    home: Path
    root: Path

    @property
    def history(self) -> History:
        return History(history_folder(self.home, self.run))

    @property
    def folder(self) -> Path:
        return self.home / "runs" / self.run

    @property
    def journal(self) -> Path:
        return self.folder / "journal.jsonl"

    def events(self) -> list[Event]:
        """Everything that happened in it. Raises `RunFailed` where a part of the journal is gone."""
        return list(read_journal(self.journal))


def find_run(settings: Settings, name: str) -> PastRun:
    """A run by its id, the end of its id, or `last`: the newest of this workspace.

    The runs of `orch demo`, which has a home of its own, are found too. Raises `UsageError`.
    """
    paths = _journals(settings)
    if name == LAST:
        return _last(paths, settings.workspace.resolve())
    fitting = [path for path in paths if path.parent.name.endswith(name)] if name else []
    exact = [path for path in fitting if path.parent.name == name]
    found = [_past_run(path) for path in exact or fitting]
    if len(found) != 1 or found[0] is None:
        which = ", ".join(sorted(path.parent.name for path in fitting))
        raise UsageError(
            f"Several runs end in {name}: {which}." if len(found) > 1 else f"There is no run {name}.",
            f"List them with: orch runs --all; `{LAST}` is the newest of a workspace.",
        )
    return found[0]


def _journals(settings: Settings) -> list[Path]:
    """Newest first: the ids begin with the time."""
    homes = (settings.home, settings.home / DEMO)
    paths = [path for home in homes for path in (home / "runs").glob("*/journal.jsonl")]
    return sorted(paths, key=lambda path: path.parent.name, reverse=True)


def _last(paths: Iterable[Path], root: Path) -> PastRun:
    for path in paths:
        found = _past_run(path)
        if found is not None and found.root == root:
            return found
    raise UsageError(f"No run has worked on {root}.", "Name its workspace with -C, or the run by its id.")


def _past_run(journal: Path) -> PastRun | None:
    with contextlib.suppress(OSError, RunFailed):
        for event in read_journal(journal):
            if isinstance(event.data, events.RunStarted):
                return PastRun(event.run, journal.parents[2], Path(event.data.workspace))
    return None


@dataclass(frozen=True)
class FoundRun:
    """A run, what it has come to, and whether a process has it."""

    where: PastRun
    state: RunState
    status: Status
    pid: int | None = None
    """The process that carries it on, if one does and can be told."""


def look_at(where: PastRun, found: Iterable[Event] | None = None) -> FoundRun:
    """How a run is; `found` are its events, if they were read already. Raises `RunFailed`."""
    # Looked at first: a run that ends in between then counts as ended, and not as dead.
    pid = holder(where.folder)
    state = fold(where.events() if found is None else found)
    status: Status
    if state.finished is not None:
        status = state.finished.outcome
    else:
        status = "running" if pid is not None else "paused" if state.paused else "died"
    return FoundRun(where, state, status, pid or None)


def recent(settings: Settings, *, everywhere: bool, limit: int) -> Iterator[FoundRun]:
    """The newest runs of the workspace, or of all; one whose journal cannot be read is left out."""
    root = settings.workspace.resolve()
    for journal in _journals(settings):
        where = _past_run(journal)
        if where is None or not (everywhere or where.root == root):
            continue
        if limit <= 0:
            return
        limit -= 1
        with contextlib.suppress(RunFailed, OSError):
            yield look_at(where)


def end_run(where: PastRun, views: Iterable[View]) -> None:
    """Say of a run that nobody carries on that it was cancelled. Raises `UsageError`."""
    with held(where.folder):
        state = fold(where.events())
        if state.finished is not None and state.finished.outcome in ("completed", "cancelled"):
            raise UsageError(
                f"Run {where.run} is {state.finished.outcome} already.",
                f"Take back what it did with: orch undo {where.run}",
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
