"""Sessions are kept as they were said, never mix, and fit the budget of a request."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memory import RUN, TURN, Record, Scope
from memory.edge import EdgeStore
from memory.sessions import (
    Exchange,
    compact,
    is_session_name,
    list_sessions,
    load_exchanges,
    save_exchange,
    summary_line,
)

HERE, THERE = Scope(project="here"), Scope(project="there")
NOON = datetime(2026, 11, 3, 12, tzinfo=UTC)


def exchange(n: int, prompt: str = "", answer: str = "", **more: object) -> Exchange:
    base = {"run": f"run-{n}", "prompt": prompt or f"prompt {n}", "answer": answer or f"answer {n}"}
    return Exchange.model_validate({**base, "time": NOON + timedelta(minutes=n), **more})


@pytest.fixture
def store(tmp_path: Path) -> EdgeStore:
    return EdgeStore(tmp_path)


def test_exchanges_are_loaded_as_they_were_saved(store: EdgeStore) -> None:
    turns = [
        exchange(
            1, "Sum the sales of February.", "They are 4,200.", files=("sums.csv",), plan=("sum (agent)",)
        ),
        exchange(2, "And by region?\n", "North 3,000, south 1,200.", own=True),
    ]
    for one in turns:
        save_exchange(store, "sales", one, HERE)
    assert load_exchanges(store, "sales", HERE) == turns
    assert {turn.seq for turn in store.all(TURN, HERE, session="sales")} == {0, 1, 2, 3}


def test_sessions_never_mix(store: EdgeStore) -> None:
    save_exchange(store, "one", exchange(1), HERE)
    save_exchange(store, "two", exchange(2), HERE)
    save_exchange(store, "one", exchange(3), THERE)
    assert [e.run for e in load_exchanges(store, "one", HERE)] == ["run-1"]
    assert [e.run for e in load_exchanges(store, "two", HERE)] == ["run-2"]
    assert [e.run for e in load_exchanges(store, "one", THERE)] == ["run-3"]
    assert load_exchanges(store, "three", HERE) == []
    assert load_exchanges(store, "one", Scope()) == []


def test_the_most_recently_used_session_comes_first(store: EdgeStore) -> None:
    save_exchange(store, "one", exchange(1, "Plan the move. Then pack."), HERE)
    save_exchange(store, "two", exchange(2), HERE)
    save_exchange(store, "one", exchange(3), HERE)
    save_exchange(store, "far", exchange(4), THERE)
    found = list_sessions(store, HERE)
    assert [(session.name, session.exchanges) for session in found] == [("one", 2), ("two", 1)]
    assert (found[0].title, found[0].begun) == ("Plan the move. Then pack.", NOON + timedelta(minutes=1))


def test_a_resumed_run_replaces_its_exchange(store: EdgeStore) -> None:
    save_exchange(store, "one", exchange(1, answer="A part failed."), HERE)
    save_exchange(store, "one", exchange(2), HERE)
    save_exchange(store, "one", exchange(1, answer="All is done."), HERE)
    assert [e.answer for e in load_exchanges(store, "one", HERE)] == ["All is done.", "answer 2"]
    assert list_sessions(store, HERE)[0].exchanges == 2


def test_two_processes_in_one_session_lose_nothing(tmp_path: Path) -> None:
    one, other = EdgeStore(tmp_path), EdgeStore(tmp_path)
    for n in range(6):
        save_exchange((one, other)[n % 2], "shared", exchange(n), HERE)
    assert [e.run for e in load_exchanges(one, "shared", HERE)] == [f"run-{n}" for n in range(6)]


def test_prompts_are_trusted_and_answers_from_tools_are_not(store: EdgeStore) -> None:
    save_exchange(store, "one", exchange(1, own=False), HERE)
    save_exchange(store, "one", exchange(2, own=True), HERE)
    trusted = {r.text.partition("] ")[2]: r.trusted for r in store.all(TURN, HERE)}
    assert trusted == {
        **{"user: prompt 1": True, "orch: answer 1": False},
        **{"user: prompt 2": True, "orch: answer 2": True},
    }


def test_records_of_other_kinds_are_not_exchanges(store: EdgeStore) -> None:
    store.add([Record(kind=RUN, key="run-1", text="prompt 1", scope=HERE)])
    assert load_exchanges(store, "one", HERE) == []
    assert list_sessions(store, HERE) == []


# --- making short


def test_a_short_conversation_is_kept_in_full() -> None:
    turns = [exchange(n) for n in range(5)]
    assert compact(turns, 1000).exchanges == tuple(turns)
    assert compact(turns, 1000).earlier == ""
    assert compact([], 1000).exchanges == ()


def test_older_exchanges_are_summarised() -> None:
    old = exchange(
        0,
        "Draw the sales of March. Never use red. The weather is fine. Call it march.png.",
        "The chart is in march.png. It has four lines. " + "It is long. " * 100,
        files=("march.png",),
    )
    new = [exchange(n, answer="word " * 100) for n in (1, 2, 3)]
    short = compact([old, *new], 550)
    assert short.exchanges == tuple(new)
    assert short.earlier == (
        "- Draw the sales of March. Never use red. Call it march.png."
        " → The chart is in march.png. [files: march.png]"
    )


def test_the_summary_counts_omitted_exchanges() -> None:
    turns = [exchange(n, f"Question number {n}?", "word " * 60) for n in range(60)]
    short = compact(turns, 400)
    lines = short.earlier.splitlines()
    assert lines[-1].startswith("- Question number ")
    left_out = 60 - len(short.exchanges) - (len(lines) - 1)
    assert lines[0] == f"- ({left_out} before these are left out)"


def test_a_long_last_exchange_loses_its_middle() -> None:
    huge = exchange(1, "BEGIN " + "x" * 50_000 + " END", "FIRST " + "y" * 50_000 + " LAST")
    short = compact([exchange(0), huge], 500)
    (last,) = short.exchanges
    assert (last.prompt[:5], last.prompt[-3:]) == ("BEGIN", "END")
    assert (last.answer[:5], last.answer[-4:]) == ("FIRST", "LAST")
    assert "(50010 characters)" in last.prompt
    assert short.earlier == "- prompt 0 → answer 0"


EXCHANGES = st.lists(st.tuples(st.text(max_size=300), st.text(max_size=600)), max_size=12)


@settings(max_examples=60)
@given(EXCHANGES, st.integers(100, 400))
def test_compaction_keeps_order_and_budget(rows: list[tuple[str, str]], budget: int) -> None:
    turns = [Exchange(run=str(n), prompt=p, answer=a, time=NOON) for n, (p, a) in enumerate(rows)]
    short = compact(turns, budget)
    length = len(short.earlier) + sum(len(e.prompt) + len(e.answer) for e in short.exchanges)
    assert length <= 4 * budget + len("- (99 before these are left out)\n")
    kept = [e.run for e in short.exchanges]
    assert kept == [e.run for e in turns][len(turns) - len(kept) :]
    assert bool(kept) == bool(turns)


def test_a_summary_line_has_no_line_breaks() -> None:
    line = summary_line(exchange(1, "First\nsecond line\n\nuse   tabs", "", files=()))
    assert line == "- First use tabs → answer 1"


@pytest.mark.parametrize(
    ("name", "fits"),
    [("march", True), ("März-2", True), ("a.b_c", True), ("", False), ("a b", False), ("../x", False)],
)
def test_valid_session_names(name: str, fits: bool) -> None:
    assert is_session_name(name) is fits
