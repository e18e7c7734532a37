"""The files below a folder that a knowledge base reads: by the rules of `.gitignore`, without what is hidden.

Links are not followed. Rules count from the root of a git repository that the folder lies in, and from the
folder itself where it lies in none; a nearer file of rules wins over a farther one, as in git.

What is not covered: `.git/info/exclude` and the rules of the user's own git configuration.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec

RULES = ".gitignore"


@dataclass(frozen=True)
class Walked:
    """A file, or why it is left out; or a folder that cannot be listed."""

    path: Path
    left_out: str = ""
    """Empty for one that is to be read."""
    shut: str = ""
    """Why it is a folder that cannot be listed; empty for a file."""


def walk(root: Path, refused: Callable[[Path], bool] = lambda _: False) -> Iterator[Walked]:
    """The files below the folder `root`, in the order of their paths.

    `refused` says which files and folders are never read. What is hidden or ignored is passed over without a
    word; a folder below that cannot be listed is given with the reason. Raises `OSError` where the folder
    itself cannot be listed.
    """
    os.scandir(root).close()
    rules, shut = _Rules(root), list[OSError]()
    for place, folders, names in os.walk(root, onerror=shut.append):
        rules.enter(Path(place))
        folders[:] = sorted(
            name
            for name in folders
            if _is_seen(Path(place, name), refused) and not rules.ignore(Path(place, name), True)
        )
        for name in sorted(names):
            path = Path(place, name)
            if not _is_seen(path, refused) or rules.ignore(path, False):
                continue
            if (found := _walked(path)) is not None:
                yield found
    yield from (Walked(Path(exc.filename), shut=exc.strerror or "it cannot be listed") for exc in shut)


def _walked(path: Path) -> Walked | None:
    try:
        if path.is_symlink():
            return Walked(path, "it is a symbolic link: links are not followed")
        return Walked(path) if path.is_file() else None
    except OSError:
        # In a folder that may be listed and not entered; who reads it is told why that fails.
        return Walked(path)


def is_file(path: Path) -> bool:
    """Whether it is a file; not where that cannot be told, for which `Path.is_file` raises."""
    return stat.S_ISREG(_mode(path))


def is_folder(path: Path) -> bool:
    return stat.S_ISDIR(_mode(path))


def _mode(path: Path) -> int:
    try:
        return path.stat().st_mode
    except OSError:
        return 0


def _is_seen(path: Path, refused: Callable[[Path], bool]) -> bool:
    return not path.name.startswith(".") and not refused(path)


class _Rules:
    """The rules of the folders on the way to where the walk is."""

    def __init__(self, root: Path) -> None:
        self._specs: dict[Path, GitIgnoreSpec | None] = {}
        above = _repository(root)
        self._top = above or root
        for folder in (*reversed(root.parents), root):
            if folder.is_relative_to(self._top):
                self.enter(folder)

    def enter(self, folder: Path) -> None:
        if folder not in self._specs:
            self._specs[folder] = _read(folder / RULES)

    def ignore(self, path: Path, is_folder: bool) -> bool:
        for folder in path.parents:
            if (spec := self._specs.get(folder)) is not None:
                said = spec.check_file(path.relative_to(folder).as_posix() + ("/" if is_folder else ""))
                if said.include is not None:
                    return said.include
            if folder == self._top:
                break
        return False


def _repository(folder: Path) -> Path | None:
    return next((place for place in (folder, *folder.parents) if (place / ".git").exists()), None)


def _read(path: Path) -> GitIgnoreSpec | None:
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    from pathspec import GitIgnoreSpec

    try:
        return GitIgnoreSpec.from_lines(lines)
    except ValueError:
        # git passes over a line that is no pattern.
        return GitIgnoreSpec.from_lines(line for line in lines if _is_pattern(line))


def _is_pattern(line: str) -> bool:
    from pathspec import GitIgnoreSpec

    try:
        GitIgnoreSpec.from_lines([line])
    except ValueError:
        return False
    return True
