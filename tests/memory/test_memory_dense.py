"""Dense vectors only add: what they find, what a failing model costs, and what stays of them on the disk."""

import math
import struct
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest
from fake_embeddings import meanings
from hypothesis import given
from hypothesis import strategies as st

from memory import (
    CHUNK,
    FACT,
    TURN,
    Dense,
    EmbeddingFailed,
    MemoryStore,
    Query,
    Record,
    Scope,
    Source,
    open_store,
    recall,
    run_record,
    tool_record,
)
from memory.dense import (
    BATCH,
    EMBEDDED,
    FillResult,
    checked,
    count_missing,
    fill_vectors,
    query_vector,
    vector_name,
)
from memory.edge import EdgeStore
from memory.embedder import Floors
from memory.knowledge import KnowledgeBase, NewDocument
from memory.knowledge.chunks import Document, DocumentPart
from memory.outbox import exclusive
from memory.profile import recall_facts
from memory.retrieval import retrieve
from memory.sessions import turn_record
from memory.transfer import migrate

ME = Scope()
NOW = datetime(2026, 5, 4, tzinfo=UTC)


def note(key: str, text: str, kind: str = TURN) -> Record:
    return Record(kind=kind, key=key, text=text, created=NOW)


class Asked:
    """A model that keeps what it was asked; it fails from call `fails` on, and where the store is held."""

    def __init__(self, folder: Path | None = None, fails: int = 1_000) -> None:
        self.texts: list[list[str]] = []
        self._folder = folder
        self._fails = fails

    def __call__(self, texts: Sequence[str]) -> Sequence[Sequence[float]]:
        if self._folder is not None:
            with exclusive(self._folder / ".lock", wait_s=0.5):
                pass
        if len(self.texts) >= self._fails:
            raise EmbeddingFailed("the server is away.")
        self.texts.append(list(texts))
        return meanings(texts)


@pytest.fixture
def store(tmp_path: Path) -> MemoryStore:
    return open_store(tmp_path / "memory")


def found(store: MemoryStore, dense: Dense | None, question: str, kinds: str = TURN) -> list[str]:
    near = query_vector(store, dense, question)
    return [hit.record.key for hit in retrieve(store, question, kinds=kinds, scope=ME, near=near)]


# --- what they find


def test_vectors_find_a_message_in_other_words(store: MemoryStore) -> None:
    store.add([note("a", "we sold the automobile"), note("b", "the boat was sold"), note("c", "bread")])
    dense = Dense("test", meanings)
    before = found(store, None, "who sold cars")
    assert set(before) == {"a", "b"}
    assert found(store, dense, "who sold cars") == before
    assert found(store, dense, "physicians") == []
    fill_vectors(store, dense, ME)
    assert found(store, dense, "vehicle")[0] == "a"
    assert found(store, None, "vehicle") == []
    assert found(store, None, "who sold cars") == before
    # Words and meaning together: both were sold, and one of them is a car.
    assert found(store, dense, "who sold cars")[0] == "a"


def test_a_record_without_a_vector_is_found_by_its_words(
    store: MemoryStore,
) -> None:
    dense = Dense("test", meanings)
    store.add([note("a", "an automobile")])
    fill_vectors(store, dense, ME)
    store.add([note("b", "a cheap car")])
    assert set(found(store, dense, "cheap car")) == {"a", "b"}
    assert count_missing(store, "test", ME) == 1


def test_neighbours_and_sessions_count_with_vectors_too(store: MemoryStore) -> None:
    lines = ["The physician came on Monday.", "She said he should rest.", "And the weather was fine."]
    store.add(
        turn_record(session="s", seq=seq, speaker="Ada", text=text, time=NOW, scope=ME)
        for seq, text in enumerate(lines)
    )
    dense = Dense("test", meanings)
    fill_vectors(store, dense, ME)
    near = query_vector(store, dense, "doctor")
    hits = retrieve(store, "doctor", kinds=TURN, scope=ME, near=near)
    assert hits[0].record.seq == 0
    assert len(hits) == 3


