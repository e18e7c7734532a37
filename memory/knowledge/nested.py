"""Reads a file with the documents within it: those of a ZIP file, and what is attached to an e-mail.

    document, *inner = read_file("mail.eml", data, convert)

Each of them is a document of its own, known by its place in the file. Two never have one place: a name that
is there again gets a number. What is protected is so by the name that it has in the file, with each folder of
it, whatever its place is called. A ZIP file may hold e-mails and ZIP files in turn, up to `MAX_DEPTH`; all
that is within one file together is bounded by `MAX_FILES`, `MAX_BYTES` and `MAX_SECONDS`. What is not read is
named by the document of the file itself.
"""

import functools
import hashlib
import itertools
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from memory.knowledge.chunks import Document, DocumentPart
from memory.knowledge.documents import Convert, UnreadableDocument, form_of, read_bytes, shortened, unfit

MAX_DEPTH = 3
MAX_FILES = 1_000
MAX_BYTES = 100 * 2**20
MAX_SECONDS = 600
"""After this, nothing more is begun."""
MAX_FOLDERS = 30
"""Of the name of a file within one file."""

_HOLDS_FILES = ("zip", "mail")

Refused = Callable[[str], str]
"""Says of a file or folder within a file why it is not read; empty if it is."""


@dataclass(frozen=True)
class ReadDocument:
    """A document that was read from a file."""

    place: str
    """Within the file, as `letters/may.eml/lease.pdf`; empty for the file itself."""
    digest: str
    """SHA-256 of its bytes."""
    size: int
    document: Document


@dataclass(frozen=True)
class _InnerFile:
    name: str
    """Within the file that holds it; no other has it."""
    own: str
    """Its name as the file that holds it has it."""
    content: bytes


def read_file(
    name: str,
    data: bytes,
    convert: Convert,
    media: str = "",
    refused: Refused = lambda _: "",
    clock: Callable[[], float] = time.monotonic,
) -> list[ReadDocument]:
    """The document of the file, and then those within it. Raises `UnreadableDocument`."""
    reading = _Reading(convert, refused, clock)
    (own, *inner) = reading.read("", "", name, data, media)
    unread = shortened([*own.document.unread, *reading.unread])
    return [replace(own, document=replace(own.document, unread=unread)), *inner]


class _Reading:
    """Of one file, with what may still be read of it."""

    def __init__(self, convert: Convert, refused: Refused, clock: Callable[[], float]) -> None:
        self.unread: list[str] = []
        self._convert = convert
        self._refused = functools.cache(refused)
        self._clock = clock
        self._ends = clock() + MAX_SECONDS
        self._files_left = MAX_FILES
        self._bytes_left = MAX_BYTES
        self._taken: set[str] = set()
        """The places of all files so far."""

    def read(
        self, place: str, own: str, name: str, data: bytes, media: str = "", depth: int = 0
    ) -> Iterator[ReadDocument]:
        form = form_of(name, data, media)
        if depth > MAX_DEPTH and form in _HOLDS_FILES:
            raise UnreadableDocument(f"it is more than {MAX_DEPTH} files deep")
        files = self._files(place, own, data, form) if form in _HOLDS_FILES else []
        listed = "\n".join(["Files in it:", *(f"- {file.name}" for file in files)])
        parts = [DocumentPart(listed)] if files else []
        if form == "zip" and not files and not self.unread:
            raise UnreadableDocument("it holds no file")
        if form == "zip":
            title = PurePosixPath(name).name or name
            document = Document(title, "markdown", tuple(parts), numbered=False)
        else:
            document = read_bytes(name, data, self._convert, media)
            document = replace(document, parts=(*document.parts, *parts))
        yield ReadDocument(place, hashlib.sha256(data).hexdigest(), len(data), document)
        for file in files:
            inner = _joined(place, file.name)
            try:
                if self._clock() > self._ends:
                    raise UnreadableDocument("the files before it take too long")
                if why := unfit(file.name, file.content):
                    raise UnreadableDocument(why)
                yield from self.read(inner, _joined(own, file.own), file.name, file.content, depth=depth + 1)
            except UnreadableDocument as exc:
                self.unread.append(f"{inner} ({exc})")

    def _files(self, place: str, own: str, data: bytes, form: str) -> list[_InnerFile]:
        """The files within a file that may be read. They stay below it."""
        files, unread = self._convert.files(data, form, self._files_left, self._bytes_left)
        self._files_left -= len(files)
        self._bytes_left -= sum(len(content) for _, content in files)
        kept = list[_InnerFile]()
        for called, content in files:
            # The parts of an e-mail are in no folders, whatever their names say.
            name = called.replace("/", "_") if form == "mail" else called
            parts = [part for part in called.split("/") if part not in ("", ".", "..")]
            if why := _strays(name) or self._why_refused(own, parts):
                unread.append(f"{name} ({why})")
                continue
            kept.append(_InnerFile(name, "/".join(parts), content))
        self.unread += [_joined(place, why) for why in unread]
        names = self._free(place, [file.name for file in kept])
        return [replace(file, name=name) for file, name in zip(kept, names, strict=True)]

    def _why_refused(self, own: str, parts: list[str]) -> str:
        """Why a file is not read, for its own name or for that of a folder of it."""
        if len(parts) > MAX_FOLDERS:
            return "it is in too many folders"
        places = (_joined(own, part) for part in itertools.accumulate(parts, _joined))
        return next(filter(None, map(self._refused, places)), "")

    def _free(self, place: str, names: list[str]) -> list[str]:
        """The names, each with a number if the place is another's. The first one that has a name keeps it."""
        found, again = dict[int, str](), Counter[str]()
        for number, name in enumerate(names):
            if (inner := _joined(place, name)) not in self._taken:
                self._taken.add(inner)
                found[number] = name
        for number, name in enumerate(names):
            path = PurePosixPath(name)
            while number not in found:
                again[name] += 1
                other = str(path.with_name(f"{path.stem}-{again[name] + 1}{path.suffix}"))
                if (inner := _joined(place, other)) not in self._taken:
                    self._taken.add(inner)
                    found[number] = other
        return [found[number] for number in range(len(names))]


def _joined(place: str, name: str) -> str:
    return f"{place}/{name}" if place else name


def _strays(name: str) -> str:
    """Why a name leads to no place below the file that has it, in some system; empty if it does in all."""
    parts = name.replace("\\", "/").split("/")
    stays = bool(parts[-1]) and not {"", ".", ".."} & set(parts) and ":" not in parts[0]
    return "" if stays and name.isprintable() else "its name leads out"
