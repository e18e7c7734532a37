"""The state of a path: enough to notice a change, and enough to restore it. Pure values."""

import hashlib
import os
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal

from orchestrator_cli.events import FileChange, Part


@dataclass(frozen=True, slots=True)
class FileStat:
    """Enough of a file, link or folder to notice that it changed. Of a folder, only the mode counts."""

    mode: int
    """Type and permissions."""
    size: int = 0
    mtime_ns: int = 0
    inode: int = 0
    ctime_ns: int = 0
    """Set by the kernel alone, so it reveals changes whose author reset `mtime`."""
    target: str = ""
    """The target of a link, else empty."""
    owner: int = 0

    @property
    def is_folder(self) -> bool:
        return stat.S_ISDIR(self.mode)

    @property
    def is_file(self) -> bool:
        return stat.S_ISREG(self.mode)

    @property
    def id(self) -> "FileId":
        return FileId(
            mode=self.mode, size=self.size, mtime_ns=self.mtime_ns, inode=self.inode, target=self.target
        )


FileTree = Mapping[str, FileStat]
"""States by path relative to a root, folders included."""


class FileId(Part):
    """The part of a `FileStat` that survives renaming: all but `ctime`, which a rename sets."""

    mode: int
    size: int
    mtime_ns: int
    inode: int
    target: str

    def matches(self, found: FileStat | None) -> bool:
        return found is not None and self == found.id


class FileEntry(Part):
    """What is recorded of a file, link or folder, so that it can be reported and restored."""

    type: Literal["file", "link", "folder"]
    mode: int
    """Permissions only."""
    size: int = 0
    mtime_ns: int = 0
    sha256: str = ""
    """Of a file's content or a link's target; empty for a folder."""
    target: str = ""

    def same(self, other: "FileEntry | None") -> bool:
        """Whether content and mode are equal, whatever the time of writing."""
        return other is not None and self.model_copy(update={"mtime_ns": other.mtime_ns}) == other


def same_entry(one: FileEntry | None, other: FileEntry | None) -> bool:
    """Whether two entries are equal in content and mode, or both None."""
    return one is other or (one is not None and one.same(other))


def entry_of(state: FileStat, sha256: str = "") -> FileEntry:
    """The entry of a path; `sha256` is the hash of a file's content."""
    mode = stat.S_IMODE(state.mode)
    if state.is_folder:
        return FileEntry(type="folder", mode=mode)
    if state.target:
        raw = os.fsencode(state.target)
        digest = hashlib.sha256(raw).hexdigest()
        return FileEntry(
            type="link",
            mode=mode,
            size=len(raw),
            mtime_ns=state.mtime_ns,
            sha256=digest,
            target=state.target,
        )
    return FileEntry(type="file", mode=mode, size=state.size, mtime_ns=state.mtime_ns, sha256=sha256)


class Change(Part):
    """One path of a commit. None means that nothing was there before, or is there after."""

    path: str
    before: FileEntry | None
    after: FileEntry | None

    @property
    def is_folder(self) -> bool:
        """Whether the path was and is at most a folder."""
        return all(entry.type == "folder" for entry in (self.before, self.after) if entry is not None)


def differing(before: FileTree, after: FileTree) -> list[str]:
    """The paths at which two states of one folder differ, sorted."""
    return sorted(path for path in before.keys() | after.keys() if before.get(path) != after.get(path))


def display_paths(paths: Iterable[str], before: FileTree, after: FileTree) -> list[str]:
    """`paths` for people: a folder, written `name/`, is listed only if no path below it is."""
    found = sorted(paths)
    parents = _parents(found)
    shown = []
    for path in found:
        states = [state for state in (before.get(path), after.get(path)) if state is not None]
        if not all(state.is_folder for state in states):
            shown.append(path)
        elif len(states) == 2 or path not in parents:
            shown.append(f"{path}/")
    return shown


def file_changes(changes: Iterable[Change]) -> tuple[FileChange, ...]:
    """The changes of a commit as its event reports them, sorted; folders as in `display_paths`."""
    rows = sorted(changes, key=lambda change: change.path)
    parents = _parents(row.path for row in rows)
    return tuple(
        _file_change(row)
        for row in rows
        if not row.is_folder or (row.before and row.after) or row.path not in parents
    )


def _parents(paths: Iterable[str]) -> set[str]:
    return {parent for path in paths for parent in map(str, PurePosixPath(path).parents)}


def _file_change(row: Change) -> FileChange:
    was, now = (
        None if entry is None or entry.type == "folder" else entry for entry in (row.before, row.after)
    )
    return FileChange(
        path=f"{row.path}/" if row.is_folder else row.path,
        change="deleted" if row.after is None else "created" if row.before is None else "modified",
        before_size=was and was.size,
        before_sha256=was and was.sha256,
        after_size=now and now.size,
        after_sha256=now and now.sha256,
    )
