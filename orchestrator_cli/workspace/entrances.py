"""Where the rest of the machine leads into a workspace, and what the files there are used for.

Names that rules are about may be links, in a home folder or in the folders of `XDG_*`, whose files are in the
workspace: those files count under both names. So do folders of the workspace that are on `PATH`, and those
from which this interpreter imports.

Looked at are the names of the rules, and what is in such folders up to `MAX_DEPTH` and `MAX_ENTRIES`.
Not covered: links of other programs, and hard links.
"""

import contextlib
import os
import sys
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.util import find_spec
from pathlib import Path

from orchestrator_cli.durable.places import FolderId, Places, folder_id, home_folders, xdg_folders
from orchestrator_cli.tools.executed_files import MACHINE, MACHINE_PROGRAMS
from orchestrator_cli.tools.file_names import FileRule, canonical
from orchestrator_cli.tools.file_rules import (
    HOME_FOLDERS,
    executes,
    folders_above,
    hiding_rule,
    machine,
    machine_programs,
)
from orchestrator_cli.workspace.link_names import plain

MAX_DEPTH = 3
MAX_ENTRIES = 5_000
"""The nested folders in one that a rule is about, and the names in all of them, that are looked at."""
BINARIES = (".local/bin", ".cargo/bin")
"""Links in them are the user's own programs, which may well be what they work on."""
ON_PATH = FileRule("", "shells find programs in it, because it is on your PATH")
HOME = FileRule("", "it is or holds your home folder, in which shells and programs look for what they run")
RUNNING = FileRule("", "orch itself runs from it")
OF_MACHINE = tuple(f"{name}/" for name in (*MACHINE.names, *MACHINE_PROGRAMS.names, "/run", "/dev", "/proc"))
"""Links there lead to each other, hundreds of them; only those that leave it are looked at closely."""
INSTALLATION = ("bin", "lib", "lib64", "Scripts", "pyvenv.cfg")
PACKAGES = ("orchestrator_cli", "memory", "toolsmith")


@dataclass(frozen=True)
class Entrance:
    """A path of the workspace that is used by another name."""

    place: str
    """The path, as `plain` gives it; empty for the workspace itself."""
    name: str
    """Its name there, as rules know it."""
    rule: FileRule | None = None
    """What it is used for, if its name does not say it."""
    is_flat: bool = False
    """Whether only what is directly in it counts."""

    def below(self, path: str) -> str | None:
        """A path, as `plain` gives it, from here; None if it is not in it. Empty for the place itself."""
        if path == self.place or not self.place:
            return "" if path == self.place else path
        return path[len(self.place) + 1 :] if path.startswith(f"{self.place}/") else None


class Entrances:
    """All entrances of a workspace, as they are when they are first asked for."""

    def __init__(self, root: Path, machine: tuple[Path, ...] = tuple(map(Path, MACHINE.names))) -> None:
        """
        Args:
            root: the workspace, resolved.
            machine: the folders in which links are used by the whole machine.
        """
        self._root = root
        self._machine = machine

    @cached_property
    def at_home(self) -> Mapping[FolderId, tuple[Path, str]]:
        """The folders of the user's home folders that rules are about: the home and the path there."""
        found: dict[FolderId, tuple[Path, str]] = {}
        for home in home_folders():
            # There are several hundred names, so only those are looked at that begin with one that is there.
            names = _names_in(home)
            for path in HOME_FOLDERS:
                first = canonical(path.partition("/")[0])
                if (not path or names is None or first in names) and (known := folder_id(f"{home}/{path}")):
                    found.setdefault(known, (home, path))
        return found

    @cached_property
    def _named(self) -> tuple[Entrance, ...]:
        """Those by which rules about names hold."""
        return tuple(dict.fromkeys(_named(self._root)))

    @cached_property
    def _used(self) -> tuple[Entrance, ...]:
        """Those that count whatever is in them. Only a commit asks for them."""
        return tuple(dict.fromkeys(_used(self._root, self._machine)))

    def names(self, path: str) -> Iterator[tuple[str, str]]:
        """The names of a path outside, each with the path of the workspace up to where it was entered."""
        here = plain(path) if self._named else ""
        for one in self._named:
            rest = one.below(here)
            if rest is not None and (name := f"{one.name}/{rest}".strip("/")) != here:
                yield name, path[: len(path) - len(rest)].rstrip("/")

    def uses(self, path: str) -> Iterator[tuple[str, FileRule]]:
        """Why a path counts whatever its name, each with the path of the workspace that is used."""
        here = plain(path)
        for one in self._used:
            rest = one.below(here)
            if one.rule is not None and rest is not None and not (one.is_flat and "/" in rest):
                yield one.place or ".", one.rule

    def through(self, path: str) -> str:
        """A name outside that leads through a path if that is a link; empty if none does."""
        here, found = plain(path), (*self._named, *self._used)
        return next((one.name for one in found if one.place.startswith(f"{here}/")), "")

    def hides(self, path: str, allowed: tuple[str, ...]) -> bool:
        """Whether a path is hidden under a name that it has outside."""
        return any(
            hiding_rule(way, allowed) is not None
            for name, _ in self.names(path)
            for way in (*folders_above(name), name)
            if way
        )


