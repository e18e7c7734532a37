"""Which changes of a checkout are executed or obeyed later, by the host or by another program.

The names are in `tools.file_rules`. A path counts under every name that links give it, and everything in a
folder that git takes for a repository counts, whatever its name: git runs what the settings in it name.

Not covered: hard links, and links that lead out of the workspace and back by a link outside of it.
"""

import contextlib
import functools
import itertools
import json
import os
import re
import tomllib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from orchestrator_cli.durable.places import folder_id, home_folders
from orchestrator_cli.errors import WorkspaceFault
from orchestrator_cli.tools.file_rules import (
    GIT_FOLDER,
    PROGRAMS,
    FileRule,
    canonical,
    executes,
    folders_above,
    hidden_at,
    hiding_rule,
    is_allowed,
    is_git_folder,
)
from orchestrator_cli.workspace.file_state import FileTree
from orchestrator_cli.workspace.git_settings import named_by_git
from orchestrator_cli.workspace.tree import Root

MAX_BYTES = 1 << 20
MAX_LOCK_BYTES = 64 << 20
"""Larger files are not read, so that any change of them counts."""
MAX_ALIASES = 50_000
MAX_HOPS = 40
IN_ENVIRONMENT = ("bin", "scripts", "lib", "lib64")
"""The folders of an environment of Python with programs and what they import."""


@dataclass(frozen=True)
class Executed:
    """Changed paths that a program executes or obeys later."""

    root: str
    """What a person is asked about: the path up to the name that a rule is about."""
    why: str
    paths: tuple[str, ...]
    """The changed paths, sorted."""


