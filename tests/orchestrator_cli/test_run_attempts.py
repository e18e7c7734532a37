"""Attempts: tried again as the plan says, ended by their time limit, and without a trace when they fail."""

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import network_tool
import pytest
from command import Orch
from endpoint import Endpoint, Reply, call
from engine import Engine
from scripted_model import Cast, caller, code, coder, decided, plan, tool_call

KEEP = [decided("keep", "There is no other way.")]


def attempts(orch: Orch, kind: str, subtask: str) -> list[int]:
    return [row["attempt"] for row in orch.events(kind) if row["subtask"] == subtask]


def test_failed_attempt_is_retried_by_prefect_with_the_reason(
    orch: Orch, endpoint: Endpoint, engine: Engine
) -> None:
    wrong = [code("open('junk.txt', 'w').write('junk')\nfinal_answer([1])"), code("final_answer([1])")]
    endpoint.reply = Cast(
        planner=[plan(coder("count", check="len(value) >= 3", retries=2))],
        agents={"Do count": [*wrong, code("final_answer([1, 2, 3])")]},
    )
    done = orch("ask", "--json", "Count to three.")
    assert (done.code, done.envelope["states"]) == (0, {"count": "done"})
    assert attempts(orch, "SubtaskStarted", "count") == [1, 2]
    (task_run,) = engine.task_runs(orch.journal().parent.name)
    assert (task_run["run_count"], task_run["state_type"]) == (2, "COMPLETED")
    assert (
        'An earlier attempt at this task failed:\n<untrusted source="the earlier attempt">\nthe check'
        in endpoint.of("agent")[2].text
    )
    assert (orch.files(), orch.remains()) == ([], [])


def test_retries_end_where_the_plan_says(orch: Orch, endpoint: Endpoint) -> None:
    endpoint.reply = Cast(
        planner=[plan(tool_call("fetch", "read_file", path="gone.txt") | {"retries": 1})], reviser=KEEP
    )
    done = orch("ask", "--json", "Read it.")
    assert (done.code, done.envelope["states"]) == (1, {"fetch": "failed"})
    assert [row["final"] for row in orch.events("SubtaskFailed")] == [False, True]


LATE_S = 2.5
"""Seconds from an attempt's limit to its end; two are asked for, and some given to a busy machine."""


def ended_after(orch: Orch) -> float:
    """Seconds from the start of the only attempt to its failure."""
    (start,), (end,) = orch.times("SubtaskStarted"), orch.times("SubtaskFailed")
    return (end - start).total_seconds()


