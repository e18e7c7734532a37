"""Splits a document into chunks of bounded size that follow its structure and know their position.

A text is first split into blocks of whole lines: sections and paragraphs of Markdown, functions and classes
of Python, paragraphs of anything else. Blocks under the same heading are joined up to MAX_CHARS; short
neighbours under different headings up to SMALL_CHARS, because a chunk of one line is hardly ever found. A
block longer than a chunk is split where it hurts least: a table between rows, with its header repeated; code
between lines; text at the end of a sentence. Pure.

What is not covered: counting tokens (a chunk has about 450 in English, more in languages where each letter is
a token), and the structure of programming languages other than Python, whose blocks start at an unindented
line after an empty one.
"""

import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from markdown_it import MarkdownIt

MAX_CHARS = 1_800
SMALL_CHARS = 500
MAX_HEADING = 200
"""Characters: each chunk below a heading has it, and the document has one as its title."""
SEGMENT_CHARS = 250_000
"""Of Markdown that is parsed at once, about."""
VERSION = 2
"""Raise this when documents would be split differently: stored documents are then split again."""

_FRONT_MATTER = re.compile(r"\A---[ \t]*\n.*?\n(?:---|\.\.\.)[ \t]*(?:\n|\Z)", re.DOTALL)
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")
_SENTENCE = re.compile(r"(?<=[.!?。！？])\s+")
_TABLE_RULE = re.compile(r"\A[\s:|]*+-[\s:|-]*+$")

DocumentForm = Literal["markdown", "python", "code", "table", "text"]
BlockKind = Literal["text", "table", "code"]


@dataclass(frozen=True)
class DocumentPart:
    """All of a document, or one page, slide or sheet of it."""

    text: str
    page: int | None = None
    name: str = ""
    """The name of a sheet."""


@dataclass(frozen=True)
class Span:
    """A function or class: its lines, and its name preceded by the names it is nested in."""

    first: int
    last: int
    names: tuple[str, ...]


@dataclass(frozen=True)
class Document:
    """The text of a file or web page."""

    title: str
    form: DocumentForm
    parts: tuple[DocumentPart, ...]
    spans: tuple[Span, ...] = ()
    """The functions and classes of Python code."""
    numbered: bool = True
    """Whether the lines of the text are those of the file."""
    unread: tuple[str, ...] = ()
    """What of the file could not be read, and why, in words."""


@dataclass(frozen=True)
class Chunk:
    """A stretch of a document's text, and its position."""

    text: str
    headings: tuple[str, ...] = ()
    first: int | None = None
    """The first line in the file, counted from 1; None if unknown."""
    last: int | None = None
    page: int | None = None
    """The page or slide."""


@dataclass(frozen=True)
class TextBlock:
    """A stretch of whole lines."""

    text: str
    first: int
    """The first line, counted from 1."""
    last: int
    headings: tuple[str, ...] = ()
    """The headings above it, outermost first."""
    kind: BlockKind = "text"


def split_document(document: Document) -> list[Chunk]:
    """The chunks of a document, in order."""
    return [chunk for part in document.parts for chunk in _chunks(document, part)]


def _chunks(document: Document, part: DocumentPart) -> Iterator[Chunk]:
    text = part.text.replace("\r\n", "\n").replace("\r", "\n")
    bounded = (piece for block in _blocks(document, text) for piece in _bounded(block))
    for block in _packed(bounded):
        yield Chunk(
            text=block.text,
            headings=(part.name, *block.headings) if part.name else block.headings,
            first=block.first if document.numbered else None,
            last=block.last if document.numbered else None,
            page=part.page,
        )


def _blocks(document: Document, text: str) -> list[TextBlock]:
    match document.form:
        case "markdown":
            return markdown_blocks(text)
        case "python" if document.spans:
            return python_blocks(text, document.spans, MAX_CHARS)
        case "python" | "code":
            return code_blocks(text)
        case "table":
            lines = text.split("\n")
            return list(_block(lines, 0, len(lines), (), "table"))
    return text_blocks(text)