def _names_in(folder: Path) -> set[str] | None:
    """The names in a folder, as rules compare them; None if it cannot be read."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        return {canonical(entry.name) for entry in entries}
    return None


def real_folder(root: Path, entrances: Entrances) -> Path:
    """The folder, resolved; the path below a home folder if it is one that rules are about, such as `~/.ssh`.

    Below another path, names would be judged without the folders above them.
    """
    found = folder_id(root)
    home, path = (entrances.at_home.get(found) if found is not None else None) or (root, "")
    return (home / path).resolve()


def outside_use(ways: Collection[Path]) -> FileRule | None:
    """What a place outside of a workspace is used for, if its name does not say it.

    `ways`: the names of the place. Programs that the user cannot change do not count.
    """
    found = {folder_id(way) for way in ways} - {None}
    if found & {folder_id(folder) for home in home_folders() for folder in (home, *home.parents)}:
        return HOME
    if rule := next(filter(None, map(machine_rule, ways)), None):
        return rule
    around = found | {folder_id(way.parent) for way in ways if os.access(way.parent, os.W_OK)}
    return ON_PATH if around & ({folder_id(folder) for folder in os.get_exec_path()} - {None}) else None


def machine_rule(place: Path) -> FileRule | None:
    """The rule about an absolute path that the whole machine uses, or a folder that holds such paths."""
    name = str(place)
    if hit := machine.within(name):
        return hit[1]
    if machine.begun_by(name):
        return MACHINE
    there = next(folder for folder in (place, *place.parents) if folder.exists())
    hit = machine_programs.within(name) if os.access(there, os.W_OK) else None
    return hit[1] if hit else None


def _named(root: Path) -> Iterator[Entrance]:
    known = cache(folder_id)
    for folder, name in (*_links(), *xdg_folders()):
        yield from (Entrance(place, f"{name}/{rest}".strip("/")) for place, rest in _at(folder, root, known))


def _used(root: Path, folders: Iterable[Path]) -> Iterator[Entrance]:
    known = cache(folder_id)
    for at in _links_out(folders, root):
        yield from (Entrance(place, f"{at}", MACHINE) for place, _ in _at(at, root, known))
    for folder in filter(Path.is_absolute, map(Path, os.get_exec_path())):
        yield from (
            Entrance(place, f"{folder}", ON_PATH, is_flat=True)
            for place, rest in _at(folder, root, known)
            if not rest
        )
    for folder in _running():
        yield from (Entrance(place, f"{folder}", RUNNING) for place, _ in _at(folder, root, known))


def _at(place: Path, root: Path, known: Callable[[Path], FolderId | None]) -> Iterator[tuple[str, str]]:
    """The paths of a place in the workspace, or of the workspace in it: from the one, and from the other.

    `known`: `folder_id`, kept for many places that are in the same folders.
    """
    for inside in Places([place], known).below(known(root)):
        yield plain(inside), ""
    found = known(place)
    for folder in root.parents:
        if found is not None and known(folder) == found:
            yield "", root.relative_to(folder).as_posix()


def _links() -> Iterator[tuple[Path, str]]:
    """Links at names that rules are about, and below such names, with these names."""
    for base, prefix in (*((home, "") for home in home_folders()), *xdg_folders()):
        if base.is_symlink() and prefix:
            yield base, prefix
        # The nearest first: folders that hold very much are deep.
        left, seen = deque([(str(base), prefix, 0)]), 0
        while left and seen < MAX_ENTRIES:
            folder, name, depth = left.popleft()
            with contextlib.suppress(OSError), os.scandir(folder) as entries:
                for entry in entries:
                    seen += 1
                    below = f"{name}/{entry.name}".strip("/")
                    is_known = depth > 0 or bool(executes.within(below) or hiding_rule(below))
                    if entry.is_symlink():
                        if is_known or below in HOME_FOLDERS:
                            yield Path(entry.path), below
                    elif (is_known or below in HOME_FOLDERS) and depth < MAX_DEPTH and entry.is_dir():
                        left += [(entry.path, below, depth + is_known)] * (below not in BINARIES)


def _links_out(folders: Iterable[Path], root: Path) -> Iterator[Path]:
    """Links in folders, and below them, that lead to a workspace or out of what belongs to the machine."""
    left, seen = deque([(str(folder), 0) for folder in folders]), 0
    while left and seen < MAX_ENTRIES:
        folder, depth = left.popleft()
        with contextlib.suppress(OSError), os.scandir(folder) as entries:
            for entry in entries:
                seen += 1
                if entry.is_symlink():
                    text = os.readlink(entry.path)  # noqa: PTH115
                    target = os.path.normpath(f"{folder}/" * (text[:1] != "/") + text)
                    if not target.startswith(OF_MACHINE) or target.startswith(f"{root}/"):
                        yield Path(entry.path)
                elif depth < MAX_DEPTH and entry.is_dir():
                    left.append((entry.path, depth + 1))


def _running() -> Iterator[Path]:
    """The folders and files from which this interpreter runs and has imported what is not its own."""
    installed = [f"{base}/{name}" for base in {sys.prefix, sys.base_prefix} for name in INSTALLATION]
    yield from map(Path, installed)
    modules = [module for name, module in list(sys.modules.items()) if "." not in name]
    files = {getattr(module, "__file__", None) for module in modules}
    files |= {spec.origin for name in PACKAGES if (spec := find_spec(name)) is not None}
    for file in filter(None, files):
        if not file.startswith(tuple(f"{place}/" for place in installed)):
            yield Path(file).parent if Path(file).stem == "__init__" else Path(file)
