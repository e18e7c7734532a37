"""What every subtask of a run works with."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from orchestrator_cli.approvals.broker import ApprovalBroker
from orchestrator_cli.approvals.effects import Effects
from orchestrator_cli.approvals.permissions import PermissionGate
from orchestrator_cli.cancellation import Cancellation
from orchestrator_cli.execution.tool_registry import Toolbox
from orchestrator_cli.journal.journal import Emit
from orchestrator_cli.journal.redaction import Masks
from orchestrator_cli.models.model import Model
from orchestrator_cli.plan import Subtask
from orchestrator_cli.planning.context import PlannerContext
from orchestrator_cli.planning.routing import RoutingEvidence
from orchestrator_cli.roles import Role
from orchestrator_cli.settings import Settings
from orchestrator_cli.state.duplicate_code import Repeats
from orchestrator_cli.workspace import Workspace
from toolsmith.sandbox import Backend


@dataclass(frozen=True)
class RunContext:
    run: str
    prompt: str
    settings: Settings
    model: Model
    planner_context: PlannerContext
    routing_evidence: Callable[[], RoutingEvidence]
    """What the roles of subtasks are chosen by."""
    model_of: Callable[[Subtask], str | None]
    """The model that was chosen for a subtask by what is known of it; None where its role says which."""
    workspace: Workspace
    toolbox: Toolbox
    roles: Mapping[str, Role]
    backend: Backend
    cancellation: Cancellation
    broker: ApprovalBroker
    gate: PermissionGate
    masks: Masks
    effects: Effects
    repeats: Repeats
    emit: Emit
