"""How much of the disk a sandbox takes: files with a name, and files that only its processes hold.

Folders are opened from the folder around them, so no path is too long, and no link that code plants meanwhile
leads elsewhere. What its owner may not read is made readable.

Not covered: a file that no process shows but that exists, such as one on its way through a socket. If there
may be one, the loss of free space counts instead, which other programs can cause too.
"""

import contextlib
import math
import os
import stat
import time
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from toolsmith.sandbox.processes import SandboxProcesses, has_memory

FOLDERS_EVERY_S = 2.0
_SLACK = 2  # how many times the limit may go from the free space without an explanation
_TRIES = 3
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class FolderUse(NamedTuple):
    """Bytes, also those of folders and of a sparse file's holes, and how many files and folders there are."""

    size: int
    files: int
    closed: int = 0
    """Folders that cannot be read, and so may hold more."""


class _Moved(Exception):
    """The folder that was being walked is in another one now."""


def usage(folders: Iterable[Path], most_files: float = math.inf) -> FolderUse:
    """What is below `folders`; links are not followed. Counting ends soon after `most_files`.

    Code that makes files, or digs deeper, while it is measured would otherwise keep it from ending.
    """
    found = [FolderUse(0, 0), *(_usage(folder, most_files) for folder in folders)]
    return FolderUse(*map(sum, zip(*found, strict=True)))


def _usage(folder: Path, most_files: float) -> FolderUse:
    for _ in range(_TRIES):
        with contextlib.suppress(_Moved):
            return _walked(str(folder), most_files)
    return FolderUse(0, 0, 1)


def _walked(folder: str, most_files: float) -> FolderUse:
    """Holds one descriptor at any depth: the way back is `..`, if that is still the folder it came from."""
    size = files = closed = 0
    way: list[tuple[tuple[int, int], list[str]]] = []  # each folder entered, and those in it still to enter
    current = open_folder(folder, None)
    try:
        entered = True
        while True:
            if entered:
                here, todo = _scanned(current)
                own = _size(os.fstat(current)) if way else 0  # the outermost was not made by the code
                size, files = size + own + here.size, files + here.files
                if files > most_files:
                    return FolderUse(size, files, closed)
                way.append((_identity(current), todo))
            entered = False
            if way[-1][1]:
                name = way[-1][1].pop()
                try:
                    below = open_folder(name, current)
                except (FileNotFoundError, NotADirectoryError):
                    continue  # deleted or replaced meanwhile
                except OSError:
                    closed += 1
                    continue
                entered = True
            else:
                way.pop()
                if not way:
                    return FolderUse(size, files, closed)
                below = open_folder("..", current)
            os.close(current)
            current = below
            if not entered and _identity(current) != way[-1][0]:
                raise _Moved
    finally:
        os.close(current)


def _scanned(folder: int) -> tuple[FolderUse, list[str]]:
    """What is directly in an open folder, and the names of the folders in it."""
    size = files = 0
    folders: list[str] = []
    with os.scandir(folder) as entries:
        for entry in entries:
            files += 1
            if entry.is_dir(follow_symlinks=False):
                folders.append(entry.name)
                continue
            with contextlib.suppress(OSError):
                found = entry.stat(follow_symlinks=False)
                size += _size(found)
                if stat.S_ISREG(found.st_mode) and not found.st_mode & stat.S_IRUSR:
                    unlock(entry.name, folder)
    return FolderUse(size, files), folders


def _identity(fd: int) -> tuple[int, int]:
    found = os.fstat(fd)
    return found.st_dev, found.st_ino


def _size(found: os.stat_result) -> int:
    return max(found.st_size, found.st_blocks * 512)


def open_folder(name: str, around: int | None) -> int:
    """A descriptor of a folder, made readable if need be. Raises OSError; a link is NotADirectoryError."""
    try:
        fd = os.open(name, _FOLDER, dir_fd=around)
    except PermissionError:
        unlock(name, around)
        fd = os.open(name, _FOLDER, dir_fd=around)
    mode = os.fstat(fd).st_mode
    if not mode & stat.S_IXUSR:  # its names could be listed, but nothing in it be reached
        with contextlib.suppress(OSError):
            os.fchmod(fd, stat.S_IMODE(mode) | stat.S_IRWXU)
    return fd


def unlock(name: str, around: int | None) -> None:
    """Lets the owner read and write a file, or use a folder; a link is left alone. Raises OSError."""
    if not hasattr(os, "O_PATH"):
        os.chmod(name, 0o700, dir_fd=around, follow_symlinks=False)
        return
    # A descriptor of the place itself: a link that code plants meanwhile would lead to the user's files.
    fd = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=around)
    try:
        mode = os.fstat(fd).st_mode
        rights = stat.S_IRWXU if stat.S_ISDIR(mode) else stat.S_IRUSR | stat.S_IWUSR
        if not stat.S_ISLNK(mode):
            Path(f"/proc/self/fd/{fd}").chmod(stat.S_IMODE(mode) | rights)
    finally:
        os.close(fd)


