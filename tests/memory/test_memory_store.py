"""The contract of `MemoryStore`, asked of every engine.

"client over HTTP" is the client as a server sees it, see `qdrant_face`. A real server is asked only when
ORCH_TEST_QDRANT_URL names one; each test keeps to a user of its own, so that it may be a server with other
data.
"""

import os
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest
from fake_embeddings import meaning, meanings
from qdrant_face import QdrantFace

from memory import (
    Dense,
    DenseVector,
    EmbeddingFailed,
    MemoryStore,
    Position,
    Query,
    Record,
    Scope,
    Source,
    open_store,
    recall,
    record_id,
    run_record,
    tool_record,
)
from memory.dense import FillResult, count_missing, fill_vectors
from memory.edge import EdgeStore
from memory.records import to_payload
from memory.server import ServerStore

pytestmark = pytest.mark.filterwarnings("ignore:Payload indexes have no effect in the local Qdrant")


def _server_in_memory() -> MemoryStore:
    from qdrant_client import QdrantClient

    return ServerStore("memory", client=QdrantClient(":memory:"))


def _real_server() -> MemoryStore:
    url = os.environ.get("ORCH_TEST_QDRANT_URL")
    if not url:
        pytest.skip("no Qdrant server: ORCH_TEST_QDRANT_URL is not set")
    return ServerStore(url, os.environ.get("ORCH_TEST_QDRANT_API_KEY"))


