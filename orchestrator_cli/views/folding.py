"""Lines folded to the width of a terminal, without a break inside a command or an address: pure functions.

What a user copies has to be whole. A command or an address that does not fit goes to a line of its own. One
that is wider than the terminal is left to it, which breaks it only on the screen; it would go on in the first
column, where our own lines begin, so this holds only for signs that cannot be read as a sentence.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

_VALUE = r"[\w./~=@%+-]*[\d/~=][\w./~=@%+-]*|[A-Z]+|last"
_ADDRESS = re.compile(r"\b[a-z][a-z0-9+.-]{0,30}://[\w.@\[\]-]*(?::\d+)?(?:[/?#][!-9;-~]*)?", re.ASCII)
"""Without a colon after its port: no address ends as `error:` begins a line."""
_OWN_COMMAND = re.compile(
    rf"(?<!\S)orch(?: [a-z]+){{1,2}}(?: (?:-[-\w]+(?:[= ](?:{_VALUE}|[a-z]+))?|{_VALUE})(?=[\s.,;)]|$))*",
    re.ASCII,
)
_COMMAND = re.compile(
    r"`[^`]+`"
    r"|(?<=: )(?:orch|/[a-z]+|sudo|apt|apt-get|brew|curl|export|ollama|pip|python3?|uv) (?:(?![,;.] | or ).)+"
)

_CLOSING = re.compile(r"[.,;)\]>'\"]*")


class _Span(NamedTuple):
    """A part of a line that stays together."""

    start: int
    end: int
    at_any_width: bool
    """Whether it does so even if it is wider than the terminal."""


def folded(line: str, width: int, indent: int | None = None) -> Iterator[str]:
    """A line in pieces of at most `width` columns, broken between words if possible.

    Only a command or an address can be wider. What follows the first piece is indented by `indent`. Without
    it, that is as far as the line itself or, if it has one, its second column; at least two, so that it never
    looks like a line of its own.
    """
    if indent is None:
        begin = len(line) - len(line.lstrip())
        gap = line.find("  ", begin)
        column = len(line) - len(line[gap:].lstrip()) if gap > 0 else begin
        indent = max(2, min(column, width // 2))
    start, spans = " " * indent, _spans(line)
    room, before, at = max(1, width), "", 0
    while (end := at + _fitting(line[at:], room)) < len(line):
        cut = _cut(line, at, end, spans, max(2, width - indent))
        yield before + line[at:cut].rstrip(" ")
        at = cut + len(line[cut:]) - len(line[cut:].lstrip(" "))
        room, before = max(2, width - indent), start
    if at < len(line) or not before:
        yield before + line[at:]


def _cut(line: str, at: int, end: int, spans: list[_Span], width: int) -> int:
    """Where to break a line that goes on at `at` and has room until `end`; later pieces have `width`."""
    first = at + len(line[at:]) - len(line[at:].lstrip(" "))
    space = line.rfind(" ", first + 1, end + 1)
    cut = space if space > 0 else end
    for span in spans:
        if not span.start < cut < span.end:
            continue
        fits = _fitting(line[span.start :], width) >= span.end - span.start
        if not (fits or span.at_any_width):
            continue
        above = line.rfind(" ", first + 1, span.start)
        if above > 0:
            return above
        return _CLOSING.match(line, span.end).end()  # type: ignore[union-attr]  # it matches nothing too
    return cut


def _spans(line: str) -> list[_Span]:
    kept = [(found, True) for form in (_ADDRESS, _OWN_COMMAND) for found in form.finditer(line)]
    kept += [(found, False) for found in _COMMAND.finditer(line)]
    return sorted((_Span(*found.span(), wide) for found, wide in kept), key=lambda s: (s.start, -s.end))


def _fitting(line: str, room: int) -> int:
    """How many signs of a line take no more than so many columns; at least one."""
    if line.isascii():
        return max(1, min(room, len(line)))
    from rich.cells import cell_len  # it knows signs that the interpreter's own tables do not

    for n, sign in enumerate(line):
        room -= cell_len(sign)
        if room < 0:
            return max(1, n)
    return len(line)
