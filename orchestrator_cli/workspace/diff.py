"""What a run changed, as text: unified diffs in git's form, and sizes with hashes for what is no text."""

import difflib
import os
from collections.abc import Iterator
from pathlib import Path

from orchestrator_cli.workspace.checkout import Checkout
from orchestrator_cli.workspace.faults import WorkspaceFault
from orchestrator_cli.workspace.history import History, net
from orchestrator_cli.workspace.marks import Change, Entry
from orchestrator_cli.workspace.tree import Root
from orchestrator_cli.workspace.undo import entry_at

LARGE = 1 << 20
"""Bytes beyond which files are not compared line by line."""


def run_changes(history: History) -> list[Change]:
    """The net of what the subtasks of a run committed, whether or not it was undone. Sorted."""
    return net([record for record in history.records() if record.author.undo_to is None])


def was_undone(history: History) -> bool:
    """Whether what the run committed was taken back, all of it."""
    records = history.records()
    return bool(run_changes(history)) and not net(records)


def diff_lines(history: History, root: Path) -> Iterator[str]:
    """The lines of the diff, without their ends.

    How a file became is taken from the history, or from the workspace where it is still like that.
    """
    with Root(root) as tree:
        for change in run_changes(history):
            yield from _lines(change, _Contents(tree, history=history))


def pending_lines(checkout: Checkout, root: Path) -> Iterator[str]:
    """The lines of what a checkout would change in the workspace as it is now."""
    with Root(root) as before, Root(checkout.root) as after:
        contents = _Contents(before, after)
        for path in checkout.written_paths():
            name = path.rstrip("/")
            was, now = entry_at(before, name), entry_at(after, name)
            if was is not None or now is not None:
                yield from _lines(Change(path=name, before=was, after=now), contents)


class _Contents:
    """What a file held or holds: as the history has kept it, or as it stands in one of the trees."""

    def __init__(self, *trees: Root, history: History | None = None) -> None:
        self._trees = trees
        self._history = history

    def of(self, path: str, entry: Entry | None) -> bytes | None:
        """None where the content is not to be had any more, or too large."""
        if entry is None or entry.type == "folder":
            return b""
        if entry.type == "link":
            return os.fsencode(entry.target)
        if entry.size > LARGE:
            return None
        if self._history is not None and (kept := self._history.content(entry.sha256)) is not None:
            return kept
        found = (_present(tree, path, entry) for tree in self._trees)
        return next((content for content in found if content is not None), None)


def _present(tree: Root, path: str, entry: Entry) -> bytes | None:
    """The content of a file that still is as the entry says."""
    try:
        found = entry_at(tree, path)
        if found is None or found.sha256 != entry.sha256:
            return None
        with os.fdopen(tree.open_file(path), "rb") as file:
            return file.read(LARGE + 1)
    except (OSError, WorkspaceFault):
        return None


def _lines(change: Change, contents: _Contents) -> Iterator[str]:
    was, now, path = change.before, change.after, change.path
    if was is not None and now is not None and was.type != now.type:
        # As git does: one thing goes, another comes.
        yield from _lines(Change(path=path, before=was, after=None), contents)
        yield from _lines(Change(path=path, before=None, after=now), contents)
        return
    if change.is_folder:
        yield from _folder_lines(change)
        return
    yield f"diff --git a/{path} b/{path}"
    yield from _mode_lines(was, now)
    yield from _content_lines(change, contents)


def _folder_lines(change: Change) -> Iterator[str]:
    if change.before and change.after:
        yield f"folder {change.path}/ changed its mode: {change.before.mode:o} → {change.after.mode:o}"
    else:
        yield f"folder {change.path}/ {'deleted' if change.before else 'created'}"


def _mode_lines(was: Entry | None, now: Entry | None) -> Iterator[str]:
    if was is None and now is not None:
        yield f"new file mode {_mode(now)}"
    elif now is None and was is not None:
        yield f"deleted file mode {_mode(was)}"
    elif was is not None and now is not None and was.mode != now.mode:
        yield f"old mode {_mode(was)}"
        yield f"new mode {_mode(now)}"


def _mode(entry: Entry) -> str:
    return "120000" if entry.type == "link" else f"100{entry.mode:03o}"


def _content_lines(change: Change, contents: _Contents) -> Iterator[str]:
    was, now = change.before, change.after
    if was and now and was.sha256 == now.sha256:
        return
    old, new = (_text(contents.of(change.path, entry)) for entry in (was, now))
    if old is None or new is None:
        yield f"not shown line by line: {_version(was)} → {_version(now)}"
        return
    name_old = f"a/{change.path}" if was else "/dev/null"
    name_new = f"b/{change.path}" if now else "/dev/null"
    for line in difflib.unified_diff(_split(old), _split(new), name_old, name_new):
        yield line.removesuffix("\n")
        if not line.endswith("\n"):
            yield "\\ No newline at end of file"


def _text(content: bytes | None) -> str | None:
    if content is None or b"\0" in content:
        return None
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        return None


def _split(text: str) -> list[str]:
    """Lines with their ends; not `splitlines`, which takes form feeds and the like for ends too."""
    lines = text.split("\n")
    return [f"{line}\n" for line in lines[:-1]] + ([lines[-1]] if lines[-1] else [])


def _version(entry: Entry | None) -> str:
    return "nothing" if entry is None else f"{entry.size} bytes, sha256 {entry.sha256[:12]}"