class HeldFiles:
    """Files without a name that processes hold open or mapped. Those on `mounts` count as memory."""

    def __init__(self, processes: SandboxProcesses, mounts: Iterable[str]) -> None:
        self._found: dict[tuple[int, int], int] = {}
        self._closed = 0
        self.may_be_more = False
        """Whether the processes can hold files that are not seen here."""
        roots = [Path(f"/proc/{processes.top}/root{mount}") for mount in mounts]
        self._memory = {root.stat().st_dev for root in roots if root.exists()}
        for thread in processes.threads():  # each can have its own descriptors
            try:
                self._look_into(thread)
            except PermissionError:
                self._closed += has_memory(thread)  # else it is about to end
            except (FileNotFoundError, ProcessLookupError):
                continue

    @property
    def use(self) -> FolderUse:
        """A process that does not show its files counts as a closed folder."""
        return FolderUse(sum(self._found.values()), len(self._found), self._closed)

    def _look_into(self, thread: str) -> None:
        for descriptor in Path(thread, "fd").iterdir():
            with contextlib.suppress(FileNotFoundError):
                self._note(descriptor)
        for line in Path(thread, "maps").read_bytes().splitlines():
            if line.endswith(b" (deleted)"):
                addresses = "-".join(part.lstrip("0") for part in line.split()[0].decode().split("-"))
                try:
                    self._note(Path(thread).parents[1] / "map_files" / addresses)
                except OSError:  # only root may ask
                    self.may_be_more = True

    def _note(self, way: Path) -> None:
        held = way.stat()
        if stat.S_ISREG(held.st_mode) and held.st_nlink == 0 and held.st_dev not in self._memory:
            self._found[held.st_dev, held.st_ino] = _size(held)
        # A file on its way through a socket is in no process.
        self.may_be_more |= stat.S_ISSOCK(held.st_mode)


class DiskGauge:
    """Growth of a workspace since the gauge was made, and what the sandbox's processes hold besides.

    Without a workspace, as for a sandbox that cannot write there, all but its growth is measured.

    Walking a large tree is slow. The gauge walks it once half of the remaining allowance has gone from what
    the file system has free, and otherwise every two seconds, for at most a fifth of the time; and always at
    the end of a step.
    """

    def __init__(self, workspace: Path | None, most: FolderUse) -> None:
        self._limit = self._bound = most
        self._written = [workspace] if workspace is not None else []
        self._baseline = usage(self._written)
        self._grown = FolderUse(0, 0)
        self._walked_at, self._cost_s = time.monotonic(), 0.0
        self._cut = False  # whether the last walk ended early

    def attach(self, processes: SandboxProcesses, scratch: Path | None, mounts: tuple[str, ...]) -> None:
        """Measures this worker from now on. `scratch`: its empty folder; `mounts`: where it has memory."""
        self._processes, self._mounts = processes, mounts
        self._folders = self._written if scratch is None else [*self._written, scratch]
        self._sum = 0
        self._walk()
        self._sum = self._free.size + self._grown.size

    def begin_step(self) -> None:
        """A step that only deletes may run, although the limit was exceeded before it."""
        if self._cut:
            self._walk()
        self._bound = FolderUse(*map(max, self._limit, self._grown))
        if not self._blind:  # else what an earlier step hid would be forgotten
            self._sum = self._left().size + self._grown.size

    def exceeded(self, *, at_end: bool = False) -> str:
        """The limit that was exceeded, as far as is known without undue cost; empty if none was."""
        bound = self._limit if at_end else self._bound
        since = time.monotonic() - self._walked_at
        suspicious = any(
            before - now > max(0, most - grown) // 2
            for before, now, most, grown in zip(self._free, self._left(), bound, self._grown, strict=True)
        )
        if at_end:  # nothing runs
            self._walk()
        elif since > 5 * self._cost_s and (suspicious or since > FOLDERS_EVERY_S):
            self._walk(self._baseline.files + bound.files)
        megabytes = self._limit.size >> 20
        if self._grown.size > bound.size:
            return f"the workspace grew by more than {megabytes} MB"
        if self._grown.files > bound.files:
            return f"the workspace grew by more than {self._limit.files} files"
        if self._grown.closed > bound.closed:
            return "a folder or a process hides what it holds"
        if self._blind and self._unexplained > _SLACK * bound.size:
            return f"the disk lost more than {_SLACK * megabytes} MB to no file, and the step may hide some"
        return ""

    def _walk(self, most_files: float = math.inf) -> None:
        started = time.monotonic()
        self._free = self._left()
        now = usage(self._folders, most_files)
        self._cut = now.files > most_files
        held = HeldFiles(self._processes, self._mounts)
        self._blind = held.may_be_more
        grown = (have + more - had for have, more, had in zip(now, held.use, self._baseline, strict=True))
        self._grown = FolderUse(*grown)
        self._unexplained = self._sum - self._free.size - self._grown.size
        self._walked_at = time.monotonic()
        self._cost_s = self._walked_at - started

    def _left(self) -> FolderUse:
        systems = {found.f_fsid: found for found in map(os.statvfs, self._folders)}.values()
        return FolderUse(
            sum(each.f_bfree * each.f_frsize for each in systems), sum(each.f_ffree for each in systems)
        )
