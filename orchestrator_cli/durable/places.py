"""Folders and files known by what they are, whatever path, bind mount or link leads to them.

Not covered: file systems that show one folder with several identities, such as overlays.
"""

import os
import pwd
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

MAX_HOPS = 40
XDG = {
    "XDG_CONFIG_HOME": ".config",
    "XDG_DATA_HOME": ".local/share",
    "XDG_STATE_HOME": ".local/state",
    "XDG_CACHE_HOME": ".cache",
}


class FolderId(NamedTuple):
    """What makes a folder the same one under every path."""

    device: int
    inode: int


def folder_id(place: Path | str | int) -> FolderId | None:
    """The identity of a path, or of a descriptor; None if nothing is there that can be looked at."""
    try:
        found = os.stat(place)  # noqa: PTH116 - descriptors too
    except (OSError, ValueError):
        return None
    return FolderId(found.st_dev, found.st_ino)


def repository_around(folder: Path) -> Path | None:
    """The nearest folder, the one given or one above it, that has a `.git`."""
    folders = (folder, *folder.parents)
    return next((at for at in folders if os.path.exists(at / ".git")), None)  # noqa: PTH110 - never fails


def home_folders() -> tuple[Path, ...]:
    """The user's home folders: the one of the environment, and the one of the user database."""
    found = []
    with suppress(RuntimeError):
        found.append(Path.home())
    with suppress(KeyError):
        found.append(Path(pwd.getpwuid(os.geteuid()).pw_dir))
    return tuple(dict.fromkeys(path for path in found if path.is_absolute()))


def user_name() -> str:
    """The user's name in the user database, and not that of the environment; a number if it has none."""
    user = os.geteuid()
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return f"user-{user}"


def xdg_folders() -> tuple[tuple[Path, str], ...]:
    """The folders that `XDG_*` name instead of the usual ones, with the usual path in a home folder."""
    found = ((os.environ.get(variable, ""), usual) for variable, usual in XDG.items())
    usual_ids = {folder_id(home / usual) for home in home_folders() for usual in XDG.values()} - {None}
    return tuple(
        (Path(folder), usual)
        for folder, usual in found
        if os.path.isabs(folder) and folder_id(Path(folder)) not in usual_ids  # noqa: PTH117 - may be empty
    )


def links_in(folder: Path) -> tuple[Path, ...]:
    """The links in a folder and in the folders there."""
    found = []
    for one in (folder, *_folders_in(folder)):
        with suppress(OSError), os.scandir(one) as entries:
            found += [one / entry.name for entry in entries if entry.is_symlink()]
    return tuple(found)


def _folders_in(folder: Path) -> list[Path]:
    with suppress(OSError), os.scandir(folder) as entries:
        return [folder / entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
    return []


class Places:
    """Paths, of which each need not be there, recognised below any folder through which they are reached."""

    def __init__(
        self, paths: Iterable[Path], identify: Callable[[Path], FolderId | None] = folder_id
    ) -> None:
        self._below: dict[FolderId, dict[str, Path]] = {}
        for path in paths:
            for way in ways_to(path.absolute()):
                for folder in (way, *way.parents):
                    if (found := identify(folder)) is not None:
                        rest = way.relative_to(folder).as_posix()
                        self._below.setdefault(found, {}).setdefault("" if rest == "." else rest, path)

    def below(self, folder: FolderId | None) -> Mapping[str, Path]:
        """The places in a folder by their paths from there, of which the folder's own is empty."""
        return self._below.get(folder, {}) if folder is not None else {}

    def holding(self, path: Path) -> Path | None:
        """The place that a path is or is inside of; the path is resolved."""
        found = (self.below(folder_id(folder)).get("") for folder in (path, *path.parents))
        return next(filter(None, found), None)

    def within(self, folder: Path) -> list[Path]:
        """The places in a folder, also by a mount below it."""
        around = [folder, *_mounts_below(folder)]
        found = (place for one in around for place in self.below(folder_id(one)).values())
        return list(dict.fromkeys(found))


def ways_to(path: Path) -> Iterator[Path]:
    """A path, and each one that its links make of it; `path` is absolute."""
    here, left = list[str](), list(reversed(path.parts[1:]))
    is_new, hops = True, 0
    while left:
        part = left.pop()
        if part == "..":
            del here[-1:]
            continue
        if is_new:
            yield Path("/", *here, part, *reversed(left))
        is_new = False
        here.append(part)
        with suppress(OSError):
            target = str(Path("/", *here).readlink())
            here = [] if target.startswith("/") else here[:-1]
            left += [name for name in reversed(target.split("/")) if name not in ("", ".")]
            is_new, hops = True, hops + 1
        if hops > MAX_HOPS:
            return


def _mounts_below(folder: Path) -> list[Path]:
    try:
        rows = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:  # no Linux
        return []
    names = (re.sub(r"\\([0-7]{3})", lambda sign: chr(int(sign[1], 8)), row.split(" ")[4]) for row in rows)
    return [path for path in map(Path, names) if path != folder and path.is_relative_to(folder)]