def test_chunks_are_found_by_meaning(tmp_path: Path) -> None:
    base = KnowledgeBase(open_store(tmp_path), ME, Dense("test", meanings))
    document = Document(
        "Handbook",
        "text",
        (DocumentPart("Every vacation is to be asked for."), DocumentPart("A boat has to be washed.")),
    )
    base.put([NewDocument("/h.md", "file", "d", 10, document)], ME)
    progress: list[tuple[int, int]] = []
    done = base.embed(lambda made, every: progress.append((made, every)))
    assert done.made == progress[-1][0] > 0
    assert "vacation" in base.search("holiday", 1)[0].text
    assert KnowledgeBase(open_store(tmp_path), ME).search("holiday", 1) == []
    assert KnowledgeBase(open_store(tmp_path), ME).embed() == FillResult()


def fact(text: str) -> Record:
    return Record(
        kind=FACT,
        key=text,
        text=text,
        data={"subject": "user", "attribute": text, "nature": "profile"},
        created=NOW,
        valid_from=NOW,
        source=Source(type="user", quote=text),
    )


def test_nearer_facts_come_first_and_only_shared_words_count_as_use(
    store: MemoryStore,
) -> None:
    store.add([fact("The user owns a vessel."), *(fact(f"The user likes thing {n}.") for n in range(30))])
    dense = Dense("test", meanings)
    fill_vectors(store, dense, ME)
    near = query_vector(store, dense, "ship")
    assert near is not None
    facts = recall_facts(store, "ship", scope=ME, now=NOW, budget=30, near=near)
    assert facts[0].text == "The user owns a vessel."
    assert store.get([facts[0].id], ME)[0].uses == 0


def test_vectors_do_not_lower_the_similarity_floor_of_runs(store: MemoryStore) -> None:
    """How near is near enough differs between models, so the floor stays one of words."""
    store.add(
        run_record(run=run, prompt=prompt, outcome="completed", answer="x", plan=[], scope=ME)
        for run, prompt in (("car", "Rent an automobile"), ("same", "Compare the fares of trains to Bergen"))
    )
    dense = Dense("test", meanings)
    fill_vectors(store, dense, ME)
    prompt = "Hire a vehicle"
    assert recall(store, prompt, scope=ME, near=query_vector(store, dense, prompt)).runs == ()
    alike = "Compare the fares of trains to Oslo"
    near = recall(store, alike, scope=ME, near=query_vector(store, dense, alike))
    assert near == recall(store, alike, scope=ME)
    assert [run.run for run in near.runs] == ["same"]


def test_nearer_tools_come_first(store: MemoryStore) -> None:
    store.add(
        tool_record(name=name, version="1", purpose=purpose, signature="()", scope=ME)
        for name, purpose in (("a", "Prices of boats in a harbour"), ("b", "Prices of automobiles in a town"))
    )
    dense = Dense("test", meanings)
    fill_vectors(store, dense, ME)
    request = "prices of cars"
    plain = recall(store, request, scope=ME).tools
    nearer = recall(store, request, scope=ME, near=query_vector(store, dense, request)).tools
    assert [tool.name for tool in plain] == ["a", "b"]
    assert [tool.name for tool in nearer] == ["b", "a"]
    assert {tool.score for tool in nearer} == {tool.score for tool in plain}


FLOORS = Floors(related=0.4, serves=0.8)
GARAGE = (
    ("a", "Prices of boats in a harbour"),
    ("b", "Find an automobile"),
    ("c", "Knit a woollen jumper for a cold evening"),
)


def tools_for(store: MemoryStore, request: str) -> list[tuple[str, bool]]:
    """The tools for a request, and whether each serves, with a model whose floors are known."""
    store.add(
        tool_record(name=name, version="1", purpose=purpose, signature="()", scope=ME)
        for name, purpose in GARAGE
    )
    dense = Dense("test", meanings, floors=FLOORS)
    fill_vectors(store, dense, ME)
    found = recall(store, request, scope=ME, near=query_vector(store, dense, request)).tools
    return [(tool.name, tool.serves) for tool in found]


