"""Reading and writing the files of a checkout, and nothing outside it, whatever the path.

Each component of a path is opened from the folder before it, without following links, so `..`, absolute
paths and planted symbolic links cannot escape. Protected names are refused: they may hold secrets, or the
host later executes or trusts them.
"""

import codecs
import contextlib
import os
import stat
from collections.abc import Callable, Collection, Iterator
from io import TextIOWrapper
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any

from orchestrator_cli.durable.encodings import UTF8, TextEncoding, encoding_of
from orchestrator_cli.durable.foreign import on_one_line
from orchestrator_cli.durable.text import truncate
from orchestrator_cli.tools.file_rules import hiding_rule
from orchestrator_cli.tools.own_files import OwnFiles

MAX_CHARS = 100_000
MAX_LISTED = 1_000
MAX_PATH = 4_096
"""Characters of a path; the names on the way are checked one after the other."""
MAX_FOUND, MAX_LINE = 200, 300
MAX_SEARCHED = 50_000_000
"""Bytes of files that one search looks through."""
MAX_GUESSED = 200
"""Files whose encoding one search guesses, which takes some 10 ms for each; in others it finds only ASCII."""
CHUNK = 1 << 16
OUTPUTS = ".orch-outputs.tmp"
"""The folder of a checkout with what an attempt's tools gave at length; it is never committed or listed."""
SKILLS = ".orch-skills.tmp"
"""A link in a checkout to the files of skills; as above."""


def file_tools(
    root: Path, allowed: Collection[str] = (), workspace: Path | None = None
) -> dict[str, Callable[..., Any]]:
    """The file tools of one checkout, by name. They raise `ValueError` and `OSError` with a plain reason.

    Args:
        root: the checkout's folder.
        allowed: protected names that they may touch.
        workspace: the folder that it is a view of, for the ignore rules of the repository around that; None
            for a folder that is used as it is.
    """

    def list_files(folder: str = ".") -> list[str]:
        """List the paths of the files below a folder of the workspace.

        What git ignores and what programs install, such as node_modules, is left out, unless it is in the
        folder that is named.

        Args:
            folder: The folder, relative to the workspace.
        """
        found = [
            on_one_line(path) for path, _ in islice(_files(root, folder, allowed, workspace), MAX_LISTED + 1)
        ]
        if len(found) <= MAX_LISTED:
            return found
        return [*found[:MAX_LISTED], "… (there are more: list one of the folders)"]

    def read_file(path: str, offset: int = 0, limit: int = MAX_CHARS) -> str:
        """Read a text file of the workspace. What is left out is named at the end.

        Args:
            path: The file, relative to the workspace.
            offset: How many characters to skip.
            limit: How many characters to read at most.
        """
        if offset < 0 or limit < 1:
            raise ValueError("offset must not be negative, and limit not less than 1")
        end = offset + min(limit, MAX_CHARS)
        with _opened(root, path, allowed, os.O_RDONLY) as fd:
            text, is_whole = _text_of(fd, path, offset, end)
        return text if is_whole else f"{text}\n… (cut: go on with offset={end})"

    def search_files(text: str, folder: str = ".") -> list[str]:
        """Find the lines of text files that contain a text, as `path:line: content`.

        What `list_files` leaves out is not searched.

        Args:
            text: What to find. `*` is any text within the line; upper and lower case are the same.
            folder: The folder to search, or one file, relative to the workspace.
        """
        parts = [part for part in text.casefold().split("*") if part]
        if not parts:
            raise ValueError("give a text to find")
        # ASCII is the same in all encodings.
        guesses = iter(range(0 if text.isascii() else MAX_GUESSED))
        return _found(root, _files(root, folder, allowed, workspace), allowed, parts, guesses)

    def write_file(path: str, content: str) -> str:
        """Write a text file of the workspace, replacing what it held; folders are made as needed.

        The encoding and the ends of lines stay as they were.

        Args:
            path: The file, relative to the workspace.
            content: The whole new content.
        """
        with (
            _opened(root, path, allowed, os.O_RDWR | os.O_CREAT, make_folders=True) as fd,
            os.fdopen(os.dup(fd), "r+b") as file,
        ):
            data, why = _like(fd, content)
            os.ftruncate(fd, 0)
            os.lseek(fd, 0, os.SEEK_SET)
            file.write(data)
        return f"wrote {len(data)} bytes to {path}{why}"

    return {tool.__name__: tool for tool in (list_files, read_file, search_files, write_file)}


