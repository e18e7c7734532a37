"""The folder of an embedded memory: its lock, its outbox and its shard, which is repaired when it is opened.

    FOLDER/            mode 0700
      .lock            held during a turn
      .erasing         exists while the shard may still contain deleted text
      outbox/          writes that could not wait for the lock
      shard/           the Qdrant Edge shard
      shard.corrupt-*  shards that could not be opened, unchanged

In a turn, a process takes the lock, opens the shard, stores what is in the outbox, operates, flushes and
closes. Most of the time goes into opening, and each payload index of the engine adds a quarter to it. So
there is one index, of the tags in `within` (see `edge`); a shard of an earlier version, which has
others, is rebuilt when it is first opened.

What is not covered: network file systems; a disk that fills up during a turn (the engine maps its files and
the kernel kills the process with SIGBUS, so a turn is refused if little space is left); shards written by a
later version of the engine.
"""

import errno
import json
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import qdrant_edge as qe
from pydantic import TypeAdapter, ValidationError

from memory.records import MemoryBusy, MemoryUnavailable, Record
from orchestrator_cli.durable.files import sync_folder, write_atomic
from orchestrator_cli.durable.locks import LockTimeout, LockUnsupported, acquire

INDEX = "within"
"""The one field with an index: a record's tags."""

_PAGE = 1000
_MIN_FREE_BYTES = 64 * 2**20
# The errors of a damaged shard; any other operating-system error can be fixed by the user.
_DAMAGE = {errno.ENOENT, errno.EINVAL, errno.EISDIR, errno.ENOTDIR, errno.EEXIST}
_OS_ERROR = re.compile(r"os error (\d+)|code: (\d+)")
_CONDITION = re.compile(r"PermissionDenied|StorageFull|OutOfMemory|QuotaExceeded|ReadOnlyFilesystem")


@contextmanager
def exclusive(path: Path, *, wait_s: float) -> Iterator[None]:
    """Hold the lock file at `path`, in the order of arrival.

    Raises `MemoryBusy` after `wait_s` seconds, and `MemoryUnavailable` if it cannot be locked.
    """
    try:
        lock = acquire(path, wait_s=wait_s, fair=True)
    except LockTimeout as exc:
        raise MemoryBusy(
            f"The memory in {path.parent} was in use by other processes for {wait_s:g} s; try again."
        ) from exc
    except LockUnsupported as exc:
        raise MemoryUnavailable(
            f"The memory in {path.parent} has no lock: {exc.strerror}; keep it on a local disk."
        ) from exc
    except OSError as exc:
        raise MemoryUnavailable(f"The memory's lock {path} cannot be opened: {exc.strerror}.") from exc
    with lock:
        yield


