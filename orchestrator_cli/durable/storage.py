"""Which errors are those of the machine's storage, and not of the work that met them.

A full disk, a used-up quota, a device that fails and a file system that is or became read-only say nothing
about the work. They are known by their error number, however many exceptions were raised from the first, or
by the file systems themselves: what a program in a sandbox or on another machine says about an error is only
text, so the host looks whether its own disk takes anything.

Not covered: file systems that report free space and refuse it, such as some on a network; a program that
used up the disk and has freed it before the host looks.
"""

import errno
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

STORAGE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS})
LEAST_FREE = 64 << 10
"""A file system with fewer free bytes counts as full."""


def storage_error(exc: BaseException) -> OSError | None:
    """The storage error that an exception is or was raised from; None if there is none."""
    return next((one for one in _chain(exc) if isinstance(one, OSError) and one.errno in STORAGE), None)


def _chain(exc: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    left = [exc]
    while left:
        one = left.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        if isinstance(one, BaseExceptionGroup):
            left += one.exceptions
        context = None if one.__suppress_context__ else one.__context__
        left += [other for other in (one.__cause__, context) if other is not None]


def unwritable(folders: Iterable[Path]) -> OSError | None:
    """The error that the next write into one of these folders would meet; None if all take something.

    A folder that does not exist counts as the one above it.
    """
    for folder in map(_existing, folders):
        found = os.statvfs(folder)
        if found.f_flag & os.ST_RDONLY:
            return _error(errno.EROFS, folder)
        if not os.access(folder, os.W_OK):
            return _error(errno.EACCES, folder)
        # Some file systems count no files.
        if free_bytes(folder) < LEAST_FREE or (found.f_files and not found.f_ffree):
            return _error(errno.ENOSPC, folder)
    return None


def too_small(needs: Iterable[tuple[Path, int]]) -> OSError | None:
    """The error that writing so many bytes into these folders would end with; None if there is room.

    Folders on one file system share its space.
    """
    wanted: dict[int, int] = {}
    for folder, size in ((_existing(path), size) for path, size in needs):
        device = folder.stat().st_dev
        wanted[device] = wanted.get(device, 0) + size
        if wanted[device] > max(0, free_bytes(folder) - LEAST_FREE):
            return _error(errno.ENOSPC, folder)
    return None


def free_bytes(folder: Path) -> int:
    """What this user can still write there."""
    found = os.statvfs(folder)
    return (found.f_bavail if os.geteuid() else found.f_bfree) * found.f_frsize


def mount_of(path: Path) -> Path:
    """Where the file system of a path is mounted."""
    folder = _existing(path.absolute())
    while not folder.is_mount():
        folder = folder.parent
    return folder


def _existing(path: Path) -> Path:
    return next(one for one in (path, *path.parents) if one.exists())


def _error(number: int, folder: Path) -> OSError:
    return OSError(number, os.strerror(number), str(folder))
