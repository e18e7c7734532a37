"""The texts that leave a sandbox: secrets masked, host paths renamed, terminal control removed.

A model reads these texts and runs record them, so they hold no path of the host and nothing that changes from
one machine to the next.

A secret's value becomes `[secret NAME]` if it appears as it is, as Python, JSON or URLs escape it, split by
line breaks and indentation, with invisible characters in between, or in letters that Unicode takes for the
same, such as wide ones. Each line of a value with several lines is masked by itself, if it has at least
`SHORTEST` characters. A text may have been cut within a value, so a beginning or an end of one is masked too
if it has `LONG_PART` characters or more, and a shorter beginning at the end of a text that was cut. A value
that is a path or an address is masked as a whole only.

Not covered: transformed values, such as base64, hexadecimal, reversed, in another case, as a number or with
other characters in between; other parts of a value; and files that code inside writes. Masking keeps secrets
from getting into logs by accident. Code that means to pass one on can only be stopped by not giving it the
secret.
"""

import json
import re
import unicodedata
from bisect import bisect
from collections.abc import Callable, Iterable, Mapping
from typing import Any
from urllib.parse import quote, quote_plus

from toolsmith.sandbox.spec import environment

SHORTEST = 6
LONG_PART = 16
"""Characters of a beginning or an end that is masked by itself: fewer could be of an ordinary word."""
MAX_ERROR_CHARS = 8_000
_SHORTEST_CUT = 4_000  # a text of this length may have been cut inside, in the middle of a value
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_STEERS = re.compile(r"\A(?:(LD|DYLD|PYTHON|BASH|SSL)_?\w*|\w*_proxy)", re.IGNORECASE)  # what a program obeys
SHOWN_BREAK = "⏎"
"""A line break in a text that is shown on one line."""
_BREAK = r"(?:[ \t]*\r?\n[ \t]*)?"
_RUN = re.compile(rf"[\w+/=.~%-]{{{LONG_PART},}}", re.ASCII)
"""Signs of keys, as many as a beginning has; what has others, such as an address, can begin as others do."""
_SIGN = re.compile(r"\\u([0-9a-fA-F]{4})|.", re.DOTALL)
_ESCAPED = re.compile(r"\\u([0-9a-fA-F]{4})")
_INVISIBLE = re.compile(
    "[\\u00ad\\u034f\\u061c\\u180b-\\u180f\\u200b-\\u200f\\u202a-\\u202e\\u2060-\\u206f\\ufe00-\\ufe0f\\ufeff]+"
)

_CONTROL_STRING = r"\x1b[\]PX^_].*?(?:\x07|\x1b\\|$)"  # titles, clipboard, device control: to their end
_CONTROL_SEQUENCE = r"\x1b\[[0-?]*[ -/]*[@-~]"
_OTHER = r"\x1b[ -/]*[0-~]|[\x00-\x08\x0b-\x1f\x7f-\x9f]"
_TERMINAL = re.compile(f"{_CONTROL_STRING}|{_CONTROL_SEQUENCE}|{_OTHER}", re.MULTILINE)
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]{6,16}(?=>)")