# --- from text to blocks


def markdown_blocks(text: str) -> list[TextBlock]:
    lines = text.split("\n")
    front_matter = _FRONT_MATTER.match(text)
    skipped = text[: front_matter.end()].count("\n") if front_matter else 0
    blocks = [TextBlock("\n".join(lines[:skipped]), 1, skipped)] if skipped else []
    headings: list[tuple[int, str]] = []
    done = skipped
    for start, stop in _segments(lines, skipped):
        tokens = _markdown_parser().parse("\n".join(lines[start:stop]))
        for at, token in enumerate(tokens):
            if token.level or not token.map or token.nesting < 0:
                continue
            first, end = (start + line for line in token.map)
            # Link definitions produce no token; they are in the gaps between tokens.
            blocks += _block(lines, done, first, tuple(name for _, name in headings), "text")
            done = end
            if token.type == "heading_open":
                depth = int(token.tag[1:])
                name = tokens[at + 1].content[:MAX_HEADING]
                headings = [*(row for row in headings if row[0] < depth), (depth, name)]
            kind: BlockKind = {"table_open": "table", "fence": "code", "code_block": "code"}.get(
                token.type, "text"
            )  # type: ignore[assignment]
            blocks += _block(lines, first, end, tuple(name for _, name in headings), kind)
    return blocks + list(_block(lines, done, len(lines), tuple(name for _, name in headings), "text"))


def _segments(lines: Sequence[str], first: int) -> Iterator[tuple[int, int]]:
    """Stretches of lines that can be parsed one by one, because the parser's tokens take much memory.

    A stretch ends before a heading, or else a paragraph, that is not in a block of code between fences.
    """
    size, fence = 0, ""
    for at in range(first, len(lines)):
        line = lines[at]
        if mark := _FENCE.match(line):
            if not fence:
                fence = mark[1]
            elif mark[1].startswith(fence) and not line[mark.end() :].strip():
                fence = ""
        follows = at > first and not fence and not mark and not lines[at - 1].strip()
        least = SEGMENT_CHARS if line.startswith("#") else 2 * SEGMENT_CHARS
        if size > least and follows and line[:1].strip():
            yield first, at
            first, size = at, 0
        size += len(line) + 1
    yield first, len(lines)


@lru_cache(maxsize=1)
def _markdown_parser() -> "MarkdownIt":
    from markdown_it import MarkdownIt

    parser = MarkdownIt("commonmark").enable("table")
    # Inline markup is not parsed.
    parser.core.ruler.enableOnly(["normalize", "block"])
    return parser


def python_blocks(text: str, spans: Iterable[Span], largest: int) -> list[TextBlock]:
    """Functions and classes; a class of more than `largest` characters is split into its methods.

    Comments directly above a function or class belong to it.
    """
    lines = text.split("\n")
    wanted: list[Span] = []
    for span in sorted(spans, key=lambda span: (span.first, -span.last)):
        outer = wanted[-1] if wanted else None
        if outer is None or span.first > outer.last:
            wanted.append(span)
        elif len("\n".join(lines[outer.first - 1 : outer.last])) > largest:
            # The class keeps the lines before its first method.
            wanted[-1:] = [Span(outer.first, span.first - 1, outer.names)]
            wanted.append(span)
    blocks: list[TextBlock] = []
    done = 0
    for span in wanted:
        start = span.first - 1
        while start > done and lines[start - 1].lstrip().startswith("#"):
            start -= 1
        blocks += _block(lines, done, start, span.names[:-1], "code")
        blocks += _block(lines, start, span.last, span.names, "code")
        done = span.last
    return blocks + list(_block(lines, done, len(lines), (), "code"))


def code_blocks(text: str) -> list[TextBlock]:
    return _paragraphs(text, "code", lambda line: not line[:1].isspace() and line[:1] not in "})]")


def text_blocks(text: str) -> list[TextBlock]:
    return _paragraphs(text, "text", lambda _: True)


