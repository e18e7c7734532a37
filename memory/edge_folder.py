"""The folder of an embedded memory: its lock, its outbox and its shard, which is repaired when it is opened.

    FOLDER/            mode 0700
      .lock            held during a turn
      .erasing         the ids of deleted records whose text the shard may still contain (see `compaction`)
      outbox/          writes that could not wait for the lock
      shard/           the Qdrant Edge shard
      .records         how many records the shard holds at least: fewer are a damage
      .damaged         exists if a damage was met; the next turn repairs it
      shard.corrupt-*  damaged shards

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
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import qdrant_edge as qe

from memory.compaction import Compaction, renewed, sliced
from memory.outbox import exclusive
from memory.records import MemoryBusy, MemoryUnavailable
from memory.salvage import is_from_engine, salvage
from orchestrator_cli.durable.files import sync_folder, write_atomic

INDEX = "within"
"""The one field with an index: a record's tags."""

_MIN_FREE_BYTES = 64 * 2**20
_SLICE_WAIT_S = 600.0
_BATCH_POINTS = 500
# The errors of a damaged shard; any other operating-system error can be fixed by the user.
_DAMAGE = {errno.ENOENT, errno.EINVAL, errno.EISDIR, errno.ENOTDIR, errno.EEXIST}
_OS_ERROR = re.compile(r"os error (\d+)|code: (\d+)")
_CONDITION = re.compile(r"PermissionDenied|StorageFull|OutOfMemory|QuotaExceeded|ReadOnlyFilesystem")


