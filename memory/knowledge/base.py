"""The knowledge base: stores documents as chunks, and finds, cites and removes them.

The knowledge base has a store of its own, so that many documents do not slow down the look-ups of a run. It
keeps three kinds of records: a `source` is what the user added (a folder, a file, an address), a `document`
is a file or page that was read, with the hash of its bytes, and a `chunk` is a piece of it. Chunks are
written before their document, so a process that was killed in between reads the document again, and a
document that is listed is complete. A long one is listed without its hash until it is complete.

When a document has changed, only chunks that are new or have moved are written, and only those it no longer
has are deleted; deleted text is erased from the disk. Anything that looks like the key of a service is
removed before it is stored. Everything returned comes from files and the web: it is data and grants nothing.

With `dense`, an embedding model, chunks are also found by meaning, once `embed` has made their vectors.

What is not covered: which files there are and what they contain (see `ingest` and `documents`).
"""

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from memory.dense import Dense, FillResult, fill_vectors, query_vector
from memory.distiller import scrub_shapes
from memory.knowledge.chunks import VERSION, Chunk, Document, split_document
from memory.records import CHUNK, Position, Record, Scope, Source, record_id
from memory.retrieval import retrieve
from memory.store import Memory, MemoryStore
from orchestrator_cli.durable.held_folder import has_mark

SOURCE = "source"
DOCUMENT = "document"
KNOWLEDGE_KINDS = (SOURCE, DOCUMENT, CHUNK)

PART_CHUNKS = 500
"""Chunks that are written at once."""

OnPart = Callable[[str, float], None]
"""Called while a long document is stored, with its ref and the share that is done, from 0 to 1."""

SourceType = Literal["folder", "file", "web"]


@dataclass(frozen=True)
class KnowledgeSource:
    """What the user added: a folder with everything below it, a file, or an address."""

    ref: str
    type: SourceType
    scope: Scope
    excluded: tuple[str, ...] = ()
    """Documents of a folder, or within a file, that the user removed."""
    mark: str = ""
    """Of the folder, or of that of a file, as it was when it was added: see `held_folder`."""

    def replaced(self, ref: str) -> str:
        """Why a document of the source is not read; empty if nothing has the place of what was added."""
        folder, path = Path(self.ref), Path(ref)
        folder = folder if self.type == "folder" else folder.parent
        if self.type == "web" or not self.mark or not os.path.lexists(folder):
            return ""
        if has_mark(folder, self.mark) and path.resolve() == path:
            return ""
        return "another folder, or a link, has its place since it was added; if you mean that, add it again"

    def holds(self, ref: str) -> bool:
        """Whether a document belongs to the source."""
        if ref == self.ref:
            return True
        return ref.startswith(f"{self.ref.rstrip('/')}{_below(self.type)}") and ref not in self.excluded


def inner_ref(ref: str, kind: SourceType, place: str) -> str:
    """The ref of what is at `place` within a folder, ZIP file or e-mail; if that is empty, its own."""
    # The path of an address may go on, and lead to a page of its own.
    return f"{ref}{_below(kind)}{place}" if place else ref


def _below(kind: SourceType) -> str:
    return "#/" if kind == "web" else "/"


@dataclass(frozen=True)
class StoredDocument:
    """A document in the knowledge base."""

    ref: str
    type: SourceType
    title: str
    digest: str
    size: int
    chunks: int
    added: datetime
    scope: Scope
    version: int
    """The version of the rules by which it was split."""
    unread: tuple[str, ...] = ()
    """What of it could not be read."""
    within: str = ""
    """The ref of the file that it is within; empty if it is a file itself."""

    @property
    def file(self) -> str:
        return self.within or self.ref

    def is_same(self, digest: str) -> bool:
        return self.digest == digest and self.version == VERSION


@dataclass(frozen=True)
class NewDocument:
    """A document to put into the knowledge base."""

    ref: str
    type: SourceType
    digest: str
    """SHA-256 of its bytes."""
    size: int
    document: Document
    within: str = ""
    """The ref of the file that it is within."""

    @property
    def origin(self) -> dict[str, Any]:
        """The fields of a record that say where it came from."""
        kind: Literal["file", "web"] = "web" if self.type == "web" else "file"
        return {"trust": kind, "source": Source(type=kind, ref=self.ref)}


