"""Lists the files below a folder that a knowledge base reads, and turns the bytes of one into a document.

Listed are files that are not hidden and not ignored by `.gitignore` (see `ignore_rules`). Links are not
followed.

A document's form and encoding are detected, and its title found. Plain text is read here. Forms whose parsers
a hostile file could exploit (HTML, PDF, Office files, e-mail, Python) go to `convert`, which works in a
sandbox: it takes bytes and a form, and returns what `formats.read_document` returns or raises
`UnreadableDocument`. Python that cannot be converted is read as plain code.

What is not covered: fetching the bytes; legacy encodings of Central Europe, Arabic and Hebrew.
"""

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath, PurePosixPath
from typing import Any, Protocol

from memory.knowledge.chunks import MAX_HEADING, Document, DocumentPart, Span
from orchestrator_cli.durable.encodings import encoding_of
from orchestrator_cli.durable.ignore_rules import IgnoreRules


@dataclass(frozen=True)
class WalkEntry:
    """A file to read, a file to skip, or a folder that cannot be listed."""

    path: Path
    skip_reason: str = ""
    """Why the file is skipped; empty if it is to be read."""
    list_error: str = ""
    """Why the folder cannot be listed; empty for a file."""


def walk(root: Path, refused: Callable[[Path], bool] = lambda _: False) -> Iterator[WalkEntry]:
    """Yield the files below the folder `root`, sorted by path.

    `refused` says which files and folders are never read. Hidden and ignored files are skipped silently; a
    subfolder that cannot be listed is yielded with the reason, and so is a `.gitignore` that is not obeyed.
    Raises `OSError` if `root` itself cannot be listed.
    """
    os.scandir(root).close()
    rules, errors = IgnoreRules(root), list[OSError]()
    for parent, folders, names in os.walk(root, onerror=errors.append):
        rules.enter(Path(parent))
        folders[:] = sorted(
            name
            for name in folders
            if _is_visible(path := Path(parent, name), refused) and not rules.ignore(str(path), True)
        )
        for name in sorted(names):
            path = Path(parent, name)
            if not _is_visible(path, refused) or rules.ignore(str(path), False):
                continue
            if (entry := _file_entry(path)) is not None:
                yield entry
    yield from (WalkEntry(path, why) for path, why in rules.faults)
    yield from (
        WalkEntry(Path(exc.filename), list_error=exc.strerror or "it cannot be listed") for exc in errors
    )


def _file_entry(path: Path) -> WalkEntry | None:
    try:
        if path.is_symlink():
            return WalkEntry(path, "it is a symbolic link: links are not followed")
        return WalkEntry(path) if path.is_file() else None
    except OSError:
        # The folder can be listed but not entered; the error appears when the file is read.
        return WalkEntry(path)


is_file, is_folder = os.path.isfile, os.path.isdir
"""Unlike the methods of `Path`, these give False if access is denied."""


def _is_visible(path: Path, refused: Callable[[Path], bool]) -> bool:
    return not path.name.startswith(".") and not refused(path)


MAX_BYTES = 50 * 2**20
MAX_UNREAD = 50
"""What of a document was not read is named in so many lines."""
_BINARY_BUT_READ = (
    *(".pdf", ".docx", ".docm", ".xlsx", ".xlsm", ".pptx", ".pptm"),
    *(".epub", ".rtf", ".eml", ".zip"),
)


class Convert(Protocol):
    """Reads foreign files in a sandbox. Raises `UnreadableDocument`."""

    def __call__(self, data: bytes, form: str) -> Mapping[str, Any]:
        """What `formats.read_document` returns for a file, with all its parts."""

    def files(
        self, data: bytes, form: str, most_files: int, most_bytes: int
    ) -> tuple[list[tuple[str, bytes]], list[str]]:
        """Names and contents of the files within a file (see `containers`), and those not read, with why."""


_FORMS = {
    **dict.fromkeys((".md", ".markdown", ".mdx", ".qmd", ".rmd"), "markdown"),
    **dict.fromkeys((".html", ".htm", ".xhtml"), "html"),
    **dict.fromkeys((".py", ".pyi"), "python"),
    **dict.fromkeys((".csv", ".tsv"), "table"),
    **dict.fromkeys((".txt", ".text", ".rst", ".adoc", ".org", ".tex", ".log", ".srt"), "text"),
    **{f".{form}": form for form in ("pdf", "docx", "xlsx", "pptx", "epub", "rtf")},
    **{".docm": "docx", ".xlsm": "xlsx", ".pptm": "pptx"},
    **{".ipynb": "notebook", ".eml": "mail", ".zip": "zip"},
}
_FOR_BROWSERS = (".js", ".mjs", ".cjs", ".css")
LONG_LINE = 200
"""Bytes. Code for browsers whose lines are longer on average was not written by hand."""
MINIFIED = "it is minified code"
_MEDIA = {
    "text/html": "html",
    "application/xhtml+xml": "html",
    "application/pdf": "pdf",
    "text/markdown": "markdown",
    "text/csv": "table",
    "text/rtf": "rtf",
    "application/rtf": "rtf",
    "application/epub+zip": "epub",
    "application/x-ipynb+json": "notebook",
    "message/rfc822": "mail",
    "application/zip": "zip",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": "docx",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": "xlsx",
    "application/vnd.openxmlformats-officedocument.presentationml.presentation": "pptx",
}
CONVERTED = ("html", "pdf", "docx", "xlsx", "pptx", "epub", "rtf", "notebook", "mail")
"""Forms that become Markdown in a sandbox."""
_STARTS = {b"%PDF-": "pdf", b"{\\rtf": "rtf"}
_OLD = {".doc": ".docx", ".xls": ".xlsx", ".ppt": ".pptx"}
_HEADING = re.compile(r"^#[ \t]++(.*)$", re.MULTILINE)


