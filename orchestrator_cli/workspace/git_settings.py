"""Which paths the settings of a git repository name for what git executes or obeys, such as its hooks folder.

The settings are read by `git config --list`, which runs nothing that they name. Those of the user and of the
system, and files that they include, are among them. Without git there are none.
"""

import os
import re
import select
import shutil
import stat
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from orchestrator_cli.durable.files import read_regular
from orchestrator_cli.errors import WorkspaceFault
from orchestrator_cli.tools.file_rules import is_git_folder
from orchestrator_cli.workspace.commands import paths_in
from orchestrator_cli.workspace.followed import CommandFile, hook_files

WAIT_S = 10
"""For the settings of all repositories of one look."""
MAX_BYTES = 1 << 18
"""Of the settings of one repository."""
MAX_PATH_BYTES = 1 << 13
_LIST = ("--list", "--null", "--show-origin")
_RUNS = re.compile(
    r"core\.(hookspath|fsmonitor|editor|pager|sshcommand|gitproxy|askpass|attributesfile)|sequence\.editor"
    r"|include(if\..*)?\.path|(filter|diff|merge|difftool|mergetool|browser|man|guitool|tar|trailer|hook)\..*"
    r"|diff\.external|alias\..*|pager\..*|credential\.(.*\.)?helper|gpg\.(.*\.)?program|init\.templatedir"
    r"|interactive\.difffilter|uploadpack\.packobjectshook|remote\..*\.(uploadpack|receivepack|vcs)"
    r"|submodule\..*\.update|sendemail\..*|web\.browser|gc\.recentobjectshook|commit\.template",
    re.IGNORECASE | re.DOTALL,
)


@dataclass(frozen=True)
class Repository:
    """A git repository, as far as it names what git executes."""

    path: Path
    named: Mapping[Path, str]
    """The paths, each with the setting whose value names it, or the link to it."""
    hooks: tuple[CommandFile, ...]

    @classmethod
    def read_all(cls, paths: Iterable[Path], wait_s: float = WAIT_S) -> tuple["Repository", ...]:
        """Those at some paths, in `wait_s` seconds for all. Raises as `read`."""
        listing = _SettingsListing(wait_s)
        return tuple(cls.read(path, listing) for path in paths)

    @classmethod
    def read(cls, path: Path, listing: "_SettingsListing | None" = None) -> "Repository":
        """The one at a path: a work tree, or a folder of git itself.

        Raises `WorkspaceFault` if its settings are too long, or take too long, to tell what they name.
        """
        folders = list(_folders(path))
        links = {link: f".git/{link.relative_to(folder)}" for folder in folders for link in _links(folder)}
        named = {**_named_by_settings(path, folders, listing or _SettingsListing()), **links}
        set_folders = (place for place, setting in named.items() if setting.lower() == "core.hookspath")
        places = dict.fromkeys((*(folder / "hooks" for folder in folders), *set_folders))
        return cls(path, named, tuple(hook for place in places for hook in hook_files(place, path)))


