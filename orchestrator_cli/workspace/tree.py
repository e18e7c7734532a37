"""A folder accessed by descriptors, so that nothing below it is reached through a link.

Every folder on the way to a path is opened from the one before it, so links that code in a
checkout planted, or that another process plants meanwhile, lead nowhere.

Not covered: special files (sockets, pipes, devices) are skipped; owners and access lists are not
kept, but the user's other extended attributes are.
"""

import contextlib
import errno
import hashlib
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

from orchestrator_cli.durable.files import naming, sync
from orchestrator_cli.errors import UsageError, WorkspaceFault
from orchestrator_cli.workspace.file_state import FileStat, FileTree

MAX_DEPTH = 100
"""Nested folders; each level costs a descriptor."""
CHUNK = 1 << 20
FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
"""Flags to open a folder that must not be a link."""
_LOOKS = 10
"""At a name that is a link at one moment and something else at the next."""
_NAME_CHANGED = (
    *(errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.EEXIST, errno.ENOTEMPTY),
    *(errno.ENXIO, errno.ESTALE),
)


def name_changed(exc: OSError) -> bool:
    """Whether an error says that a name that was looked at leads to something else now, or to nothing."""
    return exc.errno in _NAME_CHANGED


class Root:
    """An open folder. Paths are relative to it, with `/`; use it as a context manager."""

    def __init__(self, path: Path, held: int | None = None) -> None:
        """`held`: a descriptor of the folder, which is opened from it instead of by its path."""
        self.path = path
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
        # Not a duplicate: its readers would share one position in the folder.
        self.fd = os.open(path, flags) if held is None else os.open(".", flags, dir_fd=held)

    @property
    def place(self) -> Path:
        """A path that leads to the open folder as long as it is open, also for child processes."""
        return Path(f"/proc/{os.getpid()}/fd/{self.fd}")

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
                below = os.open(part, FOLDER, dir_fd=fd)
                os.close(fd)
                fd = below
            yield fd
        finally:
            os.close(fd)

    @contextlib.contextmanager
    def parent(self, path: str) -> Iterator[tuple[int, str]]:
        """A descriptor of the folder that contains a path, and its name there."""
        folder, _, name = path.rpartition("/")
        with self.folder(folder) as fd:
            yield fd, name

    def stat(self, path: str) -> FileStat | None:
        """The state of a path; None if nothing is there, or a link is on the way."""
        with contextlib.suppress(FileNotFoundError, NotADirectoryError), self.parent(path) as (fd, name):
            return stat_at(fd, name)
        return None

    def has(self, path: str) -> bool:
        """Whether there is anything at a path, also by links on the way."""
        with contextlib.suppress(OSError):
            os.lstat(path, dir_fd=self.fd)
            return True
        return False

    def open_file(self, path: str) -> int:
        """A descriptor to read a regular file; the caller closes it. Raises `OSError`."""
        with self.parent(path) as (fd, name):
            # O_NONBLOCK: opening a named pipe must not hang the host.
            found = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=fd)
        if not stat.S_ISREG(os.fstat(found).st_mode):
            os.close(found)
            raise OSError(errno.ENXIO, "it is not a regular file", path)  # as a socket would
        return found

    def walk(
        self, hidden: Callable[[str], bool], enter: Callable[[str, int], bool] = lambda *_: True
    ) -> Iterator[tuple[str, FileStat]]:
        """Every file, link and folder below, except those whose path is `hidden` and all below them.

        `enter` gets each folder and its descriptor first, and returns whether the folder is not hidden.
        """
        enter("", self.fd)
        yield from _walk(self.fd, "", hidden, enter, MAX_DEPTH)

    def sync(self, folder: str) -> None:
        """Write the names in a folder to the disk, if it still exists."""
        with contextlib.suppress(FileNotFoundError, NotADirectoryError), self.folder(folder) as fd:
            sync(fd)


