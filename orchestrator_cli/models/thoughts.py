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
from dataclasses import dataclass

_NAMES = r"think|thinking|thought|thoughts|reasoning|seed:think"
_OPENING = re.compile(rf"<(?:{_NAMES})>|\[THINK\]|◁think▷", re.IGNORECASE)
_CLOSING = re.compile(rf"</(?:{_NAMES})>|\[/THINK\]|◁/think▷", re.IGNORECASE)
_TAGS = (*(f"<{name}>" for name in _NAMES.split("|")), "[think]", "◁think▷")
_LONGEST = max(map(len, _TAGS)) + 1
_CODE = "<code>"
_FENCE = re.compile(r"(?P<marks>```+|~~~+)(?P<info>[^\n]*)")
_IN_A_SENTENCE = re.compile(r"\A(?:[ \t]+[a-z]|[ \t]*[,.;:)\]'\"`\\])")


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
    """Takes the thoughts out of a reply that arrives in pieces."""

    def __init__(self) -> None:
        self.thoughts = ""
        self._rest = ""
        """What has arrived and may still become a tag."""
        self._thinking = False
        self._line: str | None = None
        """What has been read of a line that is text; None at its beginning."""
        self._block = _Block()
        self._has_text = False

    def feed(self, piece: str) -> str:
        """The text that is certain by now and was not returned before."""
        self._rest += piece
        return self._read(is_last=False)

    def end(self) -> str:
        """The rest of the text."""
        return self._read(is_last=True)

    def _read(self, *, is_last: bool) -> str:
        text = []
        while self._rest:
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
        if closing := _CLOSING.search(self._rest):
            self.thoughts += self._rest[: closing.start()] + "\n"
            self._rest = self._rest[closing.end() :]
            self._thinking, self._line = False, None
            return True
        cut = len(self._rest) - (0 if is_last else _LONGEST)
        if cut > 0:
            self.thoughts, self._rest = self.thoughts + self._rest[:cut], self._rest[cut:]
        return is_last

    def _begins_thought(self) -> bool:
        opening = _OPENING.match(self._head)
        if opening:
            self._rest = self._head[opening.end() :]
            self._thinking = True
        return opening is not None

    @property
    def _head(self) -> str:
        """What has arrived of the line, without the blanks, and at first the blank lines, before it."""
        return self._rest.lstrip(" \t" if self._has_text else None)

    def _is_undecided(self) -> bool:
        head = self._head.lower()
        if "\n" in head:
            return False
        starts = _TAGS if not self._block.is_code else ()
        return any(tag.startswith(head) for tag in (*starts, _CODE)) or head[:3] in _FENCES

    def _take_line(self) -> str:
        """What has arrived of a line of text."""
        if not self._has_text and self.thoughts:
            self._rest = self._rest.lstrip()
        begun, newline, after = self._rest.partition("\n")
        self._line = (self._line or "") + begun
        self._rest = after
        self._has_text = self._has_text or bool(begun.strip())
        if newline:
            self._block.read(self._line)
            self._line = None
        return begun + newline


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
            ends = [at + tag.end() for tag in _CLOSING.finditer(line) if _is_meant(line, tag)]
            end = max([end, *ends])
        elif _CLOSING.fullmatch(line.strip()):
            doubtful = at + len(line)
        elif doubtful and _Block.opened_by(line) and line.strip() != block.opened_by("```"):
            # The block was never closed: it was a draft, and this one begins after the thoughts.
            end, doubtful, block = doubtful, 0, _Block()
        block.read(line)
        doubtful = doubtful if block.is_code else 0
        at += len(line)
    return doubtful if doubtful and block.is_fence else end


def _is_meant(line: str, tag: re.Match[str]) -> bool:
    """Whether a closing tag in prose ends thoughts, rather than being spoken of."""
    before, after = line[: tag.start()], line[tag.end() :]
    if before.count('"') % 2 or before.count("`") % 2 or before.endswith(("'", "\\")):
        return False
    return not _OPENING.search(before) and not _IN_A_SENTENCE.match(after)
