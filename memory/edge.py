"""Memory in a folder: Qdrant's own engine in-process, shared safely by many processes and threads.

    FOLDER/            mode 0700
      .lock            held for the time of one operation
      outbox/          writes that could not wait for the lock
      shard/           the Qdrant Edge shard
      shard.corrupt-*  shards that could not be opened, kept whole

Every operation is: lock, open the shard, take in the outbox, operate, flush, close. A write that does not
get the lock at once goes to the outbox, which is durable too, and the next operation of anyone takes it
in; so reads see every acknowledged write.

Deleting rebuilds the shard from what remains and swaps it in, because the engine keeps deleted text in
its log. A crash in between leaves the old shard or the new one. It takes 0.2 s at 1,000 records and 8 s at
100,000, with the lock held: delete many at once rather than one by one.

A shard that the engine says it cannot read is renamed to `shard.corrupt-<time>`, `warn` is told where it
lies, and memory goes on empty: a run must not fail for lack of recall, and nothing is erased. A full disk,
missing permission and the like are not corruption: they raise `MemoryUnavailable` and touch nothing.

What is not covered: network file systems; a disk that fills up within an operation (the engine maps its
files and the kernel then kills the process with SIGBUS, so an operation is refused when little space is
left); overwriting deleted bytes on the disk; shards written by a later version of the engine.
"""

from __future__ import annotations

import errno
import logging
import re
import shutil
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final
from uuid import UUID

import qdrant_edge as qe

from .embedder import Embedder, default_embedder
from .errors import MemoryBusy, MemoryUnavailable
from .lock import exclusive
from .outbox import Outbox, sync_folder
from .records import Hit, Record, Scope, from_payload, to_payload
from .store import as_kinds, newest_first

_LOG: Final = logging.getLogger(__name__)
_INDEXED: Final = ("kind", "user", "project")
_PAGE: Final = 1000
_MIN_FREE_BYTES: Final = 64 * 2**20
# What a damaged shard says; any other operating-system error is a condition that can be put right.
_DAMAGE: Final = {errno.ENOENT, errno.EINVAL, errno.EISDIR, errno.ENOTDIR, errno.EEXIST}
_OS_ERROR: Final = re.compile(r"os error (\d+)|code: (\d+)")
_CONDITION: Final = re.compile(r"PermissionDenied|StorageFull|OutOfMemory|QuotaExceeded|ReadOnlyFilesystem")


