"""Foreign text as Markdown that cannot become anything else: pure functions.

`fence` and `code` show a text unchanged; `prose` shows words. In none of them can the text become a
heading, a list, a table cell, an HTML tag, a comment or the end of its own frame.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

from orchestrator_cli.durable.markdown_text import escaped
from orchestrator_cli.views.text import clean, cut, one_line

_RUNS_OF_TICKS = re.compile(r"`+")
_ENTRY_COMMENT = re.compile(r"<!--(?=\s*orch)", re.IGNORECASE)


_LEFT_OUT: ContextVar[list[str] | None] = ContextVar("left_out", default=None)


@contextmanager
def noting_cuts() -> Iterator[list[str]]:
    """Collects every text that is cut within the block, so that the caller can keep it whole."""
    found: list[str] = []
    token = _LEFT_OUT.set(found)
    try:
        yield found
    finally:
        _LEFT_OUT.reset(token)


def fence(text: str, language: str = "", limit: int = 4_000) -> str:
    """A code block. A text longer than `limit` characters is cut in the middle; the note there has the
    SHA-256 of the whole text.
    """
    shown = clean(text)
    if len(shown) > limit:
        shown = cut(shown, limit, f"; the whole: orch log show {digest_of(text)}")
        if (found := _LEFT_OUT.get()) is not None:
            found.append(text)
    body = _defused(shown).strip("\n")
    ticks = "`" * max(3, 1 + _longest_run(body))
    return f"{ticks}{language}\n{body}\n{ticks}"


def digest_of(text: str) -> str:
    """The hash under which a text that was cut is kept."""
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()


def code(text: str, limit: int = 200) -> str:
    """A code span on one line."""
    line = _defused(one_line(text, limit))
    if not line:
        return "*empty*"
    ticks = "`" * (1 + _longest_run(line)) if "`" in line else "`"
    pad = " " if line.startswith("`") or line.endswith("`") else ""
    return f"{ticks}{pad}{line}{pad}{ticks}"


def prose(text: str, limit: int = 500) -> str:
    """Words on one line, with everything that Markdown or HTML would interpret escaped."""
    return escaped(one_line(text, limit))


def said(text: str, limit: int = 4_000) -> str:
    """A quotation: one line as words, several lines unchanged."""
    text = clean(text).strip()
    if "\n" in text or len(text) > 500:
        return fence(text, "text", limit)
    return f"> {prose(text)}" if text else "> *empty*"


def bullets(lines: Iterable[str]) -> str:
    """A list of foreign lines, as words."""
    return "\n".join(f"- {prose(line)}" for line in lines)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; cells are Markdown already (`code`, `prose`)."""
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    # A bar ends a cell even in a code span, unless an odd number of backslashes precedes it.
    cells = ([re.sub(r"(?<!\\)((?:\\\\)*)\|", r"\1\\|", cell) for cell in row] for row in rows)
    lines += ["| " + " | ".join(row) + " |" for row in cells]
    return "\n".join(lines)


def _longest_run(text: str) -> int:
    return max(map(len, _RUNS_OF_TICKS.findall(text)), default=0)


def _defused(text: str) -> str:
    """The text without anything that looks like the comment that ends an entry."""
    return _ENTRY_COMMENT.sub("<! --", text)
