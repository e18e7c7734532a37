"""The encoding of a text, which may come from another system or another time. Pure."""

import codecs
import re
from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # which begins as the next does
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
# The encodings still in use; if all were allowed, the guess would often be an obscure one.
_GUESSED = (
    *("cp1252", "cp1251", "cp1253", "cp1254", "koi8_r"),
    *("shift_jis", "euc_jp", "gb18030", "big5", "euc_kr"),
)
_OF_LATIN_LETTERS = ("cp1252", "cp1254")
"""Those in which most letters are ASCII. A short text in one would otherwise often be taken for Chinese."""
_NO_CP1252 = re.compile(rb"[\x00-\x08\x0e-\x1f\x7f\x81\x8d\x8f\x90\x9d]")
_BEYOND_ASCII = re.compile(rb"[\x80-\xff]+")
GUESSED_FROM = 64 * 1024
"""How many bytes of the beginning of a text tell its encoding."""


class TextEncoding(NamedTuple):
    """How a text is written."""

    name: str
    """A codec of Python's."""
    mark: bytes = b""
    """The byte order mark that it begins with."""

    def decode(self, data: bytes) -> str:
        """The text. Raises `ValueError`."""
        return data[len(self.mark) :].decode(self.name)

    def encode(self, text: str) -> bytes:
        """Raises `ValueError` if the encoding lacks a letter."""
        return self.mark + text.encode(self.name)


UTF8 = TextEncoding("utf-8")


def is_utf8(text: str) -> bool:
    """Whether a text or a name can be kept as UTF-8; a file's name in other bytes cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def not_kept(names: Iterable[str]) -> str:
    """Why files of these names cannot be kept; empty if they can."""
    name = next((name for name in names if not is_utf8(name)), None)
    return "" if name is None else f"{name!r} is not a UTF-8 name; such files cannot be committed"


def marked_encoding(data: bytes) -> TextEncoding | None:
    """The encoding that a byte order mark names; None without a mark."""
    return next((TextEncoding(name, mark) for mark, name in _MARKS if data.startswith(mark)), None)


def encoding_of(head: bytes, *, is_whole: bool, guess: bool = True) -> TextEncoding:
    """The encoding of a text that begins with `head`. Raises `ValueError` if it is not text.

    Without `guess`, which takes some 10 ms, only Unicode is known.
    """
    if found := marked_encoding(head):
        return found
    if b"\0" in head:
        raise ValueError("it is not text")
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head, final=is_whole)
    except UnicodeDecodeError:
        if not guess:
            raise
        return TextEncoding(_guessed(head))
    return UTF8


def _guessed(head: bytes) -> str:
    from charset_normalizer import from_bytes

    text = head[:GUESSED_FROM]
    is_latin = _is_latin(text)
    best = from_bytes(text, cp_isolation=list(_OF_LATIN_LETTERS if is_latin else _GUESSED)).best()
    if best is not None:
        return best.encoding
    if not is_latin or _NO_CP1252.search(text):
        raise ValueError("it is not text")
    return "cp1252"


def _is_latin(text: bytes) -> bool:
    """Whether what is not ASCII comes one by one, or in twos as in "größer". Other scripts make words."""
    lengths = Counter(len(run) for run in _BEYOND_ASCII.findall(text))
    return max(lengths) <= 2 and lengths[1] >= lengths[2]