def _walk(
    folder: int, prefix: str, hidden: Callable[[str], bool], enter: Callable[[str, int], bool], depth: int
) -> Iterator[tuple[str, FileStat]]:
    if depth == 0:
        raise WorkspaceFault(f"{prefix[:80]}… has more than {MAX_DEPTH} nested folders")
    with os.scandir(folder) as found:
        entries = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in found]
    for name, is_folder in entries:
        if hidden(prefix + name) or (state := stat_at(folder, name)) is None:
            continue
        if not is_folder:
            yield prefix + name, state
            continue
        with contextlib.suppress(FileNotFoundError, NotADirectoryError), _opened(folder, name) as below:
            if enter(prefix + name, below):
                yield prefix + name, state
                yield from _walk(below, f"{prefix}{name}/", hidden, enter, depth - 1)


@contextlib.contextmanager
def _opened(folder: int, name: str) -> Iterator[int]:
    fd = os.open(name, FOLDER, dir_fd=folder)
    try:
        yield fd
    finally:
        os.close(fd)


def stat_at(folder: int, name: str) -> FileStat | None:
    """The state of a name in an open folder; None if it does not exist or is a special file."""
    for _ in range(_LOOKS):
        try:
            found = os.stat(name, dir_fd=folder, follow_symlinks=False)
            target = os.readlink(name, dir_fd=folder) if stat.S_ISLNK(found.st_mode) else ""
            break
        except FileNotFoundError:
            return None
        except OSError as exc:
            if exc.errno != errno.EINVAL:  # it was a link, and is none any more
                raise
    else:
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), name)
    if stat.S_ISDIR(found.st_mode):
        return FileStat(found.st_mode)
    if not (stat.S_ISREG(found.st_mode) or target):
        return None
    times = found.st_mtime_ns, found.st_ino, found.st_ctime_ns
    return FileStat(found.st_mode, found.st_size, *times, target, found.st_uid)


# --- contents


def clone(source: int, target: int) -> None:
    """Copy a file's content in the cheapest way the file system has: shared blocks, else in the kernel."""
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
    with naming(target):
        while chunk := os.read(source, CHUNK):
            digest.update(chunk)
            left = memoryview(chunk)
            while left:
                left = left[os.write(target, left) :]
    return digest.hexdigest()


def hashed(source: int) -> str:
    """The SHA-256 of a file's content, from the current offset to its end."""
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


def copy_metadata(source: int, target: int, mode: int, mtime_ns: int) -> None:
    """Give a copy its mode and time, and the user's extended attributes of its source."""
    if hasattr(os, "listxattr"):
        with contextlib.suppress(OSError):
            for name in os.listxattr(source):
                if name.startswith("user.") and not name.startswith("user.overlay."):
                    os.setxattr(target, name, os.getxattr(source, name))
    with naming(target):
        os.fchmod(target, stat.S_IMODE(mode))
        os.utime(target, ns=(mtime_ns, mtime_ns))


# --- whole folders


def copy_tree(tree: Root, target: Path, paths: FileTree) -> FileTree:
    """Copy `paths` of a folder into an empty one; returns the states of what was copied.

    Paths that disappear or change their type meanwhile are left out. Raises `UsageError` if a file
    cannot be read, or the disk is full.
    """
    copied: dict[str, FileStat] = {}
    path = ""
    try:
        for path, state in paths.items():
            try:
                _copy(tree, path, state, target / path)
                copied[path] = state
            except OSError as exc:
                if not name_changed(exc):
                    raise
        for path, state in reversed(copied.items()):
            if state.is_folder:
                (target / path).chmod(stat.S_IMODE(state.mode))
    except OSError as exc:
        raise UsageError(
            f"{path} in the workspace {tree.path} cannot be copied: {exc.strerror}.",
            "Fix its permissions, free some disk space, or choose another folder with -C.",
        ) from exc
    return copied


def _copy(tree: Root, path: str, state: FileStat, target: Path) -> None:
    if state.is_folder:
        target.mkdir(mode=0o700)
    elif state.target:
        target.symlink_to(state.target)
    else:
        source = tree.open_file(path)
        try:
            made = os.open(target, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            try:
                clone(source, made)
                copy_metadata(source, made, state.mode, state.mtime_ns)
            finally:
                os.close(made)
        finally:
            os.close(source)
