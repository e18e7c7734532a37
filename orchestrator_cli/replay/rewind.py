"""A copy of a workspace as it was before a run, from its content now and what commits replaced.

Every path that this run or a later one committed is restored to its state before the first of
those commits; everything else is as it is now.

Not covered: changes that a person made since to paths that no run touched, and files that are
never copied into a checkout (version control, environment files).
"""

import contextlib
import os
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from orchestrator_cli.errors import UsageError, WorkspaceFault
from orchestrator_cli.workspace.checkout import Hidden
from orchestrator_cli.workspace.file_state import Change, FileEntry
from orchestrator_cli.workspace.folder import pending_commit
from orchestrator_cli.workspace.history import CommitHistory, CommitRecord
from orchestrator_cli.workspace.tree import Root, copy_hashed, copy_tree


@dataclass(frozen=True)
class StoredCommit:
    """A record of a commit, and the history with the contents that it replaced."""

    record: CommitRecord
    history: CommitHistory


def copy_as_before(
    root: Path,
    state: Path,
    run: str,
    histories: Iterable[CommitHistory],
    target: Path,
    hidden: Hidden,
    max_mb: int,
) -> list[str]:
    """Copy `root` as it was before `run` into the empty folder `target`; returns what could not be restored.

    Nothing is written in `root`. Raises `UsageError`, `WorkspaceFault`.
    """
    with Root(root) as tree:
        states = dict(tree.walk(hidden, hidden.enter))
        size = sum(found.size for found in states.values())
        if size > max_mb << 20:
            raise UsageError(
                f"The workspace {root} holds {size >> 20} MB, more than the {max_mb} MB that are copied.",
                "Raise workspace_max_mb.",
            )
        copy_tree(tree, target, states)
    # Checked last: commits during the copy are in the records by now.
    if pending_commit(root, state).exists():
        raise UsageError(f"A commit into {root} is under way.", "Try again when that run has ended.")
    return _restore_all(target, _replaced(_since(root, run, histories)))


def restore(folder: Path, path: str, entry: FileEntry | None, history: CommitHistory) -> None:
    """Restore a path of a folder of ours from a history. Raises `OSError`, `WorkspaceFault`."""
    place = folder / path
    _clear(place, entry)
    if entry is None:
        return
    _make_parents(folder, path)
    if entry.type == "folder":
        place.mkdir(exist_ok=True)
    elif entry.type == "link":
        place.symlink_to(entry.target)
        return
    else:
        source = history.opener(entry.sha256)()
        try:
            made = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            try:
                copy_hashed(source, made)
            finally:
                os.close(made)
        finally:
            os.close(source)
        os.utime(place, ns=(entry.mtime_ns, entry.mtime_ns))
    place.chmod(entry.mode)


def in_order(changes: Iterable[Change]) -> list[Change]:
    """First deletions, from the inside out; then creations, from the outside in."""
    rows = sorted(changes, key=lambda change: change.path)
    gone = [row for row in reversed(rows) if row.after is None]
    return gone + [row for row in rows if row.after is not None]


def _since(root: Path, run: str, histories: Iterable[CommitHistory]) -> list[StoredCommit]:
    """The commits into a folder since the first one of a run, oldest first."""
    found = [
        StoredCommit(record, history)
        for history in histories
        for record in history.records()
        if record.root == str(root)
    ]
    found.sort(key=lambda commit: commit.record.time)
    first = next((n for n, commit in enumerate(found) if commit.record.author.run == run), len(found))
    return found[first:]


def _replaced(commits: Sequence[StoredCommit]) -> list[tuple[Change, CommitHistory]]:
    """For each path, the change that restores what the first of the commits found there."""
    first: dict[str, tuple[Change, CommitHistory]] = {}
    for commit in commits:
        for change in commit.record.changes:
            back = Change(path=change.path, before=None, after=change.before)
            first.setdefault(change.path, (back, commit.history))
    return list(first.values())


def _restore_all(target: Path, replaced: Sequence[tuple[Change, CommitHistory]]) -> list[str]:
    histories = {change.path: history for change, history in replaced}
    faults = []
    for change in in_order(change for change, _ in replaced):
        try:
            restore(target, change.path, change.after, histories[change.path])
        except (OSError, WorkspaceFault) as exc:
            faults.append(f"{change.path} cannot be restored as it was before the run: {exc}")
    return faults


def _clear(place: Path, entry: FileEntry | None) -> None:
    """Delete what is at a path; a folder only if it is empty, or replaced by something else."""
    if place.is_symlink() or place.is_file():
        place.unlink()
    elif place.is_dir() and (entry is None or entry.type != "folder"):
        if entry is None:
            with contextlib.suppress(OSError):
                place.rmdir()
        else:
            shutil.rmtree(place)


def _make_parents(folder: Path, path: str) -> None:
    """Create the folders around a path, replacing links, which may lead elsewhere."""
    for parent in reversed(PurePosixPath(path).parents[:-1] if "/" in path else ()):
        around = folder / parent
        if around.is_symlink() or (around.exists() and not around.is_dir()):
            around.unlink()
        around.mkdir(exist_ok=True)
