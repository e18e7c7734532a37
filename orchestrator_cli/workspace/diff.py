"""The changes of a run as text: unified diffs in git's format; sizes and hashes if a file is not text.

As in git, only a line feed ends a line. Bytes that are not UTF-8 are surrogates of `surrogateescape`. The
lines are a patch for `git apply`; a person reads them through `readable`, which hides nothing.
"""

import os
import re
from collections.abc import Container, Iterable, Iterator
from pathlib import Path

from orchestrator_cli.cancellation import Cancellation
from orchestrator_cli.durable.foreign import HIDDEN, LINE_ENDS, SURROGATES, hidden_count, visible
from orchestrator_cli.errors import WorkspaceFault
from orchestrator_cli.workspace.checkout import Checkout
from orchestrator_cli.workspace.file_state import Change, FileEntry
from orchestrator_cli.workspace.history import CommitHistory, squash
from orchestrator_cli.workspace.line_diff import unified_lines
from orchestrator_cli.workspace.tree import Root
from orchestrator_cli.workspace.undo import entry_at

LARGE = 1 << 20
"""Files of more bytes are not compared line by line."""
BINARY_SHARE = 1 / 8
"""A file with a larger share of control characters and bytes that are not UTF-8 is not text."""

_ODD_IN_TEXT = re.compile(f"[\\x00-\\x08\\x0e-\\x1f\\x7f{SURROGATES}]")
_ODD_IN_NAME = re.compile(f'[\\t{LINE_ENDS}{HIDDEN}{SURROGATES}"\\\\]')
_C_NAMES = {"\t": "\\t", "\n": "\\n", "\r": "\\r", '"': '\\"', "\\": "\\\\"}


def run_changes(history: CommitHistory) -> list[Change]:
    """The combined changes of the subtasks of a run, sorted, whether or not they were undone."""
    return squash([record for record in history.records() if record.author.undo_to is None])


def was_undone(history: CommitHistory) -> bool:
    """Whether all changes of the run were undone."""
    records = history.records()
    return bool(run_changes(history)) and not squash(records)


def diff_lines(history: CommitHistory, root: Path) -> Iterator[str]:
    """The lines of the diff, without line ends.

    New content is taken from the history, or from the workspace if it is unchanged there.
    """
    with Root(root) as tree:
        for change in run_changes(history):
            yield from _lines(change, _Contents(tree, history=history))


def pending_diffs(
    checkout: Checkout,
    before: Root,
    only: Container[str] | None = None,
    cancellation: Cancellation | None = None,
) -> dict[str, list[str]]:
    """The lines of the diff between the workspace as it is now, `before`, and a checkout, by path.

    `only`: the paths to compare. Raises the reason of the cancellation.
    """
    found = {}
    with Root(checkout.root) as after:
        contents = _Contents(before, after)
        for path in checkout.changed_paths():
            name = path.rstrip("/")
            if only is not None and name not in only:
                continue
            if cancellation is not None:
                cancellation.check()
            was, now = entry_at(before, name), entry_at(after, name)
            if was is not None or now is not None:
                found[name] = list(_lines(Change(path=name, before=was, after=now), contents))
    return found


def readable(lines: Iterable[str]) -> Iterator[str]:
    """A diff for a person: hidden signs are written as `visible` does, and a line below counts them.

    Only a line that counts begins with a backslash, so a `\\r` that a file really has cannot pass for the
    sign.
    """
    for line in lines:
        yield visible(line)
        if count := hidden_count(line.removesuffix("\r")):
            yield f"\\ {count:,} hidden sign{'' if count == 1 else 's'} in the line above"


def quoted(name: str) -> str:
    """A name as git writes it: in double quotes, with C's escapes, if it has quotes or hidden signs."""
    if not _ODD_IN_NAME.search(name):
        return name
    return f'"{_ODD_IN_NAME.sub(lambda match: _escape(match.group()), name)}"'


def _escape(sign: str) -> str:
    octal = "".join(f"\\{byte:03o}" for byte in sign.encode("utf-8", "surrogateescape"))
    return _C_NAMES.get(sign, octal)


class _Contents:
    """Contents of files: from the history, or from one of the trees if unchanged there."""

    def __init__(self, *trees: Root, history: CommitHistory | None = None) -> None:
        self._trees = trees
        self._history = history

    def of(self, path: str, entry: FileEntry | None) -> bytes | None:
        """None if the content is no longer available, or too large."""
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


def _present(tree: Root, path: str, entry: FileEntry) -> bytes | None:
    """The content of a file, if it still matches the entry."""
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
        # As in git: a deletion, then a creation.
        yield from _lines(Change(path=path, before=was, after=None), contents)
        yield from _lines(Change(path=path, before=None, after=now), contents)
        return
    if change.is_folder:
        yield from _folder_lines(change)
        return
    yield f"diff --git {quoted(f'a/{path}')} {quoted(f'b/{path}')}"
    yield from _mode_lines(was, now)
    yield from _content_lines(change, contents)


def _folder_lines(change: Change) -> Iterator[str]:
    name = quoted(f"{change.path}/")
    if change.before and change.after:
        yield f"folder {name} changed its mode: {change.before.mode:o} → {change.after.mode:o}"
    else:
        yield f"folder {name} {'deleted' if change.before else 'created'}"


def _mode_lines(was: FileEntry | None, now: FileEntry | None) -> Iterator[str]:
    if was is None and now is not None:
        yield f"new file mode {_mode(now)}"
    elif now is None and was is not None:
        yield f"deleted file mode {_mode(was)}"
    elif was is not None and now is not None and was.mode != now.mode:
        yield f"old mode {_mode(was)}"
        yield f"new mode {_mode(now)}"


def _mode(entry: FileEntry) -> str:
    return "120000" if entry.type == "link" else f"100{entry.mode:03o}"


def _content_lines(change: Change, contents: _Contents) -> Iterator[str]:
    was, now = change.before, change.after
    if was and now and was.sha256 == now.sha256:
        return
    old, new = (_text(contents.of(change.path, entry)) for entry in (was, now))
    if old is None or new is None:
        yield f"not text, or too large to be shown line by line: {_version(was)} → {_version(now)}"
        return
    name_old = quoted(f"a/{change.path}") if was else "/dev/null"
    name_new = quoted(f"b/{change.path}") if now else "/dev/null"
    for line in unified_lines(_split(old), _split(new), name_old, name_new):
        yield line.removesuffix("\n")
        if not line.endswith("\n"):
            yield "\\ No newline at end of file"


def _text(content: bytes | None) -> str | None:
    """None for a file that is not text; a few odd bytes hide nothing of one that is."""
    if content is None:
        return None
    text = content.decode("utf-8", "surrogateescape")
    return text if len(_ODD_IN_TEXT.findall(text)) <= len(text) * BINARY_SHARE else None


def _split(text: str) -> list[str]:
    """Lines with their ends; `splitlines` would also split at form feeds and the like."""
    lines = text.split("\n")
    return [f"{line}\n" for line in lines[:-1]] + ([lines[-1]] if lines[-1] else [])


def _version(entry: FileEntry | None) -> str:
    return "nothing" if entry is None else f"{entry.size} bytes, sha256 {entry.sha256[:12]}"