def _paragraphs(text: str, kind: BlockKind, begins: Callable[[str], bool]) -> list[TextBlock]:
    """Blocks that start at a line after an empty one, if `begins` accepts the line."""
    lines = text.split("\n")
    starts = [
        at
        for at in range(1, len(lines))
        if lines[at].strip() and not lines[at - 1].strip() and begins(lines[at])
    ]
    bounds = itertools.pairwise([0, *starts, len(lines)])
    return [block for first, end in bounds for block in _block(lines, first, end, (), kind)]


def _block(
    lines: Sequence[str], first: int, end: int, headings: tuple[str, ...], kind: BlockKind
) -> Iterator[TextBlock]:
    """Lines `first` (counted from 0) to `end` (exclusive) without empty lines around them; nothing if
    empty."""
    while first < end and not lines[first].strip():
        first += 1
    while first < end and not lines[end - 1].strip():
        end -= 1
    if first < end:
        yield TextBlock("\n".join(lines[first:end]), first + 1, end, headings, kind)


# --- from blocks to chunks


def _packed(blocks: Iterable[TextBlock]) -> Iterator[TextBlock]:
    """The blocks, each joined with its successors as far as the limits allow."""
    current: TextBlock | None = None
    for block in blocks:
        if current is None:
            current = block
        elif len(current.text) + len(block.text) + 2 <= _size_limit(current, block):
            current = _joined(current, block)
        else:
            yield current
            current = block
    if current is not None:
        yield current


def _size_limit(current: TextBlock, block: TextBlock) -> int:
    if current.headings == block.headings:
        return MAX_CHARS
    leads_to = block.headings[: len(current.headings)] == current.headings
    return MAX_CHARS if leads_to and _is_only_headings(current) else SMALL_CHARS


def _is_only_headings(block: TextBlock) -> bool:
    return block.kind == "text" and all(line.startswith("#") for line in block.text.split("\n") if line)


def _joined(one: TextBlock, other: TextBlock) -> TextBlock:
    gap = "\n" * max(1, min(2, other.first - one.last))
    both = zip(one.headings, other.headings, strict=False)
    common = tuple(name for name, _ in itertools.takewhile(lambda pair: pair[0] == pair[1], both))
    headings = other.headings if _is_only_headings(one) and common == one.headings else common
    return TextBlock(f"{one.text}{gap}{other.text}", one.first, other.last, headings, one.kind)


def _bounded(block: TextBlock) -> Iterator[TextBlock]:
    """The block, split into pieces no longer than a chunk."""
    if len(block.text) <= MAX_CHARS:
        yield block
        return
    lines = block.text.split("\n")
    header: list[str] = []
    if block.kind == "table":
        header = lines[: 2 if len(lines) > 1 and _TABLE_RULE.match(lines[1]) else 1]
        if sum(map(len, header)) > MAX_CHARS // 4:
            header = []
    space = MAX_CHARS - sum(len(line) + 1 for line in header)
    body: list[str] = []
    first = last = block.first + len(header)
    size = 0
    for at, line in enumerate(lines[len(header) :], block.first + len(header)):
        for piece in _line_pieces(line, space):
            if body and size + len(piece) + 1 > space:
                yield replace(block, text="\n".join([*header, *body]), first=first, last=last)
                body, size, first = [], 0, at
            body.append(piece)
            size, last = size + len(piece) + 1, at
    if body:
        yield replace(block, text="\n".join([*header, *body]), first=first, last=last)


def _line_pieces(line: str, space: int) -> Iterator[str]:
    """The line, split at the ends of sentences, or else of words, if it is too long."""
    if len(line) <= space:
        yield line
        return
    current = ""
    for sentence in _SENTENCE.split(line):
        if current and len(current) + len(sentence) + 1 > space:
            yield current
            current = ""
        current = f"{current} {sentence}" if current else sentence
        while len(current) > space:
            at = current.rfind(" ", space // 2, space)
            at = at if at > 0 else space
            yield current[:at]
            current = current[at:].lstrip()
    if current:
        yield current
