"""A folder reached by descriptors: nothing below it is ever reached through a link.

Every folder on the way to a path is opened from the one before it, so links that code in a
checkout planted, or that somebody plants meanwhile, lead nowhere.

What is not covered: files other than regular ones, links and folders (sockets, pipes, devices)
are passed over; owners and access lists are not kept, other extended attributes of the user are.
"""

import contextlib
import hashlib
import os
import shutil
import stat
import sys
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

from orchestrator_cli.workspace.faults import WorkspaceFault
from orchestrator_cli.workspace.marks import Mark

MAX_DEPTH = 100
"""Folders within folders; deeper ones would cost a descriptor each and have no honest use."""
CHUNK = 1 << 20
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Root:
    """An open folder. Paths are relative to it, with `/`; use it as a context manager."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def __enter__(self) -> "Root":
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.fd)

    @contextlib.contextmanager
    def folder(self, path: str) -> Iterator[int]:
        """A descriptor of a folder. Raises `FileNotFoundError`, `NotADirectoryError` (links too)."""
        fd = os.dup(self.fd)
        try:
            for part in PurePosixPath(path).parts:
                below = os.open(part, _FOLDER, dir_fd=fd)
                os.close(fd)
                fd = below
            yield fd
        finally:
            os.close(fd)

    @contextlib.contextmanager
    def parent(self, path: str) -> Iterator[tuple[int, str]]:
        """A descriptor of the folder that a path lies in, and its name there."""
        folder, _, name = path.rpartition("/")
        with self.folder(folder) as fd:
            yield fd, name

    def mark(self, path: str) -> Mark | None:
        """What stands at a path; None where there is nothing, or a link on the way."""
        with contextlib.suppress(FileNotFoundError, NotADirectoryError), self.parent(path) as (fd, name):
            return mark_at(fd, name)
        return None

    def open_file(self, path: str) -> int:
        """A descriptor to read a regular file; the caller closes it. Raises `OSError`."""
        with self.parent(path) as (fd, name):
            # O_NONBLOCK: opening a named pipe that somebody planted must not hang the host.
            found = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=fd)
        if not stat.S_ISREG(os.fstat(found).st_mode):
            os.close(found)
            raise WorkspaceFault(f"{path} is no regular file")
        return found

    def walk(self, hidden: Callable[[str], bool]) -> Iterator[tuple[str, Mark]]:
        """Every file, link and folder below; what is `hidden`, by its path, is not entered or told."""
        yield from _walk(self.fd, "", hidden, MAX_DEPTH)

    def sync(self, folder: str) -> None:
        """Have what was renamed in a folder on the disk; a folder that is gone needs none."""
        with contextlib.suppress(FileNotFoundError, NotADirectoryError), self.folder(folder) as fd:
            os.fsync(fd)


def _walk(folder: int, prefix: str, hidden: Callable[[str], bool], depth: int) -> Iterator[tuple[str, Mark]]:
    if depth == 0:
        raise WorkspaceFault(f"{prefix[:80]}… has more than {MAX_DEPTH} folders within each other")
    with os.scandir(folder) as found:
        entries = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in found]
    for name, is_folder in entries:
        if hidden(prefix + name) or (mark := mark_at(folder, name)) is None:
            continue
        yield prefix + name, mark
        if is_folder:
            with contextlib.suppress(FileNotFoundError, NotADirectoryError), _opened(folder, name) as below:
                yield from _walk(below, f"{prefix}{name}/", hidden, depth - 1)


@contextlib.contextmanager
def _opened(folder: int, name: str) -> Iterator[int]:
    fd = os.open(name, _FOLDER, dir_fd=folder)
    try:
        yield fd
    finally:
        os.close(fd)


def mark_at(folder: int, name: str) -> Mark | None:
    """What stands under a name in an open folder; None for nothing, and for sockets, pipes and devices."""
    try:
        found = os.stat(name, dir_fd=folder, follow_symlinks=False)
        target = os.readlink(name, dir_fd=folder) if stat.S_ISLNK(found.st_mode) else ""
    except FileNotFoundError:
        return None
    if stat.S_ISDIR(found.st_mode):
        return Mark(found.st_mode)
    if not (stat.S_ISREG(found.st_mode) or target):
        return None
    times = found.st_mtime_ns, found.st_ino, found.st_ctime_ns
    return Mark(found.st_mode, found.st_size, *times, target, found.st_uid)


# --- contents


def clone(source: int, target: int) -> None:
    """Copy a file's content as cheaply as the file system can: shared blocks, else within the kernel."""
    if _share_blocks(source, target):
        return
    try:
        while os.copy_file_range(source, target, CHUNK << 6):
            pass
    except (AttributeError, OSError):  # other systems, and pairs of file systems that cannot
        os.lseek(source, 0, os.SEEK_SET)
        os.lseek(target, 0, os.SEEK_SET)
        os.ftruncate(target, 0)
        copy_hashed(source, target)


def copy_hashed(source: int, target: int) -> str:
    """Copy a file's content and return its SHA-256, in hexadecimal."""
    if _share_blocks(source, target):
        return hashed(source)
    digest = hashlib.sha256()
    while chunk := os.read(source, CHUNK):
        digest.update(chunk)
        left = memoryview(chunk)
        while left:
            left = left[os.write(target, left) :]
    return digest.hexdigest()


def hashed(source: int) -> str:
    """The SHA-256 of a file's content, from where it is read to its end."""
    digest = hashlib.sha256()
    while chunk := os.read(source, CHUNK):
        digest.update(chunk)
    return digest.hexdigest()


def _share_blocks(source: int, target: int) -> bool:
    try:
        import fcntl

        fcntl.ioctl(target, 0x40049409, source)  # FICLONE of Linux
    except (ImportError, OSError):
        return False
    return True


def dress(source: int, target: int, mode: int, mtime_ns: int) -> None:
    """Give a copy the mode, the time and the user's extended attributes of what it was made from."""
    if hasattr(os, "listxattr"):
        with contextlib.suppress(OSError):
            for name in os.listxattr(source):
                if name.startswith("user.") and not name.startswith("user.overlay."):
                    os.setxattr(target, name, os.getxattr(source, name))
    os.fchmod(target, stat.S_IMODE(mode))
    os.utime(target, ns=(mtime_ns, mtime_ns))


def remove(folder: Path) -> None:
    """Delete a folder with all in it, however deep, without following links; what cannot go stays."""

    def unlock(_function: Callable[..., object], path: str, _error: object) -> None:
        """A folder without write permission keeps its files until it is given that permission."""
        place = Path(path)
        with contextlib.suppress(OSError):
            if folder in place.parents:
                # Never the parent of the folder itself: that one is the user's.
                place.parent.chmod(0o700)
            if place.is_dir() and not place.is_symlink():
                place.chmod(0o700)
                shutil.rmtree(place, ignore_errors=True)
            else:
                place.unlink()

    try:
        if sys.version_info >= (3, 12):
            shutil.rmtree(folder, onexc=unlock)
        else:
            shutil.rmtree(folder, onerror=unlock)
    except RecursionError:
        import subprocess

        subprocess.run(["rm", "-rf", "--", str(folder)], check=False, capture_output=True)
