"""The parts that a text is made of: sections and paragraphs of Markdown, functions and classes of Python.

A block is a stretch of whole lines. The blocks of a text follow one another and leave no words out; which of
them are put together into pieces is decided in `chunks`. Pure.

What is not covered: the structure of other programming languages, whose blocks begin where a line without
indentation follows an empty one.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from markdown_it import MarkdownIt

Kind = Literal["text", "table", "code"]

_FRONT_MATTER = re.compile(r"\A---[ \t]*\n.*?\n(?:---|\.\.\.)[ \t]*(?:\n|\Z)", re.DOTALL)


@dataclass(frozen=True)
class Block:
    text: str
    first: int
    """Its first line, from 1."""
    last: int
    headings: tuple[str, ...] = ()
    """What leads to it, the outermost first."""
    kind: Kind = "text"


@dataclass(frozen=True)
class Span:
    """A function or a class: its lines, and its name after those of what it stands in."""

    first: int
    last: int
    names: tuple[str, ...]


def markdown_blocks(text: str) -> list[Block]:
    lines = text.split("\n")
    before = _FRONT_MATTER.match(text)
    skipped = text[: before.end()].count("\n") if before else 0
    blocks = [Block("\n".join(lines[:skipped]), 1, skipped)] if skipped else []
    headings: list[tuple[int, str]] = []
    done = skipped
    tokens = _markdown().parse("\n".join(lines[skipped:]))
    for at, token in enumerate(tokens):
        if token.level or not token.map or token.nesting < 0:
            continue
        first, end = (skipped + line for line in token.map)
        # What a link refers to stands between the parts that a reader sees.
        blocks += _block(lines, done, first, tuple(name for _, name in headings), "text")
        done = end
        if token.type == "heading_open":
            depth = int(token.tag[1:])
            headings = [*(row for row in headings if row[0] < depth), (depth, tokens[at + 1].content)]
        kind: Kind = {"table_open": "table", "fence": "code", "code_block": "code"}.get(token.type, "text")  # type: ignore[assignment]
        blocks += _block(lines, first, end, tuple(name for _, name in headings), kind)
    return blocks + list(_block(lines, done, len(lines), tuple(name for _, name in headings), "text"))


@lru_cache(maxsize=1)
def _markdown() -> MarkdownIt:
    from markdown_it import MarkdownIt

    reader = MarkdownIt("commonmark").enable("table")
    # What stands within a line is not looked at.
    reader.core.ruler.enableOnly(["normalize", "block"])
    return reader


def python_blocks(text: str, spans: Iterable[Span], largest: int) -> list[Block]:
    """Functions and classes; a class with more than `largest` characters is taken apart into its methods.

    What stands before one, its comments say, belongs to it.
    """
    lines = text.split("\n")
    wanted: list[Span] = []
    for span in sorted(spans, key=lambda span: (span.first, -span.last)):
        outer = wanted[-1] if wanted else None
        if outer is None or span.first > outer.last:
            wanted.append(span)
        elif len("\n".join(lines[outer.first - 1 : outer.last])) > largest:
            # The outer one keeps what stands before its first method.
            wanted[-1:] = [Span(outer.first, span.first - 1, outer.names)]
            wanted.append(span)
    blocks: list[Block] = []
    done = 0
    for span in wanted:
        # Statements before it stand for themselves; comments right above it are its own.
        start = span.first - 1
        while start > done and lines[start - 1].lstrip().startswith("#"):
            start -= 1
        blocks += _block(lines, done, start, span.names[:-1], "code")
        blocks += _block(lines, start, span.last, span.names, "code")
        done = span.last
    return blocks + list(_block(lines, done, len(lines), (), "code"))


def code_blocks(text: str) -> list[Block]:
    return _parted(text, "code", lambda line: not line[:1].isspace() and line[:1] not in "})]")


def text_blocks(text: str) -> list[Block]:
    """Paragraphs."""
    return _parted(text, "text", lambda _: True)


def table_block(text: str) -> list[Block]:
    """A table of one row per line, whose first row is its head."""
    lines = text.split("\n")
    return list(_block(lines, 0, len(lines), (), "table"))


def _parted(text: str, kind: Kind, begins: Callable[[str], bool]) -> list[Block]:
    lines = text.split("\n")
    starts = [
        at
        for at in range(1, len(lines))
        if lines[at].strip() and not lines[at - 1].strip() and begins(lines[at])
    ]
    bounds = [0, *starts, len(lines)]
    return [
        block for first, end in itertools.pairwise(bounds) for block in _block(lines, first, end, (), kind)
    ]


def _block(
    lines: Sequence[str], first: int, end: int, headings: tuple[str, ...], kind: Kind
) -> Iterator[Block]:
    """The lines from `first`, counted from 0, to before `end`, without empty ones around them; or nothing."""
    while first < end and not lines[first].strip():
        first += 1
    while first < end and not lines[end - 1].strip():
        end -= 1
    if first < end:
        yield Block("\n".join(lines[first:end]), first + 1, end, headings, kind)
