"""Finds the code in a coder's reply. Pure.

The code is between `<code>` and `</code>`. A line that holds nothing but `</code>` is Python only within a
string, and code that ends within a string does not parse. So the block ends at the first such line before
which the code parses, whatever else the code contains.

Slips are repaired: a Markdown fence around the code or instead of the tags, a closing tag behind the last
statement, one that is cut or missing, and code without either.

Not covered: several blocks in a reply. The first one counts, and what follows it is dropped: the model
wrote it before it saw what the first one gave.
"""

import ast
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from orchestrator_cli.durable.python_text import parse_module

OPENING, CLOSING = "<code>", "</code>"

_TAG = re.compile(re.escape(OPENING))
_FENCE = re.compile(r"^[ \t]*```(?P<language>python|py)?[ \t]*$", re.MULTILINE | re.IGNORECASE)
_TAG_ALONE = re.compile(rf"^[ \t]*{CLOSING}[ \t]*$", re.MULTILINE)
_FENCE_ALONE = re.compile(r"^[ \t]*```[ \t]*$", re.MULTILINE)
_CUT_TAGS = tuple(CLOSING[:length] for length in range(len(CLOSING) - 1, 1, -1))

INLINE_TAGS = 20
"""How many openings within a line are tried in a reply that is full of tags."""
PARSED_CHARS = 400_000
"""How much is parsed of one reply, in all tries together. After that, the first end of a block counts."""

NO_CODE = f"""Your reply has no code to run. Write a short thought and then the code, each tag on its own
line:
{OPENING}
print("look at something")
{CLOSING}
If the work is done, the code hands over its result: final_answer(value)"""


@dataclass(frozen=True)
class CodeBlock:
    """The code of a reply."""

    thought: str
    """What precedes it."""
    code: str
    text: str
    """The reply up to the end of the block."""
    is_closed: bool
    """Whether its end is in the reply; without one, the reply may have been cut."""
    is_python: bool
    """Whether it parses."""


def find_code(reply: str) -> CodeBlock | None:
    """The code to run; None if there is none. If something opens a block, it need not parse."""
    if bare := _bare(reply):
        return bare
    search = _Search(reply)
    tags, fences = list(_TAG.finditer(reply)), list(_FENCE.finditer(reply))
    tag = search.first(one for one in tags if not _is_within_line(reply, one))
    fence = search.first(one for one in fences if one["language"])
    if tag and fence and fence.is_python and len(fence.thought) < len(tag.thought) < len(fence.text):
        return fence  # the tag is a part of its code
    return tag or fence or search.best(tags) or search.first(fences)


def thought_of(reply: str) -> str:
    """What a reply says before its code."""
    block = find_code(reply)
    return (block.thought if block else reply).strip().removeprefix("Thought:").strip()


def _is_within_line(reply: str, opening: re.Match[str]) -> bool:
    """Whether there is text beside the opening tag, on both sides."""
    line_start = reply.rfind("\n", 0, opening.start()) + 1
    is_first = not reply[line_start : opening.start()].strip()
    return not is_first and reply[opening.end() : opening.end() + 1] not in ("\n", "\r")


class _Search:
    """Looks for blocks in one reply, and parses no more of it than may be."""

    def __init__(self, reply: str) -> None:
        self._reply = reply
        self._left = PARSED_CHARS

    def first(self, openings: Iterable[re.Match[str]]) -> CodeBlock | None:
        return next(self._all(openings), None)

    def best(self, openings: list[re.Match[str]]) -> CodeBlock | None:
        blocks = list(self._all(openings[:INLINE_TAGS]))
        return next((block for block in blocks if block.is_python), blocks[0] if blocks else None)

    def _all(self, openings: Iterable[re.Match[str]]) -> Iterator[CodeBlock]:
        """The block of each opening: up to the first end before which it is Python, else the first end."""
        for opening in openings:
            blocks = self._blocks(opening)
            if (first := next(blocks, None)) is not None:
                yield first if first.is_python else next((one for one in blocks if one.is_python), first)

    def _blocks(self, opening: re.Match[str]) -> Iterator[CodeBlock]:
        """One for each end, without the further ones if enough was parsed."""
        reply = self._reply
        for end, after in _ends(reply, opening):
            code = _unfenced(reply[opening.end() : end])
            if code in ("", CLOSING):
                continue
            is_closed = reply[end:after].strip() in (CLOSING, "```")
            is_python = self._left > 0 and _parses(code)
            self._left -= len(code)
            yield CodeBlock(reply[: opening.start()], code, reply[:after].rstrip(), is_closed, is_python)
            if self._left <= 0:
                return


def _ends(reply: str, opening: re.Match[str]) -> Iterator[tuple[int, int]]:
    """Where the code may end, and where its closing tag does."""
    is_tag = opening.re is _TAG
    alone = _TAG_ALONE if is_tag else _FENCE_ALONE
    yield from (match.span() for match in alone.finditer(reply, opening.end()))
    whole = reply.rstrip()
    cut = next(filter(whole.endswith, _CUT_TAGS), "")
    yield max(opening.end(), len(whole) - len(cut)), len(reply)
    if is_tag:
        within = [match.span() for match in re.finditer(CLOSING, reply[opening.end() :])]
        yield from ((opening.end() + start, opening.end() + end) for start, end in reversed(within))


def _unfenced(code: str) -> str:
    """The code without a Markdown fence around it, and without empty lines at its ends."""
    lines = code.strip("\r\n").rstrip().split("\n")
    if _FENCE.match(lines[0]):
        lines = lines[1:-1] if _FENCE_ALONE.match(lines[-1]) else lines[1:]
    text = "\n".join(lines)
    return text.strip() if "\n" not in text.strip() else text


def _bare(reply: str) -> CodeBlock | None:
    """The whole reply, if it is Python and calls something."""
    code = reply.strip()
    if not _parses(code) or not any(isinstance(node, ast.Call) for node in ast.walk(parse_module(code)[0])):
        return None
    return CodeBlock("", code, reply, is_closed=True, is_python=True)


def _parses(code: str) -> bool:
    try:
        parse_module(code)
    except SyntaxError:
        return False
    return True
