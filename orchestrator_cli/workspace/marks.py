"""What stands at a path: how it is recognised again, and what is kept of it. Pure values."""

import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal

from orchestrator_cli.events import FileChange, Part


@dataclass(frozen=True, slots=True)
class Mark:
    """Enough of a file, link or folder to notice that it changed. Of a folder only the mode counts."""

    mode: int
    """Type and permissions."""
    size: int = 0
    mtime_ns: int = 0
    inode: int = 0
    ctime_ns: int = 0
    """The kernel alone sets it, so it also tells of changes whose author set the time back."""
    target: str = ""
    """Where a link leads; else empty."""
    owner: int = 0

    @property
    def is_folder(self) -> bool:
        return stat.S_ISDIR(self.mode)

    @property
    def is_file(self) -> bool:
        return stat.S_ISREG(self.mode)


Tree = Mapping[str, Mark]
"""Marks by path relative to a root, folders included."""


class Ident(Part):
    """A mark without the time of its last renaming: what a file keeps while it is moved about."""

    mode: int
    size: int
    mtime_ns: int
    inode: int
    target: str

    def fits(self, mark: Mark | None) -> bool:
        return mark is not None and self == ident(mark)


def ident(mark: Mark) -> Ident:
    return Ident(mode=mark.mode, size=mark.size, mtime_ns=mark.mtime_ns, inode=mark.inode, target=mark.target)


class Entry(Part):
    """What is kept of a file, link or folder, so that it can be told and made again."""

    type: Literal["file", "link", "folder"]
    mode: int
    """Permissions only."""
    size: int = 0
    mtime_ns: int = 0
    sha256: str = ""
    """Of a file its content, of a link its target, of a folder nothing."""
    target: str = ""

    def same(self, other: "Entry | None") -> bool:
        """Whether content and mode are alike, whenever they were written."""
        return other is not None and self.model_copy(update={"mtime_ns": other.mtime_ns}) == other


def folder(mode: int) -> Entry:
    return Entry(type="folder", mode=stat.S_IMODE(mode))


class Change(Part):
    """One path of a commit: None where there was, or is, nothing."""

    path: str
    before: Entry | None
    after: Entry | None

    @property
    def is_folder(self) -> bool:
        """Whether nothing but a folder stood or stands there."""
        return all(entry.type == "folder" for entry in (self.before, self.after) if entry is not None)


def differing(before: Tree, after: Tree) -> list[str]:
    """The paths at which two states of one folder differ, sorted."""
    return sorted(path for path in before.keys() | after.keys() if before.get(path) != after.get(path))


def telling(paths: Iterable[str], before: Tree, after: Tree) -> list[str]:
    """`paths` as people are told of them: a folder, written `name/`, only where no path below it says so."""
    found = sorted(paths)
    around = _folders_around(found)
    said = []
    for path in found:
        marks = [mark for mark in (before.get(path), after.get(path)) if mark is not None]
        if not all(mark.is_folder for mark in marks):
            said.append(path)
        elif len(marks) == 2 or path not in around:
            said.append(f"{path}/")
    return said


def file_changes(changes: Iterable[Change]) -> tuple[FileChange, ...]:
    """The changes of a commit as its event tells them, sorted; folders as in `telling`."""
    rows = sorted(changes, key=lambda change: change.path)
    around = _folders_around(row.path for row in rows)
    return tuple(
        _file_change(row)
        for row in rows
        if not row.is_folder or (row.before and row.after) or row.path not in around
    )


def _folders_around(paths: Iterable[str]) -> set[str]:
    return {parent for path in paths for parent in map(str, PurePosixPath(path).parents)}


def _file_change(row: Change) -> FileChange:
    was, now = row.before, row.after
    return FileChange(
        path=f"{row.path}/" if row.is_folder else row.path,
        change="deleted" if now is None else "created" if was is None else "modified",
        before_size=_size(was),
        before_sha256=_hash(was),
        after_size=_size(now),
        after_sha256=_hash(now),
    )


def _size(entry: Entry | None) -> int | None:
    return None if entry is None or entry.type == "folder" else entry.size


def _hash(entry: Entry | None) -> str | None:
    return None if entry is None or entry.type == "folder" else entry.sha256