class EdgeStore:
    """A `MemoryStore` in the folder `path`, made when it is missing.

    `warn` receives one sentence when a shard or a batch had to be put aside. A read waits up to
    `read_wait_s` for its turn, then raises `MemoryBusy`; a write never waits longer than `write_wait_s`.
    """

    def __init__(
        self,
        path: Path,
        *,
        embedder: Embedder | None = None,
        warn: Callable[[str], None] = _LOG.warning,
        read_wait_s: float = 10.0,
        write_wait_s: float = 0.05,
    ) -> None:
        self._root = path.absolute()
        self._shard_path = self._root / "shard"
        self._embedder = embedder or default_embedder()
        self._warn = warn
        self._read_wait_s = read_wait_s
        self._write_wait_s = write_wait_s
        outbox = self._root / "outbox"
        try:
            outbox.mkdir(parents=True, exist_ok=True)
            self._root.chmod(0o700)
        except OSError as exc:
            raise MemoryUnavailable(
                f"The memory folder {self._root} cannot be made ({exc.strerror}); choose another."
            ) from exc
        self._outbox = Outbox(outbox, warn)

    def add(self, records: Iterable[Record]) -> None:
        batch = list(records)
        if not batch:
            return
        try:
            with self._shard(self._write_wait_s) as shard:
                self._upsert(shard, batch)
        except MemoryBusy:
            self._outbox.put(batch)

    def search(self, query: str, *, kinds: str | Collection[str], scope: Scope, limit: int = 10) -> list[Hit]:
        vector = self._embedder.query(query)
        if not vector.indices or limit < 1:
            return []
        within = _filter(as_kinds(kinds), scope)
        request = qe.QueryRequest(
            limit=limit,
            query=qe.Query.Nearest(_sparse(vector.indices, vector.values), using=self._embedder.name),
            filter=within,
            params=qe.SearchParams(idf=qe.IdfParams(corpus=within)),
            with_payload=True,
        )
        with self._shard(self._read_wait_s) as shard:
            points = shard.query(request)
        return [Hit(record=from_payload(point.payload or {}), score=point.score) for point in points]

    def get(self, ids: Iterable[UUID], scope: Scope) -> list[Record]:
        wanted = list(dict.fromkeys(ids))
        if not wanted:
            return []
        with self._shard(self._read_wait_s) as shard:
            return _retrieve(shard, wanted, scope)

    def all(self, kinds: str | Collection[str], scope: Scope) -> list[Record]:
        within = _filter(as_kinds(kinds), scope)
        with self._shard(self._read_wait_s) as shard:
            points = [point for page in _pages(shard, within, vectors=False) for point in page]
        return newest_first(from_payload(point.payload or {}) for point in points)

    def count(self, kinds: str | Collection[str], scope: Scope) -> int:
        with self._shard(self._read_wait_s) as shard:
            return shard.count(qe.CountRequest(exact=True, filter=_filter(as_kinds(kinds), scope)))

    def delete(self, ids: Iterable[UUID], scope: Scope) -> int:
        wanted = list(dict.fromkeys(ids))
        if not wanted:
            return 0
        with self._lock(self._read_wait_s):
            with self._open() as shard:
                doomed = [record.id for record in _retrieve(shard, wanted, scope)]
                if not doomed:
                    return 0
                # First, so that a rebuild that fails leaves the records out of every search all the same.
                shard.update(qe.UpdateOperation.delete_points(list(doomed)))
                shard.flush()
                fresh = self._copy(shard)
            self._swap_in(fresh)
        return len(doomed)

    def close(self) -> None:
        """Nothing is held between operations."""

    def set_aside(self) -> list[Path]:
        """The shards that could not be opened and were kept, oldest first."""
        return sorted(self._root.glob("shard.corrupt-*"))

    # -- the shard ---------------------------------------------------------------------------------

    @contextmanager
    def _shard(self, wait_s: float) -> Iterator[qe.EdgeShard]:
        with self._lock(wait_s), self._open() as shard:
            yield shard

    @contextmanager
    def _lock(self, wait_s: float) -> Iterator[None]:
        with exclusive(self._root / ".lock", wait_s=wait_s):
            yield

    @contextmanager
    def _open(self) -> Iterator[qe.EdgeShard]:
        """The shard with the outbox taken in; to be called with the lock held."""
        self._check_space()
        with _translated(self._shard_path):
            self._finish_swap()
            shard = self._load()
            try:
                self._take_in(shard)
                yield shard
            finally:
                shard.close()

    def _load(self) -> qe.EdgeShard:
        if not self._shard_path.exists():
            self._create("shard.new").close()
            self._rename("shard.new", "shard")
        try:
            return qe.EdgeShard.load(str(self._shard_path))
        except BaseException as exc:
            if not _is_corruption(exc):
                raise
            self._set_aside(exc)
        self._create("shard.new").close()
        self._rename("shard.new", "shard")
        return qe.EdgeShard.load(str(self._shard_path))

    def _set_aside(self, fault: BaseException) -> None:
        aside = f"shard.corrupt-{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}"
        self._rename("shard", aside)
        self._warn(
            f"The memory could not be read ({_first_line(fault)}). It was kept as {self._root / aside} "
            "and memory begins anew; to use it again, mend it and rename it to 'shard'."
        )

    def _create(self, name: str) -> qe.EdgeShard:
        path = self._root / name
        shutil.rmtree(path, ignore_errors=True)
        config = qe.EdgeConfig(
            sparse_vectors={self._embedder.name: qe.EdgeSparseVectorParams(modifier=qe.Modifier.Idf)},
            # The default starts a thread per processor at every opening.
            max_search_threads=2,
        )
        shard = qe.EdgeShard.create(str(path), config)
        for field in _INDEXED:
            shard.update(qe.UpdateOperation.create_field_index(field, qe.PayloadSchemaType.Keyword))
        shard.flush()
        return shard

    def _copy(self, shard: qe.EdgeShard) -> str:
        """Write all points into a new shard beside this one; its name."""
        fresh = self._create("shard.new")
        try:
            for page in _pages(shard, None, vectors=True):
                fresh.update(
                    qe.UpdateOperation.upsert_points(
                        [
                            qe.Point(id=point.id, vector=point.vector or {}, payload=point.payload)
                            for point in page
                        ]
                    )
                )
            fresh.flush()
        finally:
            fresh.close()
        return "shard.new"

    def _swap_in(self, fresh: str) -> None:
        with _translated(self._shard_path):
            self._rename("shard", "shard.old")
            self._rename(fresh, "shard")
            shutil.rmtree(self._root / "shard.old")

    def _finish_swap(self) -> None:
        """Put right what a crash within `_swap_in` left; its delete was not acknowledged."""
        old = self._root / "shard.old"
        if not old.exists():
            return
        if self._shard_path.exists():
            shutil.rmtree(old)
        else:
            self._rename("shard.old", "shard")

    def _rename(self, name: str, to: str) -> None:
        (self._root / name).rename(self._root / to)
        sync_folder(self._root)

    # -- writing -----------------------------------------------------------------------------------

    def _take_in(self, shard: qe.EdgeShard) -> None:
        batches = self._outbox.pending()
        if not batches:
            return
        self._upsert(shard, [record for batch in batches for record in self._outbox.read(batch)])
        self._outbox.discard(batches)

    def _upsert(self, shard: qe.EdgeShard, records: Iterable[Record]) -> None:
        latest = {record.id: record for record in records}
        if not latest:
            return
        shard.update(qe.UpdateOperation.upsert_points([self._point(record) for record in latest.values()]))
        # The engine's log survives a kill without this, but not a power cut.
        shard.flush()

    def _point(self, record: Record) -> qe.Point:
        vector = self._embedder.document(record.text)
        named: dict[str, qe.NamedVector] = {self._embedder.name: _sparse(vector.indices, vector.values)}
        return qe.Point(id=record.id, vector=named, payload=to_payload(record))

    def _check_space(self) -> None:
        free = shutil.disk_usage(self._root).free
        if free < _MIN_FREE_BYTES:
            raise MemoryUnavailable(
                f"The memory in {self._root} stays shut: only {free // 2**20} MB are free; free some space."
            )