def test_a_tool_that_is_near_is_recalled_without_a_shared_word(store: MemoryStore) -> None:
    assert tools_for(store, "vehicles or a car") == [("b", True)]


def test_a_tool_that_only_shares_a_word_is_not_recalled_if_it_is_far(store: MemoryStore) -> None:
    request = "the evening film"
    assert tools_for(store, request) == []
    assert [tool.name for tool in recall(store, request, scope=ME).tools] == ["c"]


def test_a_message_is_embedded_with_its_speaker_and_the_end_of_the_one_before(store: MemoryStore) -> None:
    store.add(
        turn_record(session=session, seq=seq, speaker=speaker, text=text, time=NOW, scope=ME)
        for session, seq, speaker, text in (
            ("s", 0, "Ada", "x" * 1_000 + "Shall we?"),
            ("s", 1, "Ben", "Yes."),
            ("t", 1, "Eva", "No."),
        )
    )
    model = Asked()
    fill_vectors(store, Dense("test", model), ME)
    texts = {text.splitlines()[-1]: text for batch in model.texts for text in batch}
    assert texts["Ben: Yes."].endswith("xShall we?\nBen: Yes.")
    assert len(texts["Ben: Yes."]) < 500
    assert texts["Eva: No."] == "Eva: No."


# --- how they are made


def test_vectors_are_made_in_batches_without_holding_the_store(tmp_path: Path) -> None:
    store, model = EdgeStore(tmp_path), Asked(tmp_path)
    dense = Dense("test", model)
    store.add([note(str(n), f"thing {n}") for n in range(BATCH + 6)])
    store.add([Record(kind="session", key="s", text="not looked for")])
    progress: list[tuple[int, int]] = []
    done = fill_vectors(
        store, dense, ME, limit=BATCH + 1, on_progress=lambda *so_far: progress.append(so_far)
    )
    assert done == FillResult(BATCH + 1, 5)
    assert [len(texts) for texts in model.texts] == [BATCH, 1]
    assert progress == [(BATCH, BATCH + 1), (BATCH + 1, BATCH + 1)]
    assert fill_vectors(store, dense, ME) == FillResult(5, 0)
    assert fill_vectors(store, dense, ME) == FillResult(0, 0)
    query_vector(store, dense, "thing 3")
    assert [len(texts) for texts in model.texts] == [BATCH, 1, 5, 1]


def test_no_model_call_if_no_record_has_a_vector(store: MemoryStore) -> None:
    model = Asked()
    dense = Dense("test", model)
    store.add([note("a", "car")])
    assert query_vector(store, dense, "car") is None
    fill_vectors(store, dense, ME)
    assert query_vector(store, dense, "  ") is None
    assert query_vector(store, None, "car") is None
    assert model.texts == [["car"]]


def test_a_failing_model_warns_once_and_stops_no_search(store: MemoryStore) -> None:
    warned: list[str] = []
    dense = Dense("test", Asked(fails=1), warned.append)
    store.add([note("a", "car")])
    fill_vectors(store, dense, ME)
    store.add([note("b", "cheap car")])
    assert found(store, dense, "cheap car")[0] == "b"
    assert fill_vectors(store, dense, ME) == FillResult(0, 1)
    assert found(store, dense, "cheap car")[0] == "b"
    assert warned == ["test gives no vectors, so memory is searched by words alone: the server is away."]


def test_vectors_made_before_a_failure_are_kept(store: MemoryStore) -> None:
    store.add([note(str(n), f"thing {n}") for n in range(2 * BATCH)])
    assert fill_vectors(store, Dense("test", Asked(fails=1)), ME) == FillResult(BATCH, BATCH)
    assert count_missing(store, "test", ME) == BATCH
    assert fill_vectors(store, Dense("test", Asked()), ME) == FillResult(BATCH, 0)


def test_another_size_under_the_same_name_warns_with_remedy(store: MemoryStore) -> None:
    store.add([note("a", "car")])
    fill_vectors(store, Dense("test", meanings), ME)
    store.add([note("b", "boat")])
    warned: list[str] = []
    other = Dense("test", lambda texts: [[1.0, 0.5] for _ in texts], warned.append)
    assert found(store, other, "boat") == ["b"]
    assert fill_vectors(store, other, ME) == FillResult(0, 1)
    assert "orch memory embed --anew" in warned[0]
    store.drop_vectors(other.name, ME)
    assert fill_vectors(store, Dense("test", other._embed), ME) == FillResult(2, 0)


