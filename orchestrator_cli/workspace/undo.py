"""Undo of a run: its commits, squashed and inverted, as one commit of its own.

Everything the run left must still be there, by content and mode; each path that is not is named,
and nothing is changed. An undo is recorded like a commit, so that the changes of an undone run add
up to nothing, and the content that it removed is kept too.
"""

import contextlib
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass

from orchestrator_cli.errors import Conflict, UsageError, WorkspaceFault
from orchestrator_cli.workspace.commit import Intent, faults_of
from orchestrator_cli.workspace.file_state import Change, FileEntry, FileStat, entry_of
from orchestrator_cli.workspace.folder import Workspace
from orchestrator_cli.workspace.history import Author, CommitHistory, CommitRecord, squash
from orchestrator_cli.workspace.tree import Root, hashed

_TYPES = {"file": stat.S_IFREG, "link": stat.S_IFLNK, "folder": stat.S_IFDIR}

Blame = Callable[[str, "FileEntry | None"], str]
"""Names who left a path as it is, such as `run 20260101-120000-abcdef`; empty if unknown."""


@dataclass(frozen=True)
class Undo:
    """Reverts a run: all of it, or what came after the last commit of the subtask `to`."""

    run: str
    history: CommitHistory
    to: str = ""
    blame: Blame = lambda _path, _entry: ""

    def apply(self, workspace: Workspace) -> bool:
        """Restore the workspace; False if there is nothing to undo.

        Raises `UsageError` naming what was changed since, or a subtask that committed nothing.
        """
        try:
            with workspace.locked(), faults_of(), workspace.tree() as tree:
                changes = squash(_since(self.history.records(), self.to))
                self._refuse_what_changed(tree, changes)
                author = Author(run=self.run, undo_to=self.to)
                intents = [self._intent(tree, change) for change in changes]
                return bool(intents and workspace.apply(author, intents))
        except Conflict as exc:
            raise self._refusal(exc.paths) from exc
        except WorkspaceFault as exc:
            why = f"{exc}".removesuffix(".")
            raise UsageError(f"Run {self.run} cannot be undone: {why}.", "Nothing was changed.") from exc

    def _refuse_what_changed(self, tree: Root, changes: list[Change]) -> None:
        restored = {change.path for change in changes if change.before and change.before.type == "folder"}
        removed = {change.path for change in changes if change.before is None}
        refused = []
        for change in changes:
            current = entry_at(tree, change.path)
            if not _is_as_left(change, current):
                author = self.blame(change.path, current)
                refused.append(f"{change.path} (changed by {author})" if author else change.path)
            else:
                refused += _obstacles(tree, change, restored, removed)
        if refused:
            raise self._refusal(refused)

    def _refusal(self, paths: list[str]) -> UsageError:
        return UsageError(
            f"Run {self.run} cannot be undone: changed since then: {', '.join(dict.fromkeys(paths))}.",
            f"Nothing was changed. `orch diff {self.run}` shows what the run made of them; "
            "restore that state, or take over by hand what you need.",
        )

    def _intent(self, tree: Root, change: Change) -> Intent:
        was = change.before
        if was is None:
            return Intent(change.path, tree.stat(change.path), None)
        after = FileStat(_TYPES[was.type] | was.mode, was.size, was.mtime_ns, target=was.target)
        opener = self.history.opener(was.sha256) if was.type == "file" else None
        return Intent(change.path, tree.stat(change.path), after, opener)


def _since(records: list[CommitRecord], subtask: str) -> list[CommitRecord]:
    if not subtask:
        return records
    ends = [n for n, r in enumerate(records) if r.author.undo_to is None and r.author.subtask == subtask]
    if not ends:
        known = dict.fromkeys(r.author.subtask for r in records if r.author.undo_to is None)
        raise UsageError(
            f"The subtask {subtask} committed no changes.",
            f"Those that did: {', '.join(known)}." if known else "No subtask of this run did.",
        )
    return records[ends[-1] + 1 :]


def entry_at(tree: Root, path: str) -> FileEntry | None:
    """The entry of a path, with its hash; None if nothing is there, or a link is on the way."""
    state = tree.stat(path)
    if state is None or not state.is_file:
        return None if state is None else entry_of(state)
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        fd = tree.open_file(path)
        try:
            return entry_of(state, hashed(fd))
        finally:
            os.close(fd)
    return None


def _is_as_left(change: Change, current: FileEntry | None) -> bool:
    """Whether a path is as the run left it; a folder that it only created or deleted may exist or not."""
    if change.after is None or current is None:
        if current is not None and change.before is not None and change.before.type == "folder":
            return current.type == "folder"
        return change.after is current or (current is None and change.is_folder)
    if change.before is None and current.type == "folder" == change.after.type:
        return True
    return current.same(change.after)


def _obstacles(tree: Root, change: Change, restored: set[str], removed: set[str]) -> list[str]:
    """Paths unknown to the run that keep a path from being restored."""
    was = change.before
    parent = change.path.rpartition("/")[0]
    if was is not None and parent and parent not in restored:
        around = tree.stat(parent)
        if around is None or not around.is_folder:
            return [parent]
    if was is not None and was.type != "folder" and change.after and change.after.type == "folder":
        with tree.folder(change.path) as fd:
            below = [f"{change.path}/{name}" for name in os.listdir(fd)]  # noqa: PTH208
        return [path for path in below if path not in removed]
    return []
