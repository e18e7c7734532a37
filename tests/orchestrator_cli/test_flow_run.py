"""The flow run of a run stands on Prefect's server while the planner thinks, and ends as the run does."""

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from cast import Cast, code, coder, plan
from command import Orch
from endpoint import Endpoint, Reply, fault
from engine import Engine

WRITES = [code("open('one.txt', 'w').write('1')\nfinal_answer('one is done')")]


def states(orch: Orch, engine: Engine) -> list[tuple[str, str | None]]:
    """State and message of each flow run that belongs to the run."""
    with contextlib.suppress(IndexError, FileNotFoundError, ValueError):
        found = engine.flow_runs(orch.journal().parent.name)
        return [(row["state"]["type"], row["state"]["message"]) for row in found]
    return []


def once_begun(orch: Orch, engine: Engine, said: Reply) -> Callable[[dict[str, Any]], Reply]:
    """A planner that says nothing before the flow run is running."""

    def line(_: dict[str, Any]) -> Reply:
        deadline = time.monotonic() + 60
        while "RUNNING" not in [kind for kind, _ in states(orch, engine)]:
            if time.monotonic() > deadline:
                return fault(400, "no flow run was begun")
            time.sleep(0.05)
        return said

    return line


def test_a_run_without_a_plan_leaves_a_failed_flow_run_that_says_why(
    orch: Orch, endpoint: Endpoint, engine: Engine
) -> None:
    endpoint.reply = Cast(planner=[once_begun(orch, engine, fault(401, "no such key"))])
    assert orch("ask", "Do it.").code == 4
    ((kind, message),) = states(orch, engine)
    assert (kind, "no such key" in str(message)) == ("FAILED", True)


def test_a_plan_is_carried_out_in_the_flow_run_that_was_begun_beside_the_planner(
    orch: Orch, endpoint: Endpoint, engine: Engine
) -> None:
    endpoint.reply = Cast(
        planner=[once_begun(orch, engine, plan(coder("one")))], agents={"Do one": WRITES}, answer=[]
    )
    assert orch("ask", "Do it.").code == 0
    assert [kind for kind, _ in states(orch, engine)] == ["COMPLETED"]
    assert [row["name"] for row in engine.task_runs(orch.journal().parent.name)] == ["one"]


@pytest.mark.slow  # starts a cold process: 5 s
def test_a_run_that_was_killed_while_planning_goes_on_in_the_same_flow_run(
    orch: Orch, endpoint: Endpoint, engine: Engine
) -> None:
    begun = threading.Event()

    def never(request: dict[str, Any]) -> Reply:
        once_begun(orch, engine, "")(request)
        begun.set()
        return {"content": "late", "sleep": 60}

    endpoint.reply = Cast(planner=[never])
    process = subprocess.Popen([*orch.command, "ask", "Do it."], env=orch.environment(), cwd=orch.workspace)
    assert begun.wait(60)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    endpoint.reply = Cast(planner=[plan(coder("one"))], agents={"Do one": WRITES}, answer=[])
    assert orch("resume", "last").code == 0
    assert [kind for kind, _ in states(orch, engine)] == ["COMPLETED"]
