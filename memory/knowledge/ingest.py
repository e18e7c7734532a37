"""Reads folders, files and web pages into a knowledge base; finds what is new, changed, gone or unreadable.

    ingester = Ingester(base, scope, convert=…, fetch=…)
    report = ingester.add(["/notes", "https://example.org/a"])
    report = ingester.refresh()

Every file is read each time and recognised by the hash of its bytes; an unchanged file is not converted
again. A file that cannot be read is reported with the reason and does not stop the others; if it was readable
before, its old text stays. Documents are written in batches, also when the work is interrupted: only the
document in progress is lost.

A folder that is missing entirely may be on a disk that is not mounted: its documents stay, and it is
reported. If the folder is there, documents whose files are gone are removed, except below a subfolder that
cannot be listed. A page that cannot be fetched stays.

What is not covered: following links on pages; several ingesters on the same documents at once (the last one
wins).
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import urlsplit

from memory.knowledge.base import (
    KnowledgeBase,
    KnowledgeSource,
    NewDocument,
    SourceType,
    StoredDocument,
    inner_ref,
)
from memory.knowledge.documents import (
    MAX_BYTES,
    MINIFIED,
    Convert,
    UnreadableDocument,
    is_file,
    is_folder,
    unfit,
    walk,
)
from memory.knowledge.nested import read_file
from memory.records import Scope
from orchestrator_cli.durable.files import read_stored
from orchestrator_cli.durable.held_folder import mark_of
from orchestrator_cli.durable.ignore_rules import IGNORE_FILE

BATCH_DOCUMENTS = 200
BATCH_BYTES = 8 * 2**20

PROTECTED = "it is protected: it may hold secrets, or is orch's own"


@dataclass(frozen=True)
class FetchedPage:
    data: bytes
    media: str
    """The media type; empty if unknown."""


Fetch = Callable[[str], FetchedPage]
"""Fetches an address. Raises `UnreadableDocument`."""


@dataclass
class IngestReport:
    """What happened to each document, by its ref."""

    added: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)
    """Files of a folder that are not meant to be read, with the reason."""
    faults: list[tuple[str, str]] = field(default_factory=list)
    """Documents that should have been read and could not be, with the reason."""
    partly: list[tuple[str, str]] = field(default_factory=list)
    """What of documents in the knowledge base could not be read."""
    written: int = 0
    """Chunks written."""
    deleted: int = 0
    """Chunks deleted."""

    @property
    def current(self) -> list[str]:
        """The documents that are now in the knowledge base as they are in their files."""
        return [*self.added, *self.changed, *self.unchanged]


@dataclass(frozen=True)
class _Item:
    """A document to read."""

    source: KnowledgeSource
    ref: str
    type: SourceType
    named: bool
    """Whether the user named it; then it is a fault if it cannot be read."""


class Ingester:
    """Reads documents into `base`, for `scope`.

    `refused` says which files and folders are never read, and `way_out` why a name that leads elsewhere is
    not followed; empty if it is. `on_document` is called before each document is read, with its ref, the
    number of documents and 0.0, and while a long one is stored, with the share that is done.
    """

    def __init__(
        self,
        base: KnowledgeBase,
        scope: Scope,
        *,
        convert: Convert,
        fetch: Fetch,
        refused: Callable[[Path], bool] = lambda _: False,
        way_out: Callable[[Path], str] = lambda _: "",
        on_document: Callable[[str, int, float], None] = lambda _ref, _count, _share: None,
    ) -> None:
        self._base = base
        self._scope = scope
        self._convert = convert
        self._fetch = fetch
        self._refused = refused
        self._way_out = way_out
        self._on_document = on_document
        self.report = IngestReport()
        """The state so far, also while the work is in progress."""
        self._listed: dict[str, set[str]] = {}
        """The files of each folder that could be listed."""
        self._unlisted: set[str] = set()
        """Subfolders that could not be listed."""
        self._known: dict[str, StoredDocument] = {}
        """The documents of the scope before anything was read."""

    def add(self, names: Iterable[str]) -> IngestReport:
        """Read paths, and addresses that begin with http:// or https://."""
        known = {source.ref: source for source in self._base.sources() if source.scope == self._scope}
        sources: list[KnowledgeSource] = []
        new: list[KnowledgeSource] = []
        for name in dict.fromkeys(names):
            if name.startswith(("http://", "https://")):
                source = KnowledgeSource(name, "web", self._scope)
            else:
                path = Path(name).expanduser()
                if why := self._way_out(path):
                    self.report.faults.append((str(path.absolute()), why))
                    continue
                source = _source_at(path.resolve(), self._scope)
            if fault := self._source_fault(name, source):
                self.report.faults.append((name if "://" in name else source.ref, fault))
                continue
            before = known.get(source.ref)
            # Who names it again means the folder that has its place now.
            source = replace(before, mark=source.mark) if before is not None else source
            sources.append(source)
            # A document that was removed from a folder and is named now becomes a source of its own.
            is_held = any(other.holds(source.ref) for other in known.values())
            if source != before and (before is not None or not is_held):
                new.append(source)
        self._base.add_sources(source for source in new if source.type == "folder")
        try:
            self._read(sources)
        finally:
            current = set(self.report.current)
            self._base.add_sources(source for source in new if source.ref in current)
        return self.report

    def refresh(self) -> IngestReport:
        """Read all sources of the scope again."""
        sources = [source for source in self._base.sources() if source.scope == self._scope]
        self._read(sources)
        self._remove_gone(sources)
        return self.report

    def _source_fault(self, name: str, source: KnowledgeSource) -> str:
        """Why the source cannot be read; empty if it can."""
        path = Path(source.ref)
        if source.type != "folder":
            return ""
        if is_folder(path):
            return PROTECTED if self._refused(path) else ""
        if "://" in name:
            return "only addresses that begin with http:// or https:// are read"
        try:
            path.stat()
        except PermissionError as exc:
            return f"it cannot be read: {exc.strerror}"
        except OSError:
            return "it does not exist"
        return "it is neither a file nor a folder"

    # --- reading

    def _read(self, sources: Sequence[KnowledgeSource]) -> None:
        self._known = {known.ref: known for known in self._base.documents() if known.scope == self._scope}
        items = {item.ref: item for source in sources for item in self._items_of(source)}
        batch: list[NewDocument] = []
        try:
            for item in items.values():
                self._on_document(item.ref, len(items), 0.0)
                new = self._new_documents(item, self._known.get(item.ref))
                if _is_long(new):
                    self._put(batch, len(items))
                batch += new
                if len(batch) >= BATCH_DOCUMENTS or _is_long(batch):
                    self._put(batch, len(items))
        finally:
            self._put(batch, len(items))

    def _items_of(self, source: KnowledgeSource) -> list[_Item]:
        if why := source.replaced(source.ref):
            self.report.faults.append((source.ref, why))
            return []
        if source.type != "folder":
            return [_Item(source, source.ref, source.type, named=True)]
        try:
            items = list(self._items_below(source))
        except OSError as exc:
            self.report.faults.append((source.ref, f"it cannot be listed: {exc.strerror}"))
            return []
        self._listed[source.ref] = {item.ref for item in items}
        return items

    def _items_below(self, folder: KnowledgeSource) -> Iterator[_Item]:
        for entry in walk(Path(folder.ref), self._refused):
            ref = str(entry.path)
            if not folder.holds(ref) and entry.path.name != IGNORE_FILE:
                continue  # rules may be those of a folder above
            if entry.list_error:
                self._unlisted.add(ref)
                self.report.faults.append((ref, f"it cannot be listed: {entry.list_error}"))
            elif entry.skip_reason:
                self.report.skipped.append((ref, entry.skip_reason))
            else:
                yield _Item(folder, ref, "file", named=False)

    def _new_documents(self, item: _Item, known: StoredDocument | None) -> list[NewDocument]:
        """The document as it is now, with those within it; none if it is unchanged or cannot be read."""
        name = item.ref
        try:
            if item.type == "web":
                page = self._fetch(item.ref)
                # The last part of the path, without the query, tells the form.
                name = urlsplit(item.ref).path.rpartition("/")[2] or item.ref
            else:
                page = FetchedPage(self._file_bytes(item, known), "")
            digest = hashlib.sha256(page.data).hexdigest()
            if known is not None and known.is_same(digest):
                for same in (known, *self._within(item.ref)):
                    self.report.unchanged.append(same.ref)
                    self.report.partly += [(same.ref, why) for why in same.unread]
                return []
            found = read_file(name, page.data, self._convert, page.media, self._refusal(item))
            refs = ((one, inner_ref(item.ref, item.type, one.place)) for one in found)
            return [
                NewDocument(ref, item.type, one.digest, one.size, one.document, item.ref if one.place else "")
                for one, ref in refs
                if not one.place or item.source.holds(ref)
            ]
        except _Skipped as exc:
            self.report.skipped.append((item.ref, str(exc)))
            self._listed.get(item.source.ref, set()).discard(item.ref)
        except UnreadableDocument as exc:
            self.report.faults.append((item.ref, str(exc)))
        return []

    def _within(self, ref: str) -> list[StoredDocument]:
        """The documents that are known of those within a file."""
        return [known for known in self._known.values() if known.within == ref]

    def _refusal(self, item: _Item) -> Callable[[str], str]:
        path = Path(item.ref if item.type == "file" else "/")
        return lambda place: PROTECTED if self._refused(path / place) else ""

    def _file_bytes(self, item: _Item, known: StoredDocument | None) -> bytes:
        path = Path(item.ref)
        if item.named and self._refused(path):
            raise UnreadableDocument(PROTECTED)
        try:
            data = read_stored(path, MAX_BYTES + 1)
        except OSError as exc:
            raise UnreadableDocument(f"it cannot be read: {exc.strerror}") from None
        if why := item.source.replaced(item.ref):  # since it was listed
            raise UnreadableDocument(why)
        fault = unfit(item.ref, data, is_named=item.named)
        if fault:
            is_expected = item.named or (known is not None and fault != MINIFIED)
            raise UnreadableDocument(fault) if is_expected else _Skipped(fault)
        return data

    def _put(self, batch: list[NewDocument], count: int) -> None:
        if not batch:
            return
        documents = tuple(batch)
        if _is_long(documents):  # if it is interrupted, it does not begin again
            batch.clear()
        written, deleted = self._base.put(
            documents, self._scope, lambda ref, share: self._on_document(ref, count, share)
        )
        refs = {document.ref for document in documents}
        gone = [one for ref in refs for one in self._within(ref) if one.ref not in refs]
        deleted += self._base.remove(gone) if gone else 0
        self.report.removed += [one.ref for one in gone]
        self.report.written += written
        self.report.deleted += deleted
        for document in documents:
            (self.report.changed if document.ref in self._known else self.report.added).append(document.ref)
            self.report.partly += [(document.ref, why) for why in document.document.unread]
        batch.clear()

    # --- what is gone

    def _remove_gone(self, sources: Sequence[KnowledgeSource]) -> None:
        """Remove documents whose file is gone, or that no longer belong to any source."""
        gone = [
            known
            for known in self._known.values()
            if known.type != "web"
            and not any(self._has(source, known.file) for source in sources if source.holds(known.ref))
        ]
        if not gone:
            return
        refs = {known.ref for known in gone}
        files = [source for source in sources if source.type == "file" and source.ref in refs]
        self.report.deleted += self._base.remove(gone, files)
        self.report.removed += [known.ref for known in gone]
        self.report.faults = [row for row in self.report.faults if row[0] not in refs]

    def _has(self, source: KnowledgeSource, ref: str) -> bool:
        """Whether the source still has the document, as far as is known."""
        if source.type == "folder":
            listed = self._listed.get(source.ref)
            in_unlisted = any(ref.startswith(f"{folder}/") for folder in self._unlisted)
            return listed is None or ref in listed or in_unlisted
        path = Path(source.ref)
        try:
            path.stat()
        except (FileNotFoundError, NotADirectoryError):
            # If the folder is missing as well, its disk may not be mounted.
            return not is_folder(path.parent)
        except OSError:
            return True
        return True


def _source_at(path: Path, scope: Scope) -> KnowledgeSource:
    """A file or folder as it is now."""
    if is_file(path):
        return KnowledgeSource(str(path), "file", scope, mark=mark_of(path.parent))
    return KnowledgeSource(str(path), "folder", scope, mark=mark_of(path))


def _is_long(documents: Iterable[NewDocument]) -> bool:
    return sum(one.size for one in documents) >= BATCH_BYTES


class _Skipped(Exception):
    """A file of a folder is not meant to be read; the message says why."""
