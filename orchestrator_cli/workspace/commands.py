"""Which paths the text of a command, or of a file with commands, may name."""

import os
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

_SHELL_SIGNS = re.compile(r"""[\s;&|<>(){}\[\]"'`=,:!]+""")
_MODULE = re.compile(r"(?<=-m )[\w.]+")
_IN_NODE = re.compile(r"\b(?:node|bun|deno|tsx|ts-node|run)\s+(?:-\S+\s+)*([\w@./-]+)")
_ENDINGS = (".js", ".cjs", ".mjs", ".ts", ".cts", ".mts", "/index.js", "/index.ts")
_ENTERED = re.compile(
    r"""(?:\b(?:cd|pushd)|\s(?:-C|--prefix|--cwd|--dir)|\b(?:cwd|root|working-directory|workdir)["']?\s*[:=])"""
    r"""[\s="']*([^\s"';&|)]+)""",
    re.IGNORECASE,
)


def paths_in(text: str, folders: tuple[Path, ...]) -> Iterator[Path]:
    """The paths that a text may name, as a whole or by one of its words; relative to one of the folders."""
    words = dict.fromkeys((text, *_words(text)))
    # What a variable or a command stands for is not known: mostly, the top of the repository.
    words |= dict.fromkeys(word.partition("/")[2] for word in words if word[:1] in ("$", "/"))
    for word in words:
        if word and "\0" not in word:
            place = os.path.expanduser(word)  # noqa: PTH111 - never fails
            yield from (Path(os.path.normpath(folder / place)) for folder in folders)


def entered(text: str, folders: tuple[Path, ...]) -> tuple[Path, ...]:
    """The folders, and those below them that the commands of a text enter."""
    names = dict.fromkeys(_ENTERED.findall(text))
    return (*folders, *(Path(os.path.normpath(folder / name)) for name in names for folder in folders))


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