class EdgeFolder:
    """The folder `path`, created if it is missing; `vector` is the name of the sparse vector."""

    def __init__(self, path: Path, vector: str, warn: Callable[[str], None]) -> None:
        self.root = path.absolute()
        self.outbox = self.root / "outbox"
        self._shard_path = self.root / "shard"
        self._erasing = self.root / ".erasing"
        self._vector = vector
        self._warn = warn
        try:
            self.outbox.mkdir(parents=True, exist_ok=True)
            self.root.chmod(0o700)
        except OSError as exc:
            raise MemoryUnavailable(
                f"The memory folder {self.root} cannot be created ({exc.strerror}); choose another."
            ) from exc

    def lock(self, wait_s: float) -> AbstractContextManager[None]:
        return exclusive(self.root / ".lock", wait_s=wait_s)

    @contextmanager
    def shard(self) -> Iterator[qe.EdgeShard]:
        """Open the shard; the lock must be held."""
        self._check_space()
        with _translated(self._shard_path):
            self._finish_swap()
            shard = self._load()
            if self._erasing.exists():
                # A process was killed between a deletion and the rebuild that erases its text.
                shard = self._renew(shard)
            try:
                yield shard
            finally:
                shard.close()

    def begin_erasing(self) -> None:
        """Record on disk that points are about to be deleted; their text stays until the shard is rebuilt."""
        with _translated(self._shard_path):
            self._erasing.touch()
            sync_folder(self.root)

    def erase(self, shard: qe.EdgeShard) -> None:
        """Replace the shard, which is closed, by a new one with the remaining points.

        A crash in between leaves the old or the new shard, and the next turn finishes the work.
        """
        with _translated(self._shard_path):
            self._replace(shard)

    def dense(self) -> dict[str, int]:
        """The sizes of the dense vectors in the shard, by name; the lock must be held."""
        # The engine has no call for this; its configuration file has the names.
        config = json.loads((self._shard_path / "edge_config.json").read_text(encoding="utf-8"))
        return {name: int(params["size"]) for name, params in (config.get("vectors") or {}).items()}

    def set_aside(self) -> list[Path]:
        """The unreadable shards that were put aside, oldest first."""
        return sorted(self.root.glob("shard.corrupt-*"))

    def _load(self) -> qe.EdgeShard:
        if not self._shard_path.exists():
            self._begin()
        try:
            shard = qe.EdgeShard.load(str(self._shard_path))
        except BaseException as exc:
            if not _is_corruption(exc):
                raise
            self._put_aside(exc)
            self._begin()
            return qe.EdgeShard.load(str(self._shard_path))
        return shard if INDEX in shard.info().payload_schema else self._renew(shard)

    def _begin(self) -> None:
        self._create("shard.new", {}).close()
        self._rename("shard.new", "shard")

    def _renew(self, shard: qe.EdgeShard) -> qe.EdgeShard:
        """The same points in a new shard in the form of this version."""
        self._replace(shard)
        return qe.EdgeShard.load(str(self._shard_path))

    def _replace(self, shard: qe.EdgeShard) -> None:
        try:
            with closing(self._create("shard.new", self.dense())) as fresh:
                for page in pages(shard, None, vectors=True):
                    fresh.update(qe.UpdateOperation.upsert_points([_renewed(point) for point in page]))
                fresh.flush()
        finally:
            shard.close()
        self._rename("shard", "shard.old")
        self._rename("shard.new", "shard")
        shutil.rmtree(self.root / "shard.old")
        self._erasing.unlink(missing_ok=True)

    def _put_aside(self, fault: BaseException) -> None:
        aside = f"shard.corrupt-{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}"
        self._rename("shard", aside)
        self._warn(
            f"The memory could not be read ({_first_line(fault)}). It was kept as {self.root / aside}, "
            "and memory starts empty. To use it again, repair it and rename it to 'shard'."
        )

    def _create(self, name: str, dense: Mapping[str, int]) -> qe.EdgeShard:
        path = self.root / name
        shutil.rmtree(path, ignore_errors=True)
        config = qe.EdgeConfig(
            vectors={
                vector: qe.EdgeVectorParams(size=size, distance=qe.Distance.Cosine)
                for vector, size in dense.items()
            },
            sparse_vectors={self._vector: qe.EdgeSparseVectorParams(modifier=qe.Modifier.Idf)},
            # By default, every opening starts one thread per processor.
            max_search_threads=2,
        )
        shard = qe.EdgeShard.create(str(path), config)
        shard.update(qe.UpdateOperation.create_field_index(INDEX, qe.PayloadSchemaType.Keyword))
        shard.flush()
        return shard

    def _finish_swap(self) -> None:
        """Repair what a crash during `_replace` left; the delete was not acknowledged."""
        old = self.root / "shard.old"
        if not old.exists():
            return
        if self._shard_path.exists():
            shutil.rmtree(old)
        else:
            self._rename("shard.old", "shard")

    def _rename(self, name: str, to: str) -> None:
        (self.root / name).rename(self.root / to)
        sync_folder(self.root)

    def _check_space(self) -> None:
        free = shutil.disk_usage(self.root).free
        if free < _MIN_FREE_BYTES:
            raise MemoryUnavailable(
                f"The memory in {self.root} was not opened: only {free // 2**20} MB are free. "
                "Free some space."
            )


