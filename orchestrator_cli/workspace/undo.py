"""Taking a run back: the net of its commits, the other way round, as one commit of its own.

What the run left has to be there still, by content and mode; each path that is not is named, and
then nothing is changed. An undo is kept like a commit, so that the net of a run that was undone
is nothing, and what it took away is kept too.
"""

import contextlib
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass

from orchestrator_cli.errors import UsageError
from orchestrator_cli.workspace.commit import Intent
from orchestrator_cli.workspace.faults import Conflict, WorkspaceFault
from orchestrator_cli.workspace.folder import Workspace
from orchestrator_cli.workspace.history import History, net
from orchestrator_cli.workspace.marks import Change, Entry, Mark
from orchestrator_cli.workspace.record import Author, Record
from orchestrator_cli.workspace.tree import Root, hashed

_TYPES = {"file": stat.S_IFREG, "link": stat.S_IFLNK, "folder": stat.S_IFDIR}

Blame = Callable[[str, "Entry | None"], str]
"""Who left a path as it is, such as `run 20260101-120000-abcdef`, or empty where nobody is known."""


@dataclass(frozen=True)
class Undo:
    """A run to be taken back: all of it, or what came after the last commit of a subtask."""

    run: str
    history: History
    to: str = ""
    blame: Blame = lambda _path, _entry: ""

    def apply(self, workspace: Workspace) -> bool:
        """Restore the workspace; False where there is nothing to undo.

        Raises `UsageError` naming what was changed since, or a subtask that committed nothing.
        """
        try:
            with workspace.locked(), Root(workspace.root) as tree:
                changes = net(_since(self.history.records(), self.to))
                self._refuse_what_changed(tree, changes)
                author = Author(run=self.run, undo_to=self.to)
                intents = [self._intent(tree, change) for change in changes]
                return bool(intents and workspace.apply(author, intents))
        except Conflict as exc:
            raise self._refused(exc.paths) from exc
        except WorkspaceFault as exc:
            raise UsageError(f"Run {self.run} cannot be undone: {exc}.", "Nothing was changed.") from exc

    def _refuse_what_changed(self, tree: Root, changes: list[Change]) -> None:
        made = {change.path for change in changes if change.before and change.before.type == "folder"}
        gone = {change.path for change in changes if change.before is None}
        refused = []
        for change in changes:
            current = entry_at(tree, change.path)
            if not _as_left(change, current):
                whose = self.blame(change.path, current)
                refused.append(f"{change.path} (changed by {whose})" if whose else change.path)
            else:
                refused += _in_the_way(tree, change, made, gone)
        if refused:
            raise self._refused(refused)

    def _refused(self, paths: list[str]) -> UsageError:
        return UsageError(
            f"Run {self.run} cannot be undone: changed since then: {', '.join(dict.fromkeys(paths))}.",
            f"Nothing was changed. `orch diff {self.run}` shows what the run made of them; "
            "put them back as they were then, or take over by hand what you need.",
        )

    def _intent(self, tree: Root, change: Change) -> Intent:
        was = change.before
        if was is None:
            return Intent(change.path, tree.mark(change.path), None)
        mark = Mark(_TYPES[was.type] | was.mode, was.size, was.mtime_ns, target=was.target)
        opener = self.history.opener(was.sha256) if was.type == "file" else None
        return Intent(change.path, tree.mark(change.path), mark, opener)


def _since(records: list[Record], subtask: str) -> list[Record]:
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


def entry_at(tree: Root, path: str) -> Entry | None:
    """What stands at a path, with its hash; None where there is nothing, or a link on the way."""
    import hashlib

    mark = tree.mark(path)
    if mark is None:
        return None
    mode = stat.S_IMODE(mark.mode)
    if mark.is_folder:
        return Entry(type="folder", mode=mode)
    if mark.target:
        raw = os.fsencode(mark.target)
        digest = hashlib.sha256(raw).hexdigest()
        return Entry(type="link", mode=mode, size=len(raw), sha256=digest, target=mark.target)
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        fd = tree.open_file(path)
        try:
            return Entry(type="file", mode=mode, size=mark.size, mtime_ns=mark.mtime_ns, sha256=hashed(fd))
        finally:
            os.close(fd)
    return None


def _as_left(change: Change, current: Entry | None) -> bool:
    """Whether a path is as the run left it; a folder that it only made or deleted may be either way."""
    if change.after is None or current is None:
        if current is not None and change.before is not None and change.before.type == "folder":
            return current.type == "folder"
        return change.after is current or (current is None and change.is_folder)
    if change.before is None and current.type == "folder" == change.after.type:
        return True
    return current.same(change.after)


def _in_the_way(tree: Root, change: Change, made: set[str], gone: set[str]) -> list[str]:
    """What keeps a path from being restored that the run itself knew nothing of."""
    was = change.before
    parent = change.path.rpartition("/")[0]
    if was is not None and parent and parent not in made:
        around = tree.mark(parent)
        if around is None or not around.is_folder:
            return [parent]
    if was is not None and was.type != "folder" and change.after and change.after.type == "folder":
        with tree.folder(change.path) as fd:
            below = [f"{change.path}/{name}" for name in os.listdir(fd)]  # noqa: PTH208
        return [path for path in below if path not in gone]
    return []
