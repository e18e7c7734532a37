"""A prompt that the planner answers by itself, and the ways in which it is asked and printed."""

import json

import pytest
from command import Orch
from endpoint import Endpoint
from scripted_model import Cast, answered, caller, coder, plan

from orchestrator_cli.events import UNWRITTEN


@pytest.fixture
def knows(endpoint: Endpoint) -> Endpoint:
    """An endpoint whose planner knows the answer."""
    endpoint.reply = Cast(planner=[answered("Forty-two.")])
    return endpoint


def test_a_prompt_the_planner_can_answer_costs_exactly_one_model_call(orch: Orch, knows: Endpoint) -> None:
    done = orch("ask", "What is six times seven?")
    assert (done.code, done.out) == (0, "Forty-two.\n")
    assert [exchange.model for exchange in knows.exchanges] == ["planner"]
    assert orch.events("RunFinished")[0]["usage"]["calls"] == 1


@pytest.mark.both_ways
def test_quiet_prints_the_answer_and_nothing_else(orch: Orch, knows: Endpoint) -> None:
    done = orch("ask", "-q", "What is six times seven?")
    assert (done.code, done.out, done.err) == (0, "Forty-two.\n", "")


def test_json_prints_one_envelope(orch: Orch, knows: Endpoint) -> None:
    done = orch("ask", "--json", "What is six times seven?")
    assert (done.code, done.err) == (0, "")
    assert done.out.count("\n") == 1
    envelope = done.envelope
    assert envelope["answer"] == "Forty-two."
    assert (envelope["outcome"], envelope["exit_code"], envelope["error"]) == ("completed", 0, None)
    assert envelope["states"] == {"reply": "done"}


def test_stream_json_prints_nothing_but_numbered_lines_of_json(orch: Orch, knows: Endpoint) -> None:
    done = orch("ask", "--stream-json", "What is six times seven?")
    rows = [json.loads(line) for line in done.out.splitlines()]
    assert (done.code, done.err) == (0, "")
    assert rows[0]["data"]["kind"] == "RunStarted"
    assert rows[-1]["data"]["kind"] == "RunFinished"
    assert {row["run"] for row in rows} == {orch.journal().parent.name}
    shown_only = {fact.__name__ for fact in UNWRITTEN}
    lasting = [row["seq"] for row in rows if row["data"]["kind"] not in shown_only]
    assert lasting == list(range(1, len(lasting) + 1))


@pytest.mark.both_ways
@pytest.mark.parametrize("args", [["ask", "-"], ["ask"]])
def test_a_prompt_comes_from_standard_input(orch: Orch, knows: Endpoint, args: list[str]) -> None:
    done = orch(*args, "-q", stdin="What is six\ntimes seven? Größe 漢字\n")
    assert (done.code, done.out) == (0, "Forty-two.\n")
    assert "What is six\ntimes seven? Größe 漢字" in knows.exchanges[0].text


@pytest.mark.thorough
def test_a_cold_start_does_the_same(orch: Orch, knows: Endpoint) -> None:
    done = orch.cold("ask", "-q", "What is six times seven?")
    assert (done.code, done.out, done.err) == (0, "Forty-two.\n", "")


def test_plan_shows_the_graph_and_runs_nothing(orch: Orch, endpoint: Endpoint) -> None:
    endpoint.reply = Cast(planner=[plan(coder("build"), caller("look", ["build"]))])
    done = orch("plan", "Build it, then look at it.")
    assert done.code == 0
    assert "build" in done.out
    assert "look" in done.out
    assert endpoint.arrived == 1
    assert orch.files() == []
    assert not (orch.workspace / "fileLog.md").exists()


def test_plan_gives_the_graph_in_other_formats(orch: Orch, endpoint: Endpoint) -> None:
    starts = {
        "mermaid": "flowchart",
        "dot": "digraph",
        "html": "<!doctype html>",
        "svg": "<svg xmlns=",
        "text": " 1 ",
        "json": "{",
    }
    endpoint.reply = Cast(planner=[plan(coder("build"))] * len(starts))
    for form, start in starts.items():
        assert orch("plan", "--format", form, "Build it.").out.startswith(start)
    assert orch("plan", "--format", "dot", "--json", "Build it.").code == 2
    assert endpoint.arrived == len(starts)


def test_plan_gives_the_graph_as_json(orch: Orch, endpoint: Endpoint) -> None:
    endpoint.reply = Cast(planner=[plan(coder("build"), caller("look", ["build"]))])
    done = orch("plan", "--json", "Build it, then look at it.")
    assert [subtask["id"] for subtask in json.loads(done.out)["subtasks"]] == ["build", "look"]


def test_files_that_were_changed_are_listed_after_the_answer(orch: Orch, endpoint: Endpoint) -> None:
    (orch.workspace / "old.txt").write_text("old")
    work = "import os\nos.remove('old.txt')\nfor n in range(25):\n    open(f'{n}.txt', 'w').write('x')\n"
    step = f"<code>\n{work}final_answer('written')\n</code>"
    endpoint.reply = Cast(planner=[plan(coder("write"))], agents={"Do write": [step]})
    done = orch.at_terminal("ask", "Write.", typed="")
    after = done.out.rpartition("written\n")[2].replace("\n", "")
    assert f"{orch.workspace}/0.txt" in after.replace(" ", "")
    assert "6 more files" in after
    assert "orch diff last " in after
    assert "created   0.txt" in orch("show", "last").out
    assert orch("undo", "last").code == 0
    assert "undone" in orch("runs").out
    assert "undone" in orch("show", "last").out
    endpoint.reply = Cast(
        planner=[plan(coder("write"))], agents={"Do write": [step.replace("os.remove", "print")]}
    )
    quiet = orch("ask", "-q", "Write.")
    assert (quiet.out, quiet.err) == ("written\n", "")
