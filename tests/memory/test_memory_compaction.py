"""Deleting in a folder: gone at once, the bytes soon, and others get their turns meanwhile."""

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import qdrant_edge as qe

from memory import DenseVector, MemoryBusy, Query, Record, Scope, record_id
from memory.edge import EdgeStore
from memory.residue import find_residue
from orchestrator_cli.durable.locks import acquire

ME = Scope()
SECRET = "the zanzibarsecret4711"

DELETER = """
import sys
from pathlib import Path
from memory import Scope, record_id
from memory.edge import EdgeStore
EdgeStore(Path(sys.argv[1]), read_wait_s=60).delete([record_id(Scope(), "run", "secret")], Scope())
"""


def run(key: str, text: str = "bitcoin prices") -> Record:
    return Record(kind="run", key=key, text=text)


@pytest.fixture
def store(tmp_path: Path) -> EdgeStore:
    """A memory of several pages, with a secret."""
    store = EdgeStore(tmp_path, read_wait_s=60)
    store.add([*(run(f"{number}") for number in range(1500)), run("secret", SECRET)])
    return store


@contextmanager
def between_slices(monkeypatch: pytest.MonkeyPatch, *actions: Callable[[], object]) -> Iterator[list[str]]:
    """Do each action after a page was copied; the engine's call is the boundary that is watched."""
    monkeypatch.setattr("memory.compaction.slice_s", lambda _: 0.0)
    left, done = list(actions), list[str]()
    upsert = qe.UpdateOperation.upsert_points

    def watched(points: list[qe.Point]) -> qe.UpdateOperation:
        if len(points) == 500 and left:
            action = left.pop(0)
            action()
            done.append("action")
        return upsert(points)

    monkeypatch.setattr(qe.UpdateOperation, "upsert_points", watched)
    yield done
    monkeypatch.undo()


def keys(store: EdgeStore) -> set[str]:
    return {record.key for record in store.all((), ME)}


def test_others_write_read_and_replace_while_a_deletion_is_erased(
    store: EdgeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = EdgeStore(store.root, read_wait_s=0.0)
    found: list[int] = []

    def act() -> None:
        found.append(len(other.get([run("secret").id], ME)))
        other.add([run("new", "rivers"), *(run(f"{number}", "rivers") for number in range(0, 1500, 5))])

    with between_slices(monkeypatch, act, act) as done:
        assert store.delete([run("secret").id], ME) == 1
    assert len(done) == 2
    assert found == [0, 0]
    assert list((store.root / "outbox").iterdir()) == []
    assert keys(store) == {"new", *(str(number) for number in range(1500))}
    assert len(store.search(Query("rivers", kinds=(), scope=ME, limit=999))) == 301
    assert not find_residue(store.root, [SECRET])


def test_what_is_deleted_while_another_deletion_is_erased_leaves_no_byte(
    store: EdgeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.add([run("second", "the quillsecret0815")])
    code = DELETER.replace('"secret"', '"second"')
    others: list[subprocess.Popen[bytes]] = []

    def act() -> None:
        others.append(subprocess.Popen([sys.executable, "-c", code, str(store.root)]))
        while EdgeStore(store.root, read_wait_s=60).get([run("second").id], ME):
            pass

    # After the last page, so that the new shard already holds what is deleted.
    with between_slices(monkeypatch, lambda: None, lambda: None, act):
        store.delete([run("secret").id], ME)
    assert not find_residue(store.root, [SECRET])
    assert others[0].wait(60) == 0
    assert not find_residue(store.root, [SECRET, "the quillsecret0815"])
    assert len(keys(store)) == 1500


def test_vectors_that_are_made_meanwhile_are_kept(store: EdgeStore, monkeypatch: pytest.MonkeyPatch) -> None:
    other = EdgeStore(store.root, read_wait_s=0.0)
    made = DenseVector("test", (1.0, 0.0))
    with between_slices(monkeypatch, lambda: other.put_vectors([(run("1"), made)])):
        store.delete([run("secret").id], ME)
    assert store.vectors() == {"test": 1}
    assert not find_residue(store.root, [SECRET])


@pytest.mark.parametrize("moment", ["first page", "last page", "swap"])
def test_the_next_command_erases_what_a_killed_one_has_deleted(store: EdgeStore, moment: str) -> None:
    where = {
        "first page": "if len(points) == 500: os.kill(os.getpid(), 9)",
        "last page": "if len(points) == 1: os.kill(os.getpid(), 9)",
        "swap": "pass",
    }[moment]
    code = f"""
import os
import memory.compaction
import qdrant_edge as qe
from pathlib import Path
memory.compaction.slice_s = lambda _: 0.0
upsert, rename = qe.UpdateOperation.upsert_points, Path.rename
def watched(points):
    {where}
    return upsert(points)
def renamed(path, to):
    done = rename(path, to)
    if "{moment}" == "swap" and path.name == "shard":
        os.kill(os.getpid(), 9)
    return done
qe.UpdateOperation.upsert_points, Path.rename = watched, renamed
{DELETER}"""
    store.add([run("one more")])
    done = subprocess.run([sys.executable, "-c", code, str(store.root)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert find_residue(store.root, [SECRET])
    assert store.get([run("secret").id], ME) == []
    assert not find_residue(store.root, [SECRET])
    assert len(keys(store)) == 1501
    assert not [path for path in store.root.iterdir() if path.name.startswith(("shard.", ".erasing"))]


def test_a_reader_does_not_wait_for_one_who_erases(store: EdgeStore) -> None:
    with acquire(store.root / ".compacting", wait_s=0):
        with suppress(KeyboardInterrupt), EdgeStore(store.root).opened() as turn:
            turn.delete([run("secret").id], ME)
            raise KeyboardInterrupt
        assert EdgeStore(store.root).get([run("secret").id], ME) == []


def test_a_deletion_that_could_not_be_erased_is_an_error(
    store: EdgeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("memory.edge._ERASING_WAIT_S", 0.0)
    with acquire(store.root / ".compacting", wait_s=0):
        with pytest.raises(MemoryBusy, match="still on the disk"):
            store.delete([run("secret").id], ME)
        assert store.get([run("secret").id], ME) == []
    assert find_residue(store.root, [SECRET])
    assert store.count((), ME) == 1500
    assert not find_residue(store.root, [SECRET])


def test_a_mark_of_an_earlier_version_is_heeded(store: EdgeStore) -> None:
    # Earlier versions left an empty file.
    (store.root / ".erasing").touch()
    assert store.count((), ME) == 1501
    assert not (store.root / ".erasing").exists()


def test_many_are_deleted_in_several_turns(store: EdgeStore) -> None:
    ids = [record_id(ME, "run", f"{number}") for number in range(1200)]
    assert store.delete([*ids, *ids], Scope(user="someone else")) == 0
    assert store.delete([*ids, *ids], ME) == 1200
    assert store.count((), ME) == 301
    assert list((store.root / "outbox").iterdir()) == []
