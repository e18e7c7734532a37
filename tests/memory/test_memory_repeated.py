"""Questions that come again with the same answer, and what keeps them from being proposed as facts."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from memory import Record, Scope, run_record
from memory.learning import as_undone, with_vote
from memory.repeated import FACT_CHARS, asked_again

START = datetime(2026, 11, 1, 9, tzinfo=UTC)
QUESTION = "Which port does the staging server use?"


def runs(answers: Sequence[str], prompt: str = QUESTION, days: int = 1, **fields: Any) -> list[Record]:
    """A run for each answer, so many days apart."""
    base: dict[str, Any] = {"outcome": "completed", "plan": [], "scope": Scope(), "outside": False}
    return [
        run_record(
            run=f"r{n}",
            prompt=prompt,
            answer=answer,
            created=START + timedelta(days=days * n),
            **(base | fields),
        )
        for n, answer in enumerate(answers)
    ]


def test_a_question_with_a_steady_answer_is_proposed_once() -> None:
    asked = [*runs(["8080", "8443", "8443", "8443."]), *runs(["Rain."], "Will it rain?")]
    asked[2] = asked[2].model_copy(update={"text": f"  {QUESTION.lower()} "})
    (one,) = asked_again(asked)
    assert (one.times, one.fact, one.last) == (4, f"{QUESTION} 8443.", START + timedelta(days=3))


@pytest.mark.parametrize(
    "asked",
    [
        runs(["8443"] * 2),
        runs(["8443", "8443", "8080"]),
        runs(["8443"] * 3, days=0),
        runs(["8443"] * 3, "Set the port of the staging server."),
        runs(["8443"] * 3, outcome="failed"),
        runs(["8443"] * 3, outside=True),
        runs(["8443"] * 3, outside=None),
        runs(["8443"] * 3, trust="file"),
        runs(["x" * FACT_CHARS] * 3),
        runs([""] * 3),
        [*runs(["8443"] * 2), *map(as_undone, runs(["8443"] * 3)[2:])],
        [*runs(["8443"] * 2), with_vote(runs(["8443"] * 3)[2], "bad", "", START)],
    ],
    ids=[
        *("twice", "changing", "one day", "work", "failed", "others", "unknown source", "imported", "long"),
        *("empty", "undone", "bad"),
    ],
)
def test_nothing_else_is_proposed(asked: list[Record]) -> None:
    assert asked_again(asked) == ()


def test_what_a_fact_says_is_known() -> None:
    fact = Record(kind="fact", key="f", text="The staging server listens at 8443.")
    assert asked_again(runs(["8443"] * 3), [fact]) == ()