class EdgeFolder:
    """The folder `path`, created if it is missing.

    `vector` is the name of the sparse vector; `remedy` a sentence about getting lost records back.
    """

    def __init__(self, path: Path, vector: str, warn: Callable[[str], None], remedy: str = "") -> None:
        self.root = path.absolute()
        self.outbox = self.root / "outbox"
        self._shard_path = self.root / "shard"
        self._records = self.root / ".records"
        self._damaged = self.root / ".damaged"
        self.compaction = Compaction(self.root)
        self.opened_s = 0.0
        """How long the last opening of the shard has taken."""
        self._vector = vector
        self._warn, self._remedy = warn, remedy
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
        began = time.monotonic()
        with _translated(self._shard_path):
            self._finish_swap()
            shard = self._load()
            self.opened_s = time.monotonic() - began
            try:
                yield shard
            except BaseException as exc:
                if is_from_engine(exc) and _is_corruption(exc):
                    self.suspect()
                raise
            finally:
                shard.close()

    def compact(self, wait_s: float) -> None:
        """Erase deleted text from the disk; the lock must not be held, and is free most of the time.

        Raises `MemoryBusy` if another process is still erasing after `wait_s` seconds, and
        `MemoryUnavailable`.
        """
        with _translated(self._shard_path):
            self.compaction.run(self, INDEX, wait_s)

    @contextmanager
    def turn(self) -> Iterator[qe.EdgeShard]:
        with self.lock(_SLICE_WAIT_S), self.shard() as shard:
            yield shard

    def create(self, name: str) -> qe.EdgeShard:
        return self._create(name, self.dense())

    def layout(self) -> object:
        return self.dense(), self._shard_path.stat().st_ino

    def swap(self, name: str) -> None:
        """Replace the shard, which is closed. A crash in between is repaired by `_finish_swap`."""
        known = self._known()
        self._rename("shard", "shard.old")
        self._rename(name, "shard")
        self.note_count(known)
        shutil.rmtree(self.root / "shard.old")

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
            known = self._known()
            self._begin()
            # File systems use an inode again at once: the new shard can have the number of the missing one.
            self._records.unlink(missing_ok=True)
            if known:
                self._warn(
                    f"The memory's records are gone: {self._shard_path}, which held {known:,}, is missing. "
                    f"Memory starts empty. To get them back, restore a backup of it. {self._remedy}".strip()
                )
        try:
            shard = qe.EdgeShard.load(str(self._shard_path))
        except BaseException as exc:
            if not _is_corruption(exc):
                raise
            return self._repaired(_first_line(exc))
        if fault := self._damage(shard):
            shard.close()
            return self._repaired(fault)
        return shard if INDEX in shard.info().payload_schema else self._renew(shard)

    def _damage(self, shard: qe.EdgeShard) -> str:
        """What is wrong with a shard that could be opened; empty if nothing is."""
        info, known = shard.info(), self._known()
        if self._damaged.exists():
            return "a record in it is damaged"
        if info.points_count < known:
            return f"{info.points_count:,} of {known:,} records are in it"
        index = info.payload_schema.get(INDEX)
        if index is not None and index.points < info.points_count:
            return f"its index has {index.points:,} of {info.points_count:,} records"
        return ""

    def suspect(self) -> None:
        """Have the next turn repair the shard, because something in it could not be read."""
        self._damaged.touch()

    @property
    def is_suspect(self) -> bool:
        return self._damaged.exists()

    def note_count(self, count: int) -> None:
        """Keep how many records there are at least; before a deletion, and after an addition."""
        if count != self._known():
            write_atomic(self._records, f"{count} {self._shard_path.stat().st_ino}\n")

    def _known(self) -> int:
        """How many records the shard held at least; 0 if that is unknown, as of a restored backup."""
        try:
            count, inode = map(int, self._records.read_bytes().split())
        except (FileNotFoundError, ValueError):
            return 0
        is_same = not self._shard_path.exists() or self._shard_path.stat().st_ino == inode
        return count if is_same else 0

    def _begin(self) -> None:
        self._create("shard.new", {}).close()
        self._rename("shard.new", "shard")

    def _renew(self, shard: qe.EdgeShard) -> qe.EdgeShard:
        """The same points in a new shard in the form of this version."""
        self._replace(shard)
        return qe.EdgeShard.load(str(self._shard_path))

    def _replace(self, shard: qe.EdgeShard) -> None:
        offset: qe.PointId | None = None
        try:
            with closing(self.create("shard.new")) as fresh:
                while True:
                    page, offset = sliced(shard, None, offset, vectors=True)
                    fresh.update(qe.UpdateOperation.upsert_points(renewed(page, INDEX)))
                    if offset is None:
                        break
                fresh.flush()
        finally:
            shard.close()
        self.swap("shard.new")

    def _repaired(self, fault: str) -> qe.EdgeShard:
        """A new shard with what can be read of the damaged one, which is put aside; says so."""
        known = self._known()
        found = salvage(
            self._shard_path,
            self.root / "shard.salvage",
            self._config({}),
            without=self.compaction.deleted(),
            expected=known,
        )
        with closing(self._create("shard.new", found.dense)) as fresh:
            for start in range(0, len(found.points), _BATCH_POINTS):
                batch = found.points[start : start + _BATCH_POINTS]
                fresh.update(qe.UpdateOperation.upsert_points(renewed(batch, INDEX)))
            fresh.flush()
        # From this name on, it is whole: `_finish_swap` continues after a kill.
        self._rename("shard.new", "shard.repaired")
        aside = self.root / f"shard.corrupt-{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}"
        self._rename("shard", aside.name)
        self._rename("shard.repaired", "shard")
        self.note_count(len(found.points))
        self._damaged.unlink(missing_ok=True)
        kept, lost = len(found.points), max(known - len(found.points), found.unreadable)
        of = f"all {kept:,}" if known and not lost else f"{kept:,}"
        lacking = f"; {lost:,} could not be read" if lost else ""
        self._warn(
            f"The memory was damaged ({fault}). It was repaired with {of} records that could be "
            f"read{lacking}. The damaged files are in {aside}; to use them again, rename it to "
            f"'shard'. {self._remedy if lost or not known else ''}".strip()
        )
        return qe.EdgeShard.load(str(self._shard_path))

    def _create(self, name: str, dense: Mapping[str, int]) -> qe.EdgeShard:
        path = self.root / name
        shutil.rmtree(path, ignore_errors=True)
        shard = qe.EdgeShard.create(str(path), self._config(dense))
        shard.update(qe.UpdateOperation.create_field_index(INDEX, qe.PayloadSchemaType.Keyword))
        shard.flush()
        return shard

    def _config(self, dense: Mapping[str, int]) -> qe.EdgeConfig:
        return qe.EdgeConfig(
            vectors={
                vector: qe.EdgeVectorParams(size=size, distance=qe.Distance.Cosine)
                for vector, size in dense.items()
            },
            sparse_vectors={self._vector: qe.EdgeSparseVectorParams(modifier=qe.Modifier.Idf)},
            # By default, every opening starts one thread per processor.
            max_search_threads=2,
        )

    def _finish_swap(self) -> None:
        """Repair what a crash during `swap` or `_repaired` left."""
        for name in ("shard.new", "shard.salvage"):
            if (self.root / name).exists():
                shutil.rmtree(self.root / name)
        old, repaired = self.root / "shard.old", self.root / "shard.repaired"
        if repaired.exists():
            if self._shard_path.exists():
                shutil.rmtree(repaired)
            else:
                self._rename("shard.repaired", "shard")
                self._damaged.unlink(missing_ok=True)
                self._warn(
                    f"The memory was damaged and repaired; see {self.root}/shard.corrupt-*. {self._remedy}"
                )
                # What is lacking was not counted.
                self._records.unlink(missing_ok=True)
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


@contextmanager
def _translated(shard: Path) -> Iterator[None]:
    """Translate the engine's errors into ours."""
    try:
        yield
    except OSError as exc:
        raise MemoryUnavailable(
            f"The memory in {shard.parent} cannot be used: {exc.strerror or exc} ({exc.filename or shard})."
        ) from exc
    except BaseException as exc:
        if not is_from_engine(exc):
            raise
        if "WouldBlock" in str(exc):
            raise MemoryBusy(
                f"The memory in {shard} is open in another program, which does not use its lock; end it."
            ) from exc
        if _is_corruption(exc):
            raise MemoryUnavailable(
                f"The memory in {shard} was damaged ({_first_line(exc)}): try again."
            ) from exc
        raise MemoryUnavailable(
            f"The memory in {shard} failed ({_first_line(exc)}). If freeing space and checking permissions "
            "do not help, rename that folder; memory then starts empty."
        ) from exc


def _is_corruption(exc: BaseException) -> bool:
    message = str(exc)
    if not is_from_engine(exc) or "WouldBlock" in message or _CONDITION.search(message):
        return False
    codes = {int(plain or debug) for plain, debug in _OS_ERROR.findall(message)}
    return codes <= _DAMAGE


def _first_line(exc: BaseException) -> str:
    return str(exc).partition("\n")[0][:200]
