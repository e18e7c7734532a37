"""Which paths the settings of a git repository name for what git executes or obeys, such as its hooks folder.

The settings are read by `git config --list`, which runs nothing that they name. Those of the user and of the
system, and files that they include, are among them. Without git there are none.
"""

import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

WAIT_S = 10
_RUNS = re.compile(
    r"core\.(hookspath|fsmonitor|editor|pager|sshcommand|gitproxy|askpass|attributesfile)|sequence\.editor"
    r"|include(if\..*)?\.path|(filter|diff|merge|difftool|mergetool|browser|man|guitool|tar|trailer|hook)\..*"
    r"|diff\.external|alias\..*|pager\..*|credential\.(.*\.)?helper|gpg\.(.*\.)?program|init\.templatedir"
    r"|interactive\.difffilter|uploadpack\.packobjectshook|remote\..*\.(uploadpack|receivepack|vcs)"
    r"|submodule\..*\.update|sendemail\..*|web\.browser|gc\.recentobjectshook|commit\.template",
    re.IGNORECASE | re.DOTALL,
)

_SHELL_SIGNS = re.compile(r"""[\s;&|<>(){}"'`=,:!]+""")
_MODULE = re.compile(r"(?<=-m )[\w.]+")


def named_by_git(repository: Path) -> dict[Path, str]:
    """The paths, each with the setting of the repository whose value names it, or the link to it."""
    found = {
        link: f".git/{link.relative_to(folder)}" for folder in _folders(repository) for link in _links(folder)
    }
    git = shutil.which("git", path="/usr/local/bin:/usr/bin:/bin")
    if git is None:
        return found
    command = [git, "-C", str(repository), "--no-pager", "config", "--list", "--null", "--show-origin"]
    try:
        done = subprocess.run(command, capture_output=True, check=False, timeout=WAIT_S)
    except (OSError, subprocess.TimeoutExpired):
        return found
    parts = os.fsdecode(done.stdout).split("\0")
    for origin, setting in zip(parts[::2], parts[1::2], strict=False):
        name, _, value = setting.partition("\n")
        if _RUNS.fullmatch(name):
            file = repository / origin.removeprefix("file:")
            # Other words of an alias that is no command of a shell are git's own, such as `log`.
            is_git = name.lower().startswith("alias.") and not value.startswith("!")
            for path in _paths("" if is_git and "/" not in value else value, (repository, file.parent)):
                found.setdefault(path, name)
    return found


def _folders(repository: Path) -> Iterator[Path]:
    """Where git keeps its own files for a repository, or for a worktree and for the repository of that."""
    folder = repository / ".git"
    with suppress(OSError, ValueError):
        if folder.is_file():
            folder = repository / folder.read_text(encoding="utf-8").removeprefix("gitdir:").strip()
        yield folder
        yield folder / (folder / "commondir").read_text(encoding="utf-8").strip()


def _links(folder: Path) -> Iterator[Path]:
    """Links to what git obeys, such as hooks."""
    for place in (folder, folder / "hooks", folder / "info"):
        if place.is_symlink():
            yield place
        with suppress(OSError), os.scandir(place) as entries:
            yield from (place / entry.name for entry in entries if entry.is_symlink())


def _paths(value: str, folders: tuple[Path, ...]) -> Iterator[Path]:
    """The paths that a value may name, as a whole or by one of its words; relative to one of the folders."""
    words = dict.fromkeys((value, *_words(value)))
    # What a variable or a command stands for is not known: mostly, the top of the repository.
    words |= dict.fromkeys(word.partition("/")[2] for word in words if word[:1] in ("$", "/"))
    for word in words:
        for folder in folders:
            if word and "\0" not in word:
                yield Path(os.path.normpath(folder / os.path.expanduser(word)))  # noqa: PTH111 - never fails


def _words(value: str) -> Iterator[str]:
    """The words of a command, also of one within its quotes, and those that signs of a shell end."""
    try:
        words = shlex.split(value.lstrip("!"), posix=True)
    except ValueError:
        words = value.split()
    yield from words
    for text in (value, *words):
        yield from _SHELL_SIGNS.split(text)
        for module in _MODULE.findall(text):
            yield from (module.replace(".", "/"), f"{module.replace('.', '/')}.py")
