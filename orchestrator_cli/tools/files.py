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
from pathlib import Path, PurePosixPath
from typing import Any

from orchestrator_cli.durable.foreign import on_one_line
from orchestrator_cli.tools.file_rules import hiding_rule

MAX_CHARS = 100_000
UTF8 = codecs.getincrementaldecoder("utf-8")


def file_tools(root: Path, allowed: Collection[str] = ()) -> dict[str, Callable[..., Any]]:
    """The file tools of one checkout, by name. They raise `ValueError` and `OSError` with a plain reason.

    `allowed`: protected names that they may touch.
    """

    def list_files(folder: str = ".") -> list[str]:
        """List the files below a folder of the workspace, with their sizes in bytes.

        Args:
            folder: The folder, relative to the workspace.
        """
        parts = _parts(folder, allowed)
        with _folder(root, parts):
            start = root.joinpath(*parts)
        found = []
        for place, folders, names in os.walk(start):
            here = PurePosixPath(place).relative_to(root)
            folders[:] = sorted(name for name in folders if not hiding_rule(str(here / name), allowed))
            for name in sorted(names):
                if not hiding_rule(str(here / name), allowed):
                    size = Path(place, name).lstat().st_size
                    found.append(f"{on_one_line(here / name)} ({size} bytes)")
        return found[:1000]

    def read_file(path: str) -> str:
        """Read a text file of the workspace.

        Args:
            path: The file, relative to the workspace.
        """
        with _opened(root, path, allowed, os.O_RDONLY) as fd, os.fdopen(os.dup(fd), "rb") as file:
            data = file.read(MAX_CHARS * 4 + 1)
        try:
            # The last character may be cut if the file continues.
            text = UTF8().decode(data, final=len(data) <= MAX_CHARS * 4)
        except UnicodeDecodeError:
            raise ValueError(f"{path} is not UTF-8 text") from None
        return text if len(text) <= MAX_CHARS else text[:MAX_CHARS] + "\n… (cut)"

    def write_file(path: str, content: str) -> str:
        """Write a text file of the workspace, replacing what it held; folders are made as needed.

        Args:
            path: The file, relative to the workspace.
            content: The whole new content.
        """
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        with (
            _opened(root, path, allowed, flags, make_folders=True) as fd,
            os.fdopen(os.dup(fd), "wb") as file,
        ):
            file.write(content.encode())
        return f"wrote {len(content.encode())} bytes to {path}"

    return {"list_files": list_files, "read_file": read_file, "write_file": write_file}


FILE_TOOLS = frozenset(file_tools(Path()))
"""Names of the tools whose calls can be repeated on another checkout."""


def _parts(path: str, allowed: Collection[str]) -> tuple[str, ...]:
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
