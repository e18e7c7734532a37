"""What a planner may count on: the roles and tools there are, as it is shown them."""

from typing import Literal

from pydantic import JsonValue

from orchestrator_cli.plan import Catalogue, Value


class RoleCard(Value):
    name: str
    when: str
    """When to use it."""
    agent: Literal["code", "tools"] = "tools"
    """What its agents do: write code, or call tools."""
    model: str | None = None
    """The model that its agents ask, where it is one of its own."""


class ToolCard(Value):
    name: str
    signature: str
    purpose: str
    server: str = ""
    """The MCP server that says so of its tool; empty where the words are ours or were proved."""


class ProcessCard(Value):
    name: str
    when: str
    """What it does and when to use it."""
    inputs: dict[str, JsonValue] | None = None
    """JSON Schema of what it is given."""


class Offer(Value):
    roles: tuple[RoleCard, ...]
    tools: tuple[ToolCard, ...]
    processes: tuple[ProcessCard, ...] = ()
    max_subtasks: int = 20

    @property
    def catalogue(self) -> Catalogue:
        return Catalogue(
            roles=frozenset(role.name for role in self.roles),
            tools=frozenset(tool.name for tool in self.tools),
            processes=frozenset(process.name for process in self.processes),
            max_subtasks=self.max_subtasks,
        )
