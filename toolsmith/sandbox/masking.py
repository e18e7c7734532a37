"""Secrets that code inside is given by name, and the masking of their values in all that leaves the sandbox.

A value is masked as `[secret NAME]` where it stands as it is, where it is escaped as Python, JSON or URLs
escape it, and where line breaks and indentation split it. Of a value with several lines, each line of at
least `SHORTEST` characters is masked by itself.

What is not covered: values that were transformed, such as base64, hexadecimal, reversed, in another case, as
a number or with other characters between theirs; parts of a value; and files, which code inside can write
them to. Masking keeps secrets from getting into logs by accident. Against code that means to pass one on,
only not giving it the secret helps.
"""

import json
import re
from collections.abc import Mapping
from urllib.parse import quote, quote_plus

from toolsmith.sandbox.backend import environment

SHORTEST = 6
_SHORTEST_CUT = 4_000  # texts of this length may have been cut inside, in the middle of a value
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_STEERS = re.compile(r"(LD|DYLD|PYTHON|BASH|SSL)_?\w*|\w*_proxy", re.IGNORECASE)  # what a program obeys
_BREAK = r"(?:[ \t]*\r?\n[ \t]*)?"


class Secrets:
    """The secrets of one sandbox."""

    def __init__(self, values: Mapping[str, str]) -> None:
        """Raises ValueError, which names the secret and never its value."""
        for name, value in values.items():
            _check(name, value)
        self.values = dict(values)
        written = [(form, f"[secret {name}]") for name, value in values.items() for form in _forms(value)]
        self._written = sorted(written, key=lambda pair: len(pair[0]), reverse=True)
        self._split = [(_across_lines(form), mark) for form, mark in self._written]

    def mask(self, text: str) -> str:
        """`text` without the values."""
        for form, mark in self._written:
            text = text.replace(form, mark)
        if "\n" in text:
            for pattern, mark in self._split:
                text = pattern.sub(mark, text)
        return self._without_a_cut_one(text) if len(text) >= _SHORTEST_CUT else text

    def mask_bytes(self, data: bytes) -> bytes:
        """The same for data, without values that are split."""
        for form, mark in self._written:
            data = data.replace(form.encode(), mark.encode())
        return data

    def _without_a_cut_one(self, text: str) -> str:
        for form, mark in self._written:
            for size in range(len(form) - 1, SHORTEST - 1, -1):
                if text.endswith(form[:size]):
                    return text[:-size] + mark
        return text


def check_name(name: str) -> None:
    """Raises ValueError for what no secret may be called."""
    if not _NAME.fullmatch(name):
        raise ValueError(f"a secret cannot be called {name!r}; use letters, digits and underscores")
    if name in environment("") or _STEERS.fullmatch(name):
        raise ValueError(f"a secret cannot be called {name}: that name steers programs; use another")


def _check(name: str, value: str) -> None:
    check_name(name)
    if len(value.strip()) < SHORTEST:
        raise ValueError(f"the secret {name} is too short to be masked: it needs {SHORTEST} characters")
    if "\0" in value:
        raise ValueError(f"the secret {name} holds a zero byte, which no environment can hold")


def _forms(value: str) -> set[str]:
    """The ways a value is written."""
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


def _across_lines(form: str) -> re.Pattern[str]:
    return re.compile(_BREAK.join(map(re.escape, form)))
