"""What can be done about the changes of a run that is over: show them, and take them back.

An undo is told in `fileLog.md` and the run's journal after it was done; one whose telling a kill
prevented is told by the next `undo` of that run. A run that another process has is not undone.
"""

import contextlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from orchestrator_cli import events
from orchestrator_cli.errors import UsageError
from orchestrator_cli.events import FileChange
from orchestrator_cli.journal.journal import EventStream, View, read_journal
from orchestrator_cli.journal.run_lock import held
from orchestrator_cli.runs.find import PastRun
from orchestrator_cli.settings import Settings
from orchestrator_cli.state import fold
from orchestrator_cli.workspace import Workspace
from orchestrator_cli.workspace.diff import diff_lines, run_changes, was_undone
from orchestrator_cli.workspace.faults import WorkspaceFault
from orchestrator_cli.workspace.history import History
from orchestrator_cli.workspace.marks import Entry, file_changes
from orchestrator_cli.workspace.record import Record
from orchestrator_cli.workspace.undo import Undo


@dataclass(frozen=True)
class Shown:
    """What a run changed."""

    lines: list[str]
    changes: tuple[FileChange, ...]
    undone: bool


def show_changes(past: PastRun) -> Shown:
    """The net of a run as a diff. Raises `UsageError`."""
    try:
        changes = file_changes(run_changes(past.history))
        return Shown(list(diff_lines(past.history, past.root)), changes, was_undone(past.history))
    except (WorkspaceFault, OSError) as exc:
        raise UsageError(f"What run {past.run} changed cannot be shown: {exc}.") from exc


def undo_run(
    settings: Settings, past: PastRun, to: str, views: Callable[[], Iterable[View]]
) -> tuple[FileChange, ...]:
    """Restore the workspace to before a run, or to just after its subtask `to`.

    Returns what was changed now; nothing where there is nothing to undo. Raises `UsageError`.
    `views` are told `RunUndone`; they are made only where there is something to tell.
    """
    with held(past.folder):
        workspace = Workspace(past.root, past.home, settings.workspace_max_mb, run=past.run)
        undo = Undo(past.run, past.history, to, lambda path, entry: _author_of(settings, past, path, entry))
        undone = undo.apply(workspace)
        records = [record for record in past.history.records() if record.author.undo_to is not None]
        _tell(past, records, views)
    return file_changes(records[-1].changes) if undone else ()


def _tell(past: PastRun, records: list[Record], views: Callable[[], Iterable[View]]) -> None:
    """Emit the undos that are not in the journal yet."""
    journal = list(read_journal(past.journal))
    told = sum(isinstance(event.data, events.RunUndone) for event in journal)
    if len(records) <= told:
        return
    stream = EventStream(past.run, past.journal, views(), state=fold(journal))
    try:
        for record in records[told:]:
            stream.emit(
                events.RunUndone(to=record.author.undo_to or None, changes=file_changes(record.changes))
            )
    finally:
        stream.close()


def _author_of(settings: Settings, past: PastRun, path: str, entry: Entry | None) -> str:
    """Another run that left a path as it is now."""
    for home in {past.home, settings.home}:
        for folder in sorted((home / "runs").glob("*/undo"), reverse=True):
            run = folder.parent.name
            if run == past.run:
                continue
            with contextlib.suppress(WorkspaceFault, OSError):
                for record in History(folder).records():
                    if record.root == str(past.root) and _left(record, path, entry):
                        return f"run {run}"
    return ""


def _left(record: Record, path: str, entry: Entry | None) -> bool:
    for change in record.changes:
        if change.path == path:
            return change.after is entry or (change.after is not None and change.after.same(entry))
    return False
