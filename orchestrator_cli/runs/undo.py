"""The changes of a past run: show them, and undo them.

An undo is written to `fileLog.md` and the run's journal after it was done; if a kill prevented that,
the next undo of the run does it. A run that another process executes cannot be undone.
"""

import contextlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from orchestrator_cli import events
from orchestrator_cli.errors import UsageError, WorkspaceFault, storage_faults
from orchestrator_cli.events import FileChange
from orchestrator_cli.journal.journal import EventStream, EventView, read_journal, run_lock
from orchestrator_cli.runs.beginnings import newest_first
from orchestrator_cli.runs.find import PastRun, check_is_same
from orchestrator_cli.settings import Settings
from orchestrator_cli.state import fold
from orchestrator_cli.workspace import Workspace
from orchestrator_cli.workspace.diff import diff_lines, run_changes, was_undone
from orchestrator_cli.workspace.file_state import FileEntry, file_changes, same_entry
from orchestrator_cli.workspace.history import CommitHistory, CommitRecord
from orchestrator_cli.workspace.undo import Undo


@dataclass(frozen=True)
class RunChanges:
    lines: list[str]
    changes: tuple[FileChange, ...]
    undone: bool


def show_changes(past: PastRun) -> RunChanges:
    """The combined changes of a run, as a diff. Raises `UsageError`."""
    try:
        changes = file_changes(run_changes(past.history))
        return RunChanges(list(diff_lines(past.history, past.root)), changes, was_undone(past.history))
    except (WorkspaceFault, OSError) as exc:
        raise UsageError(f"The changes of run {past.run} cannot be shown: {exc}.") from exc


def undo_run(
    settings: Settings, past: PastRun, to: str, views: Callable[[], Iterable[EventView]]
) -> tuple[FileChange, ...]:
    """Restore the workspace to before a run, or to just after its subtask `to`.

    Returns the changes made now; empty if there is nothing to undo. Raises `UsageError`, and `StorageFault`.
    `views` receive `RunUndone`; they are created only if there is one.
    """
    with run_lock(past.folder):
        check_is_same(past, f"orch undo {past.run}")
        workspace = Workspace(past.root, past.home, settings.workspace_max_mb, run=past.run)
        check_is_same(past, f"orch undo {past.run}", workspace.fd)
        undo = Undo(past.run, past.history, to, lambda path, entry: _author_of(settings, past, path, entry))
        with storage_faults():
            undone = undo.apply(workspace)
        records = [record for record in past.history.records() if record.author.undo_to is not None]
        _report(past, records, views)
    return file_changes(records[-1].changes) if undone else ()


def _report(past: PastRun, records: list[CommitRecord], views: Callable[[], Iterable[EventView]]) -> None:
    """Emit the undos that are not in the journal yet."""
    journal = list(read_journal(past.journal))
    reported = sum(isinstance(event.data, events.RunUndone) for event in journal)
    if len(records) <= reported:
        return
    stream = EventStream(past.run, past.journal, views(), state=fold(journal))
    try:
        for record in records[reported:]:
            stream.emit(
                events.RunUndone(to=record.author.undo_to or None, changes=file_changes(record.changes))
            )
    finally:
        stream.close()


def _author_of(settings: Settings, past: PastRun, path: str, entry: FileEntry | None) -> str:
    """The run, other than `past`, that left a path as it is now."""
    for home in {past.home, settings.home}:
        histories = (home / "runs").glob("*/undo")
        for journal in newest_first(folder.with_name("journal.jsonl") for folder in histories):
            run, folder = journal.parent.name, journal.with_name("undo")
            if run == past.run:
                continue
            with contextlib.suppress(WorkspaceFault, OSError):
                records = CommitHistory(folder).records()
                changes = (c for r in records if r.root == str(past.root) for c in r.changes)
                if any(c.path == path and same_entry(c.after, entry) for c in changes):
                    return f"run {run}"
    return ""
