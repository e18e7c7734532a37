"""From the bytes of a file to the document that it is: which form it has, its letters, its title.

Text is read here. What needs a parser that a hostile file could turn against its host (HTML, PDF, Office
files, Python) is handed to `convert`, which is given bytes and a form and does the work where it can do no
harm; it raises `Unreadable` or gives what `formats.read_document` gives. Python without it is read as code.

What is not covered: where the bytes are from; old encodings of Central Europe, of Arabic and of Hebrew.
"""

import codecs
import re
from collections.abc import Callable, Mapping
from pathlib import PurePosixPath
from typing import Any

from memory.blocks import Span
from memory.chunks import Document, Form, Part

MAX_BYTES = 50 * 2**20
MAX_TEXT_BYTES = 5 * 2**20

Convert = Callable[[bytes, str], Mapping[str, Any]]
"""Bytes and the form that `formats.read_document` is told, to what is in them."""

_FORMS = {
    **dict.fromkeys((".md", ".markdown", ".mdx", ".qmd", ".rmd"), "markdown"),
    **dict.fromkeys((".html", ".htm", ".xhtml"), "html"),
    **dict.fromkeys((".py", ".pyi"), "python"),
    **dict.fromkeys((".csv", ".tsv"), "table"),
    **dict.fromkeys((".txt", ".text", ".rst", ".adoc", ".org", ".tex", ".log", ".srt", ".eml"), "text"),
    **{f".{form}": form for form in ("pdf", "docx", "xlsx", "pptx")},
    **{".docm": "docx", ".xlsm": "xlsx", ".pptm": "pptx"},
}
_MEDIA = {
    "text/html": "html",
    "application/xhtml+xml": "html",
    "application/pdf": "pdf",
    "text/markdown": "markdown",
    "text/csv": "table",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": "docx",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": "xlsx",
    "application/vnd.openxmlformats-officedocument.presentationml.presentation": "pptx",
}
_OLD = {".doc": ".docx", ".xls": ".xlsx", ".ppt": ".pptx"}
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# Those that are still met; among all there are it would often guess one that nobody uses.
_ENCODINGS = (
    *("cp1252", "cp1251", "cp1253", "cp1254", "koi8_r"),
    *("shift_jis", "euc_jp", "gb18030", "big5", "euc_kr"),
)
_GUESSED_FROM = 64 * 1024
_HEADING = re.compile(r"^#[ \t]+(.+?)[ \t#]*$", re.MULTILINE)


class Unreadable(Exception):
    """This file cannot be read; the message says why, in a few words."""


def read_bytes(name: str, data: bytes, convert: Convert, media: str = "") -> Document:
    """The document that a file of this name, or a page of this media type, is. Raises `Unreadable`."""
    form = form_of(name, data, media)
    if form in ("html", "pdf", "docx", "xlsx", "pptx"):
        return _converted(convert(data, form), name)
    if len(data) > MAX_TEXT_BYTES:
        raise Unreadable(f"it is text of more than {MAX_TEXT_BYTES // 2**20} MB")
    text = _decoded(data)
    if not text.strip():
        raise Unreadable("it is empty")
    title, spans = PurePosixPath(name).name or name, tuple[Span, ...]()
    if form == "markdown" and (heading := _HEADING.search(text)):
        title = heading[1]
    if form == "python":
        spans = _spans(data, convert)
    return Document(title, _text_form(form), (Part(text),), spans)


def form_of(name: str, data: bytes, media: str = "") -> str:
    """One of the forms that are read. Raises `Unreadable` for what is known not to be."""
    suffix = PurePosixPath(name.lower()).suffix
    if suffix in _OLD:
        raise Unreadable(f"it is an old Office file; save it as {_OLD[suffix]}")
    if data.startswith(b"%PDF-"):
        return "pdf"
    by_media = _MEDIA.get(media.partition(";")[0].strip().lower())
    return by_media or _FORMS.get(suffix) or ("text" if media.startswith("text/plain") else "code")


def _text_form(form: str) -> Form:
    return form if form in ("markdown", "python", "table", "text") else "code"  # type: ignore[return-value]


def _converted(found: Mapping[str, Any], name: str) -> Document:
    """What was converted, which is foreign: it is taken as far as it has the form that it should have."""
    rows = found.get("parts")
    parts = [
        Part(
            text=_valid(row["text"]),
            page=page if isinstance(page := row.get("page"), int) and page > 0 else None,
            name=_valid(str(row.get("name") or ""))[:200],
        )
        for row in (rows if isinstance(rows, list) else [])
        if isinstance(row, dict) and isinstance(row.get("text"), str)
    ]
    if not parts:
        raise Unreadable("it holds no text")
    title = " ".join(_valid(str(found.get("title") or "")).split())[:200]
    if not title and (heading := _HEADING.search(parts[0].text)):
        title = heading[1]
    return Document(title or PurePosixPath(name).name or name, "markdown", tuple(parts), numbered=False)


def _spans(data: bytes, convert: Convert) -> tuple[Span, ...]:
    """The functions and classes of Python; none where it cannot be parsed."""
    try:
        rows = convert(data, "python").get("spans")
    except Unreadable:
        return ()
    found = []
    for row in rows if isinstance(rows, list) else []:
        match row:
            case [int() as first, int() as last, [*names]] if 0 < first <= last:
                found.append(Span(first, last, tuple(_valid(str(name)) for name in names)))
    return tuple(found)


def _decoded(data: bytes) -> str:
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            return _as(data, encoding)
    if b"\0" in data:
        raise Unreadable("it is no text")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return _guessed(data)


def _guessed(data: bytes) -> str:
    from charset_normalizer import from_bytes

    best = from_bytes(data[:_GUESSED_FROM], cp_isolation=list(_ENCODINGS)).best()
    if best is None:
        raise Unreadable("it is no text")
    return _as(data, best.encoding)


def _as(data: bytes, encoding: str) -> str:
    try:
        return data.decode(encoding)
    except (UnicodeDecodeError, LookupError):
        raise Unreadable(f"it is no text in {encoding}") from None


def _valid(text: str) -> str:
    return text.encode("utf-8", "replace").decode("utf-8").replace("\0", "")
