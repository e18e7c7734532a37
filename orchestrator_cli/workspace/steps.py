"""A commit as a list of steps, each of which can be done again and be taken back.

`forward` and `back` decide by what they find and not by what was noted, so that after a kill the
list is simply gone through once more. Whatever is taken out of the workspace is moved into the
staging folder and looked at there: if it is not what was expected, somebody was faster, and it
is put back.
"""

import contextlib
import errno
import os
from collections.abc import Iterable
from dataclasses import dataclass

from orchestrator_cli.workspace.faults import TargetChanged
from orchestrator_cli.workspace.marks import Ident, Mark, ident
from orchestrator_cli.workspace.record import Step
from orchestrator_cli.workspace.rename import Place, exchange, mend, move
from orchestrator_cli.workspace.tree import Root, mark_at

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True)
class Turn:
    """A path whose content changes: what stands there, what is to, and where that is staged."""

    path: str
    before: Mark | None
    after_mode: int | None
    """Type and permissions; None where nothing is to be there."""
    slot: str
    staged: Ident | None

    @property
    def was_folder(self) -> bool:
        return self.before is not None and self.before.is_folder

    @property
    def becomes_folder(self) -> bool:
        return self.after_mode is not None and self.staged is None

    @property
    def was_file(self) -> bool:
        return self.before is not None and not self.before.is_folder


def steps_for(turns: Iterable[Turn]) -> tuple[Step, ...]:
    """What has to be done, in an order in which each step finds what it needs."""
    rows = sorted(turns, key=lambda turn: turn.path)
    stays = {turn.path for turn in rows if turn.after_mode is not None}
    folders = [turn for turn in rows if turn.becomes_folder]
    gone = [turn for turn in rows if turn.was_file and turn.staged is None]
    left = [turn for turn in rows if turn.was_folder and not turn.becomes_folder]
    return (
        *(Step(do="take", path=t.path, slot=t.slot, before=_ident(t.before)) for t in gone),
        *(
            Step(do="rmdir", path=t.path, mode=t.before.mode & 0o7777, must=t.path in stays)
            for t in reversed(left)
            if t.before is not None
        ),
        *(_opening(turn) for turn in folders),
        *(
            Step(do="put", path=t.path, slot=t.slot, staged=t.staged, before=_file_ident(t))
            for t in rows
            if t.staged is not None
        ),
        *(Step(do="chmod", path=t.path, mode=_mode(t), old_mode=_mode(t) | 0o700) for t in reversed(folders)),
    )


def _opening(turn: Turn) -> Step:
    """Make a folder, or an old one writable, so that what belongs into it can be put there."""
    if turn.was_folder and turn.before is not None:
        old = turn.before.mode & 0o7777
        return Step(do="chmod", path=turn.path, mode=_mode(turn) | 0o700, old_mode=old)
    return Step(do="mkdir", path=turn.path, mode=_mode(turn) | 0o700)


def _mode(turn: Turn) -> int:
    return (turn.after_mode or 0) & 0o7777


def _ident(mark: Mark | None) -> Ident | None:
    return None if mark is None else ident(mark)


def _file_ident(turn: Turn) -> Ident | None:
    return _ident(turn.before) if turn.was_file else None


def forward(tree: Root, staging: int, step: Step) -> None:
    """Do a step, or see that it is done. Raises `TargetChanged` and `OSError`, with the step not done."""
    try:
        with tree.parent(step.path) as (folder, name):
            _FORWARD[step.do]((folder, name), (staging, step.slot), step)
    except (FileNotFoundError, NotADirectoryError, FileExistsError) as exc:
        if step.do == "rmdir" and isinstance(exc, FileNotFoundError):
            return
        raise TargetChanged(step.path) from exc
    except OSError as exc:
        raise OSError(exc.errno, exc.strerror, step.path) from exc


def back(tree: Root, staging: int, step: Step) -> bool:
    """Take a step back, if it was done; False where somebody has changed the path since: theirs stays."""
    try:
        with tree.parent(step.path) as (folder, name):
            return _BACK[step.do]((folder, name), (staging, step.slot), step)
    except (FileNotFoundError, NotADirectoryError, FileExistsError):
        return step.do != "take" or mark_at(staging, step.slot) is None


# --- put: a staged file or link to its place


def _put(target: Place, slot: Place, step: Step) -> None:
    if step.before is not None:
        mend(slot, target)
    waiting = mark_at(*slot)
    if waiting is None or not _is(waiting, step.staged):
        return
    if step.before is None:
        move(slot, target)
        return
    if not step.before.fits(mark_at(*target)):
        raise TargetChanged(step.path)
    exchange(slot, target)
    if not step.before.fits(mark_at(*slot)):
        exchange(slot, target)
        raise TargetChanged(step.path)


def _put_back(target: Place, slot: Place, step: Step) -> bool:
    if step.before is not None:
        mend(slot, target)
    waiting = mark_at(*slot)
    if waiting is not None and _is(waiting, step.staged):
        return True
    if step.staged is None or not step.staged.fits(mark_at(*target)):
        return waiting is None and step.before is None and mark_at(*target) is None
    if waiting is None:
        move(target, slot)
    else:
        exchange(slot, target)
    return True


def _is(mark: Mark, staged: Ident | None) -> bool:
    return staged is not None and mark.inode == staged.inode


# --- take: a file or link out of the workspace


def _take(target: Place, slot: Place, step: Step) -> None:
    if mark_at(*slot) is not None:
        return
    found = mark_at(*target)
    if found is None:
        return
    if step.before is None or not step.before.fits(found):
        raise TargetChanged(step.path)
    move(target, slot)
    if not step.before.fits(mark_at(*slot)):
        move(slot, target)
        raise TargetChanged(step.path)


def _take_back(target: Place, slot: Place, step: Step) -> bool:  # noqa: ARG001 - one signature for all
    if mark_at(*slot) is not None:
        move(slot, target)
    return True


# --- folders


def _rmdir(target: Place, _slot: Place, step: Step) -> None:
    try:
        os.rmdir(target[1], dir_fd=target[0])
    except OSError as exc:
        if exc.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        if step.must:
            raise TargetChanged(step.path) from exc


def _rmdir_back(target: Place, _slot: Place, step: Step) -> bool:
    with contextlib.suppress(FileExistsError):
        os.mkdir(target[1], dir_fd=target[0])
        _chmod_folder(target, step.mode)
    return True


def _mkdir(target: Place, _slot: Place, step: Step) -> None:
    try:
        os.mkdir(target[1], step.mode, dir_fd=target[0])
    except FileExistsError:
        found = mark_at(*target)
        if found is None or not found.is_folder:
            raise


def _mkdir_back(target: Place, _slot: Place, step: Step) -> bool:  # noqa: ARG001
    with contextlib.suppress(OSError):
        os.rmdir(target[1], dir_fd=target[0])
    return True


def _chmod(target: Place, _slot: Place, step: Step) -> None:
    _chmod_folder(target, step.mode)


def _chmod_back(target: Place, _slot: Place, step: Step) -> bool:
    _chmod_folder(target, step.old_mode)
    return True


def _chmod_folder(target: Place, mode: int) -> None:
    fd = os.open(target[1], _FOLDER, dir_fd=target[0])
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
