"""Lists the files below a folder that a knowledge base reads: not hidden, and not ignored by `.gitignore`.

Links are not followed. Rules count from the root of the git repository that the folder is in, or from the
folder itself if it is in none; as in git, a rule in a nearer `.gitignore` overrides one in a farther file.

What is not covered: `.git/info/exclude` and the rules of the user's own git configuration.
"""

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
class WalkEntry:
    """A file to read, a file to skip, or a folder that cannot be listed."""

    path: Path
    skip_reason: str = ""
    """Why the file is skipped; empty if it is to be read."""
    list_error: str = ""
    """Why the folder cannot be listed; empty for a file."""


def walk(root: Path, refused: Callable[[Path], bool] = lambda _: False) -> Iterator[WalkEntry]:
    """Yield the files below the folder `root`, sorted by path.

    `refused` says which files and folders are never read. Hidden and ignored files are skipped silently; a
    subfolder that cannot be listed is yielded with the reason. Raises `OSError` if `root` itself cannot be
    listed.
    """
    os.scandir(root).close()
    rules, errors = _IgnoreRules(root), list[OSError]()
    for parent, folders, names in os.walk(root, onerror=errors.append):
        rules.enter(Path(parent))
        folders[:] = sorted(
            name
            for name in folders
            if _is_visible(Path(parent, name), refused) and not rules.ignore(Path(parent, name), True)
        )
        for name in sorted(names):
            path = Path(parent, name)
            if not _is_visible(path, refused) or rules.ignore(path, False):
                continue
            if (entry := _file_entry(path)) is not None:
                yield entry
    yield from (
        WalkEntry(Path(exc.filename), list_error=exc.strerror or "it cannot be listed") for exc in errors
    )


def _file_entry(path: Path) -> WalkEntry | None:
    try:
        if path.is_symlink():
            return WalkEntry(path, "it is a symbolic link: links are not followed")
        return WalkEntry(path) if path.is_file() else None
    except OSError:
        # The folder can be listed but not entered; the error appears when the file is read.
        return WalkEntry(path)


def is_file(path: Path) -> bool:
    """Whether the path is a file; False, unlike `Path.is_file`, if access to it is denied."""
    return stat.S_ISREG(_mode(path))


def is_folder(path: Path) -> bool:
    """Whether the path is a folder; False if access to it is denied."""
    return stat.S_ISDIR(_mode(path))


def _mode(path: Path) -> int:
    try:
        return path.stat().st_mode
    except OSError:
        return 0


def _is_visible(path: Path, refused: Callable[[Path], bool]) -> bool:
    return not path.name.startswith(".") and not refused(path)


class _IgnoreRules:
    """The `.gitignore` rules of the folders from the repository's root down to the current folder."""

    def __init__(self, root: Path) -> None:
        self._specs: dict[Path, GitIgnoreSpec | None] = {}
        repositories = (folder for folder in (root, *root.parents) if (folder / ".git").exists())
        self._top = next(repositories, root)
        for folder in (*reversed(root.parents), root):
            if folder.is_relative_to(self._top):
                self.enter(folder)

    def enter(self, folder: Path) -> None:
        if folder not in self._specs:
            self._specs[folder] = _read_rules(folder / RULES)

    def ignore(self, path: Path, is_folder: bool) -> bool:
        for folder in path.parents:
            if (spec := self._specs.get(folder)) is not None:
                match = spec.check_file(path.relative_to(folder).as_posix() + ("/" if is_folder else ""))
                if match.include is not None:
                    return match.include
            if folder == self._top:
                break
        return False


def _read_rules(path: Path) -> "GitIgnoreSpec | None":
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    from pathspec import GitIgnoreSpec

    try:
        return GitIgnoreSpec.from_lines(lines)
    except ValueError:
        # git, too, skips lines that are not valid patterns.
        return GitIgnoreSpec.from_lines(line for line in lines if _is_pattern(line))


def _is_pattern(line: str) -> bool:
    from pathspec import GitIgnoreSpec

    try:
        GitIgnoreSpec.from_lines([line])
    except ValueError:
        return False
    return True