def pages(shard: qe.EdgeShard, only: qe.Filter | None, *, vectors: bool) -> Iterator[list[qe.Record]]:
    """All points that match a filter, in batches."""
    offset: qe.PointId | None = None
    while True:
        page, offset = shard.scroll(
            qe.ScrollRequest(offset=offset, limit=_PAGE, filter=only, with_payload=True, with_vector=vectors)
        )
        yield page
        if offset is None:
            return


def _renewed(found: qe.Record) -> qe.Point:
    """A stored point in the form of this version; a record that cannot be read is kept unchanged."""
    payload: dict[str, Any] = dict(found.payload or {})
    if INDEX not in payload:
        names = {"u": "user", "p": "project", "k": "kind"}
        payload[INDEX] = [f"{sign}:{payload.get(name, '')}" for sign, name in names.items()]
    return qe.Point(id=found.id, vector=found.vector or {}, payload=payload)


@contextmanager
def _translated(shard: Path) -> Iterator[None]:
    """Translate the engine's errors into ours."""
    try:
        yield
    except OSError as exc:
        raise MemoryUnavailable(f"The memory in {shard.parent} cannot be used: {exc.strerror}.") from exc
    except BaseException as exc:
        if not _is_from_engine(exc):
            raise
        if "WouldBlock" in str(exc):
            raise MemoryBusy(
                f"The memory in {shard} is open in another program, which does not use its lock; end it."
            ) from exc
        raise MemoryUnavailable(
            f"The memory in {shard} failed ({_first_line(exc)}). If freeing space and checking permissions "
            "do not help, rename that folder; memory then starts empty."
        ) from exc


def _is_from_engine(exc: BaseException) -> bool:
    # The engine raises plain Exception; a panic in its Rust code derives from BaseException.
    return type(exc) is Exception or type(exc).__module__ == "pyo3_runtime"


def _is_corruption(exc: BaseException) -> bool:
    message = str(exc)
    if not _is_from_engine(exc) or "WouldBlock" in message or _CONDITION.search(message):
        return False
    codes = {int(plain or debug) for plain, debug in _OS_ERROR.findall(message)}
    return codes <= _DAMAGE


def _first_line(exc: BaseException) -> str:
    return str(exc).partition("\n")[0][:200]


# --- the outbox

_BATCH = TypeAdapter(list[Record])
_STALE_S = 600.0


class Outbox:
    """Writes that could not wait for the shard: one synced file each, until the next turn stores them.

    A file gets its final name by an atomic rename, so a reader sees complete batches only. Names begin with
    the time, so batches are stored in the order in which they were written. The bytes of a stored batch are
    unlinked, not overwritten.
    """

    def __init__(self, folder: Path, warn: Callable[[str], None]) -> None:
        self._folder = folder
        self._warn = warn

    def put(self, records: Sequence[Record]) -> None:
        """Store a batch durably, without the lock."""
        name = f"{time.time_ns():020d}-{uuid4().hex}"
        try:
            write_atomic(self._folder / f"{name}.json", _BATCH.dump_json(list(records)))
        except OSError as exc:
            raise MemoryUnavailable(
                f"Nothing was remembered: {self._folder} cannot be written ({exc.strerror}). "
                "Free some space or repair its permissions."
            ) from exc

    def pending(self) -> list[Path]:
        """The waiting batches, oldest first."""
        return sorted(self._folder.glob("*.json"))

    def read(self, batch: Path) -> list[Record]:
        """The records of a batch. An unreadable batch is renamed, with a warning."""
        try:
            return _BATCH.validate_json(batch.read_bytes())
        except ValidationError:
            aside = batch.with_suffix(".unreadable")
            batch.rename(aside)
            self._warn(f"A batch of memory writes could not be read and was kept as {aside}.")
            return []

    def discard(self, batches: Sequence[Path]) -> None:
        """Delete batches that are stored in the shard, and unfinished ones of killed writers."""
        for batch in batches:
            batch.unlink(missing_ok=True)
        for unfinished in self._folder.glob(".*.tmp"):
            with suppress(FileNotFoundError):
                if time.time() - unfinished.stat().st_mtime > _STALE_S:
                    unfinished.unlink()
