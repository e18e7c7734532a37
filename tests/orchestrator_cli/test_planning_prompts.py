"""What the planner and the reviser read, and in which order."""

import json
from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any

import pytest

from orchestrator_cli.execution.tool_cards import card
from orchestrator_cli.models.model import Message, ModelRequest
from orchestrator_cli.plan import Plan, Subtask, references
from orchestrator_cli.planning.planner import PlannerContext, RoleCard, ToolCard, make_plan
from orchestrator_cli.planning.reviser import Cause, Situation, revise
from orchestrator_cli.planning.structured_output import read_plan
from orchestrator_cli.roles import load_roles
from orchestrator_cli.surroundings import Surroundings
from orchestrator_cli.tools.files import file_tools

ROLES = tuple(role.card for role in load_roles(Path("nowhere")).values())
FILES = tuple(card(name, tool) for name, tool in file_tools(Path()).items())
CONTEXT = PlannerContext(roles=ROLES, tools=FILES)
OTHER = PlannerContext(
    roles=(*ROLES, RoleCard(name="aaa", when="never")),
    tools=(ToolCard(name="aaa", signature="aaa()", purpose="none"),),
    max_subtasks=7,
)


class Asked(Exception):
    """Raised in place of a reply, with the request."""


class Model:
    def complete(self, request: ModelRequest, *_: Any, **__: Any) -> Any:
        raise Asked(request.messages)


def asked_of_planner(context: PlannerContext) -> Sequence[Message]:
    with pytest.raises(Asked) as raised:
        make_plan("p", runs=(), files=[], planner_context=context, model=Model(), emit=lambda _: None)
    return raised.value.args[0]  # type: ignore[no-any-return]


def asked_of_reviser(context: PlannerContext, plan: Plan, **situation: Any) -> Sequence[Message]:
    with pytest.raises(Asked) as raised:
        revise(
            Situation(prompt="p", plan=plan, **situation),
            planner_context=context,
            model=Model(),
            apply=lambda _: plan,
            emit=lambda _: None,
        )
    return raised.value.args[0]  # type: ignore[no-any-return]


EMPTY = Plan(goal="g", subtasks=())


@pytest.mark.parametrize("role", ["planner", "reviser"])
def test_what_differs_between_runs_comes_last(role: str) -> None:
    one, other = (
        str((asked_of_planner(of) if role == "planner" else _of_reviser(of))[0]["content"]).splitlines()
        for of in (CONTEXT, OTHER)
    )
    same = [line for line, _ in takewhile(lambda lines: lines[0] == lines[1], zip(one, other, strict=False))]
    assert same[-1].startswith("- writer")
    assert any("give orders" in line for line in same)


def _of_reviser(context: PlannerContext) -> Sequence[Message]:
    return asked_of_reviser(context, EMPTY, states={}, outcomes={}, causes=())


def test_the_example_of_the_planner_is_a_plan_that_may_run() -> None:
    prompt = str(asked_of_planner(CONTEXT)[0]["content"])
    example = json.loads(prompt.partition("An example")[2].partition("\n\n")[2].partition("\n\nRoles:")[0])
    plan, repairs = read_plan(example, CONTEXT.catalogue)
    assert repairs == ()
    assert any(subtask.for_each for subtask in plan.subtasks)
    assert any(list(references(subtask.inputs)) for subtask in plan.subtasks)


def test_the_reviser_sees_the_whole_of_what_it_is_asked_about() -> None:
    def subtask(name: str, **fields: Any) -> Subtask:
        more: dict[str, Any] = {"title": name, "kind": "agent", "role": "coder"}
        texts: dict[str, Any] = {"instruction": f"instruct {name}", "check": f"value == '{name}'"}
        given: dict[str, Any] = {
            "inputs": {"x": f"given {name}"},
            "result": {"type": "string", "title": name},
        }
        return Subtask(id=name, **(more | texts | given | fields))

    plan = Plan(
        goal="g",
        subtasks=(subtask("good"), subtask("bad", for_each="$good.value"), subtask("odd"), subtask("next")),
    )
    request = asked_of_reviser(
        CONTEXT,
        plan,
        states={"good": "done", "bad": "failed", "odd": "done", "next": "pending"},
        outcomes={"good": "1", "bad": "no", "odd": "2"},
        causes=(Cause(subtask="odd", what="reported a surprise", text="odd"),),
    )[1]["content"]
    shown = [json.loads(line) for line in str(request).splitlines() if line.startswith("{")]
    assert [one["id"] for one in shown] == ["good", "bad", "odd", "next"]
    assert shown[0].keys() == {"id", "title", "kind", "role"}
    assert shown[1] == plan["bad"].model_dump(mode="json", exclude_defaults=True)
    assert all({"instruction", "inputs", "check", "result"} <= one.keys() for one in shown[1:])


def test_the_reviser_sees_what_is_left_out_of_a_result_and_no_reason_twice() -> None:
    agent: dict[str, Any] = {"title": "One", "kind": "agent", "role": "coder", "instruction": "Do it."}
    plan = Plan(goal="g", subtasks=(Subtask(id="long", **agent), Subtask(id="bad", **agent)))
    request = asked_of_reviser(
        CONTEXT,
        plan,
        states={"long": "done", "bad": "failed"},
        outcomes={"long": "x" * 5_000, "bad": "no such file"},
        causes=(Cause(subtask="bad", what="failed", text="no such file"),),
    )[1]["content"]
    assert "3,000 characters left out" in str(request)
    assert str(request).count("no such file") == 1


def test_the_reviser_knows_where_code_runs() -> None:
    here = CONTEXT.model_copy(update={"surroundings": Surroundings(python="3.12.1", packages=("numpy 2.4",))})
    asked = asked_of_reviser(here, EMPTY, states={}, outcomes={}, causes=())[1]["content"]
    assert "Python 3.12.1" in str(asked)
    assert "numpy 2.4" in str(asked)


@pytest.mark.parametrize("said", ["the user said", "failed"])
def test_the_reviser_sees_what_is_under_way_if_a_remark_may_concern_it(said: Any) -> None:
    now = Subtask(id="now", title="t", kind="agent", role="coder", instruction="do it")
    cause = Cause(subtask="" if said == "the user said" else "other", what=said, text="in French")
    plan = Plan(goal="g", subtasks=(now,))
    request = asked_of_reviser(CONTEXT, plan, states={"now": "running"}, outcomes={}, causes=(cause,))
    (shown,) = (json.loads(line) for line in str(request[1]["content"]).splitlines() if line.startswith("{"))
    assert ("instruction" in shown) == (said == "the user said")