@dataclass(frozen=True)
class FoundChunk:
    """A chunk of a document. It is untrusted: it says what the author of the document wrote."""

    ref: str
    part: int
    """Its number in the document, from 0; the chunks before and after it are one less and one more."""
    title: str
    text: str
    headings: tuple[str, ...]
    first: int | None
    last: int | None
    page: int | None
    score: float

    @property
    def where(self) -> str:
        """`lines 3-9`, `page 4`, or `part 2` if neither is known."""
        if self.page is not None:
            return f"page {self.page}"
        if self.first is None or self.last is None:
            return f"part {self.part}"
        return f"line {self.first}" if self.first == self.last else f"lines {self.first}-{self.last}"


class KnowledgeBase:
    """The documents visible from `scope` (see `Scope`), in a store of their own."""

    def __init__(self, store: MemoryStore, scope: Scope, dense: Dense | None = None) -> None:
        self._store = store
        self.scope = scope
        self._dense = dense

    def __bool__(self) -> bool:
        """Whether there is any document."""
        return self._store.count(DOCUMENT, self.scope) > 0

    def sources(self) -> list[KnowledgeSource]:
        found: list[Any] = self._store.all(SOURCE, self.scope)
        sources = [
            KnowledgeSource(
                r.key, r.data["type"], r.scope, tuple(r.data["without"]), str(r.data.get("mark", ""))
            )
            for r in found
        ]
        return sorted(sources, key=lambda source: source.ref)

    def documents(self) -> list[StoredDocument]:
        return sorted(map(_stored, self._store.all(DOCUMENT, self.scope)), key=lambda document: document.ref)

    # --- reading

    def search(self, query: str, limit: int = 5) -> list[FoundChunk]:
        """The chunks most relevant to the query, best first."""
        near = query_vector(self._store, self._dense, query)
        hits = retrieve(self._store, query, kinds=CHUNK, scope=self.scope, limit=limit, near=near)
        return [_found(hit.record, hit.score) for hit in hits]

    def read(self, ref: str, part: int, count: int = 1) -> list[FoundChunk]:
        """`count` chunks of a document in order, starting at number `part`."""
        positions = [Position(ref, max(part, 0) + step) for step in range(count)]
        records = self._store.at_positions(positions, kinds=CHUNK, scope=self.scope)
        # The same file may have been added both for the project and for the user.
        first = {record.seq: record for record in reversed(records)}
        return [_found(first[seq], 0.0) for seq in sorted(first, key=lambda seq: seq or 0)]

    # --- writing

    def add_sources(self, sources: Iterable[KnowledgeSource]) -> None:
        self._store.add(
            Record(
                kind=SOURCE,
                key=source.ref,
                text=source.ref,
                data={"type": source.type, "without": list(source.excluded), "mark": source.mark},
                scope=source.scope,
            )
            for source in sources
        )

    def put(
        self, documents: Sequence[NewDocument], scope: Scope, on_part: OnPart = lambda _ref, _share: None
    ) -> tuple[int, int]:
        """Store documents in exactly this scope; returns how many chunks were written and how many
        deleted. `on_part` is called after each `PART_CHUNKS`, with the share of the document that is done."""
        counts, written = dict[str, int](), 0
        changed, gone = list[Record](), list[Record]()
        with self._store.opened() as memory:
            for document in documents:
                before = {r.id: r for r in _stored_chunks(memory, document.ref, scope)}
                chunks = split_document(document.document)
                counts[document.ref] = len(chunks)
                for done, record in enumerate(_chunk_records(document, chunks, scope), 1):
                    known = before.pop(record.id, None)
                    if known is None or record.model_copy(update={"created": known.created}) != known:
                        changed.append(record)
                    if len(changed) >= PART_CHUNKS:
                        # Without its hash, it can be removed and is read again if this ends here.
                        memory.add([*changed, _document_record(replace(document, digest=""), done, scope)])
                        written += len(changed)
                        changed = []
                    if done % PART_CHUNKS == 0:
                        on_part(document.ref, done / len(chunks))
                gone += before.values()
            memory.add(changed)
            memory.delete([record.id for record in gone], scope)
            memory.add([_document_record(document, counts[document.ref], scope) for document in documents])
        return written + len(changed), len(gone)

    def embed(
        self, on_progress: Callable[[int, int], None] | None = None, *, limit: int | None = None
    ) -> FillResult:
        """Make the missing dense vectors, of at most `limit` chunks.

        `on_progress` receives how many are done and how many there are.
        """
        if self._dense is None:
            return FillResult()
        return fill_vectors(self._store, self._dense, self.scope, limit=limit, on_progress=on_progress)

    def remove(self, documents: Iterable[StoredDocument], sources: Iterable[KnowledgeSource] = ()) -> int:
        """Delete documents with all their chunks, and sources; returns how many chunks there were."""
        with self._store.opened() as memory:
            chunks: list[Record] = []
            ids = [record_id(source.scope, SOURCE, source.ref) for source in sources]
            for document in documents:
                chunks += _stored_chunks(memory, document.ref, document.scope)
                ids.append(record_id(document.scope, DOCUMENT, document.ref))
            memory.delete([*(record.id for record in chunks), *ids], self.scope.user_wide)
        return len(chunks)

    def exclude(self, source: KnowledgeSource, refs: Collection[str]) -> None:
        """Never read these documents of a folder again."""
        self.add_sources([replace(source, excluded=tuple(sorted({*source.excluded, *refs})))])


