"""Files that a killed process leaves whole: replaced in one step, or appended to line by line.

Not covered: file systems that reorder a rename and the writes before it in spite of `fsync`.
"""

import errno
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import takewhile
from pathlib import Path
from typing import TypeVar
from uuid import uuid4

T = TypeVar("T")
MAX_LOG_BYTES = 1 << 30
"""Of a log that is read as a whole."""


def sync(descriptor: int) -> None:
    """Bring an open file, or the names in an open folder, to the disk. Raises an `OSError` that names it."""
    with naming(descriptor):
        os.fsync(descriptor)


def sync_folder(folder: Path) -> None:
    """Bring the names in a folder to the disk, so that a rename survives a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        sync(descriptor)
    finally:
        os.close(descriptor)


def make_folders(folder: Path, mode: int = 0o777) -> None:
    """Make a folder, with `mode`, and the missing ones above it, and bring their names to the disk."""
    missing = list(takewhile(lambda path: not path.exists(), (folder, *folder.parents)))
    folder.mkdir(parents=True, exist_ok=True, mode=mode)
    for path in missing:
        sync_folder(path.parent)


def write_synced(path: Path, content: bytes | str, mode: int = 0o666) -> None:
    """Write a file and bring it to the disk. A kill may leave a part of it."""
    _write(path, content, mode, sync=True)


def write_atomic(
    path: Path,
    content: bytes | str,
    *,
    sync: bool = True,
    mode: int = 0o666,
    keep_mode: bool = False,
    scratch: Path | None = None,
) -> None:
    """Replace a file in one step: a kill leaves the old file or the new one, never a part. Text is UTF-8.

    Args:
        sync: whether it also survives a power cut. Without that, writing is faster.
        mode: permissions of the file, less the umask.
        keep_mode: whether a file that is replaced keeps its own.
        scratch: the temporary file, in the same folder. By default it has a name of its own,
            `.NAME.HEX.tmp`. Writers that hold a lock can name a fixed one: then a file that a killed writer
            left is used again.

    Raises `OSError`, with nothing changed.
    """
    scratch = scratch or path.with_name(f".{path.name}.{uuid4().hex}.tmp")
    try:
        _write(scratch, content, mode, sync=sync)
        if keep_mode:
            with suppress(FileNotFoundError):
                scratch.chmod(path.lstat().st_mode & 0o777)
        scratch.replace(path)
    except BaseException:
        with suppress(OSError):
            scratch.unlink()
        raise
    if sync:
        sync_folder(path.parent)


def read_regular(path: Path, limit: int | None = None) -> bytes:
    """The content of a file that another may have put there: its first `limit` bytes.

    Raises `OSError` at once for a pipe, a socket or a device, which could be waited for without an end.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.ENXIO, "it is not a regular file", str(path))
        return file.read(-1 if limit is None else limit)


def read_stored(path: Path, limit: int) -> bytes:
    """As `read_regular`, of a file that is stored: what a system makes up as it is read is none.

    Such files have a size that has nothing to do with what is read, wherever they are mounted. Raises
    `OSError` for them too.
    """
    size, data = path.stat().st_size, read_regular(path, limit)
    if len(data) < min(size, limit) or (data and not size):
        raise OSError(errno.ENXIO, "its content is made up as it is read", str(path))
    return data


def read_whole(path: Path, limit: int = MAX_LOG_BYTES) -> bytes:
    """All of a regular file. Raises `OSError`, also if it has more than `limit` bytes."""
    if path.stat().st_size > limit:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), str(path))
    return read_regular(path)


def _write(path: Path, content: bytes | str, mode: int, *, sync: bool) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
    with os.fdopen(os.open(path, flags, mode), "wb") as file, naming(file.fileno()):
        file.write(content.encode() if isinstance(content, str) else content)
        file.flush()
        if sync:
            os.fsync(file.fileno())


# --- logs: appended to under a lock, or by one process only


def append(file: int, data: bytes, *, sync: bool = True) -> None:
    """Append all of it or nothing, since a disk that fills up may take a part. Raises `OSError`.

    Args:
        file: a descriptor opened with `O_APPEND`.
        sync: whether to bring it to the disk.
    """
    before, left = os.fstat(file).st_size, memoryview(data)
    with naming(file):
        try:
            while left:
                left = left[os.write(file, left) :]
        finally:
            if left:
                os.ftruncate(file, before)
        if sync:
            os.fsync(file)


@contextmanager
def naming(file: int) -> Iterator[None]:
    """Have an `OSError` name the open file that it is about, if it names none."""
    try:
        yield
    except OSError as exc:
        if exc.filename is None:
            with suppress(OSError):
                exc.filename = str(Path(f"/proc/self/fd/{file}").readlink())
        raise


def is_torn(file: int) -> bool:
    """Whether a killed writer left the last line unfinished. The descriptor can be read."""
    size = os.fstat(file).st_size
    return size > 0 and os.pread(file, 1, size - 1) != b"\n"


def append_line(path: Path, line: bytes, *, sync: bool = True) -> int:
    """Append a line to a log, after an unfinished one on a new line. Returns the log's size in bytes.

    The caller holds a lock. `line` has no line break. Raises `OSError`.
    """
    file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        append(file, (b"\n" if is_torn(file) else b"") + line + b"\n", sync=sync)
        return os.fstat(file).st_size
    finally:
        os.close(file)


def read_records(path: Path, parse: Callable[[bytes], T], *, containing: bytes = b"") -> Iterator[T]:
    """The records of a log, one a line, oldest first. Needs no lock.

    Lines that `parse` refuses with a `ValueError`, `OverflowError`, `LookupError`, `TypeError` or
    `RecursionError` are dropped: an unfinished one, for which no part of a record may be a record, as with
    JSON objects; one that is nested too deeply; or one of a later version.

    Args:
        containing: parse only lines with these bytes in them.

    Raises `OSError`.
    """
    # Bytes and this one sign: a text may hold other line breaks, and an unfinished line half a letter.
    for line in read_whole(path).split(b"\n"):
        if line and containing in line:
            try:
                record = parse(line)
            except (ValueError, OverflowError, LookupError, TypeError, RecursionError):
                continue
            yield record
