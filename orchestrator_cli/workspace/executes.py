"""Which changes of a checkout are executed or obeyed later, by the host or by another program.

The names are in `tools.file_rules`. A path counts under every name that links give it, and everything in a
folder that git takes for a repository counts, whatever its name: git runs what the settings in it name.

Not covered: hard links, and links that lead out of the workspace and back into it.
"""

import contextlib
import json
import os
import posixpath
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from orchestrator_cli.errors import WorkspaceFault
from orchestrator_cli.tools.file_rules import (
    GIT_FOLDER,
    SCRIPTS,
    FileRule,
    canonical,
    credentials_at,
    executes,
    folders_above,
    hiding_rule,
    is_allowed,
    is_git_folder,
)
from orchestrator_cli.workspace.file_state import FileTree
from orchestrator_cli.workspace.tree import Root

MAX_JSON_BYTES = 1 << 20
MAX_ALIASES = 10_000
MAX_HOPS = 40


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
    links: Mapping[str, str] = field(default_factory=dict)
    """Targets of links of the workspace that the checkout does not have, by their paths."""
    allowed: Collection[str] = ()
    """Names that the user allows without a question."""
    is_new: Callable[[str], bool] = lambda _: False
    """Whether the run itself made a file of the workspace."""

    def executed(self) -> tuple[Executed, ...]:
        """What of it needs a question, sorted. Raises `WorkspaceFault` if links make that unclear."""
        found: dict[tuple[str, str], set[str]] = {}
        for path, root, why in (*self._by_name(), *self._by_link(), *self._in_git_folders()):
            found.setdefault((root, why), set()).add(path)
        return tuple(
            Executed(root, why, tuple(sorted(paths))) for (root, why), paths in sorted(found.items())
        )

    def _by_name(self) -> Iterator[tuple[str, str, str]]:
        names = _LinkNames({**self.links, **_links(self.now)}, str(self.before.path))
        for path in self.paths:
            for name in (path, *names.others(path)):
                if (hit := executes.within(name)) is not None and self._counts(path, *hit):
                    as_what = "" if name == path else f"{path} is {name}: "
                    yield path, hit[0], as_what + hit[1].why

    def _counts(self, path: str, root: str, rule: FileRule) -> bool:
        if is_allowed(root.split("/"), self.allowed):
            return False
        if rule.only == "existing":
            return self.before.stat(path) is not None and not self.is_new(path)
        return rule.only != "scripts" or _scripts(self.before, path) != _scripts(self.after, path)

    def _by_link(self) -> Iterator[tuple[str, str, str]]:
        """Links to what is executed or hidden, and those that could become a part of such a name."""
        for path in self.paths:
            target = self.now[path].target if path in self.now else ""
            if not target:
                continue
            place = posixpath.normpath(posixpath.join(posixpath.dirname(path), target))
            if (rule := _rule_of_target(place)) is not None:
                yield path, path, f"it leads to {target}: {rule.why}"
            elif executes.begun_by(path):
                yield path, path, f"programs look below {path} for what they execute"

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


def _rule_of_target(path: str) -> FileRule | None:
    """Why a link to a path is asked about: in the workspace for any rule, outside for credentials."""
    if path.startswith(("/", "..")):
        return credentials_at(PurePosixPath(path))
    ways = (*folders_above(path), path)
    hit = executes.within(path)
    return next(filter(None, map(hiding_rule, ways)), hit[1] if hit else None)


def _links(tree: FileTree) -> dict[str, str]:
    return {path: state.target for path, state in tree.items() if state.target}


def _listed(tree: Root, folder: str) -> list[str]:
    with contextlib.suppress(OSError), tree.folder(folder) as fd:
        return os.listdir(fd)  # noqa: PTH208
    return []


def _scripts(tree: Root, path: str) -> object:
    """The commands in a JSON file; its whole content if it cannot be understood."""
    content = b""
    try:
        with os.fdopen(tree.open_file(path), "rb") as file:
            content = file.read(MAX_JSON_BYTES)
        found = json.loads(content)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError, RecursionError, WorkspaceFault):
        return content, path, tree
    return {key: found[key] for key in SCRIPTS if found.get(key)} if isinstance(found, dict) else {}


class _LinkNames:
    """The names that links give to paths, as far as a rule is about them; compared by `canonical`."""

    def __init__(self, links: Mapping[str, str], root: str) -> None:
        self._root = root
        self._links = {_plain(path): (path, target) for path, target in links.items()}
        self._aliases: dict[str, list[str]] = {}
        """By where links lead: the names under which that is found."""
        work = [path for path, _ in self._links.values()]
        seen: set[tuple[str, str]] = set()
        for alias in work:
            hit = executes.within(alias)
            about = hit[0] if hit else executes.begun_by(alias)
            place = self._resolved(alias) if about else None
            if place is None or (key := (place, about)) in seen:
                continue
            if len(seen) > MAX_ALIASES:
                raise WorkspaceFault("there are too many links to tell which files are executed")
            seen.add(key)
            self._aliases.setdefault(place, []).append(alias)
            work += [f"{alias}/{rest}" for rest in self._links_below(place)]

    def others(self, path: str) -> Iterator[str]:
        parts = path.split("/")
        for end in range(len(parts) + 1):
            for alias in self._aliases.get(_plain("/".join(parts[:end])), ()):
                yield "/".join([alias, *parts[end:]])

    def _links_below(self, place: str) -> Iterable[str]:
        start = f"{place}/" if place else ""
        return [path[len(start) :] for path in self._links if path.startswith(start)]

    def _resolved(self, path: str) -> str | None:
        """Where a path leads if all its links are followed; None if that is out of the workspace."""
        left, here = _plain(path).split("/")[::-1], list[str]()
        for _ in range(MAX_HOPS * 100):
            if not left:
                return "/".join(here)
            part = left.pop()
            if part == "..":
                if not here:
                    return None
                here.pop()
            elif part not in ("", "."):
                here.append(part)
                _, target = self._links.get("/".join(here), ("", ""))
                if target:
                    here.pop()
                    if target.startswith("/"):
                        if not f"{target}/".startswith(f"{self._root}/"):
                            return None
                        target, here = target[len(self._root) :], []
                    left += _plain(target).split("/")[::-1]
        return None


def _plain(path: str) -> str:
    return "/".join(part if part in (".", "..") else canonical(part) for part in path.split("/"))