FILE_TOOLS = frozenset(file_tools(Path()))
"""Names of the tools whose calls can be repeated on another checkout."""


def read_beginning(root: Path, path: str, limit: int) -> bytes:
    """The first `limit` bytes of a file below `root`, whatever has been planted there.

    Raises `ValueError` and `OSError`: for a path outside, a protected name, a link, and what is not a file.
    """
    with _opened(root, path, (), os.O_RDONLY) as fd, os.fdopen(os.dup(fd), "rb") as file:
        return file.read(limit)


def _files(
    root: Path, folder: str, allowed: Collection[str], workspace: Path | None
) -> Iterator[tuple[str, int]]:
    """The files below a folder, or the file itself, with their sizes in bytes."""
    parts = _parts(folder, allowed)
    start = root.joinpath(*parts)
    if parts and stat.S_ISREG(start.lstat().st_mode):
        with _opened(root, folder, allowed, os.O_RDONLY) as fd:
            yield str(PurePosixPath(*parts)), os.fstat(fd).st_size
        return
    with _folder(root, parts):
        pass  # each part is a folder and no link
    own = OwnFiles(workspace or root, view=root)
    # What is named is wanted, whatever the rules above it say.
    is_left_out = _is_below(own, root, parts)
    for place, folders, names in os.walk(start):
        here = PurePosixPath(place).relative_to(root)
        prefix = "" if str(here) == "." else f"{here}/"
        if not is_left_out:
            own.enter(prefix, names)

        def is_shown(name: str, *, is_folder: bool, prefix: str = prefix) -> bool:
            path = prefix + name
            if name == OUTPUTS or hiding_rule(path, allowed):
                return False
            return is_left_out or not own.leaves_out(path, is_folder=is_folder)

        folders[:] = sorted(name for name in folders if is_shown(name, is_folder=True))
        for name in sorted(names):
            if is_shown(name, is_folder=False):
                yield prefix + name, Path(place, name).lstat().st_size


def _is_below(own: OwnFiles, root: Path, parts: tuple[str, ...]) -> bool:
    """Whether a folder is left out, or is in one that is; the rules on the way to it are learned."""
    for end in range(len(parts)):
        own.enter("/".join(parts[:end]), os.listdir(root.joinpath(*parts[:end])))  # noqa: PTH208
        if own.leaves_out("/".join(parts[: end + 1]), is_folder=True):
            return True
    return False


def _text_of(fd: int, path: str, offset: int, end: int) -> tuple[str, bool]:
    """The characters from `offset` to `end`, and whether the file ends there."""
    data, seen, kept = os.read(fd, CHUNK), 0, ""
    try:
        encoding = encoding_of(data, is_whole=len(data) < CHUNK)
        decoder = codecs.getincrementaldecoder(encoding.name)()
        data = data[len(encoding.mark) :]
        while seen <= end:
            piece = decoder.decode(data, final=not data)
            kept += piece[max(0, offset - seen) : max(0, end + 1 - seen)]
            seen += len(piece)
            if not data:
                break
            data = os.read(fd, CHUNK)
    except ValueError:
        raise ValueError(f"{path} is not text") from None
    return kept[: end - offset], len(kept) <= end - offset


def _like(fd: int, content: str) -> tuple[bytes, str]:
    """The content, written as the file is now: its encoding and its ends of lines; and why not, if so."""
    head = os.read(fd, CHUNK)
    try:
        encoding = encoding_of(head, is_whole=len(head) < CHUNK)
        old = codecs.getincrementaldecoder(encoding.name)().decode(head[len(encoding.mark) :])
    except ValueError:
        return content.encode(), ""
    if old.count("\n") == old.count("\r\n") > 0 and "\r" not in content:
        content = content.replace("\n", "\r\n")
    try:
        return encoding.encode(content), ""
    except ValueError:
        return content.encode(), f", as UTF-8, because {encoding.name} lacks some of its letters"


