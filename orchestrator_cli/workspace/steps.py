"""A commit as a list of steps, each of which can be repeated and reverted.

`forward` and `back` decide by what they find, not by notes of their own, so after a kill the
list is run through once more. What leaves the workspace is moved into the staging folder and
compared there: if it is not what was expected, another process changed it first, and it is moved back.

Renaming never loses what a name held: two names are exchanged in one step, or the new name must be
free. Linux does both as single system calls. Elsewhere, and on file systems without them, they
are made of plain renames: then a name does not exist for a moment, and a file that another
process creates in that moment under a name that was free is lost.
"""

import contextlib
import ctypes
import errno
import functools
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from orchestrator_cli.errors import TargetChanged
from orchestrator_cli.workspace.file_state import FileId, FileStat
from orchestrator_cli.workspace.history import CommitStep
from orchestrator_cli.workspace.tree import FOLDER, Root, name_changed, stat_at

Place = tuple[int, str]
"""An open folder and a name in it."""


@dataclass(frozen=True)
class StagedPath:
    """A path whose content changes: its state now, and its new content in the staging folder."""

    path: str
    before: FileStat | None
    after_mode: int | None
    """Type and permissions; None if the path is deleted."""
    slot: str
    staged: FileId | None
    """None for a folder, and for a path that is deleted."""

    @property
    def was_folder(self) -> bool:
        return self.before is not None and self.before.is_folder

    @property
    def becomes_folder(self) -> bool:
        return self.after_mode is not None and self.staged is None

    @property
    def was_file(self) -> bool:
        return self.before is not None and not self.before.is_folder

    @property
    def permissions(self) -> int:
        return (self.after_mode or 0) & 0o7777

    @property
    def file_before(self) -> FileId | None:
        return self.before.id if self.before is not None and self.was_file else None


def steps_for(paths: Iterable[StagedPath]) -> tuple[CommitStep, ...]:
    """The steps of a commit, in an order in which each finds what it needs."""
    rows = sorted(paths, key=lambda row: row.path)
    stays = {row.path for row in rows if row.after_mode is not None}
    folders = [row for row in rows if row.becomes_folder]
    gone = [row for row in rows if row.was_file and row.staged is None]
    left = [row for row in rows if row.was_folder and not row.becomes_folder]
    return (
        *(CommitStep(do="take", path=row.path, slot=row.slot, before=row.file_before) for row in gone),
        *(
            CommitStep(do="rmdir", path=row.path, mode=row.before.mode & 0o7777, must=row.path in stays)
            for row in reversed(left)
            if row.before is not None
        ),
        *(_opening(row) for row in folders),
        *(
            CommitStep(do="put", path=row.path, slot=row.slot, staged=row.staged, before=row.file_before)
            for row in rows
            if row.staged is not None
        ),
        *(
            CommitStep(do="chmod", path=row.path, mode=row.permissions, old_mode=row.permissions | 0o700)
            for row in reversed(folders)
        ),
    )


def _opening(row: StagedPath) -> CommitStep:
    """Create a folder, or make an existing one writable until its files are in place."""
    writable = row.permissions | 0o700
    if row.was_folder and row.before is not None:
        return CommitStep(do="chmod", path=row.path, mode=writable, old_mode=row.before.mode & 0o7777)
    return CommitStep(do="mkdir", path=row.path, mode=writable)


def forward(tree: Root, staging: int, step: CommitStep) -> None:
    """Do a step unless it is done. Raises `TargetChanged` and `OSError`, with the step not done."""
    try:
        with tree.parent(step.path) as (folder, name):
            _FORWARD[step.do]((folder, name), (staging, step.slot), step)
    except OSError as exc:
        if step.do == "rmdir" and isinstance(exc, FileNotFoundError):
            return
        if name_changed(exc):
            raise TargetChanged(step.path) from exc
        raise OSError(exc.errno, exc.strerror, step.path) from exc


def back(tree: Root, staging: int, step: CommitStep) -> bool:
    """Revert a step if it was done; False if the path was changed since, which then keeps that change."""
    try:
        with tree.parent(step.path) as (folder, name):
            return _BACK[step.do]((folder, name), (staging, step.slot), step)
    except OSError as exc:
        if not name_changed(exc):
            raise
        return step.do != "take" or stat_at(staging, step.slot) is None


# --- put: a staged file or link to its place


def _put(target: Place, slot: Place, step: CommitStep) -> None:
    if step.before is not None:
        complete_exchange(slot, target)
    waiting = stat_at(*slot)
    if waiting is None or not _is(waiting, step.staged):
        return
    if step.before is None:
        move_to_free_name(slot, target)
        return
    if not step.before.matches(stat_at(*target)):
        raise TargetChanged(step.path)
    exchange(slot, target)
    if not step.before.matches(stat_at(*slot)):
        exchange(slot, target)
        raise TargetChanged(step.path)


