"""Files and folders that the user names so that a model, a server or a store gets what is in them.

One rule for all of them: files attached to a prompt, documents, schemas, exports of memory, archives of
tools and folders of scripts. Keys, logins, what `orch` keeps, and files that the machine makes or keeps
secret are refused by their name, by what it leads to, and by what they are: a mounted `~/.ssh` stays that.

A link may be a stranger's, if what holds it was downloaded. One in the workspace, or in the repository around
it, may lead anywhere in that; one elsewhere, anywhere in the folder that holds it. Others are refused with
the real path, which can be named instead, but for those that `followed_links` knows: the machine's, and those
on the way to the home, the current folder and the workspace. `written_files` has the rule for writing.

Not covered: a link that leads to another file between two looks, and hard links.
"""

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from orchestrator_cli.durable.files import read_stored
from orchestrator_cli.durable.followed_links import (
    links_on,
    links_to,
    only_root_writes,
    real_path,
    stray_link,
)
from orchestrator_cli.durable.foreign import on_one_line
from orchestrator_cli.durable.places import Places, folder_id, home_folders, repository_around
from orchestrator_cli.environment import shell_folder
from orchestrator_cli.errors import UsageError
from orchestrator_cli.settings import Settings
from orchestrator_cli.tools.file_rules import hidden_at, hiding_rule, machine_keeps
from orchestrator_cli.workspace.entrances import Entrances


class Refusal(NamedTuple):
    """Why a file is not read, as the end of a sentence, and what to do."""

    why: str
    remedy: str = "Leave it out; no model is given such files."


class NamedFiles:
    """The rule for the workspace of these settings."""

    def __init__(self, settings: Settings) -> None:
        self._allowed = settings.allow_protected
        self._own = Places(settings.own_places)
        self._root = settings.workspace.resolve()
        self._around = [self._root, *filter(None, [repository_around(self._root)])]
        self._known = links_to((*home_folders(), shell_folder(), settings.workspace.absolute()))
        self._entrances = Entrances(self._root)

    def protection(self, path: Path) -> str:
        """Why no model may be given what is there, however it was found; empty if one may."""
        real = real_path(path)
        for place in dict.fromkeys((path.absolute(), real, *self._other_names(real))):
            rule = hiding_rule(place.name, self._allowed, place.parts[1:-1]) or hidden_at(str(place))
            if rule is not None:
                return rule.why
            # A workspace within the data folder is the user's.
            own = self._own.holding(place) is not None
            if own and not (self._own.holding(self._root) and place.is_relative_to(self._root)):
                return "`orch` itself keeps it"
        kept = machine_keeps(str(real))
        return kept.why if kept else ""

    def _other_names(self, real: Path) -> Iterator[Path]:
        """The names that a path has in a home folder, if it or a folder around it is mounted elsewhere."""
        for folder in (real, *real.parents):
            known = folder_id(folder)
            found = self._entrances.at_home.get(known) if known else None
            if found and (name := Path(*found, real.relative_to(folder))) != real:
                yield name

    def way_out(self, path: Path) -> Refusal | None:
        """Set if a link on the way leads out of the folder that holds it, the workspace or its repository."""
        named, real = path.absolute(), real_path(path)
        for base in self._around:
            known = folder_id(base)
            # Whatever path leads to the workspace.
            above = map(folder_id, Path(os.path.normpath(named)).parents)
            if known in above and not real.is_relative_to(base):
                return _leads_out(base, real)
        found = stray_link(links_on(named), self._known, self._around, only_root_writes)
        return _leads_out(found.place.parent, real) if found else None

    def refusal(self, path: Path) -> Refusal | None:
        """Why what the user named is not read; None if it may be."""
        why = self.protection(path)
        return Refusal(why) if why else self.way_out(path)

    def check(self, path: Path, done: str = "read") -> Path:
        """Where a name leads. Raises `UsageError` if it may not be `done`, such as "attached"."""
        if found := self.refusal(path):
            raise UsageError(f"{path} is not {done}: {found.why}.", found.remedy)
        return real_path(path)


def read_named(path: Path, settings: Settings, limit: int) -> bytes:
    """All of a file that the user named. Raises `UsageError` and `OSError`, also if it has more bytes."""
    data = read_stored(NamedFiles(settings).check(path), limit + 1)
    if len(data) > limit:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), str(path))
    return data


def _leads_out(folder: Path, real: Path) -> Refusal:
    shown = on_one_line(str(real))
    return Refusal(
        f"it is a link that leads out of {on_one_line(str(folder))}, to {shown}",
        f"If that is what you mean, name it: {shown}",
    )


def is_followed(path: Path, settings: Settings) -> bool:
    """Whether links below the current folder or the workspace make a path another one."""
    named, real = Path(os.path.normpath(path.absolute())), real_path(path)
    known = [
        base.resolve() / named.relative_to(base)
        for base in (Path.cwd(), settings.workspace.absolute())
        if named.is_relative_to(base)
    ]
    return real not in (named, *known)
