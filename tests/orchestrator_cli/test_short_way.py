"""A simple prompt takes the short way unasked: no reviser, no answer, no call too many."""

from command import Orch
from endpoint import Endpoint, call
from scripted_model import Cast, answered, caller, plan, tool_call


def asked(endpoint: Endpoint) -> list[str]:
    """Who was asked, in order."""
    return [exchange.model for exchange in sorted(endpoint.exchanges, key=lambda e: e.n)]


def test_what_the_planner_knows_is_one_call(orch: Orch, endpoint: Endpoint):
    endpoint.reply = Cast(planner=[answered("Four.")], answer=[])
    assert orch("ask", "-q", "What is two and two?").out == "Four.\n"
    assert asked(endpoint) == ["planner"]


def test_a_single_call_of_a_tool_is_one_call_of_a_model(orch: Orch, endpoint: Endpoint):
    (orch.workspace / "note.txt").write_text("The tide is high.")
    endpoint.reply = Cast(planner=[plan(tool_call("read", "read_file", path="note.txt"))], answer=[])
    assert "The tide is high." in orch("ask", "-q", "What does note.txt say?").out
    assert asked(endpoint) == ["planner"]


def test_a_single_agent_is_the_planner_and_its_steps(orch: Orch, endpoint: Endpoint):
    agents = {"Do look": [call("final_answer", {"answer": "It is a lighthouse."})]}
    endpoint.reply = Cast(planner=[plan(caller("look"))], agents=agents, answer=[])
    assert orch("ask", "-q", "What stands there?").out == "It is a lighthouse.\n"
    assert asked(endpoint) == ["planner", "agent"]


def test_a_plan_with_a_slip_costs_no_further_call_and_says_so(orch: Orch, endpoint: Endpoint):
    (orch.workspace / "note.txt").write_text("The tide is high.")
    row = tool_call("Read It", "Read-File", path="note.txt")
    endpoint.reply = Cast(planner=[plan(row)], answer=[])
    done = orch("ask", "What does note.txt say?")
    assert done.code == 0, done.err
    assert asked(endpoint) == ["planner"]
    repairs = [repair for event in orch.events("PlanRepaired") for repair in event["repairs"]]
    assert repairs == [
        "read-it.id: was 'Read It', which is no id",
        "read-it.tools: 'Read-File' is 'read_file'",
    ]
    assert "plan set right" in done.err
    assert "plan set right" in orch.log
