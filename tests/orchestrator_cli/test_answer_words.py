"""What a user reads at the end: words, also after a stop, and the values that a failure left."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from orchestrator_cli import events
from orchestrator_cli.errors import ProviderError, ReplyUnusable
from orchestrator_cli.events import Event, FileChange
from orchestrator_cli.execution.plan_changes import failures, keep_after
from orchestrator_cli.models.model import Completion, ModelRequest
from orchestrator_cli.plan import Plan, Result, Subtask
from orchestrator_cli.planning.answer import plain_answer, write_answer
from orchestrator_cli.planning.reviser import Cause
from orchestrator_cli.state import RunState, fold
from orchestrator_cli.state.duplicate_code import HINT
from orchestrator_cli.values import Usage
from orchestrator_cli.views.envelope import envelope_of


class Model:
    """Answers every request in the same words, and keeps the requests."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def complete(self, request: ModelRequest, *_: Any, **__: Any) -> Completion:
        self.asked.append(str(request.messages[-1]["content"]))
        return Completion(text="In words.", usage=Usage(), model="m")


def subtask(name: str, **fields: Any) -> Subtask:
    return Subtask(id=name, title=f"Do {name}", kind="human", instruction="x", **fields)


def result(name: str, value: Any, **fields: Any) -> Result:
    return Result(subtask=name, attempt=1, plan_version=1, value=value, **fields)


def answered(prompt: str, values: dict[str, Any], model: Model, stopped: str = "") -> str:
    """The answer to a plan of the subtasks a and b, or of a alone if b is not in `values`."""
    plan = Plan(goal="g", subtasks=tuple(subtask(name) for name in ("a", "b")[: max(1, len(values))]))
    results = {name: result(name, value) for name, value in values.items() if value is not None}
    return write_answer(
        prompt,
        plan,
        states={name: "done" if name in results else "failed" for name in plan.ids},
        results=results,
        failures={name: "it broke" for name in plan.ids if name not in results},
        answered=(),
        made=(),
        reused=(),
        lessons=(),
        stopped=stopped,
        model=model,
        on_delta=lambda _: None,
    )


ROWS = [{"city": "Bonn", "n": 3}, {"city": "Köln", "n": 4}]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("# As it is", "# As it is"),
        (42, "42"),
        (2.5, "2.5"),
        (True, "true"),
        (["a", 2], "- a\n- 2"),
    ],
)
def test_a_plain_value_is_the_answer_without_a_model(value: Any, text: str) -> None:
    model = Model()
    assert answered("How many are there?", {"a": value}, model) == text
    assert model.asked == []


@pytest.mark.parametrize("value", [ROWS, {"n": 3}, [], {}, list(range(11)), [["a"]], ["a\nb"]])
def test_a_larger_value_is_worded_by_a_model(value: Any) -> None:
    model = Model()
    assert answered("How many are there in data.json?", {"a": value}, model) == "In words."
    assert json.dumps(value, ensure_ascii=False, indent=2) in model.asked[0]


@pytest.mark.parametrize("prompt", ["List them as JSON.", "Give me json", "Show the raw data."])
def test_a_prompt_that_asks_for_data_gets_it(prompt: str) -> None:
    model = Model()
    assert json.loads(answered(prompt, {"a": ROWS}, model)) == ROWS
    assert model.asked == []


def test_a_plan_of_several_subtasks_has_no_plain_answer() -> None:
    plan = Plan(goal="g", subtasks=(subtask("a"), subtask("b")))
    assert plain_answer("p", plan, {"a": result("a", "x")}) is None


def test_a_stop_says_what_was_done_what_was_not_and_why() -> None:
    model = Model()
    assert answered("p", {"a": "found it", "b": None}, model, stopped="It is forbidden.") == "In words."
    assert all(words in model.asked[0] for words in ("found it", "it broke", "It is forbidden."))


def test_a_stop_before_anything_was_done_needs_no_model() -> None:
    model = Model()
    text = answered("p", {"a": None}, model, stopped="It is forbidden.")
    assert all(words in text for words in ("It is forbidden.", "Do a", "it broke"))
    assert model.asked == []


# --- what a run keeps


NOW = datetime(2026, 1, 1, tzinfo=UTC)
STARTED = events.RunStarted(prompt="p", workspace="/w", models={}, sandbox="s", version="1")


def run(*facts: Any, plan: Plan) -> RunState:
    rows = [STARTED, events.PlanProposed(plan=plan), *facts]
    return fold(Event(run="r", seq=n, time=NOW, data=fact) for n, fact in enumerate(rows, start=1))


def finished(name: str, value: Any, *files: str) -> events.SubtaskFinished:
    return events.SubtaskFinished(subtask=name, result=result(name, value, files=files), seconds=1)


def failed(name: str) -> events.SubtaskFailed:
    return events.SubtaskFailed(subtask=name, attempt=1, reason=f"{name} broke", final=True)


def test_the_values_of_finished_items_are_shown_with_the_failure_of_a_map() -> None:
    plan = Plan(goal="g", subtasks=(subtask("each", for_each="$a.value"), subtask("other")))
    state = run(finished("each[0]", "one"), failed("each[1]"), failed("each"), failed("other"), plan=plan)
    found = failures(state)
    assert found["each"].startswith("each broke")
    assert '"each[0]": "one"' in found["each"]
    assert found["other"] == "other broke"


def changed(path: str, how: Any) -> events.FilesChanged:
    return events.FilesChanged(subtask="a", attempt=1, changes=(FileChange(path=path, change=how),))


def test_a_file_that_was_deleted_again_was_not_written() -> None:
    plan = Plan(goal="g", subtasks=(subtask("a"), subtask("b")))
    made = [finished("a", 1, "kept", "gone"), changed("kept", "created"), changed("gone", "created")]
    state = run(*made, changed("gone", "deleted"), plan=plan)
    assert state.files == ("kept",)
    assert run(*made, changed("gone", "deleted"), changed("gone", "created"), plan=plan).files == (
        "gone",
        "kept",
    )


def test_the_envelope_has_the_value_of_the_only_subtask() -> None:
    alone = Plan(goal="g", subtasks=(subtask("a"),))
    assert envelope_of(run(finished("a", ROWS), plan=alone))["value"] == ROWS
    assert envelope_of(run(plan=alone))["value"] is None
    two = Plan(goal="g", subtasks=(subtask("a"), subtask("b")))
    assert envelope_of(run(finished("a", ROWS), plan=two))["value"] is None


# --- a reviser that cannot be understood


def cause(what: Any) -> Cause:
    return Cause(subtask="a", what=what, text="t")


def test_a_surprise_alone_keeps_the_plan_if_the_reviser_makes_no_sense() -> None:
    unusable = ReplyUnusable("no JSON", "")
    decision = keep_after(unusable, [cause("reported a surprise"), cause(HINT)])
    assert decision is not None
    assert decision.decision == "keep"
    for what in ("failed", "the user said", "the goal is not met"):
        assert keep_after(unusable, [cause("reported a surprise"), cause(what)]) is None
    assert keep_after(ProviderError("gone", ""), [cause("reported a surprise")]) is None
