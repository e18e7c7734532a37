"""Damage in a folder of memory: what can be read is kept, the rest is said, and nothing is overwritten."""

import contextlib
import os
import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from copies import keep_count
from unprivileged import bound_by_modes

from memory import MemoryUnavailable, Query, Record, Scope
from memory.edge import EdgeStore

ME = Scope()
COUNT = 40
SEGMENT = "shard/segments/*/"
REMEDY = "The remedy."


def missing(path: Path) -> None:
    path.unlink()


def empty(path: Path) -> None:
    os.truncate(path, 0)


def truncated(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def zeroed(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(bytes(min(path.stat().st_size, 200_000)))


def garbage(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(random.Random(1).randbytes(min(path.stat().st_size, 200_000)))


@dataclass(frozen=True)
class Damage:
    """What is done to a file, and what has to come of it."""

    file: str
    how: Callable[[Path], None]
    kept: int = COUNT
    is_said: bool = True

    def __str__(self) -> str:
        return f"{self.file.removeprefix(SEGMENT)} {self.how.__name__}"


DAMAGE = [
    Damage("shard/edge_config.json", empty),
    Damage("shard/edge_config.json", garbage),
    Damage("shard/edge_config.json", missing, is_said=False),
    Damage("shard/wal/first-index", garbage),
    Damage("shard/wal/open-1", garbage),
    Damage("shard/wal/open-1", missing, is_said=False),
    Damage(f"{SEGMENT}segment.json", garbage),
    Damage(f"{SEGMENT}segment.json", missing),
    Damage(f"{SEGMENT}mutable_id_tracker.mappings", missing),
    Damage(f"{SEGMENT}mutable_id_tracker.mappings", truncated),
    Damage(f"{SEGMENT}mutable_id_tracker.mappings", garbage),
    Damage(f"{SEGMENT}mutable_id_tracker.versions", empty),
    Damage(f"{SEGMENT}payload_index/config.json", truncated),
    Damage(f"{SEGMENT}payload_index/*-map/tracker.dat", zeroed),
    Damage(f"{SEGMENT}payload_index/*-map/tracker.dat", garbage),
    Damage(f"{SEGMENT}payload_storage/config.json", missing),
    Damage(f"{SEGMENT}payload_storage/page_0.dat", zeroed),
    Damage(f"{SEGMENT}payload_storage/page_0.dat", garbage),
    Damage(f"{SEGMENT}payload_storage/tracker.dat", zeroed),
    Damage(f"{SEGMENT}vector_storage-bm25/store/config.json", empty),
    Damage(f"{SEGMENT}vector_storage-bm25/store/page_0.dat", missing),
]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    store = EdgeStore(folder)
    store.add([Record(kind="run", key=f"{number}", text=f"prices {number}") for number in range(COUNT - 1)])
    store.add([Record(kind="fact", key="last", text="prices of bitcoin")])
    return folder


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    copy = shutil.copytree(whole, tmp_path / "memory")
    keep_count(copy)
    return copy


def opened(folder: Path, said: list[str]) -> EdgeStore:
    return EdgeStore(folder, warn=said.append, remedy=REMEDY)


@pytest.mark.parametrize("damage", DAMAGE, ids=str)
def test_what_can_be_read_is_kept_and_the_rest_is_said(folder: Path, damage: Damage) -> None:
    (path,) = folder.glob(damage.file)
    damage.how(path)
    said: list[str] = []
    store = opened(folder, said)
    # Where the engine fails in the middle, the call says so; the memory is repaired when it returns.
    with contextlib.suppress(MemoryUnavailable):
        store.all((), ME)
    found = store.all((), ME)
    assert len(found) == damage.kept
    assert len(store.search(Query("prices", kinds=(), scope=ME, limit=99))) == damage.kept
    asides = store.set_aside()
    assert len(said) == len(asides) == int(damage.is_said)
    for aside, sentence in zip(asides, said, strict=True):
        assert str(aside) in sentence
        assert f"all {COUNT}" in sentence
        # The bytes of the texts, with which one could try more.
        assert sum(file.stat().st_size for file in aside.rglob("*") if file.is_file())
    store.add([Record(kind="run", key="new", text="prices")])
    assert EdgeStore(folder, warn=said.append).count((), ME) == damage.kept + 1
    assert len(said) == int(damage.is_said)


def test_records_that_are_in_no_file_are_counted(folder: Path) -> None:
    for name in ("mutable_id_tracker.mappings", "mutable_id_tracker.versions"):
        missing(next(folder.glob(SEGMENT + name)))
    for path in folder.glob("shard/wal/open-*"):
        zeroed(path)
    said: list[str] = []
    store = opened(folder, said)
    assert store.count((), ME) == 0
    assert "40 could not be read" in said[0]
    assert REMEDY in said[0]
    assert str(store.set_aside()[0]) in said[0]


def test_a_folder_of_records_that_is_gone_is_said(folder: Path) -> None:
    shutil.rmtree(folder / "shard")
    said: list[str] = []
    store = opened(folder, said)
    assert store.count((), ME) == 0
    assert len(said) == 1
    assert "40" in said[0]
    assert REMEDY in said[0]


@pytest.mark.parametrize(
    ("torn", "kept"),
    [
        ('[{"kind": "run", "key": "a", "text": "a"}, {"kind": "run", "key": "b", "te', 1),
        ('[{"kind": "run", "key": "a", "text": "{"}, {"no": "record"}]', 1),
        ("", 0),
        ("\0" * 300, 0),
    ],
)
def test_a_torn_batch_is_read_as_far_as_it_can_be(folder: Path, torn: str, kept: int) -> None:
    batch = folder / "outbox" / "0-torn.json"
    batch.write_text(torn)
    said: list[str] = []
    store = opened(folder, said)
    assert store.count((), ME) == COUNT + kept
    (sentence,) = said
    aside = batch.with_suffix(".unreadable")
    assert aside.read_text() == torn
    assert str(aside) in sentence
    assert f" {kept} of its records" in sentence


def test_what_was_deleted_does_not_come_back_with_a_repair(folder: Path) -> None:
    store = opened(folder, [])
    last = store.all("fact", ME)[0].id
    with contextlib.suppress(KeyboardInterrupt), store.opened() as turn:
        turn.delete([last], ME)
        raise KeyboardInterrupt
    missing(next(folder.glob(SEGMENT + "mutable_id_tracker.mappings")))
    said: list[str] = []
    assert EdgeStore(folder, warn=said.append).get([last], ME) == []
    assert EdgeStore(folder).count((), ME) == COUNT - 1
    assert len(said) == 1


@pytest.mark.parametrize("path", ["shard/edge_config.json", "outbox/0-batch.json"])
def test_missing_permission_changes_nothing_and_names_the_file(folder: Path, path: str) -> None:
    (folder / "outbox" / "0-batch.json").write_text("[]")
    file = folder / path
    file.chmod(0)
    said: list[str] = []
    store = opened(folder, said)
    with bound_by_modes(), pytest.raises(MemoryUnavailable, match="ermission"):
        store.count((), ME)
    file.chmod(0o600)
    assert EdgeStore(folder, warn=said.append).count((), ME) == COUNT
    assert said == []
