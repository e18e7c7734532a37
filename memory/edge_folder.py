"""The folder of an embedded memory: who may use it, the shard within, and what is put right at opening.

    FOLDER/            mode 0700
      .lock            held for the time of one turn
      .erasing         there while deleted text may still lie in the shard
      outbox/          writes that could not wait for the lock
      shard/           the Qdrant Edge shard
      shard.corrupt-*  shards that could not be opened, kept whole

A turn is: lock, open the shard, take in the outbox, operate, flush, close. Opening is what a turn mostly
costs, and each payload index of the engine adds a quarter to it. So there is one index, of the tags in
`within` (see `edge_points`); a shard of an earlier version, which has others, is rebuilt when it is first
opened.

What is not covered: what a turn does; network file systems; a disk that fills up within a turn (the engine
maps its files and the kernel then kills the process with SIGBUS, so a turn is refused when little space is
left); shards written by a later version of the engine.
"""

import errno
import json
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import qdrant_edge as qe

from memory.edge_points import INDEX, pages, renewed
from memory.errors import MemoryBusy, MemoryUnavailable
from orchestrator_cli.durable.files import sync_folder
from orchestrator_cli.durable.locks import LockTimeout, LockUnsupported, acquire

_MIN_FREE_BYTES = 64 * 2**20
# What a damaged shard says; any other operating-system error is a condition that can be put right.
_DAMAGE = {errno.ENOENT, errno.EINVAL, errno.EISDIR, errno.ENOTDIR, errno.EEXIST}
_OS_ERROR = re.compile(r"os error (\d+)|code: (\d+)")
_CONDITION = re.compile(r"PermissionDenied|StorageFull|OutOfMemory|QuotaExceeded|ReadOnlyFilesystem")


@contextmanager
def exclusive(path: Path, *, wait_s: float) -> Iterator[None]:
    """Hold the lock file at `path`, in turn with others.

    Raises `MemoryBusy` after `wait_s` seconds, and `MemoryUnavailable` if it cannot be locked.
    """
    try:
        lock = acquire(path, wait_s=wait_s, fair=True)
    except LockTimeout as exc:
        raise MemoryBusy(
            f"The memory in {path.parent} was in use by others for {wait_s:g} s; try again."
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
    """The folder `path`, made when it is missing; `vector` is the name of the sparse vector."""

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
                f"The memory folder {self.root} cannot be made ({exc.strerror}); choose another."
            ) from exc

    @contextmanager
    def lock(self, wait_s: float) -> Iterator[None]:
        with exclusive(self.root / ".lock", wait_s=wait_s):
            yield

    @contextmanager
    def shard(self) -> Iterator[qe.EdgeShard]:
        """The shard; to be called with the lock held."""
        self._check_space()
        with _translated(self._shard_path):
            self._finish_swap()
            shard = self._load()
            if self._erasing.exists():
                # Somebody was killed between a deletion and the rebuild that erases its text.
                shard = self._renew(shard)
            try:
                yield shard
            finally:
                shard.close()

    def begin_erasing(self) -> None:
        """Note that points are about to be deleted, whose text stays in the shard until it is rebuilt."""
        with _translated(self._shard_path):
            self._erasing.touch()
            sync_folder(self.root)

    def erase(self, shard: qe.EdgeShard) -> None:
        """Write what remains into a new shard and put that in the place of this one, which is closed.

        A crash in between leaves the one or the other, and the next to open it finishes the work.
        """
        with _translated(self._shard_path):
            self._replace(shard)

    def dense(self) -> dict[str, int]:
        """The names of the dense vectors in the shard, and their sizes; with the lock held."""
        return _dense(self._shard_path)

    def set_aside(self) -> list[Path]:
        """The shards that could not be opened and were kept, oldest first."""
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
        """The same points in a new shard of this version."""
        self._replace(shard)
        return qe.EdgeShard.load(str(self._shard_path))

    def _replace(self, shard: qe.EdgeShard) -> None:
        try:
            self._copy(shard)
        finally:
            shard.close()
        self._swap_in()
        self._erasing.unlink(missing_ok=True)

    def _put_aside(self, fault: BaseException) -> None:
        aside = f"shard.corrupt-{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}"
        self._rename("shard", aside)
        self._warn(
            f"The memory could not be read ({_first_line(fault)}). It was kept as {self.root / aside} "
            "and memory begins anew; to use it again, mend it and rename it to 'shard'."
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
            # The default starts a thread per processor at every opening.
            max_search_threads=2,
        )
        shard = qe.EdgeShard.create(str(path), config)
        shard.update(qe.UpdateOperation.create_field_index(INDEX, qe.PayloadSchemaType.Keyword))
        shard.flush()
        return shard

    def _copy(self, shard: qe.EdgeShard) -> None:
        fresh = self._create("shard.new", self.dense())
        try:
            for page in pages(shard, None, vectors=True):
                fresh.update(qe.UpdateOperation.upsert_points([renewed(point) for point in page]))
            fresh.flush()
        finally:
            fresh.close()

    def _swap_in(self) -> None:
        self._rename("shard", "shard.old")
        self._rename("shard.new", "shard")
        shutil.rmtree(self.root / "shard.old")

    def _finish_swap(self) -> None:
        """Put right what a crash within `_swap_in` left; its delete was not acknowledged."""
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
                f"The memory in {self.root} stays shut: only {free // 2**20} MB are free; free some space."
            )


def _dense(shard: Path) -> dict[str, int]:
    """The engine has no call that tells; its file does."""
    known = json.loads((shard / "edge_config.json").read_text(encoding="utf-8")).get("vectors") or {}
    return {name: int(params["size"]) for name, params in known.items()}


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
