"""The files that a typed prompt names with @: words that begin with @ and are the name of a file.

Only what the user typed counts. A prompt that is read from a file or a program, or a part that was pasted,
may be a stranger's: a name in it attaches nothing. Not covered: a terminal that does not say what is pasted,
and what was pasted in an earlier process and comes back from the history.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from memory.knowledge.documents import is_file
from orchestrator_cli.durable.followed_links import real_path
from orchestrator_cli.recall.attachments import find_files
from orchestrator_cli.recall.named_files import is_followed
from orchestrator_cli.settings import Settings
from orchestrator_cli.views.text import file_name, one_line

_MENTION = re.compile(r"""(?<!\S)@(?:"([^"\n]+)"|'([^'\n]+)'|(\S+))""")
_LIKE_A_FILE = re.compile(r"\.[A-Za-z][A-Za-z0-9]{0,7}$|/")
"""With an ending, or in a folder; `@alice` is none, unless a file of the folder begins so."""
_AROUND = ".,;:!?)]}\"'"
"""Signs that end a sentence or a bracket, and are seldom the end of a name."""


class Mentions(NamedTuple):
    """What a prompt names."""

    files: tuple[Path, ...]
    pasted: tuple[str, ...]
    """Names of files that were pasted, and so are not attached."""
    missing: tuple[str, ...] = ()
    """What looks like the name of a file, and is none."""

    @property
    def notes(self) -> list[str]:
        """What a user should know about what is not attached."""
        return [
            f"note  {one_line(name, 80)} is no file here, so it is not attached." for name in self.missing
        ]


NOTHING_NAMED = Mentions((), ())


def mentions(prompt: str, folder: Path, pasted: Iterable[str] = ()) -> Mentions:
    """The files that a prompt names; relative names are those of the folder, `~` is the user's home.

    `pasted`: the texts that were pasted into the prompt.
    """
    texts = tuple(pasted)
    files: dict[Path, None] = {}
    left_out: dict[str, None] = {}
    missing: dict[str, None] = {}
    for word, file in _named(prompt, folder):
        if file is None:
            if (_LIKE_A_FILE.search(word) or _begins_a_name(word[1:], folder)) and not any(
                word in text for text in texts
            ):
                missing[word] = None
        elif any(word in text for text in texts):
            left_out[word] = None
        else:
            files[file] = None
    return Mentions(tuple(files), tuple(left_out), tuple(missing))


def _begins_a_name(word: str, folder: Path) -> bool:
    """Whether a file of the folder begins so, as if Tab was forgotten."""
    try:
        return any(path.name.startswith(word) for path in folder.iterdir() if word)
    except OSError:
        return False


def attached_lines(paths: Sequence[Path], settings: Settings, *, followed_only: bool = False) -> list[str]:
    """What is attached and from where, for the user to see before anything is done with it.

    `followed_only`: only files that links make other ones than those that were named. Raises `UsageError`.
    """
    return [
        f"attached  {file_name(one.path.name)} · {len(one.data):,} bytes · "
        f"from {file_name(str(real_path(one.path)))}"
        for one in find_files(paths, settings)
        if not followed_only or is_followed(one.path, settings)
    ]


def _named(prompt: str, folder: Path) -> Iterator[tuple[str, Path | None]]:
    """Each word with the file that it names, if it names one."""
    for match in _MENTION.finditer(prompt):
        name = match[1] or match[2] or match[3]
        tried = (name, name.rstrip(_AROUND)) if match[3] else (name,)
        for one in tried:
            path = named_file(one, folder)
            if is_file(path):
                yield match[0], path
                break
        else:
            yield f"@{tried[-1]}", None


def named_file(name: str, folder: Path) -> Path:
    """The path of a name that was typed: relative to the folder; `~` is the user's home."""
    try:
        return folder / Path(name).expanduser()
    except RuntimeError:  # there is no such user
        return folder / name
