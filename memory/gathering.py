"""From folders, files and addresses to documents in a knowledge base: what is new, changed, gone, or no good.

    gathering = Gathering(base, scope, convert=…, fetch=…)
    outcome = gathering.add(["/notes", "https://example.org/a"])
    outcome = gathering.refresh()

A file is read each time and known by the hash of its bytes; one that is unchanged is not converted again. A
file that cannot be read is named with the reason, and the others are read all the same; one that could be
read before keeps what it said then. What was read is written in batches, also when the work is interrupted:
only what was under way is lost.

A folder that is not there as a whole may lie on a disk that is not mounted: its documents are kept, and that
is told. Of a folder that is there, what is gone from it is taken out, but not what lay in a folder below that
cannot be listed now. A page that cannot be fetched is kept.

What is not covered: following the links of a page; several gatherings of the same documents at once, of which
the later one wins.
"""

import hashlib
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from memory.documents import MAX_BYTES, Convert, Unreadable, read_bytes
from memory.knowledge import Filed, KnowledgeBase, Known, Named, Type
from memory.records import Scope
from memory.walk import is_file, is_folder, walk

BATCH_DOCUMENTS = 200
BATCH_BYTES = 8 * 2**20


@dataclass(frozen=True)
class Page:
    """What an address gave."""

    data: bytes
    media: str


Fetch = Callable[[str], Page]
"""An address to what is there. Raises `Unreadable`."""


@dataclass
class Outcome:
    """What became of each document, by its ref."""

    added: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)
    """Files of a folder that are not for reading, with the reason."""
    faults: list[tuple[str, str]] = field(default_factory=list)
    """What was to be read and could not be, with the reason."""
    written: int = 0
    """Pieces."""
    deleted: int = 0


@dataclass(frozen=True)
class _Item:
    """One document to be looked at; one that was `named` itself has to be readable."""

    ref: str
    type: Type
    named: bool


