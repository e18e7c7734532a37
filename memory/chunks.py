"""A document as pieces of bounded size, which follow its structure and know where they stand.

Blocks (see `blocks`) that belong to the same heading are put together up to MAX_CHARS; short neighbours
under different headings up to SMALL_CHARS, since a piece of one line is found by nothing. What is longer than
a piece is parted where it hurts least: a table between rows, with its head repeated, code between lines, text
at the end of a sentence. Pure.

What is not covered: counting tokens. A piece has about 450 of English, more of languages that take a letter
for a token.
"""

import itertools
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

from memory.blocks import Block, Span, code_blocks, markdown_blocks, python_blocks, table_block, text_blocks

MAX_CHARS = 1_800
SMALL_CHARS = 500
VERSION = 1
"""Raised when documents would be parted otherwise: what was parted before is then parted anew."""

_SENTENCE = re.compile(r"(?<=[.!?。！？])\s+")
_RULE = re.compile(r"^\s*\|?[\s:|-]*-[\s:|-]*$")

Form = Literal["markdown", "python", "code", "table", "text"]


@dataclass(frozen=True)
class Part:
    """A part of a document: all of it, a page, a slide, a sheet."""

    text: str
    page: int | None = None
    name: str = ""
    """Of a sheet."""


@dataclass(frozen=True)
class Document:
    """What a file or a page of the web says."""

    title: str
    form: Form
    parts: tuple[Part, ...]
    spans: tuple[Span, ...] = ()
    """Of Python: its functions and classes."""
    numbered: bool = True
    """Whether the lines of the text are those of the file."""


@dataclass(frozen=True)
class Chunk:
    """A piece of a document: what it says, and where."""

    text: str
    headings: tuple[str, ...] = ()
    first: int | None = None
    """Its first line in the file, from 1, where that is known."""
    last: int | None = None
    page: int | None = None
    """Or its slide."""


def chunks(document: Document) -> list[Chunk]:
    """The pieces of a document, in their order."""
    return [chunk for part in document.parts for chunk in _of_part(document, part)]


def _of_part(document: Document, part: Part) -> Iterator[Chunk]:
    text = part.text.replace("\r\n", "\n").replace("\r", "\n")
    whole = (piece for block in _blocks(document, text) for piece in _bounded(block))
    for block in _packed(whole):
        yield Chunk(
            text=block.text,
            headings=(part.name, *block.headings) if part.name else block.headings,
            first=block.first if document.numbered else None,
            last=block.last if document.numbered else None,
            page=part.page,
        )


def _blocks(document: Document, text: str) -> list[Block]:
    match document.form:
        case "markdown":
            return markdown_blocks(text)
        case "python" if document.spans:
            return python_blocks(text, document.spans, MAX_CHARS)
        case "python" | "code":
            return code_blocks(text)
        case "table":
            return table_block(text)
    return text_blocks(text)


def _packed(blocks: Iterable[Block]) -> Iterator[Block]:
    """Blocks put together with those that follow them."""
    held: Block | None = None
    for block in blocks:
        if held is None:
            held = block
            continue
        if len(held.text) + len(block.text) + 2 <= _room(held, block):
            held = _joined(held, block)
        else:
            yield held
            held = block
    if held is not None:
        yield held


def _room(held: Block, block: Block) -> int:
    """How long a piece of these two may be."""
    if held.headings == block.headings:
        return MAX_CHARS
    leads_to = block.headings[: len(held.headings)] == held.headings
    return MAX_CHARS if leads_to and _is_bare(held) else SMALL_CHARS


def _is_bare(block: Block) -> bool:
    """Whether it is nothing but headings, which alone say nothing."""
    return block.kind == "text" and all(line.startswith("#") for line in block.text.split("\n") if line)


def _joined(one: Block, other: Block) -> Block:
    gap = "\n" * max(1, min(2, other.first - one.last))
    both = zip(one.headings, other.headings, strict=False)
    common = tuple(name for name, _ in itertools.takewhile(lambda pair: pair[0] == pair[1], both))
    headings = other.headings if _is_bare(one) and common == one.headings else common
    return Block(f"{one.text}{gap}{other.text}", one.first, other.last, headings, one.kind)


def _bounded(block: Block) -> Iterator[Block]:
    """The block, or parts of it that are no longer than a piece may be."""
    if len(block.text) <= MAX_CHARS:
        yield block
        return
    lines = block.text.split("\n")
    head: list[str] = []
    if block.kind == "table":
        head = lines[: 2 if len(lines) > 1 and _RULE.match(lines[1]) else 1]
        if sum(map(len, head)) > MAX_CHARS // 4:
            head = []
    yield from _gathered(block, lines, head)


def _gathered(block: Block, lines: list[str], head: list[str]) -> Iterator[Block]:
    """As many lines at a time as a piece has room for, below the head where there is one."""
    space = MAX_CHARS - sum(len(line) + 1 for line in head)
    held: list[str] = []
    first = last = block.first + len(head)
    size = 0
    for at, line in enumerate(lines[len(head) :], block.first + len(head)):
        for piece in _cut(line, space):
            if held and size + len(piece) + 1 > space:
                yield replace(block, text="\n".join([*head, *held]), first=first, last=last)
                held, size, first = [], 0, at
            held.append(piece)
            size, last = size + len(piece) + 1, at
    if held:
        yield replace(block, text="\n".join([*head, *held]), first=first, last=last)


def _cut(line: str, space: int) -> Iterator[str]:
    """A line, at the ends of its sentences or of its words where it is too long."""
    if len(line) <= space:
        yield line
        return
    held = ""
    for sentence in _SENTENCE.split(line):
        if held and len(held) + len(sentence) + 1 > space:
            yield held
            held = ""
        held = f"{held} {sentence}" if held else sentence
        while len(held) > space:
            at = held.rfind(" ", space // 2, space)
            at = at if at > 0 else space
            yield held[:at]
            held = held[at:].lstrip()
    if held:
        yield held
