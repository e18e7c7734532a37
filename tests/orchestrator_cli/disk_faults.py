"""A disk that is full, read-only or broken below some paths, for one process that is about to become `orch`.

System calls that write fail there as the kernel makes them fail; everything above is the real thing. It needs
no mount and no root. Not covered: writes of buffered files, whose opening or syncing fails instead, and what
other processes of the run write.
"""

import errno
import json
import os
import sys
from collections.abc import Mapping
from fnmatch import fnmatch
from pathlib import Path
from types import SimpleNamespace
from typing import Any

NAME = "ORCH_TEST_DISK"
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT


def disk(*places: str, number: int = errno.ENOSPC, after: int = 0, since: str = "") -> dict[str, str]:
    """The environment of a command that meets the error `number` at paths that match a pattern.

    Args:
        after: how many calls there still succeed.
        since: a text; the disk is well until the run's process is about to write it.
    """
    return {NAME: json.dumps({"places": places, "number": number, "after": after, "since": since})}


def break_disk(env: Mapping[str, str]) -> None:
    """Break the disk of this process, if its environment says so."""
    if NAME in env:
        order = json.loads(env[NAME])
        _Disk(**order).install()


class _Disk:
    def __init__(self, places: list[str], number: int, after: int, since: str) -> None:
        self._places = places
        self._number = number
        self._left = after
        self._since = since.encode()

    def install(self) -> None:
        sys.addaudithook(self._audit)
        # What an audit hook does not see, or sees without its folder.
        for name in ("write", "pwrite", "fsync", "copy_file_range", "ftruncate"):
            setattr(os, name, self._checked(getattr(os, name), 1 if name == "copy_file_range" else 0))
        os.open = self._opened(os.open)
        statvfs = os.statvfs
        os.statvfs = lambda path: self._free(statvfs(path), str(path))  # type: ignore[assignment]

    def _audit(self, event: str, args: tuple[Any, ...]) -> None:
        if event == "open" and isinstance(args[0], str) and args[0].startswith("/"):
            self._check_open(args[0], args[2])
        elif event in ("os.mkdir", "os.symlink") and isinstance(args[0], str) and args[0].startswith("/"):
            self._check(args[0])
        elif event == "os.rename":
            path = str(args[1])
            self._check(path if path.startswith("/") or args[3] < 0 else f"{_path(args[3])}/{path}")

    def _check_open(self, path: str, flags: int) -> None:
        # A full disk still opens what is there.
        if flags & WRITES and (self._number == errno.EROFS or not Path(path).exists()):
            self._check(path)

    def _opened(self, real: Any) -> Any:
        def call(path: Any, flags: int, *args: Any, **options: Any) -> int:
            if (folder := options.get("dir_fd")) is not None and isinstance(path, str):
                self._check_open(f"{_path(folder)}/{path}", flags)
            found: int = real(path, flags, *args, **options)
            return found

        return call

    def _checked(self, real: Any, at: int) -> Any:
        def call(*args: Any) -> Any:
            if (
                self._since
                and len(args) > 1
                and not isinstance(args[1], int)
                and self._since in bytes(args[1])
            ):
                self._since = b""
            if (path := _path(args[at])).startswith("/"):
                self._check(path, is_named=False)  # the kernel knows no name of a descriptor
            return real(*args)

        return call

    def _check(self, path: str, *, is_named: bool = True) -> None:
        if not self._since and any(fnmatch(path, place) for place in self._places):
            if self._left <= 0:
                raise OSError(self._number, os.strerror(self._number), *([path] if is_named else []))
            self._left -= 1

    def _free(self, found: os.statvfs_result, path: str) -> Any:
        """A full disk has no space either."""
        row = {name: getattr(found, name) for name in dir(found) if name.startswith("f_")}
        if not self._since and self._left <= 0 and any(fnmatch(f"{path}/x", place) for place in self._places):
            row |= {"f_bavail": 0, "f_bfree": 0} if self._number == errno.ENOSPC else {}
            row["f_flag"] |= os.ST_RDONLY if self._number == errno.EROFS else 0
        return SimpleNamespace(**row)


def _path(file: int) -> str:
    return str(Path(f"/proc/self/fd/{file}").readlink()).removesuffix(" (deleted)")
