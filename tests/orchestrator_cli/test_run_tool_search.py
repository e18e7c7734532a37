"""Runs in which the library has a tool that serves under another name, and tools that a user has built."""

import json
from dataclasses import dataclass

import pytest
from command import Orch
from endpoint import Endpoint, call
from scripted_model import Cast, caller, code, coder, plan, tool_call
from toolsmith_replies import CASED, SPEC, SPECIFIED, WRITTEN, WRONG

BUILD = ("tools", "build", "Count the vowels of a text.", "--name", "count_vowels")
NEW = [{"name": "vowels_in", "purpose": "How many vowels a text has"}]
USE = json.dumps({"use": "count_vowels", "why": "It is the same job."})
FINISH = call("final_answer", {"answer": "told"})


@dataclass(frozen=True)
class Stocked:
    """A user whose library has `count_vowels`, built from the command line."""

    orch: Orch
    endpoint: Endpoint
    built: str
    """What `orch tools build --json` printed."""
    kinds: list[str]
    log: str


@pytest.fixture(scope="module")
def stocked(stage: tuple[Orch, Endpoint]) -> Stocked:
    orch, endpoint = stage
    endpoint.reply = Cast(toolsmith=[SPECIFIED, CASED, WRITTEN])
    done = orch(*BUILD, "--json")
    assert done.code == 0, done.err
    return Stocked(orch, endpoint, done.out, [row["kind"] for row in orch.events()], orch.log)


def test_a_tool_is_built_from_the_command_line_as_a_run_of_its_own(stocked: Stocked) -> None:
    envelope = json.loads(stocked.built)
    assert envelope["outcome"] == "completed"
    assert envelope["answer"] == "The library has `count_vowels`."
    assert [tool["tool"] for tool in envelope["tools"]] == ["count_vowels"]
    kinds = stocked.kinds
    order = [
        kind
        for kind in kinds
        if kind in ("RunStarted", "ToolNeeded", "ToolTried", "ToolBuilt", "RunFinished")
    ]
    assert order == ["RunStarted", "ToolNeeded", "ToolTried", "ToolBuilt", "RunFinished"]
    assert "Build a tool: Count the vowels of a text." in stocked.log
    assert "is_vowel(sign: str) -> bool" in stocked.log


def test_a_plan_that_names_another_tool_is_made_to_name_the_one_that_serves(stocked: Stocked) -> None:
    orch, endpoint = stocked.orch, stocked.endpoint
    endpoint.reply = Cast(
        planner=[
            plan(
                tool_call("count", "vowels_in", text="banana"),
                caller("tell", ["count"], tools=["vowels_in"]),
                new_tools=NEW,
            )
        ],
        toolsmith=[USE],
        agents={"Do tell": [call("count_vowels", {"text": "oak"}), FINISH]},
    )
    done = orch("ask", "--json", "How many vowels has banana?")
    assert (done.code, done.envelope["states"]) == (0, {"count": "done", "tell": "done"})
    assert [s["tools"] for s in done.envelope["plan"]["subtasks"]] == [["count_vowels"], ["count_vowels"]]
    (repaired,) = [row for row in orch.events("PlanRepaired") if row["plan"]]
    assert (
        repaired["repairs"][0]
        == "count.tools: 'vowels_in' is served by 'count_vowels', which the library has"
    )
    (reused,) = orch.events("ToolReused")
    assert (reused["tool"], reused["instead_of"]) == ("count_vowels", "vowels_in")
    assert orch.events("ToolBuilt") == []
    (asked, *_) = [e.text for e in endpoint.of("agent") if "Do tell" in e.text]
    assert "The tool `vowels_in` is there under the name `count_vowels`." in asked
    assert "`vowels_in` (It is the same job.)" in orch.log


def test_a_run_that_is_gone_on_with_has_the_plan_that_names_the_other_tool(stocked: Stocked) -> None:
    orch, endpoint = stocked.orch, stocked.endpoint
    endpoint.reply = Cast(
        planner=[plan(caller("tell", tools=["vowels_in"]), new_tools=NEW)],
        toolsmith=[USE],
        agents={"Do tell": [call("count_vowels", {"text": "oak"}), FINISH]},
    )
    stopped = orch("ask", "How many vowels has oak?", "--max-calls", "2")
    assert stopped.code == 5
    done = orch("resume", "last", "--json", "--max-calls", "20")
    assert (done.code, done.envelope["states"]) == (0, {"tell": "done"})
    assert done.envelope["plan"]["subtasks"][0]["tools"] == ["count_vowels"]
    assert len([row for row in orch.events("PlanRepaired") if row["plan"]]) == 1
    assert orch("log", "verify").code == 0


def test_agent_that_asks_for_a_tool_gets_the_name_of_the_one_that_serves(stocked: Stocked) -> None:
    orch, endpoint = stocked.orch, stocked.endpoint
    ask = "print(request_tool('vowels_in', 'How many vowels a text has'))"
    endpoint.reply = Cast(
        planner=[plan(coder("count"))],
        toolsmith=[USE],
        agents={"Do count": [code(ask), code(ask), code("final_answer(count_vowels('banana'))")]},
    )
    done = orch("ask", "--json", "How many vowels has banana?")
    assert (done.code, done.envelope["answer"]) == (0, "3")
    outputs = [row["output"] for row in orch.events("CodeRan")]
    assert all(
        "There is a tool for it already, which is called count_vowels." in text for text in outputs[:2]
    )


