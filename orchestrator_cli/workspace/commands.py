"""Which paths the text of a command, or of a file with commands, may name."""

import os
import re
import shlex
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from orchestrator_cli.durable.places import ways_to

_SHELL_SIGNS = re.compile(r"""[\s;&|<>(){}\[\]"'`=,:!]+""")
_MODULE = re.compile(r"(?<=-m )[\w.]+")
_IN_NODE = re.compile(r"\b(?:node|bun|deno|tsx|ts-node|run)\s+(?:-\S+\s+)*([\w@./-]+)")
_ENDINGS = (".js", ".cjs", ".mjs", ".ts", ".cts", ".mts", "/index.js", "/index.ts")
_ENTERED = re.compile(
    r"""(?:\b(?:cd|pushd)|\s(?:-C|--prefix|--cwd|--dir)|\b(?:cwd|root|working-directory|workdir)["']?\s*[:=])"""
    r"""[\s="']*([^\s"';&|)]+)""",
    re.IGNORECASE,
)


def paths_in(text: str, folders: Collection[Path]) -> Iterator[Path]:
    """The paths that a text may name, as a whole or by one of its words; relative to one of the folders."""
    return (place_of(folder, name) for name in names_in(text) for folder in folders)


def names_in(text: str) -> Collection[str]:
    """What a text may name: itself and its words, as paths that may be relative to a folder."""
    words = dict.fromkeys((text, *_words(text)))
    # The value of a variable or a command is not known: mostly, the top of the repository.
    words |= dict.fromkeys(word.partition("/")[2] for word in words if word[:1] in ("$", "/"))
    return dict.fromkeys(
        os.path.expanduser(word)  # noqa: PTH111 - never fails
        for word in words
        if word and "\0" not in word
    )


def place_of(folder: Path, name: str) -> Path:
    """The path of a name, without `..`."""
    return Path(os.path.normpath(folder / name))


def files_named(command: Sequence[str], folder: Path, root: Path) -> Collection[str]:
    """The paths of the workspace `root` that a command started in `folder` names, and what links lead to.

    Words within quotes are among them, modules after `-m`, and links to a folder on the way.
    """
    ways = [way for place in paths_in(shlex.join(command), (folder,)) for way in ways_to(place)]
    ways += [above for way in ways for above in way.parents if above.is_symlink()]
    return dict.fromkeys(str(way.relative_to(root)) for way in ways if way.is_relative_to(root))


def entered(text: str, folders: Collection[Path]) -> Collection[Path]:
    """The folders, and those below them that the commands of a text enter."""
    names = dict.fromkeys(map(os.path.normpath, _ENTERED.findall(text)))
    return dict.fromkeys((*folders, *(place_of(folder, name) for name in names for folder in folders)))


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
            place = module.replace(".", "/")
            yield from (place, f"{place}.py", f"{place}/__main__.py", f"{place}/__init__.py")
        for script in _IN_NODE.findall(text):
            yield from (f"{script}{ending}" for ending in _ENDINGS)