class Gathering:
    """Reads documents into `base`, where they belong to `scope`.

    `refused` says which files and folders are never read. `told` is called with each document before it is
    read, and with how many there are.
    """

    def __init__(
        self,
        base: KnowledgeBase,
        scope: Scope,
        *,
        convert: Convert,
        fetch: Fetch,
        refused: Callable[[Path], bool] = lambda _: False,
        told: Callable[[str, int], None] = lambda _ref, _of: None,
    ) -> None:
        self._base = base
        self._scope = scope
        self._convert = convert
        self._fetch = fetch
        self._refused = refused
        self._told = told
        self.outcome = Outcome()
        """As far as the work has come."""
        self._there: dict[str, set[str]] = {}
        """The files of each folder that could be listed."""
        self._shut: set[str] = set()
        """Folders below them that could not."""
        self._known: dict[str, Known] = {}
        """The documents of the scope before anything was read."""

    def add(self, wanted: Iterable[str]) -> Outcome:
        """Read what is named: paths, and addresses that begin with http:// or https://."""
        known = {one.ref: one for one in self._base.sources() if one.scope == self._scope}
        sources: list[Named] = []
        new: list[Named] = []
        for name in dict.fromkeys(wanted):
            one = self._named(name)
            if fault := self._unfit(name, one):
                self.outcome.faults.append((name if "://" in name else one.ref, fault))
                continue
            sources.append(known.get(one.ref, one))
            # A document that was taken out of a folder, and is named now, comes back by itself.
            if not any(other.holds(one.ref) for other in known.values()):
                new.append(one)
        self._base.name(one for one in new if one.type == "folder")
        try:
            self._read(sources)
        finally:
            read = {*self.outcome.added, *self.outcome.changed, *self.outcome.unchanged}
            self._base.name(one for one in new if one.ref in read)
        return self.outcome

    def refresh(self) -> Outcome:
        """Look at all sources of the scope again."""
        sources = [one for one in self._base.sources() if one.scope == self._scope]
        self._read(sources)
        self._forget_gone(sources)
        return self.outcome

    def _named(self, wanted: str) -> Named:
        if wanted.startswith(("http://", "https://")):
            return Named(wanted, "web", self._scope)
        path = Path(wanted).expanduser().resolve()
        return Named(str(path), "file" if is_file(path) else "folder", self._scope)

    def _unfit(self, wanted: str, named: Named) -> str:
        """Why there is nothing to be read by that name; empty where there is."""
        if named.type != "folder":
            return ""
        if is_folder(Path(named.ref)):
            return _PROTECTED if self._refused(Path(named.ref)) else ""
        if "://" in wanted:
            return "only addresses that begin with http:// or https:// are read"
        return _why_not_there(Path(named.ref))

    # --- reading

    def _read(self, sources: Sequence[Named]) -> None:
        self._known = {one.ref: one for one in self._base.documents() if one.scope == self._scope}
        items = {item.ref: item for source in sources for item in self._items_of(source)}
        batch: list[Filed] = []
        try:
            for item in items.values():
                self._told(item.ref, len(items))
                filed = self._filed(item, self._known.get(item.ref))
                if filed is not None:
                    batch.append(filed)
                if len(batch) >= BATCH_DOCUMENTS or sum(one.size for one in batch) >= BATCH_BYTES:
                    self._put(batch)
        finally:
            self._put(batch)

    def _items_of(self, source: Named) -> list[_Item]:
        if source.type != "folder":
            return [_Item(source.ref, source.type, named=True)]
        try:
            items = list(self._below(source))
        except OSError as exc:
            self.outcome.faults.append((source.ref, f"it cannot be listed: {exc.strerror}"))
            return []
        self._there[source.ref] = {item.ref for item in items}
        return items

    def _below(self, folder: Named) -> Iterator[_Item]:
        for found in walk(Path(folder.ref), self._refused):
            ref = str(found.path)
            if not folder.holds(ref):
                continue
            if found.shut:
                self._shut.add(ref)
                self.outcome.faults.append((ref, f"it cannot be listed: {found.shut}"))
            elif found.left_out:
                self.outcome.skipped.append((ref, found.left_out))
            else:
                yield _Item(ref, "file", named=False)

    def _filed(self, item: _Item, known: Known | None) -> Filed | None:
        """The document as it is now; None where it is unchanged or cannot be read."""
        try:
            page = self._fetch(item.ref) if item.type == "web" else Page(self._bytes(item, known), "")
            digest = hashlib.sha256(page.data).hexdigest()
            if known is not None and known.is_same(digest):
                self.outcome.unchanged.append(item.ref)
                return None
            document = read_bytes(_name(item), page.data, self._convert, page.media)
            return Filed(item.ref, item.type, digest, len(page.data), document)
        except _NotForReading as exc:
            self.outcome.skipped.append((item.ref, str(exc)))
        except Unreadable as exc:
            self.outcome.faults.append((item.ref, str(exc)))
        return None

    def _bytes(self, item: _Item, known: Known | None) -> bytes:
        path, wanted = Path(item.ref), item.named or known is not None
        if item.named and self._refused(path):
            raise Unreadable(_PROTECTED)
        try:
            data = _regular(path)
        except OSError as exc:
            raise Unreadable(f"it cannot be read: {exc.strerror}") from None
        fault = ""
        if len(data) > MAX_BYTES:
            fault = f"it is larger than {MAX_BYTES // 2**20} MB"
        elif _is_binary(path, data):
            fault = "it is no text, and of no form that is read"
        elif not data.strip():
            fault = "it is empty"
        if fault:
            raise Unreadable(fault) if wanted else _NotForReading(fault)
        return data

    def _put(self, batch: list[Filed]) -> None:
        if not batch:
            return
        written, deleted = self._base.put(batch, self._scope)
        self.outcome.written += written
        self.outcome.deleted += deleted
        for one in batch:
            (self.outcome.changed if one.ref in self._known else self.outcome.added).append(one.ref)
        batch.clear()

    # --- what is gone

    def _forget_gone(self, sources: Sequence[Named]) -> None:
        """Take out documents whose file is not there, or does not belong to any source any more."""
        gone = []
        for known in self._known.values():
            if known.type == "web":
                continue
            homes = [source for source in sources if source.holds(known.ref)]
            if not any(self._keeps(source, known.ref) for source in homes):
                gone.append(known)
        lost = {known.ref for known in gone}
        files = [source for source in sources if source.type == "file" and source.ref in lost]
        if gone:
            self.outcome.deleted += self._base.take_out(gone, files)
            self.outcome.removed += [known.ref for known in gone]
            self.outcome.faults = [row for row in self.outcome.faults if row[0] not in lost]

    def _keeps(self, source: Named, ref: str) -> bool:
        """Whether a source still has the document, or cannot be asked."""
        if source.type == "folder":
            there = self._there.get(source.ref)
            return there is None or ref in there or any(ref.startswith(f"{shut}/") for shut in self._shut)
        return not _is_gone(Path(source.ref))


_PROTECTED = "it is protected: it may hold secrets, or is orch's own"


def _name(item: _Item) -> str:
    """What tells the form of a document; of an address, its last part without what is asked of it."""
    return urlsplit(item.ref).path.rpartition("/")[2] or item.ref if item.type == "web" else item.ref


def _why_not_there(path: Path) -> str:
    try:
        path.stat()
    except PermissionError as exc:
        return f"it cannot be read: {exc.strerror}"
    except OSError:
        return "it is not there"
    return "it is neither a file nor a folder"


def _is_gone(path: Path) -> bool:
    """Whether a file is not there, in a folder that is; where that cannot be told, it may still be."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return is_folder(path.parent)
    except OSError:
        return False
    return False


class _NotForReading(Exception):
    """A file of a folder that is left out; the message says why."""


_BINARY_BUT_READ = (".pdf", ".docx", ".docm", ".xlsx", ".xlsm", ".pptx", ".pptm")


def _is_binary(path: Path, data: bytes) -> bool:
    if path.suffix.lower() in _BINARY_BUT_READ or data.startswith((b"%PDF-", b"\xff\xfe", b"\xfe\xff")):
        return False
    return b"\0" in data[:8192]


def _regular(path: Path) -> bytes:
    """The bytes of a file, one more than is read at most. A pipe that somebody planted does not hang us."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise Unreadable("it is no file")
        return file.read(MAX_BYTES + 1)