def _filter(kinds: list[str], scope: Scope) -> qe.Filter:
    must: list[qe.FieldCondition] = [
        qe.FieldCondition(key="user", match=qe.MatchValue(value=scope.user)),
    ]
    if scope.project is not None:
        must.append(qe.FieldCondition(key="project", match=qe.MatchAny(["", scope.project])))
    if kinds:
        must.append(qe.FieldCondition(key="kind", match=qe.MatchAny(kinds)))
    return qe.Filter(must=list(must))


def _retrieve(shard: qe.EdgeShard, ids: list[UUID], scope: Scope) -> list[Record]:
    points = shard.retrieve(list(ids), True, False)
    found = {record.id: record for record in (from_payload(point.payload or {}) for point in points)}
    return [found[id_] for id_ in ids if id_ in found and scope.covers(found[id_].scope)]


def _pages(shard: qe.EdgeShard, within: qe.Filter | None, *, vectors: bool) -> Iterator[list[qe.Record]]:
    offset: qe.PointId | None = None
    while True:
        page, offset = shard.scroll(
            qe.ScrollRequest(
                offset=offset, limit=_PAGE, filter=within, with_payload=True, with_vector=vectors
            )
        )
        yield page
        if offset is None:
            return


def _sparse(indices: Iterable[int], values: Iterable[float]) -> qe.SparseVector:
    return qe.SparseVector(list(indices), list(values))


# -- faults of the engine --------------------------------------------------------------------------


@contextmanager
def _translated(shard: Path) -> Iterator[None]:
    """The one place where the engine's faults become ours."""
    try:
        yield
    except OSError as exc:
        raise MemoryUnavailable(f"The memory in {shard.parent} cannot be used: {exc.strerror}.") from exc
    except BaseException as exc:
        if not _is_from_engine(exc):
            raise
        if "WouldBlock" in str(exc):
            raise MemoryBusy(
                f"The memory in {shard} is held open by another program, which does not use its lock; end it."
            ) from exc
        raise MemoryUnavailable(
            f"The memory in {shard} failed ({_first_line(exc)}). If freeing space and checking permissions "
            "do not help, rename that folder; memory then begins anew."
        ) from exc


def _is_from_engine(exc: BaseException) -> bool:
    # The engine raises plain Exception, and a panic of its Rust code derives from BaseException.
    return type(exc) is Exception or type(exc).__module__ == "pyo3_runtime"


def _is_corruption(exc: BaseException) -> bool:
    message = str(exc)
    if not _is_from_engine(exc) or "WouldBlock" in message or _CONDITION.search(message):
        return False
    codes = {int(plain or debug) for plain, debug in _OS_ERROR.findall(message)}
    return codes <= _DAMAGE


def _first_line(exc: BaseException) -> str:
    return str(exc).partition("\n")[0][:200]
