"""Missing tools: asked for by a plan or an agent, built, proved, used, kept, refused."""

from dataclasses import dataclass

import pytest
from command import Done, Orch
from endpoint import Endpoint, call
from scripted_model import Cast, caller, code, coder, patch, plan, tool_call
from toolsmith_replies import CASED, CODE, SPECIFIED, WRITTEN, WRONG

PROMPT = "How many vowels has banana? Build a tool for it."
NEW = [{"name": "count_vowels", "purpose": "counts the vowels of a text"}]
SUBTASKS = (tool_call("count", "count_vowels", text="banana"), caller("tell", ["count"]))
GOES, GOES_AGAIN = plan(*SUBTASKS, new_tools=NEW), plan(*SUBTASKS)
FINISH = call("final_answer", {"answer": "told"})


@dataclass(frozen=True)
class Twice:
    """The same prompt, run twice by one user."""

    orch: Orch
    endpoint: Endpoint
    first: Done
    first_events: list[str]
    second: Done
    calls: int
    """Model calls of the first run."""


@pytest.fixture(scope="module")
def twice(stage: tuple[Orch, Endpoint]) -> Twice:
    orch, endpoint = stage
    endpoint.reply = Cast(
        planner=[GOES], toolsmith=[SPECIFIED, CASED, WRITTEN], agents={"Do tell": [FINISH]}, answer=["Three."]
    )
    first = orch("ask", "--json", PROMPT)
    kinds, calls = [row["kind"] for row in orch.events()], endpoint.arrived
    endpoint.reply = Cast(planner=[GOES_AGAIN], agents={"Do tell": [FINISH]}, answer=["Three again."])
    second = orch("ask", "--json", PROMPT)
    return Twice(orch, endpoint, first, kinds, second, calls)


def test_missing_tool_of_a_plan_is_built_proved_and_used(twice: Twice) -> None:
    assert (twice.first.code, twice.first.envelope["outcome"]) == (0, "completed")
    order = [kind for kind in twice.first_events if kind in ("ToolNeeded", "ToolTried", "ToolBuilt")]
    assert order == ["ToolNeeded", "ToolTried", "ToolBuilt"]
    assert twice.first_events.index("ToolBuilt") < twice.first_events.index("ToolCalled")
    assert [tool["tool"] for tool in twice.first.envelope["tools"]] == ["count_vowels"]
    assert "count" in twice.first.envelope["states"]


def test_the_value_of_a_built_tool_is_the_result_of_its_subtask(twice: Twice) -> None:
    answer = twice.endpoint.of("answer")[0].text
    assert "Call count_vowels (count): done" in answer
    assert "\n3\n" in answer


def test_the_log_names_the_built_tool_with_every_function(twice: Twice) -> None:
    for text in ("count_vowels", "is_vowel(sign: str) -> bool", "Whether a sign is one of the five vowels."):
        assert text in twice.orch.log


def test_the_library_keeps_the_source(twice: Twice) -> None:
    kept = [path.read_text() for path in (twice.orch.home / "tools").rglob("*.py")]
    assert any(CODE in text for text in kept)


def test_the_next_run_takes_the_tool_from_the_library(twice: Twice) -> None:
    assert twice.second.code == 0
    assert twice.second.envelope["tools"] == []
    assert [row["tool"] for row in twice.orch.events("ToolReused")] == ["count_vowels"]
    assert len(twice.endpoint.of("toolsmith")) == 3


def test_the_next_planner_is_shown_the_remembered_run_and_the_tool(twice: Twice) -> None:
    first, second = (exchange.text for exchange in twice.endpoint.of("planner"))
    assert first.count(PROMPT) == 1
    assert second.count(PROMPT) == 2
    assert "count_vowels(text: string)" in second
    assert "count_vowels(text: string)" not in first


@pytest.mark.parametrize("kind", ["code", "tools"])
def test_a_tool_that_an_agent_asks_for_can_be_called_in_its_next_step(
    orch: Orch, endpoint: Endpoint, kind: str
) -> None:
    purpose = "counts the vowels of a text"
    steps = {
        "code": [
            code(f"print(request_tool('count_vowels', {purpose!r}))"),
            code("final_answer(count_vowels('banana'))"),
        ],
        "tools": [
            call("request_tool", {"name": "count_vowels", "purpose": purpose}),
            call("count_vowels", {"text": "banana"}),
            call("final_answer", {"answer": 3}),
        ],
    }
    make = {"code": coder, "tools": caller}[kind]
    endpoint.reply = Cast(
        planner=[plan(make("count", result={"const": 3}))],
        agents={"Do count": steps[kind]},
        toolsmith=[SPECIFIED, CASED, WRITTEN],
    )
    done = orch("ask", "--json", "How many vowels has banana?")
    assert (done.code, done.envelope["answer"]) == (0, "3")
    assert [(row["tool"], row["asked_by"]) for row in orch.events("ToolNeeded")] == [
        ("count_vowels", "count")
    ]
    assert "count_vowels(" in orch.log


def test_a_first_version_that_fails_its_cases_is_written_again(orch: Orch, endpoint: Endpoint) -> None:
    endpoint.reply = Cast(
        planner=[plan(tool_call("count", "count_vowels", text="banana"), new_tools=NEW)],
        toolsmith=[SPECIFIED, CASED, WRONG, WRITTEN],
    )
    done = orch("ask", "--json", PROMPT)
    assert (done.code, done.envelope["answer"]) == (0, "3")
    assert [row["passed"] for row in orch.events("ToolTried")] == [False, True]
    assert "a word" in endpoint.of("toolsmith")[3].text


def test_of_a_tool_that_is_refused_three_times_the_reviser_hears(orch: Orch, endpoint: Endpoint) -> None:
    endpoint.reply = Cast(
        planner=[plan(tool_call("count", "count_vowels", text="banana"), new_tools=NEW)],
        toolsmith=[SPECIFIED, CASED, WRONG, WRONG, WRONG],
        reviser=[patch("It is counted by code instead.", add=[coder("count-here")])],
        agents={"Do count-here": [code("final_answer(sum(c in 'aeiou' for c in 'banana'))")]},
    )
    done = orch("ask", "--json", PROMPT)
    assert done.code == 0
    assert done.envelope["states"] == {"count": "failed", "count-here": "done"}
    assert [row["tool"] for row in orch.events("ToolRefused")] == ["count_vowels"]
    assert "the tool count_vowels could not be built" in endpoint.of("reviser")[0].text
    assert "count_vowels" in orch.log
    assert not list((orch.home / "tools").rglob("count_vowels*.py"))