def test_texts_are_sent_in_a_form_that_providers_accept(store: MemoryStore) -> None:
    model = Asked()
    store.add([note("blank", " \n"), note("long", "car " * 5_000)])
    fill_vectors(store, Dense("test", model), ME)
    assert {text[:7]: len(text) for text in model.texts[0]} == {"blank": 5, "car car": 6_000}
    assert Dense("test", model).vectors(["\ud800 car"])
    assert model.texts[-1] == ["? car"]


# --- where they lie


def test_forgetting_erases_vectors_from_the_disk(tmp_path: Path) -> None:
    store, dense = EdgeStore(tmp_path), Dense("test", meanings)
    secret, kept = note("secret", "the inexpensive physician of zanzibar"), note("kept", "an affordable film")
    store.add([secret, kept])
    fill_vectors(store, dense, ME)
    held = {record.key: raw(dense, record.text) for record in (secret, kept)}
    assert all(has(tmp_path, bytes_) for bytes_ in held.values())
    store.delete([secret.id], ME)
    assert not has(tmp_path, held["secret"])
    assert has(tmp_path, held["kept"])
    store.drop_vectors(dense.name, ME)
    assert not has(tmp_path, held["kept"])
    assert store.search(Query("film", kinds=(), scope=ME))[0].record == kept


def raw(dense: Dense, text: str) -> bytes:
    """The beginning of a vector, as an engine writes it."""
    return struct.pack("<6f", *dense.vectors([text])[0].values[:6])


def has(folder: Path, wanted: bytes) -> bool:
    return any(wanted in path.read_bytes() for path in folder.rglob("*") if path.is_file())


def test_a_write_that_went_to_the_outbox_gets_its_vector_later(tmp_path: Path) -> None:
    store, dense = EdgeStore(tmp_path, write_wait_s=0.0), Dense("test", meanings)
    with exclusive(tmp_path / ".lock", wait_s=1):
        store.add([note("a", "an automobile")])
    assert fill_vectors(store, dense, ME) == FillResult(1, 0)
    with exclusive(tmp_path / ".lock", wait_s=1):
        store.add([note("a", "an automobile").used(NOW)])
    assert found(store, dense, "car") == ["a"]
    assert count_missing(store, "test", ME) == 0


def test_a_migration_leaves_vectors_to_be_made_again(tmp_path: Path) -> None:
    one, other = EdgeStore(tmp_path / "one"), EdgeStore(tmp_path / "other")
    dense = Dense("test", meanings)
    one.add([note("a", "an automobile")])
    fill_vectors(one, dense, ME)
    assert migrate(one, other).copied == 1
    assert other.vectors() == {}
    fill_vectors(other, dense, ME)
    assert found(other, dense, "car") == ["a"]


# --- rules


def test_vector_names_are_unique_per_model() -> None:
    name = vector_name("openai/text-embedding-3-small")
    assert name.startswith("dense-openai-text-embedding-3-small-")
    assert len({vector_name(model) for model in ("a/b", "a-b", "A/b", "a b")}) == 4
    assert set(EMBEDDED) >= {TURN, CHUNK, FACT}


@given(st.text(min_size=1, max_size=200))
def test_vector_names_are_safe_in_urls(model: str) -> None:
    assert vector_name(model).replace("-", "").isalnum()
    assert vector_name(model).isascii()


@pytest.mark.parametrize(
    ("made", "wanted"),
    [([[1.0]], 2), ([[1.0], [1.0, 2.0]], 2), ([[]], 1), ([[math.nan]], 1), ([[math.inf, 1.0]], 1)],
)
def test_invalid_vectors_are_rejected(made: list[list[float]], wanted: int) -> None:
    with pytest.raises(EmbeddingFailed):
        checked(made, wanted)