def _found(
    root: Path,
    files: Iterator[tuple[str, int]],
    allowed: Collection[str],
    parts: list[str],
    guesses: Iterator[int],
) -> list[str]:
    found: list[str] = []
    large: list[str] = []
    left = MAX_SEARCHED
    for path, size in files:
        if size > left:
            large.append(on_one_line(path))
            continue
        left -= size
        for number, line in _lines_with(root, path, allowed, parts, guesses):
            if len(found) == MAX_FOUND:
                return [*found, "… (there are more: search for a longer text, or in one folder)"]
            found.append(f"{on_one_line(path)}:{number}: {truncate(line.strip(), MAX_LINE)}")
    return [*found, f"… (not searched, for their size: {', '.join(large[:10])})"] if large else found


def _lines_with(
    root: Path, path: str, allowed: Collection[str], parts: list[str], guesses: Iterator[int]
) -> Iterator[tuple[int, str]]:
    """The lines of a text file that contain all parts in order, from 1; none if it is not text.

    `guesses`: has an item for each file whose encoding may be guessed.
    """
    # A link, a pipe, or gone meanwhile.
    with (
        contextlib.suppress(ValueError, OSError),
        _opened(root, path, allowed, os.O_RDONLY) as fd,
        os.fdopen(os.dup(fd), "rb") as file,
    ):
        head = file.peek(CHUNK)
        encoding = _searched(head, guesses)
        file.seek(len(encoding.mark))
        with TextIOWrapper(file, encoding.name, errors="replace") as lines:
            for number, line in enumerate(lines, start=1):
                if _holds(line.casefold(), parts):
                    yield number, line


def _searched(head: bytes, guesses: Iterator[int]) -> TextEncoding:
    """The encoding to search a file in. Raises `ValueError` if it is not text."""
    try:
        return encoding_of(head, is_whole=False, guess=False)
    except UnicodeDecodeError:
        return UTF8 if next(guesses, None) is None else encoding_of(head, is_whole=False)


def _holds(line: str, parts: list[str]) -> bool:
    at = 0
    for part in parts:
        at = line.find(part, at)
        if at < 0:
            return False
        at += len(part)
    return True


def _parts(path: str, allowed: Collection[str]) -> tuple[str, ...]:
    if len(path) > MAX_PATH:
        raise ValueError(f"a path has at most {MAX_PATH:,} characters; {path[:40]!r}… has {len(path):,}")
    # Code in the sandbox knows the checkout as /workspace.
    inside = path.removeprefix("/workspace").lstrip("/") if path.startswith("/workspace/") else path
    pure = PurePosixPath("." if inside == "/workspace" else inside)
    if pure.is_absolute() or ".." in pure.parts or "\0" in path:
        raise ValueError(f"{path!r} is not inside the workspace: give a relative path without '..'")
    ways = ("/".join(pure.parts[:end]) for end in range(1, len(pure.parts) + 1))
    if rule := next(filter(None, (hiding_rule(way, allowed) for way in ways)), None):
        raise ValueError(f"{path!r} is protected ({rule.why}): no tool reads or writes it")
    return pure.parts


@contextlib.contextmanager
def _folder(root: Path, parts: tuple[str, ...], make: bool = False) -> Iterator[int]:
    """A descriptor of a folder below `root`, reached without following a link."""
    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for part in parts:
            if make:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(part, dir_fd=fd)
            below = _open(part, os.O_RDONLY | os.O_DIRECTORY, fd)
            os.close(fd)
            fd = below
        yield fd
    finally:
        os.close(fd)


@contextlib.contextmanager
def _opened(
    root: Path, path: str, allowed: Collection[str], flags: int, make_folders: bool = False
) -> Iterator[int]:
    *folders, name = _parts(path, allowed) or (".",)
    with _folder(root, tuple(folders), make_folders) as parent:
        # O_NONBLOCK: opening a planted named pipe must not hang the host.
        fd = _open(name, flags | os.O_NONBLOCK, parent)
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise ValueError(f"{path!r} is not a file")
        yield fd
    finally:
        os.close(fd)


def _open(name: str, flags: int, folder: int) -> int:
    try:
        return os.open(name, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644, dir_fd=folder)
    except OSError as exc:
        if os.path.islink(f"/proc/self/fd/{folder}/{name}"):  # noqa: PTH114 - only for the message
            raise ValueError(f"{name!r} is a symbolic link: links are not followed") from exc
        raise
