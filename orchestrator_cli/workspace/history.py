"""The commits of a run: a record of each, and the contents that they replaced.

    runs/RUN/undo/0001.json …    a record per commit or undo, in order
    runs/RUN/undo/blobs/SHA256   replaced contents, and small files as they became

A record is written next to the state of `orch` before anything in the workspace changes, and
moved here in one step when everything has changed. Replaced contents are on the disk before the
commit begins. Small files as they became are kept for `orch diff` alone, without waiting for the disk.

Not covered: nothing is ever deleted; a run's folder may be deleted as a whole.
"""

import contextlib
import os
import uuid
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import ConfigDict, Field, ValidationError

from orchestrator_cli.durable.files import sync, sync_folder, write_atomic
from orchestrator_cli.errors import WorkspaceFault
from orchestrator_cli.events import Part
from orchestrator_cli.workspace.file_state import Change, FileEntry, FileId
from orchestrator_cli.workspace.tree import copy_hashed, hashed

SCHEMA = 1
SMALL = 256 << 10
"""Bytes up to which files are also kept as they became."""


class Author(Part):
    """The subtask or undo that made a commit."""

    run: str
    subtask: str = ""
    attempt: int = 1
    undo_to: str | None = None
    """None for a subtask's commit; for an undo, the subtask it went back to, or empty for the whole run."""

    def __str__(self) -> str:
        what = f"{self.subtask or 'a subtask'}" if self.undo_to is None else "an undo"
        return f"{what} of run {self.run}"


class CommitStep(Part):
    """One rename or the like. Idempotent, and each can be reverted."""

    do: Literal["take", "rmdir", "mkdir", "put", "chmod"]
    path: str
    slot: str = ""
    """Name in the staging folder: the source of `put`, the target of `take`."""
    before: FileId | None = None
    staged: FileId | None = None
    mode: int = 0
    """Of `mkdir` and `chmod` the new permissions, of `rmdir` the old ones."""
    old_mode: int = 0
    must: bool = True
    """False for a folder that may stay if it holds new files of others."""


class CommitRecord(Part):
    version: int = Field(default=SCHEMA, alias="schema")
    author: Author
    root: str
    time: datetime = Field(default_factory=lambda: datetime.now(UTC))
    phase: Literal["forward", "back"] = "forward"
    staging: str
    """Name of the staging folder in the root."""
    changes: tuple[Change, ...]
    steps: tuple[CommitStep, ...]

    model_config = ConfigDict(frozen=True, populate_by_name=True)


class CommitHistory:
    """The history of one run, in its own folder, which is created with the first record or content."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._blobs = folder / "blobs"

    def records(self) -> list[CommitRecord]:
        """Every finished commit and undo, oldest first. Raises `WorkspaceFault`."""
        found = (read_record(path) for path in self._paths())
        return [record for record in found if record is not None]

    def add(self, pending: Path) -> None:
        """Move the record of a finished commit here. Raises `OSError`."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        last = max((int(path.stem) for path in self._paths()), default=0)
        pending.replace(self.folder / f"{last + 1:04}.json")
        sync_folder(self.folder)
        sync_folder(pending.parent)

    def keep(self, source: int) -> str:
        """Store the content of an open file; returns its hash. Raises `OSError`."""
        self._blobs.mkdir(parents=True, exist_ok=True, mode=0o700)
        # Not `write_atomic`: the name follows from the copied content, and the folder is synced once for all.
        scratch = self._blobs / f"{uuid.uuid4().hex}.tmp"
        fd = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            digest = copy_hashed(source, fd)
            sync(fd)
        except BaseException:
            scratch.unlink(missing_ok=True)
            raise
        finally:
            os.close(fd)
        scratch.replace(self._blobs / digest)
        return digest

    def keep_small(self, content: bytes, sha256: str) -> None:
        """Store a new content if that works; without it, `orch diff` shows sizes only."""
        blob = self._blobs / sha256
        with contextlib.suppress(OSError):
            if not blob.exists():
                self._blobs.mkdir(parents=True, exist_ok=True, mode=0o700)
                write_atomic(blob, content, sync=False)

    def sync(self) -> None:
        """Write the names of the stored contents to the disk."""
        if self._blobs.is_dir():
            sync_folder(self._blobs)

    def opener(self, sha256: str) -> Callable[[], int]:
        """Opens a stored content for reading; raises `WorkspaceFault` if it is missing or damaged."""
        path = self._blobs / sha256

        def open_() -> int:
            try:
                fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                raise WorkspaceFault(f"{path}, which undo needs, is missing") from None
            if hashed(fd) != sha256:
                os.close(fd)
                raise WorkspaceFault(f"{path}, which undo needs, is damaged")
            os.lseek(fd, 0, os.SEEK_SET)
            return fd

        return open_

    def content(self, sha256: str) -> bytes | None:
        """A stored content, or None."""
        with contextlib.suppress(OSError):
            return (self._blobs / sha256).read_bytes()
        return None

    def _paths(self) -> list[Path]:
        found = (path for path in self.folder.glob("*.json") if path.stem.isdigit())
        return sorted(found, key=lambda path: int(path.stem))


def squash(records: list[CommitRecord]) -> list[Change]:
    """The combined changes of consecutive commits, sorted, without paths that end as they began."""
    first: dict[str, FileEntry | None] = {}
    last: dict[str, FileEntry | None] = {}
    for record in records:
        for change in record.changes:
            first.setdefault(change.path, change.before)
            last[change.path] = change.after
    return [
        Change(path=path, before=before, after=last[path])
        for path, before in sorted(first.items())
        if not (before is None and last[path] is None) and not (before and before.same(last[path]))
    ]


def not_undone(records: Sequence[CommitRecord]) -> list[CommitRecord]:
    """The commits that no undo has reverted, oldest first."""
    left: list[CommitRecord] = []
    for record in records:
        to = record.author.undo_to
        if to is None:
            left.append(record)
        else:
            last = max((n for n, one in enumerate(left) if one.author.subtask == to), default=-1)
            del left[last + 1 :]
    return left


def read_record(path: Path) -> CommitRecord | None:
    """None if the file is missing. Raises `WorkspaceFault` if it cannot be understood."""
    try:
        return CommitRecord.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValidationError as exc:
        raise WorkspaceFault(f"{path}, the record of a commit, was written by another version") from exc


def write_record(path: Path, record: CommitRecord) -> None:
    """Replace the file in one step, and write it to the disk. Raises `OSError`."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_atomic(path, record.model_dump_json(by_alias=True), scratch=path.with_suffix(".tmp"))