def test_a_call_that_does_not_fit_the_tool_that_serves_has_one_of_its_own_built(stocked: Stocked) -> None:
    orch, endpoint = stocked.orch, stocked.endpoint
    inputs = {"words": {"type": "array", "description": "The words."}}
    cases = [
        {"title": "two", "arguments": {"words": ["a", "bo"]}, "expected": 2},
        {"title": "none", "arguments": {"words": ["b"]}, "expected": 0},
        {"title": "nothing", "arguments": {"words": []}, "error": "ValueError", "edge": True},
    ]
    example = {"title": "an example", "arguments": {"words": ["Oslo"]}, "expected": 2}
    spec = SPEC | {"name": "vowels_in", "inputs": inputs, "examples": [example]}
    module = WRITTEN.replace("def count_vowels(text: str)", "def vowels_in(words: list[str])")
    module = module.replace("text: The text.", "words: The words.").replace("not text", "not words")
    module = module.replace("for sign in text)", "for sign in ''.join(words))")
    endpoint.reply = Cast(
        planner=[plan(tool_call("count", "vowels_in", words=["ba", "nana"]), new_tools=NEW)],
        toolsmith=[USE, json.dumps(spec), json.dumps({"cases": cases}), module],
    )
    done = orch("ask", "--json", "How many vowels have these words?")
    assert (done.code, done.envelope["answer"]) == (0, "3")
    assert [row["tool"] for row in orch.events("ToolBuilt")] == ["vowels_in"]


def test_a_tool_is_extended_for_a_plan_and_keeps_its_name_and_its_old_cases(stocked: Stocked) -> None:
    orch, endpoint = stocked.orch, stocked.endpoint
    also = {"type": "string", "description": "Further letters that count.", "default": ""}
    spec = SPEC | {"inputs": SPEC["inputs"] | {"also": also}}
    cases = [
        {"title": "further", "arguments": {"text": "my yard", "also": "y"}, "expected": 3},
        {"title": "two further", "arguments": {"text": "why", "also": "wy"}, "expected": 2},
        {"title": "in capitals", "arguments": {"text": "Yo", "also": "y"}, "expected": 1},
        {
            "title": "nothing at all",
            "arguments": {"text": "", "also": "y"},
            "error": "ValueError",
            "edge": True,
        },
    ]
    module = WRITTEN.replace("(text: str)", '(text: str, also: str = "")')
    module = module.replace("text: The text.\n", "text: The text.\n        also: Further letters.\n")
    module = module.replace("is_vowel(sign) for", "is_vowel(sign) or sign in also for")
    extend = json.dumps({"extend": "count_vowels", "what": "Letters that count as vowels, too."})
    new = [{"name": "count_with", "purpose": "Count the vowels of a text, and other letters"}]
    endpoint.reply = Cast(
        planner=[plan(tool_call("count", "count_with", text="my banana", also="y"), new_tools=new)],
        toolsmith=[extend, json.dumps(spec), json.dumps({"cases": cases}), module],
    )
    done = orch("ask", "--json", "How many vowels has my banana, with y?")
    assert (done.code, done.envelope["answer"]) == (0, "4")
    (built,) = orch.events("ToolBuilt")
    assert (built["tool"], built["version"]) == ("count_vowels", 2)
    assert any("passed: a word" in line for line in built["trial"])
    assert done.envelope["plan"]["subtasks"][0]["tools"] == ["count_vowels"]


def test_a_tool_that_the_toolsmith_refuses_ends_its_run_with_the_reasons(
    orch: Orch, endpoint: Endpoint
) -> None:
    endpoint.reply = Cast(toolsmith=[SPECIFIED, CASED, WRONG, WRONG, WRONG])
    done = orch(*BUILD)
    assert done.code == 1
    assert "the tool count_vowels could not be built" in done.error
    assert endpoint.of("answer") == []
    assert [row["tool"] for row in orch.events("ToolRefused")] == ["count_vowels"]


def test_a_limit_ends_the_building_of_a_tool_and_resume_goes_on(orch: Orch, endpoint: Endpoint) -> None:
    endpoint.reply = Cast(toolsmith=[SPECIFIED, SPECIFIED, CASED, WRITTEN])
    stopped = orch(*BUILD, "--max-calls", "1")
    assert stopped.code == 5
    assert "orch resume" in stopped.error
    done = orch("resume", "last", "--json", "--max-calls", "20")
    assert (done.code, done.envelope["answer"]) == (0, "The library has `count_vowels`.")


def test_missing_name_is_made_of_the_words_and_missing_words_are_reported(
    orch: Orch, endpoint: Endpoint
) -> None:
    spec = json.dumps(SPEC | {"name": "count_vowels_text"})
    module = WRITTEN.replace("def count_vowels(", "def count_vowels_text(")
    endpoint.reply = Cast(toolsmith=[spec, CASED, module])
    done = orch("tools", "build", "-q", "Count the vowels of a text.")
    assert (done.code, done.out) == (0, "The library has `count_vowels_text`.\n")
    nameless = orch("tools", "build", "数元音")
    assert nameless.code == 2
    assert "--name" in nameless.error
