"""Which scripts are run by files that run by themselves: hooks, installation scripts, tasks of editors.

A script is a program by its ending, by its mode, or for having no ending. One step is followed: what such a
script names in turn is not looked at.
"""

import errno
import fnmatch
import os
import re
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from orchestrator_cli.durable.files import read_regular
from orchestrator_cli.durable.places import ways_to
from orchestrator_cli.tools.executed_files import FOLLOWED, INSTALLED
from orchestrator_cli.tools.file_names import FileRule, FileRules, canonical, texts_in
from orchestrator_cli.workspace.commands import entered, names_in, place_of
from orchestrator_cli.workspace.contents import ManifestReader
from orchestrator_cli.workspace.file_state import FileStat
from orchestrator_cli.workspace.tree import MAX_DEPTH, Root

MAX_FILES = 1_000
MAX_BYTES = 1 << 18
"""How many such files are looked at, and of each how much of its beginning."""
MAX_CHARS, MAX_PLACES = 1 << 20, 20_000
"""In all of them: the letters that are read as commands, and the places that names of scripts may mean."""
ENDINGS = (
    ".sh .bash .zsh .fish .ksh .py .pyw .js .cjs .mjs .jsx .ts .cts .mts .tsx .rb .pl .pm .php .lua .rs .go "
    ".ps1 .psm1 .bat .cmd .exe .com .jar .groovy .kts .awk .tcl .r .jl .ex .exs .swift .cs"
)
_TOKEN = re.compile(r"[\w@+-]+")
_MODULE = re.compile(r"([A-Za-z_][\w.]*)(?::.*)?")
_followed = FileRules(FOLLOWED)
_plain = re.compile(
    "|".join(fnmatch.translate(name) for rule in FOLLOWED for name in rule.names if name[0] != "."),
    re.IGNORECASE,
)
_installed = FileRules((INSTALLED,))
_NO_FILE = (
    *(errno.ENOENT, errno.ENOTDIR, errno.EISDIR),
    *(errno.ELOOP, errno.ENAMETOOLONG, errno.ENXIO),
)
"""Errors of a name that leads to nothing, or to a folder or a pipe."""


@dataclass(frozen=True)
class CommandFile:
    """A file that runs by itself what it names."""

    name: str
    """For people."""
    why: str
    folders: tuple[Path, ...]
    """Where it may be run, absolute."""
    text: str
    is_whole: bool = True
    """Whether the text is all that it may run."""


def is_script(path: str, state: FileStat | None) -> bool:
    """Whether a program may run a file, as far as its name and mode tell."""
    is_program = state is not None and state.is_file and bool(state.mode & 0o111)
    ending = PurePosixPath(canonical(path.rpartition("/")[2])).suffix
    return is_program or not ending or ending in ENDINGS.split()


def hook_files(folder: Path, repository: Path) -> Iterator[CommandFile]:
    """The hooks in a folder of git's, which run in the repository."""
    why = "git runs it as a hook or for one"
    try:
        names = sorted(path.name for path in folder.iterdir() if path.suffix != ".sample")
    except OSError as exc:
        if exc.errno not in _NO_FILE:
            yield CommandFile(str(folder), why, (), "", is_whole=False)
        return
    for name in names:
        if (found := _beginning(folder / name)) is not None:
            yield CommandFile(f"{folder.name}/{name}", why, (repository, folder), *found)


def _beginning(path: Path) -> tuple[str, bool] | None:
    """The text of a file, and whether that is all of it; None if there is no file that could be run."""
    try:
        content = read_regular(path, MAX_BYTES + 1)
    except OSError as exc:
        return None if exc.errno in _NO_FILE else ("", False)
    return content[:MAX_BYTES].decode("utf-8", "replace"), len(content) <= MAX_BYTES


