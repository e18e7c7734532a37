"""The texts that leave a sandbox: secrets masked, host paths renamed, terminal control removed.

A model reads these texts and runs record them, so they hold no path of the host and nothing that changes from
one machine to the next.

A secret's value becomes `[secret NAME]` if it appears as it is, as Python, JSON or URLs escape it, split by
line breaks and indentation, with invisible characters in between, or in letters that Unicode takes for the
same, such as wide ones. Each line of a value with several lines is masked by itself, if it has at least
`SHORTEST` characters.

Not covered: transformed values, such as base64, hexadecimal, reversed, in another case, as a number or with
other characters in between; parts of a value; and files that code inside writes. Masking keeps secrets from
getting into logs by accident. Code that means to pass one on can only be stopped by not giving it the secret.
"""

import json
import re
import unicodedata
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote, quote_plus

from toolsmith.sandbox.spec import environment

SHORTEST = 6
MAX_ERROR_CHARS = 8_000
_SHORTEST_CUT = 4_000  # a text of this length may have been cut inside, in the middle of a value
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_STEERS = re.compile(r"\A(?:(LD|DYLD|PYTHON|BASH|SSL)_?\w*|\w*_proxy)", re.IGNORECASE)  # what a program obeys
SHOWN_BREAK = "⏎"
"""A line break in a text that is shown on one line."""
_BREAK = r"(?:[ \t]*\r?\n[ \t]*)?"
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
        forms = [(form, f"[secret {name}]") for name, value in values.items() for form in _spellings(value)]
        self._forms = sorted(forms, key=lambda pair: len(pair[0]), reverse=True)
        self._split = [
            (re.compile(_BREAK.join(map(re.escape, form))), mark)
            for form, mark in self._forms
            if " " in form or "\t" in form
        ]
        plain = ((_plain(form), mark) for form, mark in self._forms)
        self._plain = [(form, mark) for form, mark in dict(plain).items() if len(form) >= SHORTEST]

    def mask(self, text: str) -> str:
        """`text` without the values."""
        for form, mark in self._forms:
            text = text.replace(form, mark)
        if self._forms and ("\n" in text or "\\u" in text or not text.isascii()):
            for pattern, mark in self._split:
                text = pattern.sub(mark, text)
            plain = _plain(text)
            if any(form in plain for form, _ in self._plain):
                text = self._without_disguised(text)
        return self._without_cut_value(text) if len(text) >= _SHORTEST_CUT else text

    def mask_bytes(self, data: bytes) -> bytes:
        """`data` without the values, except values that are split."""
        for form, mark in self._forms:
            data = data.replace(form.encode(), mark.encode())
        return data

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
        for form, mark in self._forms:
            for size in range(len(form) - 1, SHORTEST - 1, -1):
                if text.endswith(form[:size]):
                    return text[:-size] + mark
        return text


def check_name(name: str) -> None:
    """Raises ValueError if no secret may have this name."""
    if not _NAME.fullmatch(name):
        raise ValueError(f"a secret cannot be called {name!r}; use letters, digits and underscores")
    if name in environment("") or _STEERS.fullmatch(name):
        raise ValueError(f"a secret cannot be called {name}: that name steers programs; use another")


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