def _stored_chunks(memory: Memory, ref: str, scope: Scope) -> list[Record]:
    """The chunks of a document in exactly this scope."""
    return [record for record in memory.all(CHUNK, scope, session=ref) if record.scope == scope]


def _document_record(document: NewDocument, chunks: int, scope: Scope) -> Record:
    title = scrub_shapes(document.document.title)
    return Record(
        kind=DOCUMENT,
        key=document.ref,
        text=title,
        data={
            "type": document.type,
            "title": title,
            "digest": document.digest,
            "size": document.size,
            "chunks": chunks,
            "version": VERSION,
            "within": document.within,
            "unread": [scrub_shapes(why) for why in document.document.unread],
        },
        scope=scope,
        **document.origin,
    )


def _stored(record: Record) -> StoredDocument:
    data: Any = record.data
    return StoredDocument(
        ref=record.key,
        added=record.created,
        scope=record.scope,
        unread=tuple(data.get("unread", ())),
        within=str(data.get("within", "")),
        **{name: data[name] for name in ("type", "title", "digest", "size", "chunks", "version")},
    )


def _chunk_records(document: NewDocument, chunks: Iterable[Chunk], scope: Scope) -> Iterator[Record]:
    """The chunks as records. The key follows from the text, so a chunk that only moved keeps its key."""
    title, seen = scrub_shapes(document.document.title), Counter[str]()
    for seq, chunk in enumerate(chunks):
        text = scrub_shapes(chunk.text)
        digest = hashlib.sha256(text.encode()).hexdigest()[:16]
        seen[digest] += 1
        # A chunk is found by its own text, and by the title and headings above it that it does not repeat.
        above = dict.fromkeys(name for name in (title, *chunk.headings) if name not in text)
        yield Record(
            kind=CHUNK,
            key=f"{document.ref}\n{digest}.{seen[digest]}",
            text="\n".join([*above, text]),
            data={**asdict(chunk), "title": title, "text": text, "headings": list(chunk.headings)},
            scope=scope,
            session=document.ref,
            seq=seq,
            **document.origin,
        )


def _found(record: Record, score: float) -> FoundChunk:
    data: Any = record.data
    return FoundChunk(
        ref=record.session or "",
        part=record.seq or 0,
        headings=tuple(data["headings"]),
        score=score,
        **{name: data[name] for name in ("title", "text", "first", "last", "page")},
    )
