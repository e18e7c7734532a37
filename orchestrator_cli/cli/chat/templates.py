"""The user's own slash commands: `prompts/NAME.md` of the data folder is the prompt of `/NAME`.

`$ARGUMENTS` in it is replaced by what follows the command, and `$1` to `$9` by its words; if it has neither,
what follows is added at the end. The first line is what `/help` says about it.
"""

import re
import shlex
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from orchestrator_cli.durable.files import read_regular
from orchestrator_cli.errors import UsageError
from orchestrator_cli.views.text import one_line

HELP_CHARS = 70
_NAME = re.compile(r"[a-z][a-z0-9_-]{0,40}")
_PLACE = re.compile(r"\$(ARGUMENTS\b|[1-9])")


def templates(home: Path) -> dict[str, str]:
    """The first line of each, by name."""
    return {name: one_line(text.strip().partition("\n")[0], HELP_CHARS) for name, text in _texts(home)}


def from_template(home: Path, name: str, words: str) -> str:
    """The prompt that one of them makes of what follows it. Raises `UsageError` if it is gone."""
    text = dict(_texts(home)).get(name)
    if text is None:
        raise UsageError(f"There is no prompt {name} any more.", f"It was {home / 'prompts' / name}.md.")
    if not _PLACE.search(text):
        return f"{text.strip()}\n\n{words}".strip()
    try:
        single = shlex.split(words)
    except ValueError:
        single = words.split()

    def value(match: re.Match[str]) -> str:
        if match[1] == "ARGUMENTS":
            return words
        return single[int(match[1]) - 1] if int(match[1]) <= len(single) else ""

    return _PLACE.sub(value, text).strip()


def _texts(home: Path) -> Iterator[tuple[str, str]]:
    for path in sorted((home / "prompts").glob("*.md")):
        with suppress(OSError, UnicodeDecodeError):
            text = read_regular(path).decode()
            if _NAME.fullmatch(path.stem) and text.strip():
                yield path.stem, text