@pytest.fixture(params=["edge", "client in memory", "client over HTTP", "waiting", "server"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[MemoryStore]:
    match request.param:
        case "edge":
            made: MemoryStore = EdgeStore(tmp_path / "memory")
        case "client in memory":
            made = _server_in_memory()
        case "client over HTTP":
            made = ServerStore(request.getfixturevalue("face").url)
        case "waiting":
            made = open_store(tmp_path, url=request.getfixturevalue("face").url)
        case _:
            made = _real_server()
    yield made
    made.close()


@pytest.fixture
def face() -> Iterator[QdrantFace]:
    with QdrantFace() as serving:
        yield serving


@pytest.fixture
def scope(store: MemoryStore) -> Iterator[Scope]:
    mine = Scope(user=f"tester-{uuid4().hex}")
    yield mine
    if not isinstance(store, EdgeStore):
        store.delete([record.id for record in store.all((), mine)], mine)


def note(scope: Scope, key: str, text: str = "some text", kind: str = "run", **data: object) -> Record:
    return Record.model_validate({"kind": kind, "key": key, "text": text, "scope": scope, "data": data})


def keys(records: list[Record]) -> list[str]:
    return [record.key for record in records]


def test_a_record_comes_back_as_it_was_given(store: MemoryStore, scope: Scope) -> None:
    given = note(scope, "a", "Überprüfe den Fluss 河流 \x00 🙂", deep=[1, 2.5, None, {"": [True, -(2**80)]}])
    store.add([given])
    assert store.get([given.id], scope) == [given]
    assert store.all("run", scope) == [given]
    assert store.search(Query("fluss", kinds="run", scope=scope))[0].record == given


def test_writing_the_same_record_again_changes_nothing(store: MemoryStore, scope: Scope) -> None:
    given = note(scope, "a")
    for _ in range(3):
        store.add([given, given])
    assert store.all((), scope) == [given]


def test_a_later_content_under_the_same_key_replaces_the_earlier(store: MemoryStore, scope: Scope) -> None:
    store.add([note(scope, "a", "rivers")])
    store.add([note(scope, "a", "mountains")])
    assert store.count((), scope) == 1
    assert store.search(Query("rivers", kinds="run", scope=scope)) == []
    assert keys([hit.record for hit in store.search(Query("mountain", kinds="run", scope=scope))]) == ["a"]


def test_the_best_match_comes_first_and_at_most_the_limit_comes(store: MemoryStore, scope: Scope) -> None:
    store.add(
        [
            note(scope, "both", "bitcoin prices of the week"),
            note(scope, "one", "prices of bread and of many other things that people buy at a market"),
            note(scope, "none", "a poem about rivers"),
        ]
    )
    hits = store.search(Query("bitcoin price", kinds="run", scope=scope))
    assert keys([hit.record for hit in hits]) == ["both", "one"]
    assert hits[0].score > hits[1].score > 0
    assert len(store.search(Query("bitcoin price", kinds="run", scope=scope, limit=1))) == 1


@pytest.mark.parametrize("query", ["", "   ", "the of and", "zebra", "\ud800"])
def test_a_query_without_a_known_word_finds_nothing(store: MemoryStore, scope: Scope, query: str) -> None:
    store.add([note(scope, "a", "bitcoin prices")])
    assert store.search(Query(query, kinds="run", scope=scope)) == []


def test_kinds_keep_apart_and_no_kind_means_all(store: MemoryStore, scope: Scope) -> None:
    store.add(
        [
            note(scope, "r", "rivers", "run"),
            note(scope, "t", "rivers", "tool"),
            note(scope, "x", "rivers", "x"),
        ]
    )
    assert keys([hit.record for hit in store.search(Query("river", kinds="tool", scope=scope))]) == ["t"]
    assert len(store.search(Query("river", kinds=("run", "tool"), scope=scope))) == 2
    assert len(store.search(Query("river", kinds=(), scope=scope))) == 3
    assert store.count("run", scope) == 1
    assert store.count((), scope) == 3


def test_another_users_records_are_never_seen_nor_deleted(store: MemoryStore, scope: Scope) -> None:
    other = Scope(user=f"{scope.user}-other")
    theirs = note(other, "a", "rivers")
    store.add([theirs])
    assert store.search(Query("rivers", kinds=(), scope=scope)) == []
    assert store.get([theirs.id], scope) == []
    assert store.all((), scope) == []
    assert store.count((), scope) == 0
    assert store.delete([theirs.id], scope) == 0
    assert store.get([theirs.id], other) == [theirs]
    assert store.delete([theirs.id], other) == 1


def test_a_project_sees_its_own_records_and_those_of_no_project(store: MemoryStore, scope: Scope) -> None:
    here, there = (scope.model_copy(update={"project": name}) for name in ("here", "there"))
    mine, own, elsewhere = (
        note(scope, "mine", "rivers"),
        note(here, "own", "rivers"),
        note(there, "no", "rivers"),
    )
    store.add([mine, own, elsewhere])
    assert {hit.record.key for hit in store.search(Query("rivers", kinds=(), scope=here))} == {"mine", "own"}
    assert store.count((), here) == 2
    assert keys(store.get([elsewhere.id, own.id], here)) == ["own"]
    assert store.delete([elsewhere.id], here) == 0
    assert store.count((), scope) == 3


def test_deleted_records_never_reappear(store: MemoryStore, scope: Scope) -> None:
    gone, kept = note(scope, "gone", "rivers"), note(scope, "kept", "rivers too")
    store.add([gone, kept])
    assert store.delete([gone.id, gone.id, uuid4()], scope) == 1
    assert store.delete([gone.id], scope) == 0
    assert store.get([gone.id], scope) == []
    assert store.all((), scope) == [kept]
    assert [hit.record for hit in store.search(Query("rivers", kinds=(), scope=scope))] == [kept]
    store.add([gone])
    assert store.count((), scope) == 2


def test_get_keeps_the_order_asked_and_leaves_out_the_absent(store: MemoryStore, scope: Scope) -> None:
    records = [note(scope, key) for key in "abc"]
    store.add(records)
    asked = [records[2].id, record_id(scope, "run", "absent"), records[0].id, records[2].id]
    assert keys(store.get(asked, scope)) == ["c", "a"]
    assert store.get([], scope) == []


def test_all_gives_every_record_newest_first(store: MemoryStore, scope: Scope) -> None:
    start = datetime(2026, 1, 1, tzinfo=UTC)
    many = [
        note(scope, str(number)).model_copy(update={"created": start + timedelta(minutes=number)})
        for number in range(1203)
    ]
    store.add(many)
    assert store.all("run", scope) == many[::-1]


def test_adding_nothing_is_allowed(store: MemoryStore, scope: Scope) -> None:
    store.add([])
    assert store.count((), scope) == 0


def test_a_run_and_its_tool_are_recalled_from_every_engine(store: MemoryStore, scope: Scope) -> None:
    store.add(
        [
            run_record(
                run="r",
                prompt="How far is Oslo from Bergen?",
                outcome="completed",
                answer="306 km",
                plan=[{"id": "look", "tools": ["geo"]}],
                scope=scope,
            ),
            tool_record(name="geo", version="1", purpose="Latitude of a city", signature="()", scope=scope),
        ]
    )
    found = recall(store, "How far is Bergen from Oslo?", scope=scope)
    assert [(run.run, run.answer_summary) for run in found.runs] == [("r", "306 km")]
    assert [tool.name for tool in found.tools] == ["geo"]
    unrelated = recall(store, "Write a poem about rivers", scope=scope)
    assert (unrelated.runs, unrelated.tools) == ((), ())


MONDAY = datetime(2026, 1, 5, tzinfo=UTC)


def test_all_fields_are_stored(store: MemoryStore, scope: Scope) -> None:
    given = note(scope, "a").model_copy(
        update={
            "session": "s",
            "seq": 0,
            "valid_from": MONDAY,
            "source": Source(type="web", ref="https://example.org", quote="Ü\n"),
            "last_used": MONDAY + timedelta(microseconds=1),
            "uses": 3,
            "pinned": True,
        }
    )
    store.add([given])
    assert store.all((), scope) == [given]


def test_reads_return_records_that_hold_at_the_time(store: MemoryStore, scope: Scope) -> None:
    old, new, later = (note(scope, key, "lives in rivers") for key in ("old", "new", "later"))
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    old = old.ended(MONDAY, by=new.id)
    new = new.model_copy(update={"valid_from": MONDAY})
    later = later.model_copy(update={"valid_from": tomorrow, "valid_to": tomorrow + timedelta(days=1)})
    store.add([old, new, later])

    def found(**at: object) -> list[set[str]]:
        hits = store.search(Query("rivers", kinds=(), scope=scope, limit=3, **at))  # type: ignore[arg-type]
        every = store.all("run", scope, **at)  # type: ignore[arg-type]
        some = store.get([old.id, new.id, later.id], scope, **at)  # type: ignore[arg-type]
        assert store.count("run", scope, **at) == len(every)  # type: ignore[arg-type]
        return [{record.key for record in records} for records in ([h.record for h in hits], every, some)]

    assert found() == [{"new"}] * 3
    assert found(at=MONDAY) == [{"new"}] * 3
    assert found(at=MONDAY - timedelta(microseconds=1)) == [{"old"}] * 3
    assert found(at=tomorrow) == [{"new", "later"}] * 3
    assert found(at="ever") == [{"old", "new", "later"}] * 3
    assert store.delete([old.id], scope) == 1
    assert found(at="ever") == [{"new", "later"}] * 3


def test_limits_count_records_that_hold(store: MemoryStore, scope: Scope) -> None:
    future = datetime.now(UTC) + timedelta(days=1)
    unborn = [note(scope, f"u{n}", "rivers").model_copy(update={"valid_from": future}) for n in range(9)]
    store.add([*unborn, *(note(scope, f"v{n}", f"rivers and other things {n}") for n in range(3))])
    assert len(store.search(Query("rivers", kinds=(), scope=scope, limit=2))) == 2
    assert len(store.search(Query("rivers", kinds=(), scope=scope, limit=9))) == 3


def test_reads_by_session_and_position(store: MemoryStore, scope: Scope) -> None:
    def turn(session: str, seq: int) -> Record:
        return note(scope, f"{session}/{seq}", f"rivers {seq}", "turn").model_copy(
            update={"session": session, "seq": seq}
        )

    store.add([turn(session, seq) for session in ("a", "b#1", "c") for seq in range(4)])
    store.add([note(scope, "loose", "rivers", "turn")])
    assert {record.session for record in store.all("turn", scope, session="b#1")} == {"b#1"}
    assert store.count("turn", scope, session="a") == 4
    assert len(store.search(Query("rivers", kinds="turn", scope=scope, session="c", limit=99))) == 4
    asked = [Position("b#1", 2), Position("a", 1), Position("a", 0), Position("a", 99), Position("b", 1)]
    assert keys(store.at_positions(asked, kinds="turn", scope=scope)) == ["a/0", "a/1", "b#1/2"]
    assert store.at_positions(asked, kinds="fact", scope=scope) == []
    assert store.at_positions([], kinds=(), scope=scope) == []
    assert store.at_positions(asked, kinds=(), scope=Scope(user=f"{scope.user}-other")) == []


def test_several_operations_take_one_turn_and_see_each_other(store: MemoryStore, scope: Scope) -> None:
    first, second = note(scope, "first", "rivers"), note(scope, "second", "rivers")
    store.add([first])
    with store.opened() as memory:
        assert keys([hit.record for hit in memory.search(Query("rivers", kinds=(), scope=scope))]) == [
            "first"
        ]
        memory.add([second])
        assert memory.count((), scope) == 2
        assert memory.delete([first.id, first.id], scope) == 1
        assert memory.get([first.id, second.id], scope) == [second]
        memory.add([first])
        assert memory.delete([second.id], scope) == 1
    assert store.all((), scope) == [first]


def test_writes_of_a_turn_survive_an_exception(store: MemoryStore, scope: Scope) -> None:
    store.add([note(scope, "gone"), note(scope, "kept")])

    def fail() -> None:
        with store.opened() as memory:
            memory.delete([record_id(scope, "run", "gone")], scope)
            memory.add([note(scope, "new")])
            raise LookupError

    with pytest.raises(LookupError):
        fail()
    assert set(keys(store.all((), scope))) == {"kept", "new"}


# --- dense vectors


@pytest.fixture
def dense(scope: Scope) -> Dense:
    """Of a name of its own, since a server may hold those of others."""
    return Dense(f"test/{scope.user}", meanings)


@pytest.fixture(autouse=True)
def _no_vectors_left(store: MemoryStore) -> Iterator[None]:
    yield
    if not isinstance(store, EdgeStore):
        for name in store.vectors():
            if name.startswith("dense-test-tester"):
                store.drop_vectors(name, Scope())


def near(store: MemoryStore, dense: Dense, question: str, scope: Scope, **more: object) -> list[str]:
    (vector,) = dense.vectors([question])
    return keys([hit.record for hit in store.search(Query(vector, kinds=(), scope=scope, **more))])  # type: ignore[arg-type]


def test_vectors_find_other_words(store: MemoryStore, scope: Scope, dense: Dense) -> None:
    store.add([note(scope, "car", "repair of the car"), note(scope, "boat", "a boat for rent")])
    assert store.search(Query("automobiles", kinds=(), scope=scope)) == []
    assert near(store, dense, "automobiles", scope) == []
    assert count_missing(store, dense.model, scope) == 2
    assert fill_vectors(store, dense, scope) == FillResult(made=2)
    assert count_missing(store, dense.model, scope) == 0
    assert store.vectors()[dense.name] == 2
    assert near(store, dense, "automobiles", scope) == ["car", "boat"]
    assert near(store, dense, "automobiles", scope, limit=1) == ["car"]
    assert near(store, dense, "automobiles", scope, limit=0) == []
    (vector,) = dense.vectors(["a car"])
    first, second = store.search(Query(vector, kinds="run", scope=scope))
    assert 1.0001 > first.score > second.score
    assert first.record == store.get([first.record.id], scope)[0]


def test_a_search_by_vector_keeps_to_kind_scope_session_and_time(
    store: MemoryStore, scope: Scope, dense: Dense
) -> None:
    mine, theirs = (Scope(user=scope.user, project=name) for name in "ab")
    ended = note(scope, "ended", "car").ended(MONDAY)
    turn = note(mine, "turn", "car", "turn").model_copy(update={"session": "s", "seq": 1})
    store.add([note(mine, "mine", "car"), note(theirs, "theirs", "car"), ended, turn])
    fill_vectors(store, dense, scope)
    assert set(near(store, dense, "automobile", mine)) == {"mine", "turn"}
    assert set(near(store, dense, "automobile", scope)) == {"mine", "theirs", "turn"}
    assert near(store, dense, "automobile", scope, session="s") == ["turn"]
    assert "ended" in near(store, dense, "automobile", scope, at="ever")
    assert near(store, dense, "automobile", Scope(user=f"{scope.user}-other")) == []
    (vector,) = dense.vectors(["automobile"])
    assert keys([hit.record for hit in store.search(Query(vector, kinds="turn", scope=scope))]) == ["turn"]


def test_a_vector_stays_until_the_text_changes(store: MemoryStore, scope: Scope, dense: Dense) -> None:
    given = note(scope, "a", "a car")
    store.add([given, note(scope, "b", "a boat")])
    fill_vectors(store, dense, scope)
    store.add([given.used(MONDAY)])
    with store.opened() as memory:
        memory.add([given.model_copy(update={"pinned": True})])
    assert count_missing(store, dense.model, scope) == 0
    store.add([note(scope, "a", "a film")])
    assert keys(store.missing_vectors(dense.name, (), scope)) == ["a"]
    assert near(store, dense, "automobile", scope) == ["b"]
    fill_vectors(store, dense, scope)
    assert near(store, dense, "cinema", scope, limit=1) == ["a"]


def test_changed_or_deleted_records_get_no_vector(store: MemoryStore, scope: Scope, dense: Dense) -> None:
    kept, changed, gone = (note(scope, key, "a car") for key in ("kept", "changed", "gone"))
    store.add([kept, changed, gone])
    store.add([note(scope, "changed", "a boat")])
    store.delete([gone.id], scope)
    vector = DenseVector(dense.name, tuple(meaning("a car")))
    assert store.put_vectors([(record, vector) for record in (kept, changed, gone)]) == 1
    assert keys(store.missing_vectors(dense.name, (), scope)) == ["changed"]
    assert store.count((), scope) == 2
    assert store.put_vectors([]) == 0


def test_vectors_of_different_models_coexist(store: MemoryStore, scope: Scope, dense: Dense) -> None:
    other = Dense(f"{dense.model}/other", lambda texts: [meaning(text, 40) for text in texts])
    store.add([note(scope, "car", "a car"), note(scope, "boat", "a boat")])
    fill_vectors(store, dense, scope)
    assert near(store, other, "automobile", scope) == []
    assert fill_vectors(store, other, scope) == FillResult(made=2)
    for one in (dense, other):
        assert near(store, one, "automobile", scope, limit=1) == ["car"]
        assert store.vectors()[one.name] == 2
    # A deletion rebuilds the shard with all that is left in it.
    store.delete([record_id(scope, "run", "car")], scope)
    assert near(store, dense, "vessel", scope) == near(store, other, "vessel", scope) == ["boat"]
    store.drop_vectors(other.name, scope)
    assert other.name not in store.vectors()
    assert near(store, other, "vessel", scope) == []
    assert near(store, dense, "vessel", scope) == ["boat"]
    store.drop_vectors(other.name, scope)


def test_vectors_of_another_user_stay(store: MemoryStore, scope: Scope, dense: Dense) -> None:
    if isinstance(store, EdgeStore):
        pytest.skip("a folder has one owner")
    theirs = Scope(user=f"{scope.user}-other")
    store.add([note(scope, "mine", "a car"), note(theirs, "theirs", "a car")])
    for one in (scope, theirs):
        fill_vectors(store, dense, one)
    store.drop_vectors(dense.name, scope)
    assert near(store, dense, "automobile", scope) == []
    assert near(store, dense, "automobile", theirs) == ["theirs"]
    store.delete([record_id(theirs, "run", "theirs")], theirs)


def test_vectors_of_another_size_are_rejected_with_remedy(
    store: MemoryStore, scope: Scope, dense: Dense
) -> None:
    store.add([note(scope, "car", "a car"), note(scope, "boat", "a boat")])
    fill_vectors(store, dense, scope, limit=1)
    (left,) = store.missing_vectors(dense.name, (), scope)
    with pytest.raises(EmbeddingFailed, match="orch memory embed --anew"):
        store.put_vectors([(left, DenseVector(dense.name, (1.0, 0.0)))])
    assert store.search(Query(DenseVector(dense.name, (1.0, 0.0)), kinds=(), scope=scope)) == []
    assert count_missing(store, dense.model, scope) == 1


def test_a_record_of_a_later_version_is_skipped_named_and_deleted_by_its_id(
    store: MemoryStore, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    scope = Scope(user=f"tester-{uuid4().hex}")
    later, other = (Record(kind="fact", key=key, text="tea", scope=scope) for key in ("later", "other"))
    module = sys.modules["memory.edge" if isinstance(store, EdgeStore) else "memory.server"]
    with monkeypatch.context() as patched:
        stored = {"trust": "unheard of", "schema_version": 9}
        patched.setattr(module, "to_payload", lambda record: to_payload(record) | stored)
        store.add([later])
    store.add([other])
    assert store.all("fact", scope) == [other]
    assert store.get([later.id, other.id], scope) == [other]
    assert [hit.record for hit in store.search(Query("tea", kinds="fact", scope=scope))] == [other]
    assert [record for record in store.scan() if record.scope == scope] == [other]
    assert [str(later.id) in line.message for line in caplog.records] == [True]
    assert store.delete([later.id], Scope(user="another")) == 0
    assert store.delete([later.id], scope) == 1
    assert store.count("fact", scope) == 1
