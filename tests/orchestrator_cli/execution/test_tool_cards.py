"""What a planner knows of the arguments of tools, from all their sources."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from orchestrator_cli.execution.tool_cards import ALL_CHARS, PURPOSE_CHARS, card, within_bounds
from orchestrator_cli.mcp_client.tools import read_listing
from orchestrator_cli.plan import Plan, Subtask
from orchestrator_cli.planning.planner import PlannerContext, ToolCard
from orchestrator_cli.planning.validation import faults
from orchestrator_cli.recall.knowledge import knowledge_tools
from orchestrator_cli.tools.files import file_tools
from orchestrator_cli.tools.web import web_tools
from toolsmith.names import AGENT_TOOLS, identifier, name_fault
from toolsmith.spec import ToolSpec

SPEC = ToolSpec.model_validate(
    {
        "name": "count",
        "purpose": "counts",
        "inputs": {
            "path": {"type": "string", "description": "the file"},
            "limit": {"type": "integer", "description": "at most", "nullable": True},
        },
        "output_type": "integer",
        "output_description": "how many",
    }
)
LISTED = {"properties": {"path": {"type": "string"}, "limit": {"type": "integer"}}, "required": ["path"]}


def hand_written(path: str, limit: int | None = None) -> int:
    """Counts."""
    return 0


def server_card(schema: dict[str, Any]) -> ToolCard:
    (tool,) = read_listing("s", [{"name": "count", "inputSchema": schema}], None).tools
    return ToolCard(name="count", signature=tool.signature, purpose="counts", inputs=tool.arguments)


CARDS = {
    "hand-written": card("count", hand_written),
    "built": ToolCard(name="count", signature=SPEC.signature, purpose="counts", inputs=SPEC.arguments),
    "of a server": server_card(LISTED),
}


def test_a_planner_is_shown_a_bounded_catalogue():
    ours = ToolCard(name="read", signature="read()", purpose="o" * 3_000)
    said = [
        ToolCard(
            name=f"t{n}", signature=f"t{n}()", purpose="p" * 2_000, server="s" if n % 2 else "", built=True
        )
        for n in range(200)
    ]
    few = within_bounds([ours, *said[:3]])
    assert [len(one.purpose) for one in few] == [3_000, *[PURPOSE_CHARS] * 3]
    many = within_bounds([ours, *said])
    assert [one.name for one in many] == ["read", *(one.name for one in said)]
    assert ALL_CHARS // 2 < sum(len(one.signature) + len(one.purpose) for one in many) <= ALL_CHARS
    wide = [one.model_copy(update={"signature": "s" * 9_000}) for one in said]
    left = within_bounds([ours, *wide])
    assert sum(len(one.signature) + len(one.purpose) for one in left) <= ALL_CHARS
    assert (left[0], left[1].name, 1 < len(left) < 10) == (ours, "t0", True)


def fault_count(known: ToolCard, inputs: dict[str, Any]) -> int:
    only = Subtask(id="c", title="c", kind="tool", tools=("count",), inputs=inputs)
    context = PlannerContext(roles=(), tools=(known,))
    return len(faults(Plan(goal="g", subtasks=(only,)), context.catalogue))


@pytest.mark.parametrize("whose", CARDS)
def test_a_call_is_judged_by_the_signature_of_any_tool(whose: str):
    good: list[dict[str, Any]] = [{"path": "a"}, {"path": "a", "limit": 2}, {"path": "a", "limit": None}]
    bad: list[dict[str, Any]] = [
        {},
        {"path": 1},
        {"path": None},
        {"path": "a", "limit": "2"},
        {"path": "a", "n": 1},
    ]
    assert [fault_count(CARDS[whose], inputs) for inputs in good] == [0, 0, 0]
    assert [fault_count(CARDS[whose], inputs) for inputs in bad] == [1, 1, 1, 1, 1]


@pytest.mark.parametrize("schema", [{}, {"properties": {}}, LISTED | {"additionalProperties": True}])
def test_a_server_that_names_not_all_of_its_arguments_gets_any(schema: dict[str, Any]):
    assert fault_count(server_card(schema), {"path": "a", "other": 1}) == 0


def test_every_hand_written_tool_has_a_schema_that_names_its_arguments():
    tools = file_tools(Path()) | web_tools(()) | knowledge_tools(None)  # type: ignore[arg-type]
    cards = [card(name, tool) for name, tool in tools.items()]
    assert all(one.inputs and one.inputs["additionalProperties"] is False for one in cards)
    assert all(f"{name}:" in one.signature for one in cards for name in one.inputs["properties"])  # type: ignore


@pytest.mark.parametrize("name", sorted(AGENT_TOOLS))
def test_no_built_tool_has_the_name_of_a_hand_written_one(name: str):
    with pytest.raises(ValidationError, match="choose another"):
        ToolSpec.model_validate(SPEC.model_dump() | {"name": name})
    assert name_fault(identifier(name)) is None