@dataclass(frozen=True)
class Changed:
    """What a commit would change, and what is needed to judge it."""

    paths: Collection[str]
    before: Root
    """The workspace."""
    after: Root
    """The checkout."""
    now: FileTree
    """The content of the checkout."""
    was: FileTree = field(default_factory=dict)
    """The content of the workspace when the checkout was taken."""
    links: Mapping[str, str] = field(default_factory=dict)
    """Targets of links that others committed since then, by their paths."""
    allowed: Collection[str] = ()
    """Names that the user allows without a question."""
    is_new: Callable[[str], bool] = lambda _: False
    """Whether the run itself made a file of the workspace."""

    @functools.cached_property
    def _known(self) -> dict[tuple[str, FileRule], bool]:
        return {}

    @functools.cached_property
    def _above(self) -> tuple[str, ...]:
        """The folders that the workspace is in, and its own name."""
        return self.before.path.parts[1:]

    @functools.cached_property
    def _names(self) -> tuple["_LinkNames", ...]:
        """The names by the links before the commit, and by those after it."""
        states = {**_links(self.was), **self.links}, {**self.links, **_links(self.now)}
        return tuple(_LinkNames(links, self._above) for links in states[states[0] == states[1] :])

    def executed(self) -> tuple[Executed, ...]:
        """What of it needs a question, sorted. Raises `WorkspaceFault` if links make that unclear."""
        found: dict[tuple[str, str], set[str]] = {}
        for path, root, why in (
            *self._by_place(),
            *self._by_name(),
            *self._by_link(),
            *self._in_git_folders(),
            *self._in_environments(),
            *self._named_by_git(),
        ):
            found.setdefault((root, why), set()).add(path)
        return tuple(
            Executed(root, why, tuple(sorted(paths))) for (root, why), paths in sorted(found.items())
        )

    def _by_place(self) -> Iterator[tuple[str, str, str]]:
        hit = executes.within("/".join(self._above))
        if hit is not None and not is_allowed(hit[0].split("/"), self.allowed):
            for path in self.paths:
                yield path, ".", f"the workspace is in {hit[0].rpartition('/')[2]}: {hit[1].why}"
        if any(folder_id(home) == folder_id(self.before.fd) for home in home_folders()):
            for path in self.paths:
                if canonical(path.partition("/")[0]) == "bin" and not is_allowed(["bin"], self.allowed):
                    yield path, "bin", "shells find programs in that folder of your home folder"

    def _by_name(self) -> Iterator[tuple[str, str, str]]:
        for path in self.paths:
            names = dict.fromkeys(name for links in self._names for name in links.others(path))
            for name in (path, *names):
                as_what = "" if name == path else f"{path} is {name}: "
                hit = executes.within(name, self._above)
                if hit is not None and self._counts(path, *hit):
                    yield path, hit[0], as_what + hit[1].why
            for name in dict.fromkeys(name for links in self._names for name in links.through(path)):
                hit = executes.within(name, self._above)
                if hit is None:
                    yield path, name, f"{name} leads through {path}, and programs look below it"
                elif self._counts(path, *hit):
                    yield path, hit[0], f"{name} leads through {path}: {hit[1].why}"

    def _counts(self, path: str, root: str, rule: FileRule) -> bool:
        if is_allowed([*self._above, *root.split("/")], self.allowed):
            return False
        if rule.only == "hosts":
            if self.before.stat(path) is None or self.is_new(path):
                return False
            before, after = (_hosts(tree, path) for tree in (self.before, self.after))
            return before is None or after is None or not after <= before
        if rule.only == "keys" and _keys(self.before, path, rule) == _keys(self.after, path, rule):
            return False
        if rule.only in ("keys", "project"):
            return any(self._existed(way, rule) for way in folders_above(root))
        return not rule.only or self._existed(root.rpartition("/")[0], rule)

    def _existed(self, folder: str, rule: FileRule) -> bool:
        """Whether a name of a rule was in a folder before the run, so that a program looks for it there."""
        if (known := self._known.get((folder, rule))) is None:
            known = self._known[folder, rule] = any(
                not self.is_new(path)
                for name in _listed(self.before, folder)
                if executes.at([*self._above[-2:], *(path := f"{folder}/{name}".strip("/")).split("/")])
                is rule
                or rule.has_beside(name)
            )
        return known

    def _by_link(self) -> Iterator[tuple[str, str, str]]:
        """Links to what is executed or hidden, and those that could become a part of such a name."""
        for path in self.paths:
            target = self.now[path].target if path in self.now else ""
            if not target:
                continue
            if (rule := self._rule_of_target(path)) is not None:
                yield path, path, f"it leads to {target}: {rule.why}"
            elif executes.begun_by(path, self._above):
                yield path, path, f"programs look below {path} for what they execute"

    def _rule_of_target(self, path: str) -> FileRule | None:
        """Why a link is asked about: in the workspace for any rule, outside for what is hidden."""
        _, place = self._names[-1].followed(path)
        if place is None:
            return None
        inside = self._names[-1].inside(place)
        if inside is None:
            return hidden_at("/".join(place))
        hit = executes.within(inside, self._above)
        rules = (hiding_rule(way, above=self._above) for way in (*folders_above(inside), inside) if way)
        return next(filter(None, rules), hit[1] if hit else None)

    def _named_by_git(self) -> Iterator[tuple[str, str, str]]:
        """What the settings of a repository name for what git executes, and where links there lead."""
        root = self.before.path
        around = {folder for path in self.paths for folder in folders_above(path)}
        repositories = [root / folder for folder in around if ".git" in _listed(self.before, folder)]
        repositories += [folder for folder in root.parents if (folder / ".git").exists()][:1]
        named = {
            _plain(place.relative_to(root).as_posix()): setting
            for repository in repositories
            for path, setting in named_by_git(repository).items()
            for place in {path, Path(os.path.realpath(path))}
            # An alias may well say `.`, but hooks are run from a folder.
            if place.is_relative_to(root)
            and (setting == "core.hookspath" or not repository.is_relative_to(place))
        }
        for path in self.paths if named else ():
            for way in (*folders_above(path), path):
                if (setting := named.get(_plain(way or "."))) and not is_allowed(
                    way.split("/"), self.allowed
                ):
                    yield path, way or ".", f"git obeys it: {setting} names it"

    def _in_environments(self) -> Iterator[tuple[str, str, str]]:
        """What is in an environment of Python that was there before the run."""
        for path in self.paths:
            for folder in folders_above(path):
                first = path[len(folder) :].strip("/").partition("/")[0]
                if canonical(first) in IN_ENVIRONMENT and self._is_environment(folder):
                    root = f"{folder}/{first}".strip("/")
                    if not is_allowed(root.split("/"), self.allowed):
                        yield path, root, PROGRAMS

    def _is_environment(self, folder: str) -> bool:
        """Whether a folder held an environment of Python before the run, whatever its own name."""
        names = _listed(self.before, folder)
        marks = {name for name in names if canonical(name) in ("pyvenv.cfg", "conda-meta")}
        return any(not self.is_new(f"{folder}/{name}".strip("/")) for name in marks)

    def _in_git_folders(self) -> Iterator[tuple[str, str, str]]:
        around = {folder for path in self.paths for folder in (*folders_above(path), path)}
        names: dict[str, set[str]] = {folder: set(_listed(self.before, folder)) for folder in around}
        for path in self.now:
            folder, _, name = path.rpartition("/")
            if folder in names:
                names[folder].add(name)
        found = {folder for folder in around if is_git_folder(names[folder])}
        for path in self.paths:
            for folder in (*folders_above(path), path):
                if folder in found and not is_allowed(folder.split("/"), self.allowed):
                    yield path, folder or ".", GIT_FOLDER.why
                    break


