"""The files that a typed prompt names with @: words that begin with @ and are the name of a file.

Only what the user typed counts. A prompt that is read from a file or a program, or a part that was pasted,
may be a stranger's: a name in it attaches nothing. Not covered: a terminal that does not say what is pasted,
and what was pasted in an earlier process and comes back from the history.
"""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from memory.knowledge.documents import is_file

_MENTION = re.compile(r"""(?<!\S)@(?:"([^"\n]+)"|'([^'\n]+)'|(\S+))""")
_AROUND = ".,;:!?)]}\"'"
"""Signs that end a sentence or a bracket, and are seldom the end of a name."""


class Mentions(NamedTuple):
    """What a prompt names."""

    files: tuple[Path, ...]
    pasted: tuple[str, ...]
    """Names of files that were pasted, and so are not attached."""


NOTHING_NAMED = Mentions((), ())


def mentions(prompt: str, folder: Path, pasted: Iterable[str] = ()) -> Mentions:
    """The files that a prompt names; relative names are those of the folder, `~` is the user's home.

    `pasted`: the texts that were pasted into the prompt.
    """
    texts = tuple(pasted)
    files: dict[Path, None] = {}
    left_out: dict[str, None] = {}
    for word, file in _named(prompt, folder):
        if any(word in text for text in texts):
            left_out[word] = None
        else:
            files[file] = None
    return Mentions(tuple(files), tuple(left_out))


def _named(prompt: str, folder: Path) -> Iterator[tuple[str, Path]]:
    """Each word with the file that it names."""
    for match in _MENTION.finditer(prompt):
        name = match[1] or match[2] or match[3]
        tried = (name, name.rstrip(_AROUND)) if match[3] else (name,)
        for one in tried:
            path = named_file(one, folder)
            if is_file(path):
                yield match[0], path
                break


def named_file(name: str, folder: Path) -> Path:
    """The path of a name that was typed: relative to the folder; `~` is the user's home."""
    try:
        return folder / Path(name).expanduser()
    except RuntimeError:  # there is no such user
        return folder / name