class Secrets:
    """The secrets of one sandbox, or others that are masked in the same way."""

    def __init__(self, values: Mapping[str, str], *, are_given: bool = True) -> None:
        """Raises ValueError, which names the secret and never its value.

        `are_given`: whether code is given them in variables of these names, which are checked then.
        """
        for name, value in values.items():
            if are_given:
                check_name(name)
            if len(value.strip()) < SHORTEST:
                raise ValueError(
                    f"the secret {name} is too short to be masked: it needs {SHORTEST} characters"
                )
            if "\0" in value:
                raise ValueError(f"the secret {name} holds a zero byte, which no environment can hold")
        self.values = dict(values)
        marks: dict[str, str] = {}
        shared: set[str] = set()
        for name, value in values.items():
            forms = list(_spellings(value))
            for form in forms:
                marks.setdefault(form, f"[secret {name}]")
            if value.startswith("/") or "://" in value:
                shared.update(forms)
        self._forms = sorted(marks.items(), key=lambda pair: len(pair[0]), reverse=True)
        self._beginnings = {form[:LONG_PART] for form, _ in self._forms}
        # A path or an address begins and ends as others do, such as that of the workspace.
        self._parts = _LongParts(row for row in self._forms if row[0] not in shared)
        spaced = [row for row in self._forms if " " in row[0] or "\t" in row[0]]
        self._spaced = [(_without_spaces(form), form, mark) for form, mark in spaced]
        plain = ((_plain(form), mark) for form, mark in self._forms)
        self._plain = [(form, mark) for form, mark in dict(plain).items() if len(form) >= SHORTEST]

    def mask(self, text: str, *, is_cut: bool = False) -> str:
        """`text` without the values.

        `is_cut`: whether it may end within one. A text of 4,000 characters or more always may.
        """
        if not self._forms:
            return text
        if seen := {beginning for beginning in self._beginnings if beginning in text}:
            for form, mark in self._forms:
                if form[:LONG_PART] in seen:
                    text = text.replace(form, mark)
        if "\n" in text or "\\u" in text or not text.isascii():
            text = self._without_split(text)
            plain = _plain(text)
            if any(form in plain for form, _ in self._plain):
                text = self._without_disguised(text)
        text = self._parts.mask(text)
        return self._without_cut_value(text) if is_cut or len(text) >= _SHORTEST_CUT else text

    def mask_bytes(self, data: bytes) -> bytes:
        """`data` without the values, except values that are split."""
        for form, mark in self._forms:
            data = data.replace(form.encode(), mark.encode())
        return data

    def _without_split(self, text: str) -> str:
        """The text without values that have spaces and line breaks in between."""
        squeezed = _without_spaces(text) if self._spaced else ""
        for letters, form, mark in self._spaced:
            if letters in squeezed:  # its pattern takes milliseconds to make
                parts = re.split(_BREAK.join(map(re.escape, form)), text)
                text = mark.join(parts)
        return text

    def _without_disguised(self, text: str) -> str:
        """The text without the values that only its plain form shows."""
        letters, places = _letters(text)
        found: list[tuple[int, int, str]] = []
        for form, mark in self._plain:
            at = letters.find(form)
            while at >= 0:
                found.append((places[at][0], places[at + len(form) - 1][1], mark))
                at = letters.find(form, at + len(form))
        parts, end = [], 0
        for start, stop, mark in sorted(found, key=lambda row: (row[0], -row[1])):
            if start >= end:
                parts += [text[end:start], mark]
            end = max(end, stop)
        return "".join((*parts, text[end:]))

    def _without_cut_value(self, text: str) -> str:
        """The text without a beginning of a value, of `SHORTEST` characters or more, at its end."""
        for form, mark in self._forms:
            tail = text[1 - len(form) :]
            at = tail.find(form[:SHORTEST])
            while at >= 0:
                if form.startswith(tail[at:]):
                    return text[: len(text) - len(tail) + at] + mark
                at = tail.find(form[:SHORTEST], at + 1)
        return text


class _LongParts:
    """Masks the beginnings and the ends of forms, of `LONG_PART` characters or more."""

    def __init__(self, forms: Iterable[tuple[str, str]]) -> None:
        """`forms`: each with its mark."""
        longer = [(form, mark) for form, mark in forms if len(form) > LONG_PART]
        self._begin = _Beginnings(longer)
        self._end = _Beginnings([(form[::-1], mark[::-1]) for form, mark in longer])

    def mask(self, text: str) -> str:
        # Most texts have few runs of so many signs, so that looking through them takes little.
        runs = "\n".join(_RUN.findall(text))
        if self._begin.are_in(runs):
            text = self._begin.mask(text)
        if self._end.are_in(runs[::-1]):
            text = self._end.mask(text[::-1])[::-1]
        return text


class _Beginnings:
    def __init__(self, forms: Iterable[tuple[str, str]]) -> None:
        self._marks = {form: mark for form, mark in forms if _RUN.match(form[:LONG_PART])}
        self._sorted = sorted(self._marks)
        self._first = sorted({form[:LONG_PART] for form in self._sorted})
        self._longest = max(map(len, self._sorted), default=0)

    def are_in(self, text: str) -> bool:
        return any(first in text for first in self._first)

    def mask(self, text: str) -> str:
        for first in self._first:
            parts, end, at = list[str](), 0, text.find(first)
            while at >= 0:
                form, size = self._longest_at(text[at : at + self._longest])
                parts += [text[end:at], self._marks[form]]
                end = at + size
                at = text.find(first, end)
            text = "".join((*parts, text[end:]))
        return text

    def _longest_at(self, text: str) -> tuple[str, int]:
        """The form that a text begins like for longest, and how many characters that is."""
        # Among sorted texts, that is a neighbour of the place where this one would be.
        at = bisect(self._sorted, text)
        near = self._sorted[max(0, at - 1) : at + 1]
        return max(((form, _common(form, text)) for form in near), key=lambda pair: pair[1])


def _common(one: str, other: str) -> int:
    """How many characters both begin with."""
    return next(
        (n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other))
    )


def check_name(name: str) -> None:
    """Raises ValueError if no secret may have this name."""
    if not _NAME.fullmatch(name):
        raise ValueError(f"a secret cannot be called {name!r}; use letters, digits and underscores")
    if name in environment("") or _STEERS.fullmatch(name):
        raise ValueError(f"a secret cannot be called {name}: that name steers programs; use another")


def _without_spaces(text: str) -> str:
    return "".join(text.split())


def _plain(text: str) -> str:
    """A text without line breaks and what is around them, invisible characters, and escapes of JSON; each
    letter as Unicode's form NFKC has it."""
    text = text.replace(SHOWN_BREAK, "\n")
    if "\\u" in text:
        text = _ESCAPED.sub(_sign, text)
    if not text.isascii():
        text = unicodedata.normalize("NFKC", _INVISIBLE.sub("", text))
    return "".join(line.strip(" \t\r") for line in text.split("\n")) if "\n" in text else text


