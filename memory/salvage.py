"""Reads what can be read of a damaged shard, and leaves its files as they are.

    found = salvage(folder / "shard", folder / "shard.salvage", config, without=deleted)
    found.points        # the points whose records can be read, each once
    found.unreadable    # how many points were found whose records cannot be read

The engine refuses a shard if one of its files is damaged, and the files repeat each other: the log holds
points that a segment holds too, the configuration and the index follow from the rest. So several partial
copies are opened, one after the other: without configuration and index, also without the log, the log alone,
and each segment alone. A point that several of them have is taken from the first.

What is not covered: dense vectors that only the log has; they are made again.
"""

import shutil
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import qdrant_edge as qe

from memory.records import MemoryUnavailable, RecordDamaged, from_payload

_PAGE = 200
_CHUNK = 2**16


@dataclass
class Salvaged:
    points: list[qe.Record] = field(default_factory=list)
    unreadable: int = 0
    dense: dict[str, int] = field(default_factory=dict)
    """The sizes of the dense vectors of the points, by name."""


def salvage(
    shard: Path, scratch: Path, config: qe.EdgeConfig, *, without: Collection[str] = (), expected: int = 0
) -> Salvaged:
    """The readable points of a shard. `scratch` is a folder to work in; it is removed.

    Args:
        config: that of a new shard, if the damaged one has none.
        without: ids of points that were deleted.
        expected: how many points there were; the search ends when all are found. 0 if that is unknown.

    Raises:
        OSError: a copy does not fit on the disk, or a file cannot be read.
    """
    good: dict[str, qe.Record] = {}
    bad: set[str] = set()
    for prepare in _partial_copies(shard):
        try:
            _copy(shard, scratch)
            prepare(scratch)
            for point in _points(scratch, config):
                ident = str(point.id)
                if ident in good or ident in without:
                    continue
                if is_readable(point):
                    good[ident] = point
                else:
                    bad.add(ident)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        if expected and len(good) >= expected:
            break
    found = Salvaged(list(good.values()), len(bad - good.keys()))
    for point in found.points:
        if isinstance(point.vector, dict):
            found.dense |= {name: len(v) for name, v in point.vector.items() if isinstance(v, list)}
    return found


def is_readable(point: qe.Record) -> bool:
    """Whether the record of a point can be read, by this version or by a later one."""
    try:
        from_payload(point.payload or {})
    except RecordDamaged:
        return False
    except MemoryUnavailable:
        return True
    return True


def _partial_copies(shard: Path) -> Iterator[Callable[[Path], None]]:
    """What to remove from a copy before it is opened, most complete first."""

    def without_index(copy: Path) -> None:
        (copy / "edge_config.json").unlink(missing_ok=True)
        for index in copy.glob("segments/*/payload_index"):
            shutil.rmtree(index)

    def without_log(copy: Path) -> None:
        without_index(copy)
        shutil.rmtree(copy / "wal", ignore_errors=True)

    def log_alone(copy: Path) -> None:
        # Without this file, all of the log is applied, and not only what the segments lack.
        (copy / "wal" / "first-index").unlink(missing_ok=True)
        for segment in copy.glob("segments/*"):
            shutil.rmtree(segment)

    yield from (without_index, without_log, log_alone)
    segments = sorted(path.name for path in shard.glob("segments/*"))
    for kept in segments if len(segments) > 1 else ():

        def one_segment(copy: Path, kept: str = kept) -> None:
            without_log(copy)
            for segment in copy.glob("segments/*"):
                if segment.name != kept:
                    shutil.rmtree(segment)

        yield one_segment


def _points(copy: Path, config: qe.EdgeConfig) -> Iterator[qe.Record]:
    """The points of a shard, as far as the engine returns them."""
    with _unless_damaged():
        # Without segments, nothing else says which vectors there are.
        shard = qe.EdgeShard.load(str(copy), *() if any(copy.glob("segments/*")) else (config,))
        try:
            ids, offset = list[qe.Record](), None
            while True:
                page, offset = shard.scroll(
                    qe.ScrollRequest(offset=offset, limit=_PAGE, with_payload=False, with_vector=False)
                )
                ids += page
                if offset is None:
                    break
            for start in range(0, len(ids), _PAGE):
                wanted = [point.id for point in ids[start : start + _PAGE]]
                try:
                    yield from shard.retrieve(list(wanted), True, True)
                except BaseException as exc:
                    if not is_from_engine(exc):
                        raise
                    for one in wanted:
                        with _unless_damaged():
                            yield from shard.retrieve([one], True, True)
        finally:
            with _unless_damaged():
                shard.close()


@contextmanager
def _unless_damaged() -> Iterator[None]:
    """End the block if the engine fails."""
    try:
        yield
    except BaseException as exc:
        if not is_from_engine(exc):
            raise


def is_from_engine(exc: BaseException) -> bool:
    # The engine raises plain Exception; a panic in its Rust code derives from BaseException.
    return type(exc) is Exception or type(exc).__module__ == "pyo3_runtime"


def _copy(folder: Path, target: Path) -> None:
    """Copy a folder; runs of zeros, most of what the engine maps, become holes."""
    shutil.rmtree(target, ignore_errors=True)
    for path in (folder, *sorted(folder.rglob("*"))):
        to = target / path.relative_to(folder)
        if path.is_dir():
            to.mkdir(parents=True)
        elif path.is_file():
            with path.open("rb") as source, to.open("wb") as copy:
                while chunk := source.read(_CHUNK):
                    if chunk.count(0) == len(chunk):
                        copy.seek(len(chunk), 1)
                    else:
                        copy.write(chunk)
                copy.truncate(source.tell())
