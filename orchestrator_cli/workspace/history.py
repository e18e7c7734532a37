"""What the commits of a run replaced: a record per commit, and contents by their hash.

    runs/RUN/undo/0001.json …    a record per commit or undo, in order
    runs/RUN/undo/blobs/SHA256   what was replaced, and small files as they became

Contents that were replaced are on the disk before the commit begins. Small files as they became
are kept for `orch diff` alone, and are not waited for.

What is not covered: nothing is ever taken away; a run's folder may be deleted whole.
"""

import contextlib
import os
import uuid
from collections.abc import Callable
from pathlib import Path

from orchestrator_cli.durable.files import sync_folder, write_atomic
from orchestrator_cli.workspace.faults import WorkspaceFault
from orchestrator_cli.workspace.marks import Change, Entry
from orchestrator_cli.workspace.record import Record, read_record
from orchestrator_cli.workspace.tree import copy_hashed, hashed

SMALL = 256 << 10
"""Bytes up to which files are also kept as they became."""


class History:
    """The history of one run, in its own folder; made when there is something to keep."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._blobs = folder / "blobs"

    def records(self) -> list[Record]:
        """Every finished commit and undo, oldest first. Raises `WorkspaceFault`."""
        found = (read_record(path) for path in self._paths())
        return [record for record in found if record is not None]

    def add(self, pending: Path) -> None:
        """Take over the record of a finished commit: from now on it is one. Raises `OSError`."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        last = max((int(path.stem) for path in self._paths()), default=0)
        pending.replace(self.folder / f"{last + 1:04}.json")
        sync_folder(self.folder)
        sync_folder(pending.parent)

    def keep(self, source: int) -> str:
        """Keep a content, and return its hash. Raises `OSError`."""
        self._blobs.mkdir(parents=True, exist_ok=True, mode=0o700)
        # Not `write_atomic`: the name follows from what is copied, and the folder is synced once for all.
        scratch = self._blobs / f"{uuid.uuid4().hex}.tmp"
        fd = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            digest = copy_hashed(source, fd)
            os.fsync(fd)
        except BaseException:
            scratch.unlink(missing_ok=True)
            raise
        finally:
            os.close(fd)
        scratch.replace(self._blobs / digest)
        return digest

    def keep_small(self, content: bytes, sha256: str) -> None:
        """Keep how a file became, where that is cheap; without it, `orch diff` shows sizes."""
        blob = self._blobs / sha256
        with contextlib.suppress(OSError):
            if not blob.exists():
                self._blobs.mkdir(parents=True, exist_ok=True, mode=0o700)
                write_atomic(blob, content, sync=False)

    def sync(self) -> None:
        """Have the names of what was kept on the disk."""
        if self._blobs.is_dir():
            sync_folder(self._blobs)

    def opener(self, sha256: str) -> Callable[[], int]:
        """Opens a content that was kept. Opening raises `WorkspaceFault` where it is gone or damaged."""
        path = self._blobs / sha256

        def open_() -> int:
            try:
                fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                raise WorkspaceFault(f"{path}, a content that undo needs, is gone") from None
            if hashed(fd) != sha256:
                os.close(fd)
                raise WorkspaceFault(f"{path}, a content that undo needs, is damaged")
            os.lseek(fd, 0, os.SEEK_SET)
            return fd

        return open_

    def content(self, sha256: str) -> bytes | None:
        """A content that was kept, or None."""
        with contextlib.suppress(OSError):
            return (self._blobs / sha256).read_bytes()
        return None

    def _paths(self) -> list[Path]:
        found = (path for path in self.folder.glob("*.json") if path.stem.isdigit())
        return sorted(found, key=lambda path: int(path.stem))


def net(records: list[Record]) -> list[Change]:
    """What several commits in a row come to, sorted: paths that are as they were are left out."""
    first: dict[str, Entry | None] = {}
    last: dict[str, Entry | None] = {}
    for record in records:
        for change in record.changes:
            first.setdefault(change.path, change.before)
            last[change.path] = change.after
    return [
        Change(path=path, before=before, after=last[path])
        for path, before in sorted(first.items())
        if not (before is None and last[path] is None) and not (before and before.same(last[path]))
    ]
