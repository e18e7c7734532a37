"""An agent that does the same thing three times with the same outcome is stopped."""

from typing import Any

import pytest
from command import Orch
from endpoint import Endpoint, call
from scripted_model import Cast, caller, code, coder, decided, plan

from orchestrator_cli.execution.agent_tools import LoopDetector

READ = call("read_file", {"path": "notes.txt"})
FINISH = call("final_answer", {"answer": "done"})


def failures(orch: Orch) -> list[str]:
    return [fact["reason"] for fact in orch.events("SubtaskFailed") if fact["final"]]


def test_the_same_call_with_the_same_outcome_three_times_ends_the_attempt(
    orch: Orch, endpoint: Endpoint
) -> None:
    (orch.workspace / "notes.txt").write_text("the same")
    endpoint.reply = Cast(
        planner=[plan(caller("one", tools=["read_file"], retries=0))],
        agents={"Do one": [READ] * 6},
        reviser=[decided("stop", "It leads nowhere.")],
    )
    done = orch("ask", "Read it.")
    assert done.code == 1
    assert failures(orch) == [
        "it called read_file with the same arguments three times and got the same result"
    ]
    assert len(endpoint.of("agent")) == 3
    assert "three times and got the same result" in endpoint.of("reviser")[0].text


def test_the_same_code_with_the_same_output_three_times_ends_the_attempt(
    orch: Orch, endpoint: Endpoint
) -> None:
    endpoint.reply = Cast(
        planner=[plan(coder("one", retries=0))],
        agents={"Do one": [code("print(open('gone.txt').read())")] * 6},
        reviser=[decided("stop", "It leads nowhere.")],
    )
    assert orch("ask", "Read it.").code == 1
    assert failures(orch) == ["it ran the same code three times and got the same result"]
    assert len(endpoint.of("agent")) == 3


def test_the_same_call_with_another_outcome_is_progress(orch: Orch, endpoint: Endpoint) -> None:
    count = code("import os\nn = len(os.listdir('.'))\nopen(f'{n}.txt', 'w').close()\nprint(n)")
    endpoint.reply = Cast(
        planner=[plan(coder("one", retries=0))],
        agents={"Do one": [count] * 4 + [code("final_answer(1)")]},
    )
    assert orch("ask", "Count.").code == 0


@pytest.mark.parametrize(("steps", "found"), [(1, False), (2, False), (3, True)])
def test_a_loop_within_one_step_is_one(steps: int, found: bool) -> None:
    loops = LoopDetector()
    for _ in range(steps):
        for _ in range(10):
            loops.note("called look with the same arguments", "{}", "nothing")
        loops.end_step()
    assert bool(loops.found) is found


@pytest.mark.parametrize(
    "other", [("called look", "{}", "b"), ("called look", "[]", "a"), ("ran", "{}", "a")]
)
def test_what_differs_in_anything_is_not_the_same(other: Any) -> None:
    loops = LoopDetector()
    for what in (("called look", "{}", "a"), other, ("called look", "{}", "a")):
        loops.note(*what)
        loops.end_step()
    assert loops.found is None


@pytest.mark.parametrize(
    ("done", "found"),
    [("aaa", True), ("aabaa", False), ("aabaaa", True), ("abacada", False), ("abababa", True)],
)
def test_only_what_is_new_is_progress(done: str, found: bool) -> None:
    loops = LoopDetector()
    for what in done:
        loops.note(what)
        loops.end_step()
    assert bool(loops.found) is found
