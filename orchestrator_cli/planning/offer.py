"""What a planner may count on: the roles and tools there are, as it is shown them."""

from orchestrator_cli.planning.plan import Catalogue, Value


class RoleCard(Value):
    name: str
    when: str
    """When to use it."""


class ToolCard(Value):
    name: str
    signature: str
    purpose: str


class Offer(Value):
    roles: tuple[RoleCard, ...]
    tools: tuple[ToolCard, ...]
    max_subtasks: int = 20

    @property
    def catalogue(self) -> Catalogue:
        return Catalogue(
            roles=frozenset(role.name for role in self.roles),
            tools=frozenset(tool.name for tool in self.tools),
            max_subtasks=self.max_subtasks,
        )
