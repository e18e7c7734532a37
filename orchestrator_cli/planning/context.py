"""The roles, tools and processes that a planner is shown."""

from typing import Literal

from pydantic import JsonValue

from orchestrator_cli.plan import Catalogue, FrozenModel


class RoleCard(FrozenModel):
    name: str
    when: str
    """When to use it."""
    agent: Literal["code", "tools"] = "tools"
    """What its agents do: write code, or call tools."""
    model: str | None = None
    """The role's own model, if it names one."""


class ToolCard(FrozenModel):
    name: str
    signature: str
    purpose: str
    server: str = ""
    """The MCP server whose untrusted words the purpose is; empty for our own and built tools."""


class ProcessCard(FrozenModel):
    name: str
    when: str
    """What it does and when to use it."""
    inputs: dict[str, JsonValue] | None = None
    """JSON Schema of its inputs."""


class PlannerContext(FrozenModel):
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