class _SettingsListing:
    """Lists the settings of one repository after another, in a limited time for all."""

    def __init__(self, wait_s: float = WAIT_S) -> None:
        self._until = time.monotonic() + wait_s
        self._known: dict[tuple[Path, ...], bytes] = {}
        """By the folders of git, which a work tree and its `.git` have in common."""

    def of(self, repository: Path, folders: list[Path]) -> bytes:
        """What `git config --list --null --show-origin` prints; empty without git."""
        key = tuple(folders)
        if key not in self._known:
            self._known[key] = self._listed(repository, folders)
        return self._known[key]

    def _listed(self, repository: Path, folders: list[Path]) -> bytes:
        git = shutil.which("git", path="/usr/local/bin:/usr/bin:/bin")
        if git is None:
            return b""
        places = [folder for folder in folders if _may_be_repository(folder)]
        files = [folder / name for folder in places for name in ("config", "config.worktree")]
        if any(_is_special(file) for file in files):  # git would wait for a pipe
            raise _unclear(repository)
        # Of a repository of another user, git lists nothing; that user's git obeys it.
        command = [git, "-c", "safe.directory=*", "-C", str(repository), "--no-pager", "config", *_LIST]
        output, is_done = self._output(repository, command)
        if places and not is_done:
            raise _unclear(repository)
        # A repository of a later format is none for this git, but for another one.
        listed = {os.path.realpath(repository / origin) for origin, _ in _parts(output)}
        if not listed.isdisjoint(map(os.path.realpath, files)):
            return output
        for file in filter(os.path.isfile, files):
            more, is_done = self._output(repository, [*command, "--includes", "--file", str(file)])
            if not is_done:
                raise _unclear(repository)
            output += more
        return output

    def _output(self, repository: Path, command: list[str]) -> tuple[bytes, bool]:
        """What a command prints, and whether it succeeds."""
        nothing = subprocess.DEVNULL
        try:
            process = subprocess.Popen(command, stdin=nothing, stdout=subprocess.PIPE, stderr=nothing)
        except OSError as exc:
            raise _unclear(repository) from exc
        with process:
            try:
                output = self._read(repository, process)
                return output, process.wait(max(0, self._until - time.monotonic())) == 0
            except subprocess.TimeoutExpired as exc:
                raise _unclear(repository) from exc
            finally:
                process.kill()

    def _read(self, repository: Path, process: subprocess.Popen[bytes]) -> bytes:
        assert process.stdout is not None
        output, ready = bytearray(), select.poll()
        ready.register(process.stdout)
        while len(output) <= MAX_BYTES:
            self.check(repository)
            if ready.poll(1_000 * max(0, self._until - time.monotonic())):
                part = os.read(process.stdout.fileno(), 1 << 16)
                if not part:
                    return bytes(output)
                output += part
        raise _unclear(repository)

    def check(self, repository: Path) -> None:
        """Raise `WorkspaceFault` if the time is over."""
        if time.monotonic() >= self._until:
            raise _unclear(repository)


def _unclear(repository: Path) -> WorkspaceFault:
    return WorkspaceFault(
        f"the settings of the git repository {repository} cannot be read, or are too long or take git "
        "too long to tell which files git executes"
    )


def _may_be_repository(folder: Path) -> bool:
    try:
        return is_git_folder(entry.name for entry in folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True


def _is_special(file: Path) -> bool:
    """Whether something is there that is neither a file nor a folder, of which git reads nothing."""
    try:
        mode = file.stat().st_mode
    except OSError:
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def _parts(output: bytes) -> Iterator[tuple[str, str]]:
    """Files of settings, absolute or relative to the repository, each with a setting and its value."""
    parts = os.fsdecode(output).split("\0")
    return ((file.removeprefix("file:"), text) for file, text in zip(parts[::2], parts[1::2], strict=False))


def _named_by_settings(repository: Path, folders: list[Path], listing: _SettingsListing) -> dict[Path, str]:
    found: dict[Path, str] = {}
    for origin, setting in _parts(listing.of(repository, folders)):
        name, _, value = setting.partition("\n")
        if _RUNS.fullmatch(name):
            listing.check(repository)
            file = repository / origin
            # Other words of an alias that is no command of a shell are git's own, such as `log`.
            is_git = name.lower().startswith("alias.") and not value.startswith("!")
            for path in paths_in("" if is_git and "/" not in value else value, (repository, file.parent)):
                found.setdefault(path, name)
    return found


def _folders(repository: Path) -> Iterator[Path]:
    """Where git keeps its own files for a repository, or for a worktree and for the repository of that."""
    folder = repository / ".git"
    with suppress(OSError, ValueError):
        if not folder.exists():
            if not is_git_folder(entry.name for entry in repository.iterdir()):
                return
            folder = repository
        if folder.is_file():
            folder = repository / _line(folder).removeprefix("gitdir:").strip()
        yield folder
        yield folder / _line(folder / "commondir")


def _line(file: Path) -> str:
    return os.fsdecode(read_regular(file, MAX_PATH_BYTES)).strip()


def _links(folder: Path) -> Iterator[Path]:
    """Links to what git obeys, such as hooks."""
    for place in (folder, folder / "hooks", folder / "info"):
        if place.is_symlink():
            yield place
        with suppress(OSError), os.scandir(place) as entries:
            yield from (place / entry.name for entry in entries if entry.is_symlink())
