"""One run with parallel branches: what overlapped, what was written, and what Prefect's API shows of it."""

from dataclasses import dataclass
from typing import Any

import pytest
from command import Done, Orch
from endpoint import Endpoint, call
from engine import Engine
from scripted_model import Cast, caller, code, coder, plan, tool_call

THINKING_S = 1.0


@dataclass(frozen=True)
class Graph:
    orch: Orch
    endpoint: Endpoint
    done: Done
    engine: Engine

    @property
    def run(self) -> str:
        return self.orch.journal().parent.name


@pytest.fixture(scope="module")
def graph(stage: tuple[Orch, Endpoint], engine: Engine) -> Graph:
    orch, endpoint = stage

    def slowly(text: str) -> dict[str, Any]:
        return {"content": code(text), "sleep": THINKING_S}

    endpoint.reply = Cast(
        planner=[
            plan(
                coder("left"),
                coder("right"),
                tool_call("joined", "read_file", ["left", "right"], path="left.txt"),
                caller("report", ["joined"], inputs={"text": "$joined.value"}),
            )
        ],
        agents={
            "Do left": [slowly("open('left.txt', 'w').write('from the left')\nfinal_answer('l')")],
            "Do right": [slowly("open('right.txt', 'w').write('from the right')\nfinal_answer('r')")],
            "Do report": [call("final_answer", {"answer": "both are there"})],
        },
        answer=["Left and right are written."],
    )
    done = orch("ask", "Write both sides and report.")
    assert done.code == 0, done.err
    return Graph(orch, endpoint, done, engine)


def test_parallel_branches_overlap(graph: Graph) -> None:
    left, right = graph.endpoint.of("agent")[:2]
    assert max(left.arrived, right.arrived) < min(left.answered, right.answered)


def test_what_depends_on_both_begins_after_both(graph: Graph) -> None:
    kinds = [(row["kind"], row.get("subtask")) for row in graph.orch.events()]
    joined = kinds.index(("SubtaskStarted", "joined"))
    assert kinds.index(("SubtaskFinished", "left")) < joined
    assert kinds.index(("SubtaskFinished", "right")) < joined


def test_both_branches_are_committed_and_the_answer_is_printed(graph: Graph) -> None:
    assert graph.orch.files() == ["left.txt", "right.txt"]
    assert graph.orch.file("left.txt") == "from the left"
    assert graph.done.out == "Left and right are written.\n"
    assert graph.orch.remains() == []


def test_a_reference_brings_the_value_of_a_dependency(graph: Graph) -> None:
    report = graph.endpoint.of("agent")[2]
    assert "from the left" in report.text


def test_a_subtask_of_kind_tool_asks_no_model(graph: Graph) -> None:
    assert [exchange.model for exchange in graph.endpoint.exchanges].count("agent") == 3
    assert graph.endpoint.arrived == 5


def test_the_log_holds_every_code_operation(graph: Graph) -> None:
    for text in ("open('left.txt', 'w')", "open('right.txt', 'w')", "left.txt", "right.txt"):
        assert text in graph.orch.log


def test_a_run_is_one_completed_flow_run(graph: Graph) -> None:
    assert graph.engine.end_states(graph.run) == ("COMPLETED",)


def test_every_subtask_is_a_completed_task_run_of_its_name(graph: Graph) -> None:
    runs = {run["name"]: run["state_type"] for run in graph.engine.task_runs(graph.run)}
    assert runs == dict.fromkeys(("left", "right", "joined", "report"), "COMPLETED")


def test_the_upstreams_of_the_task_runs_are_the_edges_of_the_plan(graph: Graph) -> None:
    runs = graph.engine.task_runs(graph.run)
    names = {run["id"]: run["name"] for run in runs}
    edges = {
        (names[parent["id"]], run["name"])
        for run in runs
        for parents in run["task_inputs"].values()
        for parent in parents
        if parent["input_type"] == "task_run"
    }
    assert edges == {("left", "joined"), ("right", "joined"), ("joined", "report")}


def test_plan_and_results_are_artifacts(graph: Graph) -> None:
    flow_run = graph.engine.flow_runs(graph.run)[0]["id"]
    found = graph.engine.api("artifacts/filter", {"artifacts": {"flow_run_id": {"any_": [flow_run]}}})
    artifacts = {row["key"]: row["data"] for row in found}
    assert set(artifacts) == {"plan", "result-left", "result-right", "result-joined", "result-report"}
    assert "| joined |" in artifacts["plan"]
    assert "from the left" in artifacts["result-joined"]


def test_the_watch_address_leads_to_the_flow_run(graph: Graph) -> None:
    address = graph.orch.events("FlowStarted")[0]["url"]
    assert address in graph.done.err
    assert address.endswith(graph.engine.flow_runs(graph.run)[0]["id"])
