"""A tool's status follows from its history; what a call says about a tool."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolsmith.library.status import (
    KEPT_USES,
    Disabled,
    Enabled,
    Entry,
    RolledBack,
    ToolStatus,
    Tried,
    Used,
    compacted,
    judge_error,
    judge_value,
    status_of,
)
from toolsmith.sandbox.spec import SandboxClosed, SandboxError
from toolsmith.spec import ToolSpec

START = datetime(2026, 1, 1, tzinfo=UTC)


def used(*outcomes: str, version: int = 1) -> list[Entry]:
    return [
        Used(at=START + timedelta(seconds=n), version=version, outcome=outcome, seconds=0.5, error=f"E: {n}")  # type: ignore[arg-type]
        for n, outcome in enumerate(outcomes)
    ]


def test_uses_are_counted_by_version() -> None:
    standing = status_of(used("success", "declined", "failure") + used("success", version=2))
    first = standing.tally(1)
    assert (first.calls, first.successes, first.declined, first.failures, first.seconds) == (3, 1, 1, 1, 1.5)
    assert standing.tally(2).calls == 1
    assert standing.tally(3).calls == 0


@pytest.mark.parametrize(
    ("outcomes", "held"),
    [
        (("failure", "failure"), False),
        (("failure", "failure", "failure"), True),
        (("failure", "failure", "success", "failure"), False),
        (("failure", "declined", "failure", "declined", "failure"), True),
        (("failure", "failure", "failure", "success"), True),
    ],
)
def test_three_failures_in_a_row_are_a_quarantine(outcomes: tuple[str, ...], held: bool) -> None:
    assert bool(status_of(used(*outcomes)).quarantine(1)) is held


def test_failures_of_one_version_say_nothing_about_another() -> None:
    standing = status_of(used("failure", "failure") + used("failure", version=2))
    assert not standing.quarantine(1)
    assert not standing.quarantine(2)


def test_the_quarantine_names_the_failures_and_ends_when_enabled() -> None:
    held = used("failure", "failure", "failure")
    assert status_of(held).quarantine(1) == ("E: 0", "E: 1", "E: 2")
    tried = Tried(at=START, version=1, passed=True)
    assert status_of([*held, tried]).passed == {1}
    assert status_of([*held, tried, *used("failure")]).passed == frozenset()
    assert not status_of([*held, tried, Enabled(at=START, version=1)]).quarantine(1)


def test_the_newest_version_counts_until_another_is_chosen_and_again_when_there_is_a_newer() -> None:
    back = status_of([RolledBack(at=START, version=1, newest=3, reason="worse")])
    assert ToolStatus().current_version([1, 2, 3]) == 3
    assert back.current_version([1, 2, 3]) == 1
    assert back.current_version([1, 2, 3, 4]) == 4
    assert back.current_version([2, 3]) == 3, "the chosen one was deleted"


ENTRIES = st.lists(
    st.one_of(
        st.builds(
            Used,
            at=st.just(START),
            version=st.integers(1, 2),
            outcome=st.sampled_from(["success", "declined", "failure", "failure"]),
            seconds=st.sampled_from([0.25, 0.5]),
            error=st.sampled_from(["A: x", "B: y"]),
        ),
        st.builds(Enabled, at=st.just(START), version=st.integers(1, 2)),
        st.builds(Disabled, at=st.just(START), reason=st.just("r")),
        st.builds(RolledBack, at=st.just(START), version=st.just(1), newest=st.just(2), reason=st.just("r")),
    ),
    max_size=120,
)


def summary(standing: ToolStatus) -> Any:
    tallies = {
        number: (t.successes, t.declined, t.failures, t.seconds) for number, t in standing.tallies.items()
    }
    held = {number: bool(standing.quarantine(number)) for number in (1, 2)}
    return tallies, held, standing.disabled, standing.chosen


@given(ENTRIES, ENTRIES)
def test_shortened_history_equals_the_whole_now_and_later(past: list[Entry], later: list[Entry]) -> None:
    short = compacted(past)
    assert summary(status_of(short)) == summary(status_of(past))
    assert summary(status_of([*short, *later])) == summary(status_of([*past, *later]))


def test_a_long_history_becomes_short() -> None:
    many = used(*["success", "declined"] * 500)
    assert len(compacted(many)) == KEPT_USES + 1
    assert compacted(compacted(many)) == compacted(many)


# --- what a call says


@pytest.mark.parametrize(
    ("value", "outcome"),
    [({"a": 1}, "success"), ([1], "failure"), (None, "failure"), ({"a": {1}}, "failure")],
)
def test_a_value_has_to_be_json_of_the_declared_type(sample: Any, value: object, outcome: str) -> None:
    assert judge_value(sample.spec, value).outcome == outcome


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (SandboxError("FileNotFoundError: no a.txt\n  line 3, in count_words"), "declined"),
        (SandboxError("ZeroDivisionError: division by zero"), "failure"),
        (
            SandboxError("TimeoutError: the step took longer than 1 s"),
            "failure",
        ),
        (SandboxError("the step crashed (SIGKILL). The Python state is as it was before"), "failure"),
        (SandboxError("cannot pass the arguments of count_words: the value is too large"), None),
        (SandboxClosed("the sandbox was closed"), None),
        (RuntimeError("nothing of the tool"), None),
    ],
)
def test_an_error_is_a_failure_of_the_tool_unless_it_is_declared_or_not_the_tools(
    sample: Any, error: BaseException, outcome: str | None
) -> None:
    judged = judge_error(sample.spec, error, {"path": "a.txt"})
    assert (judged.outcome if judged else None) == outcome


def test_what_a_tool_raises_about_arguments_of_other_types_is_not_its_failure(sample: Any) -> None:
    judged = judge_error(sample.spec, SandboxError("TypeError: unhashable"), {"path": ["a.txt"]})
    assert judged is not None
    assert judged.outcome == "declined"


def test_a_kind_of_a_declared_error_is_declared(sample: Any) -> None:
    spec: ToolSpec = sample.spec.model_copy(
        update={"errors": (sample.spec.errors[0].model_copy(update={"type": "OSError"}),)}
    )
    judged = judge_error(spec, SandboxError("FileNotFoundError: no a.txt"), {"path": "a.txt"})
    assert judged is not None
    assert judged.outcome == "declined"


def test_the_reason_of_a_failure_is_one_short_line(sample: Any) -> None:
    judged = judge_error(sample.spec, SandboxError("KeyError: " + "x" * 5_000), {"path": "a"})
    assert judged is not None
    assert len(judged.error) <= 300
    assert judged.error.startswith("KeyError: xx")