def command_files(
    tree: Root, paths: Iterable[str], is_new: Callable[[str], bool], manifests: ManifestReader
) -> Iterator[CommandFile]:
    """Those of a workspace other than of installed programs; after `MAX_FILES`, one that is not whole.

    Args:
        paths: of its files, hidden ones too.
        is_new: whether the run made a file; then it counts only if that was asked about.
    """
    seen = 0
    # To ask the rules takes time, and most paths are none of theirs.
    for path in (path for path in paths if "/." in f"/{path}" or _plain.match(path.rpartition("/")[2])):
        rule = _followed.at(path.split("/"))
        if rule is None or _installed.within(path) or (rule.keys and is_new(path)):
            continue
        own = (tree.path / path).parent
        folders = tuple(dict.fromkeys((own, *_above(own, tree.path))))
        if (seen := seen + 1) > MAX_FILES:
            yield CommandFile(path, rule.why, folders, "", is_whole=False)
            return
        if (found := _text(tree, path, rule, manifests)) is not None:
            yield CommandFile(path, rule.why, folders, *found)


def _above(folder: Path, root: Path) -> Iterator[Path]:
    """The folders from which a file in a folder of settings may be run: two above it, and the workspace."""
    yield from [one for one in (folder, *folder.parents)[:3] if one.is_relative_to(root)]
    yield root


def _text(tree: Root, path: str, rule: FileRule, manifests: ManifestReader) -> tuple[str, bool] | None:
    """What a file may run, and whether that is all; None if the file is not there."""
    found = manifests.executed_keys(tree, path, rule) if rule.keys else None
    if not isinstance(found, dict):  # of a manifest that cannot be understood, everything counts
        beginning = _beginning(tree.path / path)
        return beginning and (beginning[0], beginning[1] and not rule.keys)
    texts = [text for value in found.values() for text in texts_in(value)]
    for text in list(texts):  # objects of Python, and folders that it adds to its path
        if module := _MODULE.fullmatch(text):
            texts += [f"-m {module[1]}", f"-m {module[1].rpartition('.')[0]}", f"cd {text}"]
    scripts = manifests.executed_keys(tree, path, FileRule(rule.text, rule.why, keys="scripts.*"))
    if not isinstance(scripts, dict):
        return "\n".join(texts), False
    return "\n".join([*texts, *_called(scripts, texts)]), True


def _called(every: dict[str, object], texts: list[str]) -> Iterator[str]:
    """The other scripts of a package that scripts call by their names."""
    scripts = {key[len("scripts.") :]: value for key, value in every.items()}
    work = list(texts)
    while work and scripts:
        for word in re.findall(r"[\w:.-]+", work.pop()):
            called = list(texts_in(scripts.pop(word, None)))
            work += called
            yield from called


def named_scripts(
    files: Iterable[CommandFile], names: set[str]
) -> tuple[dict[Path, CommandFile], CommandFile | None]:
    """The places that files name, other than their own, as far as they end with one of the `names`.

    Also the first file that is not whole, or the one in which the looking ended, if they are too long or name
    too many places.
    """
    wanted = {canonical(name) for name in names}
    # Lines without any part of such a name are passed over: to read a line as a command takes time.
    parts = {part for name in wanted for part in _TOKEN.findall(name.rpartition(".")[0].lstrip(".") or name)}
    found: dict[Path, CommandFile] = {}
    seen: set[Path] = set()
    chars, places = 0, 0
    unread: CommandFile | None = None
    for file in files:
        unread = unread or (None if file.is_whole else file)
        text = file.text.replace("\\\n", " ")
        lines = [line for line in text.splitlines() if not parts.isdisjoint(_TOKEN.findall(line.lower()))]
        if (chars := chars + sum(map(len, lines))) > MAX_CHARS:
            return found, unread or file
        called = _called_so((name for line in lines for name in names_in(line)), wanted)
        folders = entered(text, file.folders) if called else ()
        if (places := places + len(called) * len(folders)) > MAX_PLACES:
            return found, unread or file
        for path in {place_of(folder, name): None for name in called for folder in folders}:
            if path not in seen:
                seen.add(path)
                found |= {way: found.get(way, file) for way in ways_to(path)}
    return found, unread


def _called_so(names: Iterable[str], wanted: set[str]) -> Collection[str]:
    """The names whose last part is a wanted one, each once; none that is too deep for a workspace."""
    normal = dict.fromkeys(map(os.path.normpath, names))
    return [
        name
        for name in normal
        if canonical(name.rpartition("/")[2]) in wanted and name.count("/") < 2 * MAX_DEPTH
    ]
