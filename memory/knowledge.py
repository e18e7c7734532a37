"""A knowledge base: documents that the user has added, in pieces that can be found, cited and forgotten.

    base = KnowledgeBase(open_store(folder), Scope(project="…"))
    base.put([Filed("/notes/a.md", "file", digest, size, document)])
    base.search("When is the rent due?")

It has a store of its own, so that many documents do not slow the look-ups of a run. Three kinds lie there: a
`source` is what the user named (a folder, a file, an address), a `document` each file or page that was read,
with the hash of its bytes, and a `chunk` each piece of it. Its pieces are written before the document is, so
a process that was killed in between does it again, and a document that is there is there whole.

A changed document has only those pieces written that are new or stand elsewhere now, and those deleted that
it does not have any more; deleted text is gone from the disk. What looks like the key of a service is taken
out before it is stored. All that is handed out comes from files and the web: it is data and grants nothing.

`dense` is a model of embeddings, where the user wants one: pieces are then found by what they mean as well,
once `embed` has made their vectors.

What is not covered: which files there are and what they say (see `gathering`, `documents`).
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Literal

from memory.chunks import VERSION, Chunk, Document, chunks
from memory.dense import Dense, Filled, asked, fill
from memory.distiller import scrub_shapes
from memory.records import CHUNK, Place, Record, Scope, Source, record_id
from memory.retrieval import retrieve
from memory.store import Memory, MemoryStore

SOURCE = "source"
DOCUMENT = "document"

Type = Literal["folder", "file", "web"]


@dataclass(frozen=True)
class Named:
    """What the user has added: a folder with all that lies below it, a file, or an address."""

    ref: str
    type: Type
    scope: Scope
    without: tuple[str, ...] = ()
    """Documents of a folder that the user has taken out again."""

    def holds(self, ref: str) -> bool:
        """Whether a document belongs to it."""
        if ref == self.ref:
            return True
        below = ref.startswith(f"{self.ref.rstrip('/')}/")
        return self.type == "folder" and below and ref not in self.without


@dataclass(frozen=True)
class Known:
    """A document that was read."""

    ref: str
    type: Type
    title: str
    digest: str
    size: int
    chunks: int
    added: datetime
    scope: Scope
    version: int
    """Of the rules by which it was parted."""

    def is_same(self, digest: str) -> bool:
        return self.digest == digest and self.version == VERSION


@dataclass(frozen=True)
class Filed:
    """A document to be put into the knowledge base."""

    ref: str
    type: Type
    digest: str
    """SHA-256 of its bytes."""
    size: int
    document: Document


@dataclass(frozen=True)
class Found:
    """A piece of a document. It is not trusted: whoever wrote the document wrote it."""

    ref: str
    part: int
    """Its number in the document, from 0; its neighbours differ by one."""
    title: str
    text: str
    headings: tuple[str, ...]
    first: int | None
    last: int | None
    page: int | None
    score: float

    @property
    def where(self) -> str:
        """`lines 3-9`, `page 4`, or the part where neither is known."""
        if self.page is not None:
            return f"page {self.page}"
        if self.first is None or self.last is None:
            return f"part {self.part}"
        return f"line {self.first}" if self.first == self.last else f"lines {self.first}-{self.last}"


class KnowledgeBase:
    """The documents that can be seen from `scope`, in a store of their own; see `Scope`."""

    def __init__(self, store: MemoryStore, scope: Scope, dense: Dense | None = None) -> None:
        self._store = store
        self.scope = scope
        self._dense = dense

    def __bool__(self) -> bool:
        """Whether there is anything to be found."""
        return self._store.count(DOCUMENT, self.scope) > 0

    # --- what there is

    def sources(self) -> list[Named]:
        return sorted((_named(r) for r in self._store.all(SOURCE, self.scope)), key=lambda n: n.ref)

    def documents(self) -> list[Known]:
        return sorted((_known(r) for r in self._store.all(DOCUMENT, self.scope)), key=lambda d: d.ref)

    # --- looking things up

    def search(self, query: str, limit: int = 5) -> list[Found]:
        """The pieces that have most to do with the query, best first."""
        near = asked(self._store, self._dense, query)
        hits = retrieve(self._store, query, kinds=CHUNK, scope=self.scope, limit=limit, near=near)
        return [_found(hit.record, hit.score) for hit in hits]

    def read(self, ref: str, part: int, count: int = 1) -> list[Found]:
        """`count` pieces of a document in their order, from the given one on."""
        places = [Place(ref, max(part, 0) + step) for step in range(count)]
        found = self._store.placed(places, kinds=CHUNK, scope=self.scope)
        # The same file may have been added for the project and for the user.
        first = {record.seq: record for record in reversed(found)}
        return [_found(first[seq], 0.0) for seq in sorted(first, key=lambda seq: seq or 0)]

    # --- putting in

    def name(self, named: Iterable[Named]) -> None:
        """Keep what the user has named."""
        self._store.add([_source_record(one) for one in named])

    def put(self, filed: Sequence[Filed], scope: Scope) -> tuple[int, int]:
        """Keep documents in exactly this scope; how many pieces were written and how many deleted."""
        made = [(one, _chunk_records(one, scope)) for one in filed]
        with self._store.opened() as memory:
            changed: list[Record] = []
            gone: list[Record] = []
            for one, records in made:
                before = {r.id: r for r in _pieces(memory, one.ref, scope)}
                changed += [r for r in records if not _same(r, before.pop(r.id, None))]
                gone += before.values()
            memory.add(changed)
            memory.delete([record.id for record in gone], scope)
            memory.add([_document_record(one, len(records), scope) for one, records in made])
        return len(changed), len(gone)

    def embed(self, told: Callable[[int, int], None] | None = None) -> Filled:
        """Make the dense vectors that pieces lack; `told` hears how many of how many."""
        return fill(self._store, self._dense, self.scope, told=told) if self._dense else Filled()

    # --- taking out

    def take_out(self, documents: Iterable[Known], sources: Iterable[Named] = ()) -> int:
        """Forget documents with all their pieces, and sources; how many pieces there were."""
        with self._store.opened() as memory:
            doomed: list[Record] = []
            ids = [record_id(named.scope, SOURCE, named.ref) for named in sources]
            for known in documents:
                doomed += _pieces(memory, known.ref, known.scope)
                ids.append(record_id(known.scope, DOCUMENT, known.ref))
            memory.delete([*(record.id for record in doomed), *ids], Scope(user=self.scope.user))
        return len(doomed)

    def leave_out(self, named: Named, refs: Collection[str]) -> None:
        """Do not read these documents of a folder any more."""
        self.name([replace(named, without=tuple(sorted({*named.without, *refs})))])


def _pieces(memory: Memory, ref: str, scope: Scope) -> list[Record]:
    """Those of exactly this scope."""
    return [record for record in memory.all(CHUNK, scope, session=ref) if record.scope == scope]


def _same(record: Record, before: Record | None) -> bool:
    return before is not None and record.model_copy(update={"created": before.created}) == before


def _origin(type_: Type, ref: str) -> dict[str, Any]:
    """Whence a record is, and how far it can be trusted."""
    kind: Literal["file", "web"] = "web" if type_ == "web" else "file"
    return {"trust": kind, "source": Source(type=kind, ref=ref)}


def _source_record(named: Named) -> Record:
    return Record(
        kind=SOURCE,
        key=named.ref,
        text=named.ref,
        data={"type": named.type, "without": list(named.without)},
        scope=named.scope,
    )


def _named(record: Record) -> Named:
    data: Any = record.data
    return Named(record.key, data["type"], record.scope, tuple(data["without"]))


def _document_record(filed: Filed, count: int, scope: Scope) -> Record:
    title = scrub_shapes(filed.document.title)
    data = {
        "type": filed.type,
        "title": title,
        "digest": filed.digest,
        "size": filed.size,
        "chunks": count,
        "version": VERSION,
    }
    origin = _origin(filed.type, filed.ref)
    return Record(kind=DOCUMENT, key=filed.ref, text=title, data=data, scope=scope, **origin)


def _known(record: Record) -> Known:
    data: Any = record.data
    return Known(
        ref=record.key,
        type=data["type"],
        title=data["title"],
        digest=data["digest"],
        size=data["size"],
        chunks=data["chunks"],
        added=record.created,
        scope=record.scope,
        version=data["version"],
    )


def _chunk_records(filed: Filed, scope: Scope) -> list[Record]:
    """Its pieces. A key follows from what a piece says, so one that only moved keeps its own."""
    title, seen = scrub_shapes(filed.document.title), Counter[str]()
    origin, records = _origin(filed.type, filed.ref), []
    for seq, chunk in enumerate(chunks(filed.document)):
        text = scrub_shapes(chunk.text)
        digest = hashlib.sha256(text.encode()).hexdigest()[:16]
        seen[digest] += 1
        records.append(
            Record(
                kind=CHUNK,
                key=f"{filed.ref}\n{digest}.{seen[digest]}",
                text=_searched(title, chunk, text),
                data={
                    "title": title,
                    "text": text,
                    "headings": list(chunk.headings),
                    "first": chunk.first,
                    "last": chunk.last,
                    "page": chunk.page,
                },
                scope=scope,
                session=filed.ref,
                seq=seq,
                **origin,
            )
        )
    return records


def _searched(title: str, chunk: Chunk, text: str) -> str:
    """What a piece is found by: what it says, and what it stands under, of which it says nothing itself."""
    above = [name for name in (title, *chunk.headings) if name not in text]
    return "\n".join([*dict.fromkeys(above), text])


def _found(record: Record, score: float) -> Found:
    data: Any = record.data
    return Found(
        ref=record.session or "",
        part=record.seq or 0,
        title=data["title"],
        text=data["text"],
        headings=tuple(data["headings"]),
        first=data["first"],
        last=data["last"],
        page=data["page"],
        score=score,
    )
