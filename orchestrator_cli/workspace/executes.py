"""Which changes of a checkout are executed or obeyed later, by the host or by another program.

The names are in `tools.file_rules`. A path counts under every name that links give it, and everything in a
folder that git takes for a repository counts, whatever its name: git runs what the settings in it name.

Not covered: hard links, and links that lead out of the workspace and back by a link outside of it, other than
those of `workspace.entrances`.
"""

import contextlib
import functools
import os
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from orchestrator_cli.durable.places import folder_id, home_folders, repository_around, ways_to, xdg_folders
from orchestrator_cli.tools.executed_files import AT_TOP, IN_PROJECT, INSTALLED, OWN_MODULES, PROGRAMS
from orchestrator_cli.tools.file_names import FileRule, canonical
from orchestrator_cli.tools.file_rules import (
    GIT_FOLDER,
    executes,
    executing_rule,
    folders_above,
    hidden_at,
    hiding_rule,
    is_allowed,
    is_git_folder,
    machine,
)
from orchestrator_cli.workspace.contents import REGISTRIES, ManifestReader, marked_lines, sites
from orchestrator_cli.workspace.entrances import Entrances, outside_use
from orchestrator_cli.workspace.file_state import FileTree
from orchestrator_cli.workspace.followed import command_files, is_script, named_scripts
from orchestrator_cli.workspace.git_settings import Repository
from orchestrator_cli.workspace.link_names import LinkNames, plain
from orchestrator_cli.workspace.tree import Root