def _links(tree: FileTree) -> dict[str, str]:
    return {path: state.target for path, state in tree.items() if state.target}


def _listed(tree: Root, folder: str) -> list[str]:
    with contextlib.suppress(OSError), tree.folder(folder) as fd:
        return os.listdir(fd)  # noqa: PTH208
    return []


def _content(tree: Root, path: str, limit: int) -> bytes | None:
    """The content of a file, empty if it is not there; None if it cannot be read, or is larger."""
    try:
        with os.fdopen(tree.open_file(path), "rb") as file:
            content = file.read(limit + 1)
    except (FileNotFoundError, NotADirectoryError):
        return b""
    except (OSError, WorkspaceFault):
        return None
    return content if len(content) <= limit else None


def _keys(tree: Root, path: str, rule: FileRule) -> object:
    """What a program executes of a file; a value like no other if it cannot be understood.

    Readers differ: what one of them may take for such a key or section counts.
    """
    content = _content(tree, path, MAX_BYTES)
    if content == b"":
        return {}
    try:
        text = (content or b"\xff").decode("utf-8-sig")
        suffix = PurePosixPath(rule.names[0]).suffix
        found = (
            _json(text) if suffix == ".json" else (tomllib.loads if suffix == ".toml" else _sections)(text)
        )
    except (ValueError, RecursionError):
        return content, object()
    return rule.executed_keys(found) if isinstance(found, dict) else {}


def _json(text: str) -> object:
    return json.loads(text, object_pairs_hook=_unique)


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """An object of JSON. Raises `ValueError` if it has a key twice: readers take one or the other."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key is there twice")
    return found


def _sections(text: str) -> dict[str, dict[str, list[str]]]:
    """The lines of an INI file by their sections and keys; what is indented, by both that it may mean."""
    found: dict[str, dict[str, list[str]]] = {}
    names, keys = [""], [""]
    for line in text.splitlines():  # at form feeds and the like too, as iniconfig does
        is_indented = line[:1].isspace()
        if line.lstrip().startswith("["):
            name = line.strip()[1:].partition("]")[0].strip()
            names, keys = ([*names, name], keys) if is_indented else ([name], [""])
        elif key := re.match(r"([^=:]+)[=:]", line):
            name = key[1].strip().lower()
            keys = [*keys, name] if is_indented else [name]
        for section, key_name in itertools.product(names, keys):
            found.setdefault(section, {}).setdefault(key_name, []).append(line.strip())
    return found


_HOST = re.compile(
    rb"""[a-z][a-z0-9+.-]*://(?:[^/\s"'@]*@)?([^/\s"'?#]+)|\bgit@([\w.-]+):|\bfile:([^\s"']+)""", re.I
)


