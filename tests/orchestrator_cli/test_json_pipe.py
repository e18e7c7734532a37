"""What `--json` prints is one JSON object for any end of a run, also in a real pipe."""

import json
import subprocess
import time
from collections.abc import Callable
from typing import Any

import pytest
from command import Orch
from endpoint import Endpoint, call
from scripted_model import Cast, caller, plan, tool_call

ASKED = tool_call("ask", "list_files") | {"approve": True}
DONE = call("final_answer", {"answer": "made"})


def started(orch: Orch, *args: str) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [*orch.command, "ask", "--json", *args, "Do it."],
        env=orch.environment(),
        cwd=orch.workspace,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def kept(*_: Any) -> Any:
    return {"content": "late", "sleep": 60}


ENDS: dict[str, tuple[Callable[[], Cast], tuple[str, ...], int, str]] = {
    "success": (lambda: Cast(planner=[plan(caller("one"))], agents={"Do one": [DONE]}), (), 0, "completed"),
    "no plan": (lambda: Cast(), (), 4, "failed"),
    "limit": (lambda: Cast(planner=[plan(caller("one"))]), ("--max-calls", "1"), 5, "failed"),
    "question": (lambda: Cast(planner=[plan(ASKED)]), (), 6, "paused"),
    "no start": (lambda: Cast(), ("--max-calls", "-1"), 3, "failed"),
}


@pytest.mark.parametrize("end", ENDS)
def test_one_object_is_printed_for_every_end(end: str, orch: Orch, endpoint: Endpoint) -> None:
    cast, args, code, outcome = ENDS[end]
    endpoint.reply = cast()
    with started(orch, *args) as run:
        read = subprocess.run(
            ["python3", "-m", "json.tool"], stdin=run.stdout, capture_output=True, check=False, timeout=90
        )
    assert read.returncode == 0, read.stderr
    found = json.loads(read.stdout)
    assert (run.returncode, found["exit_code"], found["outcome"]) == (code, code, outcome)
    assert (found["error"] is None) == (code == 0)


def test_one_object_is_printed_after_an_interrupt(orch: Orch, endpoint: Endpoint) -> None:
    endpoint.reply = Cast(planner=[kept])
    run = started(orch)
    deadline = time.monotonic() + 60
    while not endpoint.arrived and time.monotonic() < deadline:
        time.sleep(0.05)
    run.send_signal(2)
    out, _ = run.communicate(timeout=30)
    found = json.loads(out)
    assert (run.returncode, found["exit_code"], found["outcome"]) == (130, 130, "interrupted")


def test_a_reader_that_has_left_is_no_traceback(orch: Orch, endpoint: Endpoint) -> None:
    endpoint.reply = Cast(planner=[plan(caller("one"))], agents={"Do one": [DONE]})
    with started(orch) as run:
        assert run.stdout is not None
        assert run.stderr is not None
        run.stdout.close()
        errors = run.stderr.read().decode()
    assert "Traceback" not in errors
    assert orch.events("RunFinished")[-1]["outcome"] == "completed"
