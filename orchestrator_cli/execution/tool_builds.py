"""The tools that a plan names and that do not exist yet: which to build now, and how one is built.

If a tool of another name serves, the plan is changed to name that one. The change is an event with the
whole plan, so that another process continues with it.
"""

from collections.abc import Collection, Mapping

from orchestrator_cli import events
from orchestrator_cli.execution.run import Run
from orchestrator_cli.execution.tool_registry import ToolRegistry, ToolUnavailable
from orchestrator_cli.plan import NewTool, Subtask, needs
from orchestrator_cli.planning.patching import substituted
from orchestrator_cli.state import RunState
from toolsmith.search import planned_faults


def wanted_tools(state: RunState) -> list[NewTool]:
    """The tools that pending subtasks name."""
    return needs(state.plan.model_copy(update={"subtasks": tuple(state.pending)}))


def missing_tools(subtask: Subtask, registry: ToolRegistry) -> list[str]:
    """The tools that a subtask has to wait for."""
    return [name for name in subtask.tools if not registry.has(name)]


def tools_to_build(state: RunState, registry: ToolRegistry, left_out: Collection[str]) -> list[NewTool]:
    """What nothing has or serves; `left_out` are built, refused or asked about already."""
    return [
        tool
        for tool in wanted_tools(state)
        if tool.name not in left_out and not registry.has(tool.name) and registry.serving(tool.name) is None
    ]


def build_planned(run: Run, tool: NewTool) -> None:
    """Have a tool built, or find one that serves. Raises as `ToolRegistry.ensure` does."""
    wanting = _wanting(run.state, tool.name)
    calls = [s.inputs for s in wanting if s.kind == "tool"]
    context = "\n".join(f"{s.title}. {s.instruction}".strip() for s in wanting)
    run.registry.ensure(tool, asked_by="plan", context=context, calls=calls)


def refusal_of(run: Run, tool: str, outcome: object) -> str:
    """Why a tool cannot be had after its build ended; empty if it can. Raises any other error."""
    if isinstance(outcome, ToolUnavailable):
        return str(outcome)
    if isinstance(outcome, BaseException):
        raise outcome
    return let_serve(run, tool)


def let_serve(run: Run, wanted: str) -> str:
    """Have the plan name the tool that serves as `wanted`, if it has another name.

    Returns why calls in the plan do not fit it; empty if all do.
    """
    serving = run.registry.serving(wanted)
    if serving is None:
        return ""
    faults: Mapping[str, tuple[str, ...]] = {}

    def choose(state: RunState) -> events.PlanRepaired | None:
        nonlocal faults
        faults = {
            s.id: tuple(planned_faults(serving.spec, s.inputs)) if s.kind == "tool" else ()
            for s in _wanting(state, wanted)
        }
        fitting = [name for name, found in faults.items() if not found]
        plan, repairs = substituted(state.plan, wanted, serving.name, fitting)
        return events.PlanRepaired(repairs=tuple(map(str, repairs)), plan=plan) if repairs else None

    run.stream.decide(choose)
    if unfit := [fault for found in faults.values() for fault in found]:
        why = "; ".join(unfit)
        return f"{serving.spec.signature} serves as {wanted} and cannot be called as planned: {why}"
    return ""


def _wanting(state: RunState, tool: str) -> list[Subtask]:
    """The pending subtasks that name a tool."""
    return [s for s in state.pending if tool in s.tools]
