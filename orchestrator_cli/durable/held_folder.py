"""A folder that is held open, so that what its path leads to later can be compared with it.

A path is only a name: a user who may write above it can put another folder there, or a link. While a
folder is open, no other has its device and inode.

A mark is the identity as text, for another process. Devices may get other numbers when the machine starts, so
after that the inode alone counts.

Not covered: a mark is also that of a folder that got the inode after the first was deleted, or, once the
machine was started again, of the one with that inode on another file system.
"""

import os
import weakref
from pathlib import Path

from orchestrator_cli.durable.boot_clock import boot_id
from orchestrator_cli.durable.places import FolderId, folder_id

FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


class HeldFolder:
    """An open folder and the path by which it was opened. It is closed with `close`, or when unused."""

    def __init__(self, path: Path) -> None:
        """Raises `OSError`."""
        self.path = path
        self.fd = os.open(path, FLAGS)
        self.id = folder_id(self.fd)
        self._close = weakref.finalize(self, os.close, self.fd)

    def is_there(self) -> bool:
        """Whether the path still leads to this folder."""
        return folder_id(self.path) == self.id

    @property
    def mark(self) -> str:
        return _mark(self.id)

    def close(self) -> None:
        """Idempotent."""
        self.fd = -1
        self._close()


def mark_of(path: Path) -> str:
    """The mark of the folder that a path leads to now; empty if there is none."""
    return _mark(folder_id(path))


def has_mark(place: Path | int, mark: str) -> bool:
    """Whether a path or descriptor is of the folder with a mark. True for a mark that says nothing."""
    try:
        device, inode, boot = mark.split(":")
        wanted = int(device), int(inode)
    except ValueError:
        return True
    found = folder_id(place)
    if found is None or found.inode != wanted[1]:
        return False
    return found.device == wanted[0] or boot != boot_id()


def _mark(found: FolderId | None) -> str:
    return f"{found.device}:{found.inode}:{boot_id()}" if found is not None else ""
