"""Runs that changed nothing: `last` of undo and diff passes them over, and plans that did not run."""

import json
from typing import Any

import pytest
from command import Orch
from endpoint import Endpoint, fault
from scripted_model import Cast, answered, plan, tool_call

WRITE = plan(tool_call("write", "write_file", path="one.txt", content="made"))


def rows(orch: Orch) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(orch("runs", "--json").out)
    return found


@pytest.mark.parametrize("command", ["diff", "undo"])
def test_last_names_the_run_that_it_is_and_those_it_passes_over(
    orch: Orch, endpoint: Endpoint, command: str
) -> None:
    endpoint.reply = Cast(planner=[WRITE, answered("Yes."), WRITE])
    assert orch("ask", "Write the file.").code == 0
    run = orch.journal().parent.name
    done = orch(command, "last")
    assert (done.code, run in done.err, "newer run" in done.err) == (0, True, False)
    assert orch("ask", "Is it there?").code == 0
    assert orch("plan", "Write another.").code == 0
    done = orch(command, "last")
    assert done.code == 0
    assert f"{run}: Write the file." in done.err
    assert "2 newer runs changed no files" in done.err
    assert run not in done.out
    assert orch(command, "last", "--json").envelope["run"] == run


@pytest.mark.parametrize("loop", [False, True])
def test_a_plan_that_did_not_run_is_planned_and_can_be_run(
    orch: Orch, endpoint: Endpoint, loop: bool
) -> None:
    endpoint.reply = Cast(planner=[WRITE])
    done = orch(stdin="/plan Write the file.\n") if loop else orch("plan", "Write the file.")
    assert (done.code, orch.files()) == (0, [])
    (row,) = rows(orch)
    assert (row["state"], row["calls"]) == ("planned", 1)
    shown = orch("show", "last").out
    assert "planned" in shown
    assert f"orch resume {row['run']}" in shown
    stats = json.loads(orch("stats", "--json").out)
    assert stats["states"] == {"planned": 1}
    assert [stats["weeks"][-1][name] for name in ("runs", "completed", "planned")] == [1, 0, 1]
    assert "0 %" not in orch("stats").out
    assert orch("feedback", "last", "good").code == 2
    resumed = orch("resume", "last")
    assert (resumed.code, orch.file("one.txt")) == (0, "made")
    assert [one["state"] for one in rows(orch)] == ["completed"]
    assert len(endpoint.of("planner")) == 1


def test_a_plan_that_could_not_be_made_has_failed_and_did_not_die(orch: Orch, endpoint: Endpoint) -> None:
    endpoint.reply = Cast(planner=[fault(401)])
    assert orch("plan", "Write the file.").code == 4
    assert [row["state"] for row in rows(orch)] == ["failed"]
