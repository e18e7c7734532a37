"""Separates a model's thoughts from its text, whole or as it arrives. Pure.

Thoughts are between an opening and a closing tag, such as `<think>` and `</think>`. A tag is only taken for
one where a model puts it:

- An opening tag begins the reply or a line, outside code. All that follows is thought, up to the closing
  tag; if there is none, all of it.
- A closing tag without an opening one ends thoughts that a template opened, unless it is in code, within
  quotes, or in the middle of a sentence. Everything before it is thought.

Code is what is fenced, or in `<code>` on a line of its own. So a page, a tool or a JSON text that contains a
tag stays as it is.

Not covered: thoughts that look like text. In a stream, those that a template opened: what they are shows at
their end only.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

_NAMES = r"think|thinking|thought|thoughts|reasoning|seed:think"
_OPENING = re.compile(rf"<(?:{_NAMES})>|\[THINK\]|◁think▷", re.IGNORECASE)
_CLOSING = re.compile(rf"</(?:{_NAMES})>|\[/THINK\]|◁/think▷", re.IGNORECASE)
_TAGS = (*(f"<{name}>" for name in _NAMES.split("|")), "[think]", "◁think▷")
_LONGEST = max(map(len, _TAGS)) + 1
_CODE = "<code>"
_FENCE = re.compile(r"(?P<marks>```+|~~~+)(?P<info>[^\n]*)")
_IN_A_SENTENCE = re.compile(r"(?<![ \t])[ \t]*+(?:(?<=[ \t])[a-z]|[,.;:)\]'\"`\\])")
_BLANKS, _BLANK_LINES = re.compile(r"[ \t]*"), re.compile(r"\s*")


@dataclass(frozen=True)
class Split:
    thoughts: str
    text: str


def split_thoughts(reply: str) -> Split:
    """The thoughts and the text of a whole reply. A reply without thoughts is its text, unchanged."""
    splitter = ThoughtSplitter()
    text = splitter.feed(reply) + splitter.end()
    thoughts = [splitter.thoughts]
    if end := _end_of_opened(text):
        thoughts.append(_CLOSING.sub("\n", text[:end]))
        text = text[end:].lstrip()
    return Split("\n".join(part for part in map(str.strip, thoughts) if part), text)


class ThoughtSplitter:
    """Takes the thoughts out of a reply that arrives in pieces, in time that grows with its length only."""

    def __init__(self) -> None:
        self._thoughts: list[str] = []
        self._rest = ""
        """What has arrived last."""
        self._at = 0
        """How much of that was read; what follows may still become a tag."""
        self._blank_to = 0
        """As far as the rest is known to be blank, while no text was read."""
        self._thinking = False
        self._line: list[str] | None = None
        """What has been read of a line that is text; None at its beginning."""
        self._block = _Block()
        self._has_text = False

    @property
    def thoughts(self) -> str:
        return "".join(self._thoughts)

    def feed(self, piece: str) -> str:
        """The text that is certain by now and was not returned before."""
        self._blank_to = max(0, self._blank_to - self._at)
        self._rest, self._at = self._rest[self._at :] + piece, 0
        return self._read(is_last=False)

    def end(self) -> str:
        """The rest of the text."""
        return self._read(is_last=True)

    def _read(self, *, is_last: bool) -> str:
        text = []
        while self._at < len(self._rest):
            at_line_start = self._line is None
            if self._thinking:
                if not self._think(is_last):
                    break
            elif at_line_start and not self._block.is_code and self._begins_thought():
                continue
            elif at_line_start and not is_last and self._is_undecided():
                break
            else:
                text.append(self._take_line())
        return "".join(text)

    def _think(self, is_last: bool) -> bool:
        """Read thoughts up to a closing tag; false if more has to arrive."""
        if closing := _CLOSING.search(self._rest, self._at):
            self._thoughts += [self._rest[self._at : closing.start()], "\n"]
            self._at = closing.end()
            self._thinking, self._line = False, None
            return True
        cut = len(self._rest) - (0 if is_last else _LONGEST)
        if cut > self._at:
            self._thoughts.append(self._rest[self._at : cut])
            self._at = cut
        return is_last

    def _begins_thought(self) -> bool:
        opening = _OPENING.match(self._rest, self._head())
        if opening:
            self._at = opening.end()
            self._thinking = True
        return opening is not None

    def _head(self) -> int:
        """Where the line begins after the blanks, and at first the blank lines, before it."""
        if self._has_text:
            return _after(_BLANKS, self._rest, self._at)
        self._blank_to = _after(_BLANK_LINES, self._rest, max(self._at, self._blank_to))
        return self._blank_to

    def _is_undecided(self) -> bool:
        at = self._head()
        if self._rest.find("\n", at) >= 0:
            return False
        head = self._rest[at : at + _LONGEST].lower()
        starts = _TAGS if not self._block.is_code else ()
        return any(tag.startswith(head) for tag in (*starts, _CODE)) or head[:3] in _FENCES

    def _take_line(self) -> str:
        """What has arrived of a line of text."""
        if not self._has_text and self._thoughts:
            self._at = self._head()
        newline = self._rest.find("\n", self._at)
        end = newline if newline >= 0 else len(self._rest)
        begun = self._rest[self._at : end]
        self._line = self._line or []
        self._line.append(begun)
        self._at = end
        self._has_text = self._has_text or bool(begun.strip())
        if newline < 0:
            return begun
        self._at += 1
        self._block.read("".join(self._line))
        self._line = None
        return f"{begun}\n"


def _after(blanks: re.Pattern[str], text: str, at: int) -> int:
    found = blanks.match(text, at)
    return found.end() if found else at


_FENCES = ("`", "``", "```", "~", "~~", "~~~")


class _Block:
    """Whether the lines read so far end within code."""

    def __init__(self) -> None:
        self._closing = ""

    @property
    def is_code(self) -> bool:
        return bool(self._closing)

    @property
    def is_fence(self) -> bool:
        return self._closing not in ("", "</code>")

    def read(self, line: str) -> None:
        line = line.strip()
        if self._closing == "</code>":
            self._closing = "" if "</code>" in line.lower() else self._closing
        elif self._closing:
            self._closing = "" if line == self._closing else self._closing
        else:
            self._closing = self.opened_by(line)

    @staticmethod
    def opened_by(line: str) -> str:
        """What closes the block that a line opens; empty if it opens none."""
        line = line.strip()
        if line.lower().startswith(_CODE):
            return "" if "</code>" in line.lower() else "</code>"
        fence = _FENCE.match(line)
        return fence["marks"] if fence and "`" not in fence["info"] else ""


def _end_of_opened(text: str) -> int:
    """Where thoughts end that the reply does not open; 0 if there are none."""
    at, end, doubtful = 0, 0, 0
    block = _Block()
    for line in text.splitlines(keepends=True):
        if not block.is_code:
            end = max([end, *(at + found for found in _ends_meant(line))])
        elif _CLOSING.fullmatch(line.strip()):
            doubtful = at + len(line)
        elif doubtful and _Block.opened_by(line) and line.strip() != block.opened_by("```"):
            # The block was never closed: it was a draft, and this one begins after the thoughts.
            end, doubtful, block = doubtful, 0, _Block()
        block.read(line)
        doubtful = doubtful if block.is_code else 0
        at += len(line)
    return doubtful if doubtful and block.is_fence else end


def _ends_meant(line: str) -> Iterator[int]:
    """Where the closing tags end that end thoughts, rather than being spoken of in prose."""
    opening = _OPENING.search(line)
    read, quotes = 0, {'"': 0, "`": 0}
    for tag in _CLOSING.finditer(line):
        quotes = {sign: count + line.count(sign, read, tag.start()) for sign, count in quotes.items()}
        read = tag.start()
        if opening is not None and opening.end() <= tag.start():
            return
        within = any(count % 2 for count in quotes.values()) or line.endswith(("'", "\\"), 0, tag.start())
        if not within and not _IN_A_SENTENCE.match(line, tag.end()):
            yield tag.end()
