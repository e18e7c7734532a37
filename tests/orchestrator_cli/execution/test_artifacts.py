"""What Prefect's UI is sent where many results wait: few artifacts, in which none is missing."""

from typing import Any

import pytest

from orchestrator_cli.engine.artifacts import MANY, TOGETHER_CHARS, together


def result(number: int, data: str = "````\nfound\n````") -> dict[str, Any]:
    ids = {"task_run_id": f"task {number}", "flow_run_id": "flow"}
    return {"key": f"result-s{number}", "data": data, "description": f"Look, {number}", **ids}


def test_many_results_become_one_artifact_of_the_flow_run_in_which_each_is_named() -> None:
    (one,) = together([result(n) for n in range(MANY)])
    assert (one["key"], one["task_run_id"], one["flow_run_id"]) == ("results", None, "flow")
    assert [f"## Look, {n} (result-s{n})" in one["data"] for n in range(MANY)] == [True] * MANY
    assert one["description"] == f"{MANY} results, the last: Look, {MANY - 1}"


def test_versions_of_the_plan_stay_apart() -> None:
    plan = {"key": "plan", "data": "# Plan", "description": "why", "task_run_id": None, "flow_run_id": "flow"}
    assert [row["key"] for row in together([plan, result(1), plan, result(2)])] == ["plan", "plan", "results"]


@pytest.mark.parametrize("length", [TOGETHER_CHARS, 50 * TOGETHER_CHARS])
def test_of_a_long_result_there_is_the_beginning_and_its_fence_is_closed(length: int) -> None:
    (one,) = together([result(1, f"````\n{'x' * length}\n````"), result(2)])
    assert one["data"].count("````") == 4
    assert len(one["data"]) < TOGETHER_CHARS + 200