class UnreadableDocument(Exception):
    """The document cannot be read; the message says why, in a few words."""


def read_bytes(name: str, data: bytes, convert: Convert, media: str = "") -> Document:
    """Read a document, given its file name or the media type of a web page. Raises `UnreadableDocument`.

    Files within the file are for `nested`.
    """
    form = form_of(name, data, media)
    if form in CONVERTED:
        return _converted(convert(data, form), name)
    text = _decoded(data)
    if not text.strip():
        raise UnreadableDocument("it is empty")
    title, spans = PurePosixPath(name).name or name, tuple[Span, ...]()
    if form == "markdown":
        title = _first_heading(text) or title
    if form == "python":
        spans = _spans(data, convert)
    known = form if form in ("markdown", "python", "table", "text") else "code"
    return Document(title, known, (DocumentPart(text),), spans)  # type: ignore[arg-type]


def form_of(name: str, data: bytes, media: str = "") -> str:
    """The form of a document. Raises `UnreadableDocument` for forms that are known not to be readable."""
    suffix = PurePosixPath(name.lower()).suffix
    if suffix in _OLD:
        raise UnreadableDocument(f"it is an old Office file; save it as {_OLD[suffix]}")
    for start, form in _STARTS.items():
        if data.startswith(start):
            return form
    by_media = _MEDIA.get(media.partition(";")[0].strip().lower())
    if by_media == "zip":  # as servers say of Office files, too
        by_media = None if suffix in _FORMS else by_media
    return by_media or _FORMS.get(suffix) or ("text" if media.startswith("text/plain") else "code")


def _converted(reply: Mapping[str, Any], name: str) -> Document:
    """The document from the converter's reply. The reply is untrusted: parts of the wrong shape are
    dropped."""
    rows = reply.get("parts")
    parts = [
        DocumentPart(
            text=_valid(row["text"]),
            page=page if isinstance(page := row.get("page"), int) and page > 0 else None,
            name=_valid(str(row.get("name") or ""))[:200],
        )
        for row in (rows if isinstance(rows, list) else [])
        if isinstance(row, dict) and isinstance(row.get("text"), str)
    ]
    if not parts:
        raise UnreadableDocument("it holds no text")
    title = " ".join(_valid(str(reply.get("title") or "")).split())[:200]
    title = title or _first_heading(parts[0].text) or PurePosixPath(name).name or name
    return Document(title, "markdown", tuple(parts), numbered=False, unread=_lines(reply.get("unread")))


def _lines(found: object) -> tuple[str, ...]:
    """What a converter says of what it did not read. It names parts of the file, so it is foreign."""
    rows = found if isinstance(found, list) else []
    return shortened([" ".join(_valid(str(row)).split())[:MAX_HEADING] for row in rows])


def shortened(unread: Sequence[str]) -> tuple[str, ...]:
    """What was not read of a document, the first ones named and the others counted."""
    more = [f"{len(unread) - MAX_UNREAD:,} more"] if len(unread) > MAX_UNREAD else []
    return (*unread[:MAX_UNREAD], *more)


def unfit(name: str, data: bytes, *, is_named: bool = False) -> str:
    """Why a file is not meant to be read; empty if it is. `is_named`: the user named this very file."""
    if len(data) > MAX_BYTES:
        return f"it is larger than {MAX_BYTES // 2**20} MB"
    if _is_binary(PurePosixPath(name), data):
        return "it is neither text nor a supported format"
    if not data.strip():
        return "it is empty"
    return MINIFIED if not is_named and _is_minified(PurePosixPath(name.lower()), data) else ""


def _is_minified(path: PurePath, data: bytes) -> bool:
    """Whether it is code for browsers that was made from other code, which is the one to read."""
    if path.suffix == ".map":
        return path.stem.endswith(_FOR_BROWSERS)
    has_long_lines = len(data) > LONG_LINE * (data.count(b"\n") + 10)
    return path.suffix in _FOR_BROWSERS and (".min" in path.suffixes or has_long_lines)


def _is_binary(path: PurePath, data: bytes) -> bool:
    if path.suffix.lower() in _BINARY_BUT_READ or data.startswith((b"%PDF-", b"\xff\xfe", b"\xfe\xff")):
        return False
    return b"\0" in data[:8192]


def _first_heading(text: str) -> str:
    """The first heading of Markdown that says something; empty if there is none."""
    titles = (heading[1].rstrip(" \t#") for heading in _HEADING.finditer(text))
    return next(filter(None, titles), "")[:MAX_HEADING]


def _spans(data: bytes, convert: Convert) -> tuple[Span, ...]:
    """The functions and classes of Python code; none if it cannot be parsed."""
    try:
        rows = convert(data, "python").get("spans")
    except UnreadableDocument:
        return ()
    spans = []
    for row in rows if isinstance(rows, list) else []:
        match row:
            case [int() as first, int() as last, [*names]] if 0 < first <= last:
                spans.append(Span(first, last, tuple(_valid(str(name)) for name in names)))
    return tuple(spans)


def _decoded(data: bytes) -> str:
    try:
        encoding = encoding_of(data, is_whole=True)
    except ValueError as exc:
        raise UnreadableDocument(str(exc)) from None
    try:
        return encoding.decode(data)
    except ValueError:
        raise UnreadableDocument(f"it is not text in {encoding.name}") from None


def _valid(text: str) -> str:
    return text.encode("utf-8", "replace").decode("utf-8").replace("\0", "")