IN_ENVIRONMENT = ("bin", "scripts", "lib", "lib64")
"""The folders of an environment of Python with programs and what they import."""
MARKS = ("pyvenv.cfg", "conda-meta")


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
    manifests: ManifestReader
    entrances: Entrances
    """Where the rest of the machine leads into the workspace."""
    was: FileTree = field(default_factory=dict)
    """The content of the workspace when the checkout was taken."""
    concealed: Collection[str] = ()
    """Paths of the workspace that were hidden from the checkout."""
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
    def _names(self) -> tuple["LinkNames", ...]:
        """The names by the links before the commit, and by those after it."""
        states = {**_links(self.was), **self.links}, {**self.links, **_links(self.now)}
        return tuple(
            LinkNames(links, self._above, self.entrances.names) for links in states[states[0] == states[1] :]
        )

    def executed(self) -> tuple[Executed, ...]:
        """What of it needs a question, sorted. Raises `WorkspaceFault` if links make that unclear."""
        found: dict[tuple[str, str], set[str]] = {}
        if not self.paths:  # as for most subtasks; the settings of git are a process away
            return ()
        for path, root, why in (
            *self._by_place(),
            *self._by_name(),
            *self._by_entrance(),
            *self._by_link(),
            *self._in_git_folders(),
            *self._in_environments(),
            *self._instead_of_modules(),
            *self._named_by_git(),
            *self._named_by_command(),
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
        above = "/".join(["", *self._above])
        for path in self.paths:
            hit = machine.within(f"{above}/{path}")
            if hit is not None and not is_allowed([*self._above, *path.split("/")], self.allowed):
                yield path, hit[0][len(above) + 1 :] or ".", f"it is in {hit[0]}: {hit[1].why}"
        if any(folder_id(home) == folder_id(self.before.fd) for home in home_folders()):
            for path in self.paths:
                if canonical(path.partition("/")[0]) == "bin" and not is_allowed(["bin"], self.allowed):
                    yield path, "bin", "shells find programs in that folder of your home folder"

    def _by_entrance(self) -> Iterator[tuple[str, str, str]]:
        """What is used under a name outside of the workspace."""
        for path in self.paths:
            was, now = self.was.get(path), self.now.get(path)
            is_link = any(state is not None and state.target for state in (was, now))
            is_folder = now is not None and now.is_folder and not is_link
            for root, rule in () if is_folder else self.entrances.uses(path):
                if not is_allowed([*self._above, *root.split("/")], self.allowed):
                    yield path, root, rule.why
            links = (name for links in self._names for name in links.others(path))
            for inside in dict.fromkeys((path, *links)):
                for name, place in self.entrances.names(inside):
                    hit = executes.within(name)
                    if hit is None or is_allowed(hit[0].split("/"), self.allowed):
                        continue
                    end = len(inside.split("/")) - (name.count("/") - hit[0].count("/"))
                    root = max("/".join(inside.split("/")[:end]), place, key=len) or "."
                    if not is_allowed(root.split("/"), self.allowed) and self._gains(path, hit[1]):
                        yield path, root, f"{path} is {name} of your home folder: {hit[1].why}"
            if is_link and (name := self.entrances.through(path)):
                yield path, path, f"{name} leads through {path}, and programs look there"

    def _by_name(self) -> Iterator[tuple[str, str, str]]:
        for path in self.paths:
            names = dict.fromkeys(name for links in self._names for name in links.others(path))
            for name in (path, *names):
                as_what = "" if name == path else f"{path} is {name}: "
                hit = executing_rule(name, self._above)
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
        # What is cheap to find out comes first.
        if rule.only in ("keys", "project"):
            is_used = any(self._existed(way, rule) for way in folders_above(root))
        else:
            is_used = not rule.only or self._existed(root.rpartition("/")[0], rule)
        return is_used and self._gains(path, rule)

    def _gains(self, path: str, rule: FileRule) -> bool:
        """Whether a file changes in what a rule is about, if that is only a part of its content."""
        if rule.lines:
            was, now = (marked_lines(tree, path, rule) for tree in (self.before, self.after))
            return was is None or now is None or not now <= was
        if rule.only == "hosts":
            if not self._existed(path.rpartition("/")[0], rule):
                return False
            is_there = self.before.stat(path) is not None and not self.is_new(path)
            before, after = sites(self.before, path) if is_there else REGISTRIES, sites(self.after, path)
            return before is None or after is None or not after <= before
        if rule.members and self._is_member(path):
            rule = replace(rule, keys=f"{rule.keys} {rule.members}")
        keys = (self.manifests.executed_keys(tree, path, rule) for tree in (self.before, self.after))
        return rule.only != "keys" or next(keys) != next(keys)

    def _is_member(self, path: str) -> bool:
        """Whether a folder above the one of a package says that packages below it belong together."""
        rule = FileRule("package.json", "", keys="workspaces")
        own = path.rpartition("/")[0]
        for folder in folders_above(own) if own else ():
            manifest = f"{folder}/{rule.text}".strip("/")
            if "pnpm-workspace.yaml" in _listed(self.before, folder) or (
                not self.is_new(manifest) and self.manifests.executed_keys(self.before, manifest, rule)
            ):
                return True
        return False

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
        """Why a link is asked about: writing through it changes what is executed or hidden."""
        _, place = self._names[-1].followed(path)
        if place is None:
            return None
        inside = self._names[-1].inside(place)
        if inside is None:
            return self._rule_outside(path, "/".join(place))
        hit = executes.within(inside, self._above) or machine.within("/".join(["", *place]))
        rules = (hiding_rule(way, above=self._above) for way in (*folders_above(inside), inside) if way)
        return next(filter(None, rules), hit[1] if hit else None)

    def _rule_outside(self, path: str, place: str) -> FileRule | None:
        """The rule about a place outside of the workspace, under every name that links there give it."""
        start = self.before.path / path
        ways = [Path("/", place), *ways_to(start.parent / self.now[path].target)]
        names = [str(way).strip("/") for way in ways]
        names += [
            f"{usual}/{way.relative_to(base)}"
            for way in ways
            for base, usual in xdg_folders()
            if way.is_relative_to(base)
        ]
        for name in names:
            if (rule := hidden_at(name)) is not None:
                return rule
            if hit := executes.within(name):
                return hit[1]
        return outside_use(ways)

    def _instead_of_modules(self) -> Iterator[tuple[str, str, str]]:
        """New modules that Python imports instead of its own in a folder from which tools are run."""
        for path in self.paths:
            folder, _, name = path.removesuffix("/__init__.py").rpartition("/")
            module, _, ending = name.partition(".")
            if module not in OWN_MODULES or not (ending in ("", "py") or ending.endswith("so")):
                continue
            is_old = path in self.was and not self.is_new(path)
            if is_old or path not in self.now or (not ending and not path.endswith("/__init__.py")):
                continue
            is_run_from = self._existed(folder, IN_PROJECT) or (not folder and self._existed("", AT_TOP))
            if is_run_from and not is_allowed(path.split("/"), self.allowed):
                yield path, path, f"{IN_PROJECT.why} {module}"

    @functools.cached_property
    def _repositories(self) -> tuple[Repository, ...]:
        """Those in the workspace, and the one that it is in. Without any, the workspace as if it were one."""
        root = self.before.path
        around = {folder for path in self.paths for folder in folders_above(path)}
        found = [folder for folder in around if self.before.has(f"{folder}/.git".strip("/"))]
        for path in (*self.was, *self.concealed):
            folder, _, name = path.rpartition("/")
            if canonical(name) == ".git" or (
                canonical(name) == "head" and is_git_folder(_listed(self.before, folder))
            ):
                found.append(folder)
        places = [root / folder for folder in dict.fromkeys(found)]
        places += filter(None, [repository_around(root.parent)])
        return Repository.read_all(places or [root])

    def _named_by_command(self) -> Iterator[tuple[str, str, str]]:
        """Scripts that hooks, installations and the like run."""
        scripts = [p for p in self.paths if any(is_script(p, tree.get(p)) for tree in (self.was, self.now))]
        if not scripts:
            return
        files = (
            *(file for repository in self._repositories for file in repository.hooks),
            *command_files(self.before, (*self.was, *self.concealed), self.is_new, self.manifests),
        )
        names = {path.rpartition("/")[2] for path in (*scripts, *_links(self.was), *self.links)}
        root = self.before.path
        places, unread = named_scripts(files, names)
        named = {
            plain(place.relative_to(root).as_posix()): file
            for place, file in places.items()
            if place.is_relative_to(root)
        }
        for path in scripts:
            file = named.get(plain(path), unread)
            if file is not None and file.name != path and not is_allowed(path.split("/"), self.allowed):
                how = "may name it and is not read to its end" if file is unread else "names it"
                yield path, path, f"{file.name} {how}: {file.why}"

    def _named_by_git(self) -> Iterator[tuple[str, str, str]]:
        """What the settings of a repository name for what git executes, and where links there lead."""
        root = self.before.path
        named = {
            plain(place.relative_to(root).as_posix()): setting
            for repository in self._repositories
            for path, setting in repository.named.items()
            for place in ways_to(path)
            # An alias may well say `.`, but hooks are run from a folder.
            if place.is_relative_to(root)
            and (setting == "core.hookspath" or not repository.path.is_relative_to(place))
        }
        for path in self.paths if named else ():
            for way in (*folders_above(path), path):
                if (setting := named.get(plain(way or "."))) and not is_allowed(way.split("/"), self.allowed):
                    yield path, way or ".", f"git obeys it: {setting} names it"

    def _in_environments(self) -> Iterator[tuple[str, str, str]]:
        """What is in an environment of Python, also a new one."""
        for path in self.paths:
            for folder in folders_above(path):
                first = path[len(folder) :].strip("/").partition("/")[0]
                if canonical(first) in IN_ENVIRONMENT and self._is_environment(folder):
                    root = f"{folder}/{first}".strip("/")
                    hit = executes.within(root, self._above)  # then it is asked about by its name
                    if not (hit and hit[1] is INSTALLED) and not is_allowed(root.split("/"), self.allowed):
                        yield path, root, PROGRAMS

    def _is_environment(self, folder: str) -> bool:
        """Whether a folder holds an environment of Python, before the commit or after it."""
        names = (f"{folder}/{mark}".strip("/") for mark in MARKS)
        return any(canonical(name) in MARKS for name in _listed(self.before, folder)) or any(
            name in self.now for name in names
        )

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
