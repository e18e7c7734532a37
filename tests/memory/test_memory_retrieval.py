"""What comes back for a question about a conversation, and how it is put together for a model to read."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory import CHUNK, TURN, Hit, MemoryStore, Query, Record, Scope, Source, open_store
from memory.embedder import sequence, terms
from memory.retrieval import RANKINGS, pack, rank, retrieve, score_key, scores
from memory.sessions import turn_record

ME = Scope()
MONDAY = datetime(2026, 5, 4, 14, 5, tzinfo=UTC)

TALK = [
    ("Ada", "Guess what I did on the weekend!"),
    ("Ben", "You went to see the new exhibition about volcanoes?"),
    ("Ada", "No, that is next month."),
    ("Ada", "We rode bicycles to the lighthouse and the tyre burst."),
    ("Ben", "Oh no. How did you get home?"),
    ("Ada", "Carla came with her van."),
    ("Ben", "I stayed in and baked sourdough bread."),
]
OTHER = [
    ("Ben", "The lighthouse keeper wrote a book."),
    ("Ada", "I never read it."),
    ("Ben", "It is about storms at sea."),
]


def said(session: str, seq: int, speaker: str, text: str, **fields: object) -> Record:
    record = turn_record(
        session=session,
        seq=seq,
        speaker=speaker,
        text=text,
        time=MONDAY + timedelta(minutes=seq),
        scope=ME,
    )
    return record.model_copy(update=fields)


def talk(session: str, lines: list[tuple[str, str]]) -> list[Record]:
    return [said(session, seq, *line) for seq, line in enumerate(lines)]


@pytest.fixture
def store(tmp_path: Path) -> MemoryStore:
    made = open_store(tmp_path)
    made.add([*talk("monday", TALK), *talk("tuesday", OTHER)])
    return made


def found(store: MemoryStore, question: str, limit: int = 3, **within: object) -> list[str]:
    hits = retrieve(store, question, kinds=TURN, scope=ME, limit=limit, **within)  # type: ignore[arg-type]
    return [f"{hit.record.session} {hit.record.seq}" for hit in hits]


def test_messages_are_found_by_day_and_speaker() -> None:
    record = said("s", 0, "Ada", "Hello")
    assert record.text == "[4 May 2026 at 14:05] Ada: Hello"
    assert record.data == {"speaker": "Ada", "text": "Hello"}
    assert record.id == said("s", 0, "Ben", "Bye").id


def test_neighbours_of_hits_are_found(store: MemoryStore) -> None:
    # Who fetched them shares no word with the question; it comes two turns after what does.
    assert "monday 5" in found(store, "Who helped when the bicycle tyre burst?")
    hits = store.search(Query("Who helped when the bicycle tyre burst?", kinds=TURN, scope=ME))
    assert 5 not in [hit.record.seq for hit in hits]


def test_sessions_that_match_the_question_rank_higher(store: MemoryStore) -> None:
    assert found(store, "lighthouse bicycles", 1) == ["monday 3"]
    assert found(store, "lighthouse storms", 1) == ["tuesday 2"]


def test_a_search_can_be_limited_to_a_session(store: MemoryStore) -> None:
    assert {place.split()[0] for place in found(store, "lighthouse", 9, session="tuesday")} == {"tuesday"}


def test_neighbours_are_in_the_same_session(store: MemoryStore) -> None:
    store.add([said("wednesday", 3, "Ada", "zanzibar"), said("thursday", 4, "Ada", "nothing to do with it")])
    assert found(store, "zanzibar") == ["wednesday 3"]


MANUAL = [
    "The red button of the boiler resets it.",
    "The boiler has a button for tests.",
    "The green button starts the boiler.",
]
RULES = [f"The {part} is reset at night." for part in ("pump", "meter", "clock", "filter", "fan")]


def test_a_piece_of_a_document_is_ranked_without_the_pieces_beside_it(store: MemoryStore) -> None:
    for kind in (CHUNK, TURN):
        for name, texts in (("manual", MANUAL), ("rules", RULES)):
            store.add([said(name, seq, "Ada", text, kind=kind) for seq, text in enumerate(texts)])

    def first(kind: str) -> list[tuple[str | None, int | None]]:
        hits = retrieve(store, "Which button resets the boiler?", kinds=kind, scope=ME, limit=3)
        return [(hit.record.session, hit.record.seq) for hit in hits]

    assert first(CHUNK)[0] == ("manual", 0)
    # A conversation goes on in the turns that follow, which rise with those they answer.
    assert first(TURN)[0] == ("manual", 1)


def test_records_of_other_kinds_are_not_neighbours(store: MemoryStore) -> None:
    piece = said("monday", 7, "Ada", "zanzibar", kind=CHUNK)
    store.add([piece])
    hits = retrieve(store, "zanzibar", kinds=(CHUNK, TURN), scope=ME, limit=1)
    assert [hit.record for hit in hits] == [piece]
    both = retrieve(store, "lighthouse bicycles zanzibar", kinds=(CHUNK, TURN), scope=ME, limit=20)
    assert {(hit.record.kind, hit.record.seq) for hit in both} >= {(CHUNK, 7), (TURN, 3)}


def test_an_unrelated_question_finds_nothing(store: MemoryStore) -> None:
    assert found(store, "quantum chromodynamics") == []
    assert found(store, "the of and") == []


def test_repetitions_are_dropped_unless_very_short(store: MemoryStore) -> None:
    again = "Sourdough needs flour, water, salt and patience"
    store.add([said(f"again{n}", 0, "Ben", again) for n in range(3)])
    store.add([said(f"bye{n}", 0, "Ben", "Sourdough!") for n in range(3)])
    brought = retrieve(store, "sourdough", kinds=TURN, scope=ME, limit=20)
    texts = [hit.record.data["text"] for hit in brought]
    assert texts.count(again) == 1
    assert texts.count("Sourdough!") == 3


def test_records_that_do_not_hold_are_left_out(store: MemoryStore) -> None:
    store.add([said("monday", 5, "Ada", "Carla came with her van.", valid_to=MONDAY + timedelta(hours=1))])
    assert "monday 5" not in found(store, "Who helped when the bicycle tyre burst?", 9)
    then = found(store, "Who helped when the bicycle tyre burst?", 9, at=MONDAY)
    assert "monday 5" in then


def test_named_speakers_rank_higher() -> None:
    ada, ben = said("a", 0, "Ada", "tea"), said("b", 0, "Ben", "tea")
    even = {score_key(ada): 1.0, score_key(ben): 1.0}
    assert [hit.record for hit in rank("What does ada drink?", [ben, ada], even)] == [ada, ben]


def test_near_vectors_raise_scores() -> None:
    hits = [Hit(record=said(name, 0, "Ada", "tea"), score=1.0) for name in "ab"]
    near = [Hit(record=hits[1].record, score=0.9), Hit(record=hits[0].record, score=0.1)]
    a, b = (score_key(hit.record) for hit in hits)
    ranked = scores("tea", hits, near)
    assert ranked[b] > ranked[a]
    assert scores("tea", hits)[b] == scores("tea", hits)[a]
    assert scores("tea", []) == {}


def test_nearness_counts_from_the_farthest_hit() -> None:
    """Some models have no cosine below 0.7."""
    hits = [Hit(record=said(name, 0, "Ada", "tea"), score=1.0) for name in "abc"]

    def ranked(*cosines: float) -> list[float]:
        near = [Hit(record=hit.record, score=one) for hit, one in zip(hits, cosines, strict=True)]
        score = scores("tea", hits, near)
        return [score[score_key(hit.record)] for hit in hits]

    assert ranked(0.1, 0.5, 0.9) == pytest.approx(ranked(0.8, 0.85, 0.9))


def test_a_message_is_raised_by_what_is_near_the_reply_to_it() -> None:
    one, reply, other = (said("s", seq, "Ada", text) for seq, text in ((3, "tea"), (4, "soup"), (7, "bread")))
    hits = [Hit(record=record, score=1.0) for record in (one, other)]
    near = [Hit(record=reply, score=0.9), Hit(record=said("z", 0, "Ada", "far"), score=0.1)]
    score = scores("drink", hits, near)
    assert score[score_key(one)] > score[score_key(other)]


def test_a_statement_is_rather_an_answer_than_a_question_is(store: MemoryStore) -> None:
    store.add(
        [said("x", 0, "Ben", "Was there zanzibar tea?"), said("y", 0, "Ben", "There was zanzibar tea.")]
    )
    assert found(store, "zanzibar tea", 2) == ["y 0", "x 0"]


@given(st.dictionaries(st.sampled_from("abc"), st.floats(-1, 1)))
def test_vectors_only_add_to_scores(rows: dict[str, float]) -> None:
    hits = [Hit(record=said(session, 3, "Ada", "green tea"), score=2.0) for session in "ab"]
    near = [
        Hit(record=said(session, 3, "Ada", "a hot drink"), score=score) for session, score in rows.items()
    ]
    words, both = scores("tea", hits), scores("tea", hits, near)
    assert set(both) >= {*words, *(score_key(hit.record) for hit in near)}
    assert all(both[spot] >= words.get(spot, 0.0) for spot in both)
    ranking = RANKINGS[TURN]
    assert all(score <= 1 + ranking.session + ranking.near for score in both.values())


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 5), st.floats(0.1, 50)), max_size=8))
def test_scores_are_bounded_and_each_hit_has_one(rows: list[tuple[str, int, float]]) -> None:
    hits = [Hit(record=said(session, seq, "Ada", f"tea {seq}"), score=score) for session, seq, score in rows]
    ranked = scores("tea 3", hits)
    assert all(0 <= score <= 2 for score in ranked.values())
    assert {score_key(hit.record) for hit in hits} <= set(ranked)


@pytest.mark.parametrize(
    "text", ["Ada's bicycles were stolen, weren't they?", "", "比特币价格分析", "42 of 7"]
)
def test_words_in_order_are_the_words_of_the_search(text: str) -> None:
    assert frozenset(sequence(text)) == terms(text)


def test_passages_include_neighbours_in_order(store: MemoryStore) -> None:
    hits = retrieve(store, "How did they get home?", kinds=TURN, scope=ME, limit=1)
    (passage,) = pack(store, hits, scope=ME, budget=500)
    assert [record.seq for record in passage.records] == [3, 4, 5]
    assert passage.text.splitlines()[1] == "[4 May 2026 at 14:09] Ben: Oh no. How did you get home?"
    assert passage.score == hits[0].score


def test_hits_precede_neighbours_within_the_budget(store: MemoryStore) -> None:
    hits = retrieve(store, "lighthouse", kinds=TURN, scope=ME, limit=2)
    words = len
    room = sum(words(hit.record.text) for hit in hits)
    shown = pack(store, hits, scope=ME, budget=room, tokens=words)
    assert {record.id for passage in shown for record in passage.records} == {hit.record.id for hit in hits}
    assert pack(store, hits, scope=ME, budget=room - 1, tokens=words) != shown
    assert pack(store, hits, scope=ME, budget=0) == []
    assert pack(store, [], scope=ME, budget=100) == []


def test_a_passage_with_words_from_the_web_is_not_trusted(store: MemoryStore) -> None:
    store.add([said("monday", 5, "Ada", "Carla came.", source=Source(type="web", ref="https://example.org"))])
    hits = retrieve(store, "How did they get home?", kinds=TURN, scope=ME, limit=1)
    assert hits[0].record.trusted
    assert not pack(store, hits, scope=ME, budget=500)[0].trusted
    assert pack(store, hits, scope=ME, budget=len(hits[0].record.text) // 4 + 1)[0].trusted