@pytest.mark.thorough
@pytest.mark.slow
def test_a_time_limit_ends_a_page_that_a_silent_server_never_sends(orch: Orch, endpoint: Endpoint) -> None:
    """About 7 s: a cold start."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        domain = f"api.example.org:{silent.getsockname()[1]}"
        page = tool_call("page", "fetch_url", url=f"http://{domain}/") | {"network": [domain], "timeout_s": 1}
        endpoint.reply = Cast(planner=[plan(page)], reviser=KEEP)
        command = [sys.executable, network_tool.__file__, "Read it."]
        env = orch.environment(ORCH_PREFECT_API_URL="")
        subprocess.run(command, cwd=orch.workspace, env=env, capture_output=True, timeout=60, check=True)
    (failed,) = orch.events("SubtaskFailed")
    assert failed["reason"] == "took longer than its 1 s"
    assert ended_after(orch) < 1 + LATE_S


def never_answered(_: Any) -> Reply:
    return {"content": "too late", "sleep": 60}


@pytest.mark.parametrize(
    "line",
    [code("open('trace.txt', 'w').write('x')\nwhile True:\n    pass"), never_answered],
    ids=["code that never ends", "a model that never answers"],
)
def test_a_time_limit_ends_an_attempt_without_a_trace(
    orch: Orch, endpoint: Endpoint, engine: Engine, line: str | Callable[[Any], Reply]
) -> None:
    endpoint.reply = Cast(
        planner=[plan(coder("loop", timeout_s=1.5))], agents={"Do loop": [line]}, reviser=KEEP
    )
    started = time.monotonic()
    done = orch("ask", "--json", "Go round.")
    assert time.monotonic() - started < 12
    assert (done.code, done.envelope["states"]) == (1, {"loop": "failed"})
    (failed,) = orch.events("SubtaskFailed")
    assert failed["reason"] == "took longer than its 1.5 s"
    assert ended_after(orch) < 1.5 + LATE_S
    states = {run["name"]: run["state_name"] for run in engine.task_runs(orch.journal().parent.name)}
    assert states["loop"] == "TimedOut"
    assert (orch.files(), orch.remains()) == ([], [])


def test_two_subtasks_that_change_one_file_conflict_and_the_later_is_tried_on_the_new_state(
    orch: Orch, endpoint: Endpoint
) -> None:
    (orch.workspace / "shared.txt").write_text("begun")
    together = threading.Barrier(2, timeout=30)

    def meeting(sign: str) -> list[Reply | Callable[[Any], Reply]]:
        step = code(
            "text = open('shared.txt').read()\n"
            f"open('shared.txt', 'w').write(text + '{sign}')\n"
            "final_answer(text)"
        )

        def at_once(_: Any) -> Reply:
            together.wait()
            return step

        return [at_once, step]

    endpoint.reply = Cast(
        planner=[plan(coder("a"), coder("b"))], agents={"Do a": meeting("+a"), "Do b": meeting("+b")}
    )
    done = orch("ask", "--json", "Add both.")
    assert (done.code, done.envelope["states"]) == (0, {"a": "done", "b": "done"})
    (conflict,) = orch.events("SubtaskFailed")
    assert not conflict["final"]
    assert "changed in the workspace" in conflict["reason"]
    assert orch.file("shared.txt") in ("begun+a+b", "begun+b+a")
    assert orch.remains() == []
    assert endpoint.of("reviser") == []


def test_an_agent_that_does_not_finish_within_its_steps_fails(orch: Orch, endpoint: Endpoint) -> None:
    endpoint.reply = Cast(
        planner=[plan(coder("think"), caller("look"))],
        agents={
            "Do think": [code(f"print({n})") for n in range(9)],
            "Do look": [call("list_files", {}) for _ in range(9)],
        },
        reviser=[decided("keep", "So be it."), decided("keep", "So be it.")],
    )
    done = orch("ask", "--json", "Think.", ORCH_MAX_STEPS="2")
    assert (done.code, done.envelope["states"]) == (1, {"think": "failed", "look": "failed"})
    assert all("did not finish within 2 steps" in row["reason"] for row in orch.events("SubtaskFailed"))


def test_prose_and_broken_tool_calls_of_an_agent_go_back_to_it(orch: Orch, endpoint: Endpoint) -> None:
    broken = {"id": "call_1", "type": "function", "function": {"name": "read_file", "arguments": '{"pa'}}
    endpoint.reply = Cast(
        planner=[plan(coder("write"), caller("look", tools=["read_file"]))],
        agents={
            "Do write": ["I would write a file.", code("open('a.txt', 'w')\nfinal_answer('made')")],
            "Do look": [
                "I have looked.",
                {"content": None, "tool_calls": [broken]},
                call("final_answer", {"answer": "nothing there"}),
            ],
        },
    )
    done = orch("ask", "--json", "Write and look.")
    assert (done.code, done.envelope["states"]) == (0, {"write": "done", "look": "done"})


NEW_NAME = """import os
os.rename(b'n\\xe9w', 'new')
final_answer('done')"""


@pytest.mark.parametrize("step", ["open(b'n\\xe9w', 'w').close()", "import os; os.mkdir(b'n\\xe9w')"])
def test_a_name_that_cannot_be_kept_is_refused_by_name_and_the_work_goes_on(
    orch: Orch, endpoint: Endpoint, step: str
) -> None:
    endpoint.reply = Cast(
        planner=[plan(coder("one"))],
        agents={"Do one": [code(f"{step}; final_answer('done')"), code(NEW_NAME)]},
    )
    done = orch("ask", "Do it.")
    assert (done.code, (orch.workspace / "new").exists()) == (0, True), done.err
    assert "not a UTF-8 name" in endpoint.of("agent")[1].text
