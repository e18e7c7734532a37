"""Renaming that never loses what stood there: two names exchanged in one step, or a name that must be free.

Linux does both as single system calls. Elsewhere, and on file systems that cannot, they are made
of plain renames: then there is a moment in which a name does not exist, and a file that somebody
creates in that moment under a name that was free is lost.
"""

import ctypes
import errno
import functools
import os
from collections.abc import Callable

_NOREPLACE, _EXCHANGE = 1, 2
_UNSUPPORTED = (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP)
ASIDE = ".aside"
"""Ends the name under which an exchange out of plain renames puts what it takes out."""

Place = tuple[int, str]
"""An open folder and a name in it."""


def exchange(slot: Place, target: Place) -> None:
    """Put what is in `slot` where `target` stands, and that into `slot`. Raises `OSError`."""
    if _rename(slot, target, _EXCHANGE):
        return
    aside = (slot[0], slot[1] + ASIDE)
    _plain(target, aside)
    _plain(slot, target)
    _plain(aside, slot)


def mend(slot: Place, target: Place) -> None:
    """Complete an exchange out of plain renames that was cut off; does nothing where there was none."""
    aside = (slot[0], slot[1] + ASIDE)
    if not _is_there(aside):
        return
    if _is_there(slot):
        if _is_there(target):  # somebody has filled the gap: theirs stays
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), target[1])
        _plain(slot, target)
    _plain(aside, slot)


def move(source: Place, target: Place) -> None:
    """Rename to a name that must be free. Raises `FileExistsError` where it is not, and `OSError`."""
    if _rename(source, target, _NOREPLACE):
        return
    if _is_there(target):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), target[1])
    _plain(source, target)


def _rename(source: Place, target: Place, flag: int) -> bool:
    """Whether the system call did it; False where it is not to be had here."""
    call = renameat2()
    if call is None:
        return False
    if call(source[0], os.fsencode(source[1]), target[0], os.fsencode(target[1]), flag) == 0:
        return True
    number = ctypes.get_errno()
    if number in _UNSUPPORTED:
        return False
    raise OSError(number, os.strerror(number), target[1])


@functools.cache
def renameat2() -> Callable[[int, bytes, int, bytes, int], int] | None:
    """The system call of Linux, or None."""
    try:
        call = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError, TypeError):
        return None
    call.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint]
    found: Callable[[int, bytes, int, bytes, int], int] = call
    return found


def _plain(source: Place, target: Place) -> None:
    os.rename(source[1], target[1], src_dir_fd=source[0], dst_dir_fd=target[0])


def _is_there(place: Place) -> bool:
    try:
        os.stat(place[1], dir_fd=place[0], follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True