def _hosts(tree: Root, path: str) -> set[bytes] | None:
    """The sites and folders that a file names; None if that cannot be told."""
    content = _content(tree, path, MAX_LOCK_BYTES)
    return None if content is None else {b"".join(host).lower() for host in _HOST.findall(content)}


class _LinkNames:
    """The names that links give to paths, as far as a rule is about them; compared by `canonical`.

    Both ends of a link count, and all links that its resolution passes: each of them decides what is found.
    """

    def __init__(self, links: Mapping[str, str], above: Sequence[str]) -> None:
        """`above`: the parts of the absolute path of the workspace, into which targets may lead back."""
        self._above = [canonical(part) for part in above]
        self._links = {_plain(path): (path, target) for path, target in links.items()}
        self._ends: dict[str, list[str]] = {}
        """By where links lead: the names under which that, and everything below, is found."""
        self._through: dict[str, dict[str, None]] = {}
        """By links: the names whose resolution passes them."""
        work = [path for path, _ in self._links.values()]
        seen: set[tuple[str, str]] = set()
        for alias in work:
            hit = executes.within(alias, above)
            about = hit[0] if hit else executes.begun_by(alias, above)
            # Installed programs are known by their names: what they lead to is often the user's own source.
            if not about or (hit and hit[1].only == "existing" and alias != about):
                continue
            passed, end = self.followed(alias)
            for link in passed:
                self._through.setdefault(link, {})[alias] = None
            place = self.inside(end) if end is not None else None
            if place is None or (key := (place, about)) in seen:
                continue
            if len(seen) > MAX_ALIASES:
                raise WorkspaceFault("there are too many links to tell which files are executed")
            seen.add(key)
            self._ends.setdefault(place, []).append(alias)
            work += [f"{alias}/{rest}" for rest in self._links_below(place)]

    def others(self, path: str) -> Iterator[str]:
        """The names that a path has because of links."""
        parts = path.split("/")
        for end in range(len(parts) + 1):
            for alias in self._ends.get(_plain("/".join(parts[:end])), ()):
                yield "/".join([alias, *parts[end:]])

    def through(self, path: str) -> Iterable[str]:
        """The names that lead through a link, other than its own."""
        return (name for name in self._through.get(_plain(path), ()) if name != path)

    def followed(self, path: str) -> tuple[Iterable[str], list[str] | None]:
        """The links that the resolution of a path passes, and the absolute place where it ends.

        The place is None if the links go in circles. Links outside the workspace are not followed.
        """
        here, passed = [*self._above], dict[str, None]()
        left = _plain(path).split("/")[::-1]
        for _ in range(MAX_HOPS * 100):
            if not left:
                return passed, here
            part = left.pop()
            if part == "..":
                del here[-1:]
            elif part not in ("", "."):
                here.append(part)
                place = self.inside(here)
                _, target = self._links.get(place, ("", "")) if place else ("", "")
                if place and target:
                    passed[place] = None
                    here = [] if target.startswith("/") else here[:-1]
                    left += _plain(target).split("/")[::-1]
        return passed, None

    def inside(self, place: Sequence[str]) -> str | None:
        """The path in the workspace of an absolute place; None if it is outside."""
        end = len(self._above)
        return "/".join(place[end:]) if list(place[:end]) == self._above else None

    def _links_below(self, place: str) -> Iterable[str]:
        start = f"{place}/" if place else ""
        return [path[len(start) :] for path in self._links if path.startswith(start)]


def _plain(path: str) -> str:
    return "/".join(part if part in (".", "..") else canonical(part) for part in path.split("/"))
