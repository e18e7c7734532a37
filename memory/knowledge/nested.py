"""Reads a file with the documents within it: those of a ZIP file, and what is attached to an e-mail.

    document, *inner = read_file("mail.eml", data, convert)

Each of them is a document of its own, known by its place in the file. A ZIP file may hold e-mails and ZIP
files in turn, up to `MAX_DEPTH`; all that is within one file together is bounded by `MAX_FILES` and
`MAX_BYTES`. What is not read is named by the document of the file itself.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from memory.knowledge.chunks import Document, DocumentPart
from memory.knowledge.documents import Convert, UnreadableDocument, form_of, read_bytes, shortened, unfit

MAX_DEPTH = 3
MAX_FILES = 1_000
MAX_BYTES = 100 * 2**20

_HOLDS_FILES = ("zip", "mail")

Refused = Callable[[str], str]
"""Says of a place within a file why it is not read; empty if it is."""


@dataclass(frozen=True)
class ReadDocument:
    """A document that was read from a file."""

    place: str
    """Within the file, as `letters/may.eml/lease.pdf`; empty for the file itself."""
    digest: str
    """SHA-256 of its bytes."""
    size: int
    document: Document


def read_file(
    name: str, data: bytes, convert: Convert, media: str = "", refused: Refused = lambda _: ""
) -> list[ReadDocument]:
    """The document of the file, and then those within it. Raises `UnreadableDocument`."""
    reading = _Reading(convert, refused)
    (own, *inner) = reading.read("", name, data, media)
    unread = shortened([*own.document.unread, *reading.unread])
    return [replace(own, document=replace(own.document, unread=unread)), *inner]


class _Reading:
    """Of one file, with what may still be read of it."""

    def __init__(self, convert: Convert, refused: Refused) -> None:
        self.unread: list[str] = []
        self._convert = convert
        self._refused = refused
        self._files_left = MAX_FILES
        self._bytes_left = MAX_BYTES

    def read(
        self, place: str, name: str, data: bytes, media: str = "", depth: int = 0
    ) -> Iterator[ReadDocument]:
        form = form_of(name, data, media)
        if depth > MAX_DEPTH and form in _HOLDS_FILES:
            raise UnreadableDocument(f"it is more than {MAX_DEPTH} files deep")
        files = self._files(place, data, form) if form in _HOLDS_FILES else []
        listed = "\n".join(["Files in it:", *(f"- {file}" for file, _ in files)])
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
        for file, content in files:
            inner = f"{place}/{file}" if place else file
            try:
                if why := self._refused(inner) or unfit(file, content):
                    raise UnreadableDocument(why)
                yield from self.read(inner, file, content, depth=depth + 1)
            except UnreadableDocument as exc:
                self.unread.append(f"{inner} ({exc})")

    def _files(self, place: str, data: bytes, form: str) -> list[tuple[str, bytes]]:
        """Names and contents of the files within a file. Names are unique and stay below it."""
        files, unread = self._convert.files(data, form, self._files_left, self._bytes_left)
        seen, found = Counter[str](), []
        for name, content in files:
            if not _stays(name):
                unread.append(f"{name} (its name leads out)")
                continue
            self._files_left -= 1
            self._bytes_left -= len(content)
            seen[name] += 1
            path = PurePosixPath(name)
            again = str(path.with_name(f"{path.stem}-{seen[name]}{path.suffix}"))
            found.append((str(path) if seen[name] == 1 else again, content))
        self.unread += [f"{place}/{why}" if place else why for why in unread]
        return found


def _stays(name: str) -> bool:
    """Whether a name leads to a place below the file that has it, in any system."""
    parts = name.replace("\\", "/").split("/")
    return bool(parts[-1]) and not {"", ".", ".."} & set(parts) and ":" not in parts[0] and name.isprintable()
