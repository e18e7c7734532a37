"""A copy of a workspace as it was before a run, made from what is there now and what commits replaced.

Every path that this run or a later one has committed is put back to what it was before the first of
those commits; everything else is as it is now.

What is not covered: what a person changed or made since, where no run touched it; and files that were
never copied into a checkout (version control, environment files).
"""

import contextlib
import os
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from orchestrator_cli.errors import UsageError
from orchestrator_cli.workspace.checkout import Hidden
from orchestrator_cli.workspace.copying import copy_tree
from orchestrator_cli.workspace.faults import WorkspaceFault
from orchestrator_cli.workspace.folder import pending_commit
from orchestrator_cli.workspace.history import History
from orchestrator_cli.workspace.marks import Change, Entry
from orchestrator_cli.workspace.record import Record
from orchestrator_cli.workspace.tree import Root, copy_hashed


@dataclass(frozen=True)
class Kept:
    """A record of a commit, and the history that has the contents it replaced."""

    record: Record
    history: History


def copy_as_before(
    root: Path, state: Path, run: str, histories: Iterable[History], target: Path, hidden: Hidden, max_mb: int
) -> list[str]:
    """Copy `root` into the empty folder `target` as it was before `run`; returns what could not be put back.

    Nothing is written in `root`. Raises `UsageError`, `WorkspaceFault`.
    """
    with Root(root) as tree:
        marks = dict(tree.walk(hidden))
    size = sum(mark.size for mark in marks.values())
    if size > max_mb << 20:
        raise UsageError(
            f"The workspace {root} holds {size >> 20} MB, more than the {max_mb} MB that are copied.",
            "Raise workspace_max_mb.",
        )
    copy_tree(root, target, marks)
    # Looked at last: what was committed while the copy was made is in the records by now.
    if pending_commit(root, state).exists():
        raise UsageError(f"A commit into {root} is under way.", "Try again when that run has ended.")
    return _put_back(target, _replaced(_since(root, run, histories)))


def restore(folder: Path, path: str, entry: Entry | None, history: History) -> None:
    """Have at a path of a folder of ours what was kept. Raises `OSError`, `WorkspaceFault`."""
    place = folder / path
    _clear(place, entry)
    if entry is None:
        return
    _make_room(folder, path)
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
    """What is taken away first, from the inside out; then what is put there, from the outside in."""
    rows = sorted(changes, key=lambda change: change.path)
    gone = [row for row in reversed(rows) if row.after is None]
    return gone + [row for row in rows if row.after is not None]


def _since(root: Path, run: str, histories: Iterable[History]) -> list[Kept]:
    """The commits into a folder from the first one of a run on, oldest first."""
    found = [
        Kept(record, history)
        for history in histories
        for record in history.records()
        if record.root == str(root)
    ]
    found.sort(key=lambda kept: kept.record.time)
    first = next((n for n, kept in enumerate(found) if kept.record.author.run == run), len(found))
    return found[first:]


def _replaced(commits: Sequence[Kept]) -> list[tuple[Change, History]]:
    """Per path what the first of the commits found there, as the change that brings it back."""
    first: dict[str, tuple[Change, History]] = {}
    for kept in commits:
        for change in kept.record.changes:
            back = Change(path=change.path, before=None, after=change.before)
            first.setdefault(change.path, (back, kept.history))
    return list(first.values())


def _put_back(target: Path, replaced: Sequence[tuple[Change, History]]) -> list[str]:
    histories = {change.path: history for change, history in replaced}
    faults = []
    for change in in_order(change for change, _ in replaced):
        try:
            restore(target, change.path, change.after, histories[change.path])
        except (OSError, WorkspaceFault) as exc:
            faults.append(f"{change.path} cannot be put back as it was before the run: {exc}")
    return faults


def _clear(place: Path, entry: Entry | None) -> None:
    """Take away what stands at a path; a folder only where it is empty, or something else comes there."""
    if place.is_symlink() or place.is_file():
        place.unlink()
    elif place.is_dir() and (entry is None or entry.type != "folder"):
        if entry is None:
            with contextlib.suppress(OSError):
                place.rmdir()
        else:
            shutil.rmtree(place)


def _make_room(folder: Path, path: str) -> None:
    """The folders that a path lies in, none of them a link that leads elsewhere."""
    for parent in reversed(PurePosixPath(path).parents[:-1] if "/" in path else ()):
        around = folder / parent
        if around.is_symlink() or (around.exists() and not around.is_dir()):
            around.unlink()
        around.mkdir(exist_ok=True)