def _put_back(target: Place, slot: Place, step: CommitStep) -> bool:
    if step.before is not None:
        complete_exchange(slot, target)
    waiting = stat_at(*slot)
    if waiting is not None and _is(waiting, step.staged):
        return True
    if step.staged is None or not step.staged.matches(stat_at(*target)):
        return waiting is None and step.before is None and stat_at(*target) is None
    if waiting is None:
        move_to_free_name(target, slot)
    else:
        exchange(slot, target)
    return True


def _is(found: FileStat, staged: FileId | None) -> bool:
    return staged is not None and found.inode == staged.inode


# --- take: a file or link out of the workspace


def _take(target: Place, slot: Place, step: CommitStep) -> None:
    if stat_at(*slot) is not None:
        return
    found = stat_at(*target)
    if found is None:
        return
    if step.before is None or not step.before.matches(found):
        raise TargetChanged(step.path)
    move_to_free_name(target, slot)
    if not step.before.matches(stat_at(*slot)):
        move_to_free_name(slot, target)
        raise TargetChanged(step.path)


def _take_back(target: Place, slot: Place, _step: CommitStep) -> bool:
    if stat_at(*slot) is not None:
        move_to_free_name(slot, target)
    return True


# --- folders


def _rmdir(target: Place, _slot: Place, step: CommitStep) -> None:
    try:
        os.rmdir(target[1], dir_fd=target[0])
    except OSError as exc:
        if exc.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        if step.must:
            raise TargetChanged(step.path) from exc


def _rmdir_back(target: Place, _slot: Place, step: CommitStep) -> bool:
    with contextlib.suppress(FileExistsError):
        os.mkdir(target[1], dir_fd=target[0])
        _chmod_folder(target, step.mode)
    return True


def _mkdir(target: Place, _slot: Place, step: CommitStep) -> None:
    try:
        os.mkdir(target[1], step.mode, dir_fd=target[0])
    except FileExistsError:
        found = stat_at(*target)
        if found is None or not found.is_folder:
            raise


def _mkdir_back(target: Place, _slot: Place, _step: CommitStep) -> bool:
    with contextlib.suppress(OSError):
        os.rmdir(target[1], dir_fd=target[0])
    return True


def _chmod(target: Place, _slot: Place, step: CommitStep) -> None:
    _chmod_folder(target, step.mode)


def _chmod_back(target: Place, _slot: Place, step: CommitStep) -> bool:
    _chmod_folder(target, step.old_mode)
    return True


def _chmod_folder(target: Place, mode: int) -> None:
    fd = os.open(target[1], FOLDER, dir_fd=target[0])
    try:
        os.fchmod(fd, mode)
    finally:
        os.close(fd)


_FORWARD = {"put": _put, "take": _take, "rmdir": _rmdir, "mkdir": _mkdir, "chmod": _chmod}
_BACK = {
    "put": _put_back,
    "take": _take_back,
    "rmdir": _rmdir_back,
    "mkdir": _mkdir_back,
    "chmod": _chmod_back,
}


# --- renaming

_NOREPLACE, _EXCHANGE = 1, 2
_UNSUPPORTED = (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP)
ASIDE = ".aside"
"""Suffix of the third name that an exchange by plain renames needs."""


def exchange(slot: Place, target: Place) -> None:
    """Exchange what `slot` and `target` hold. Raises `OSError`."""
    if _renamed(slot, target, _EXCHANGE):
        return
    aside = (slot[0], slot[1] + ASIDE)
    _rename(target, aside)
    _rename(slot, target)
    _rename(aside, slot)


def complete_exchange(slot: Place, target: Place) -> None:
    """Complete an exchange by plain renames that a kill interrupted, if there was one."""
    aside = (slot[0], slot[1] + ASIDE)
    if not _exists(aside):
        return
    if _exists(slot):
        if _exists(target):  # created by another process meanwhile, so it stays
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), target[1])
        _rename(slot, target)
    _rename(aside, slot)


def move_to_free_name(source: Place, target: Place) -> None:
    """Rename to a name that must be free. Raises `FileExistsError` if it is not, and `OSError`."""
    if _renamed(source, target, _NOREPLACE):
        return
    if _exists(target):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), target[1])
    _rename(source, target)


def _renamed(source: Place, target: Place, flag: int) -> bool:
    """Whether the system call did it; False if it is not supported here."""
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


def _rename(source: Place, target: Place) -> None:
    os.rename(source[1], target[1], src_dir_fd=source[0], dst_dir_fd=target[0])


def _exists(place: Place) -> bool:
    try:
        os.stat(place[1], dir_fd=place[0], follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True