def _letters(text: str) -> tuple[str, list[tuple[int, int]]]:
    """The plain form of a text, and which part of the text each of its letters is."""
    letters: list[str] = []
    places: list[tuple[int, int]] = []
    at, lines = 0, text.replace(SHOWN_BREAK, "\n").split("\n")
    for line in lines:
        kept = line.strip(" \t\r") if len(lines) > 1 else line
        before = at + (line.index(kept) if kept else 0)
        for sign in _SIGN.finditer(kept):
            for letter in unicodedata.normalize("NFKC", _INVISIBLE.sub("", _sign(sign))):
                letters.append(letter)
                places.append((before + sign.start(), before + sign.end()))
        at += len(line) + 1
    return "".join(letters), places


def _sign(found: re.Match[str]) -> str:
    return chr(int(found[1], 16)) if found[1] else found[0]


def _spellings(value: str) -> set[str]:
    plain = {value, value.strip(), *(line.strip() for line in value.splitlines())}
    forms = plain | {form for one in plain for form in _escaped(one)}
    return {form for form in forms if len(form) >= SHORTEST}


def _escaped(value: str) -> tuple[str, ...]:
    return (
        repr(value)[1:-1],
        repr(value.encode())[2:-1],
        json.dumps(value)[1:-1],
        json.dumps(value, ensure_ascii=False)[1:-1],
        quote(value, safe=""),
        quote(value),
        quote_plus(value),
    )


class Aliases:
    """Replaces real paths by their names on every system, after `mask` has replaced secrets."""

    def __init__(self, aliases: Mapping[str, str], mask: Callable[[str], str] = str) -> None:
        self._mask = mask
        self._aliases = {path: name for path, name in aliases.items() if path != name and path.count("/") > 1}
        longest_first = sorted(self._aliases, key=len, reverse=True)
        paths = "|".join(map(re.escape, longest_first))
        self._pattern = re.compile(rf"(?:{paths})(?![\w.-]*\w)") if paths else None

    def hide(self, text: str) -> str:
        """`text` masked, with paths replaced, and without characters that UTF-8 cannot encode."""
        text = self._mask(text)
        if not text.isascii():
            text = text.encode(errors="replace").decode()
        if self._pattern is None or "/" not in text:
            return text
        return self._pattern.sub(lambda match: self._aliases[match[0]], text)


def format_output(data: bytes, cut: bool, limit: int, aliases: Aliases) -> str:
    """What a step printed, as text of at most `limit` characters; a mark says if it was cut."""
    text = without_terminal_control(data.decode(errors="replace"))
    text = _ADDRESS.sub("", aliases.hide(text))
    if cut or len(text) > limit:
        return f"{text[:limit]}\n[output cut after {limit} characters]"
    return text


def format_error(error: Any, aliases: Aliases, *, message_first: bool = False) -> str:
    """The failure of code as the agent reads it; `error` comes from the worker and is not trusted.

    Frames come one per line as `  line N, in f: source`; `Type: message` is the last line, or the first.
    """
    if not isinstance(error, dict):
        return "the step failed"
    kind, message = _type_and_message(error)
    summary = f"{kind}: {message}" if message else kind
    frames = error.get("frames")
    lines = [_format_frame(frame) for frame in frames] if isinstance(frames, list) else []
    parts = [summary, *lines] if message_first else [*lines, summary]
    text = without_terminal_control("\n".join(parts))
    text = _ADDRESS.sub("", aliases.hide(text))
    return text[:MAX_ERROR_CHARS] if message_first else text[-MAX_ERROR_CHARS:]


def error_parts(error: Any, aliases: Aliases) -> tuple[str, str]:
    """The type and the message of a failure of code, as `format_error` shows them."""
    kind, message = _type_and_message(error) if isinstance(error, dict) else ("RuntimeError", "")
    shown = (without_terminal_control(aliases.hide(part)) for part in (kind, message))
    kind, message = (_ADDRESS.sub("", part)[:MAX_ERROR_CHARS] for part in shown)
    return kind, message


def _type_and_message(error: Mapping[str, Any]) -> tuple[str, str]:
    return word(error.get("type")), word(error.get("message"))


def word(part: Any) -> str:
    """A part of a message from the worker, which may have been forged: anything nested is left out."""
    return str(part) if isinstance(part, str | int) else "?"


def without_terminal_control(text: str) -> str:
    return _TERMINAL.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))


def _format_frame(frame: Any) -> str:
    if not isinstance(frame, list) or len(frame) != 3:
        return "  ..."
    line, function, source = map(word, frame)
    place = f"line {line}" if function == "<module>" else f"line {line}, in {function}"
    return f"  {place}: {source}" if source else f"  {place}"
