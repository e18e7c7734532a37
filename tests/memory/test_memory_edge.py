"""What only the folder store promises: durability through the outbox, repair, privacy, clear faults."""

import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import qdrant_edge

from memory import MemoryBusy, MemoryUnavailable, Query, Record, Scope
from memory.edge import EdgeStore
from memory.embedder import default_embedder
from memory.outbox import exclusive
from memory.records import to_payload

ME = Scope()


def run(key: str, text: str = "bitcoin prices") -> Record:
    return Record(kind="run", key=key, text=text)


def bytes_on_disk(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


def test_a_write_that_cannot_wait_goes_to_the_outbox_and_is_seen_by_the_next_read(tmp_path: Path) -> None:
    store = EdgeStore(tmp_path, write_wait_s=0.0)
    with exclusive(tmp_path / ".lock", wait_s=1):
        store.add([run("a"), run("b")])
        store.add([run("a", "rivers")])
        assert len(list((tmp_path / "outbox").glob("*.json"))) == 2
    assert [hit.record.key for hit in EdgeStore(tmp_path).search(Query("rivers", kinds=(), scope=ME))] == [
        "a"
    ]
    assert store.count((), ME) == 2
    assert list((tmp_path / "outbox").iterdir()) == []


def test_a_read_that_waits_too_long_raises_memory_busy(tmp_path: Path) -> None:
    store = EdgeStore(tmp_path, read_wait_s=0.02)
    with (
        exclusive(tmp_path / ".lock", wait_s=1),
        pytest.raises(MemoryBusy, match=r"in use by other processes for 0\.02 s; try again"),
    ):
        store.count((), ME)


def test_threads_share_a_store(tmp_path: Path) -> None:
    store = EdgeStore(tmp_path)

    def write(writer: int) -> None:
        for number in range(4):
            store.add([run(f"{writer}-{number}")])
            store.search(Query("bitcoin", kinds=(), scope=ME))

    threads = [threading.Thread(target=write, args=(writer,)) for writer in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert store.count((), ME) == 16


def test_the_folder_is_private_to_its_owner(tmp_path: Path) -> None:
    EdgeStore(tmp_path / "deep" / "memory")
    assert stat.S_IMODE((tmp_path / "deep" / "memory").stat().st_mode) == 0o700


def test_deleted_text_leaves_no_trace_in_the_folder(tmp_path: Path) -> None:
    store = EdgeStore(tmp_path)
    store.add([run(str(number)) for number in range(50)])
    store.add([run("secret", "the zanzibarsecret4711")])
    assert b"zanzibarsecret4711" in bytes_on_disk(tmp_path)
    store.delete([run("secret").id], ME)
    assert b"zanzibarsecret4711" not in bytes_on_disk(tmp_path)
    assert store.count((), ME) == 50
    assert len(store.search(Query("bitcoin", kinds=(), scope=ME, limit=99))) == 50


@pytest.mark.parametrize("moment", ["before the swap", "within the swap", "after the swap"])
def test_a_crash_at_any_moment_of_a_delete_leaves_a_whole_shard(tmp_path: Path, moment: str) -> None:
    store = EdgeStore(tmp_path)
    store.add([run("a"), run("b")])
    shard, old, new = tmp_path / "shard", tmp_path / "shard.old", tmp_path / "shard.new"
    match moment:
        case "before the swap":
            new.mkdir()
            (new / "half").write_text("written")
        case "within the swap":
            shard.rename(old)
            new.mkdir()
        case _:
            old.mkdir()
    assert store.count((), ME) == 2
    assert store.delete([run("a").id], ME) == 1
    assert store.count((), ME) == 1
    assert not old.exists()
    assert not new.exists()


def test_the_next_turn_erases_text_after_a_killed_delete(tmp_path: Path) -> None:
    code = """
import os, sys
from pathlib import Path
from memory import Scope, record_id
from memory.edge import EdgeStore
with EdgeStore(Path(sys.argv[1])).opened() as memory:
    memory.delete([record_id(Scope(), "run", "secret")], Scope())
    os.kill(os.getpid(), 9)
"""
    store = EdgeStore(tmp_path)
    store.add([run("secret", "the zanzibarsecret4711"), run("kept")])
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False).returncode == -9
    assert b"zanzibarsecret4711" in bytes_on_disk(tmp_path)
    assert store.count((), ME) == 1
    assert b"zanzibarsecret4711" not in bytes_on_disk(tmp_path)


def test_a_shard_of_an_earlier_version_is_migrated(tmp_path: Path) -> None:
    store = EdgeStore(tmp_path)
    shard = tmp_path / "shard"
    shard.mkdir()
    sparse = {"bm25": qdrant_edge.EdgeSparseVectorParams(modifier=qdrant_edge.Modifier.Idf)}
    older = qdrant_edge.EdgeShard.create(str(shard), qdrant_edge.EdgeConfig(sparse_vectors=sparse))
    keyword = qdrant_edge.PayloadSchemaType.Keyword
    for field in ("kind", "user", "project"):
        older.update(qdrant_edge.UpdateOperation.create_field_index(field, keyword))
    records = [run("a"), run("b").model_copy(update={"scope": Scope(user="ada", project="p")})]
    vector = default_embedder().document("bitcoin prices")
    point = qdrant_edge.SparseVector(list(vector.indices), list(vector.values))
    older.update(
        qdrant_edge.UpdateOperation.upsert_points(
            [qdrant_edge.Point(id=r.id, vector={"bm25": point}, payload=to_payload(r)) for r in records]
        )
    )
    older.close()
    assert [hit.record for hit in store.search(Query("bitcoin", kinds="run", scope=ME))] == records[:1]
    assert store.all((), Scope(user="ada", project="p")) == records[1:]
    assert store.all((), Scope(user="ada", project="q")) == []


def test_an_unreadable_batch_is_put_aside_with_a_warning(tmp_path: Path) -> None:
    said: list[str] = []
    store = EdgeStore(tmp_path, warn=said.append)
    (tmp_path / "outbox" / "0-bad.json").write_text('[{"kind": "run"')
    store.add([run("a")])
    assert store.count((), ME) == 1
    assert (tmp_path / "outbox" / "0-bad.unreadable").exists()
    assert "0-bad.unreadable" in said[0]


def test_too_many_open_files_is_not_corruption(tmp_path: Path) -> None:
    EdgeStore(tmp_path).add([run("a")])
    code = """
import resource, sys
from pathlib import Path
from memory import MemoryUnavailable, Scope
from memory.edge import EdgeStore
store = EdgeStore(Path(sys.argv[1]))
for limit in range(12, 3, -1):
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, 100))
    try:
        assert store.count((), Scope()) == 1
    except MemoryUnavailable as exc:
        print(exc)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert "Too many open files" in done.stdout
    store = EdgeStore(tmp_path)
    assert store.count((), ME) == 1
    assert store.set_aside() == []


def test_a_shard_held_open_by_another_program_loses_no_write(tmp_path: Path) -> None:
    store = EdgeStore(tmp_path)
    store.add([run("a")])
    foreign = qdrant_edge.EdgeShard.load(str(tmp_path / "shard"))
    store.add([run("b")])
    with pytest.raises(MemoryBusy, match="open in another program"):
        store.count((), ME)
    foreign.close()
    assert store.count((), ME) == 2
    assert store.set_aside() == []


def test_a_folder_that_cannot_be_created_raises(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(MemoryUnavailable, match="file/memory cannot be created"):
        EdgeStore(tmp_path / "file" / "memory")


def test_a_folder_that_vanished_raises(tmp_path: Path) -> None:
    store = EdgeStore(tmp_path / "memory")
    (tmp_path / "memory" / "outbox").rmdir()
    (tmp_path / "memory").rmdir()
    with pytest.raises(MemoryUnavailable, match="cannot be opened"):
        store.add([run("a")])


def test_importing_memory_loads_neither_of_qdrants_libraries() -> None:
    code = "import sys, memory; print(sorted(m for m in sys.modules if m.startswith('qdrant')))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ
    )
    assert done.stdout.strip() == "[]"


def test_opening_a_folder_loads_no_client(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib, memory; memory.open_store(pathlib.Path(sys.argv[1]))\n"
        "print('qdrant_client' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ,
    )
    assert done.stdout.strip() == "False"
