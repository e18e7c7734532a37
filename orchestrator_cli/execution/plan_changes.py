"""How a plan changes while it runs: functions of the run's state.

The reviser patches it after failures, surprises and remarks. Tools that it names and that do not exist are
built; if a tool of another name serves, the plan is changed to name that one.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from functools import cache

from orchestrator_cli import events
from orchestrator_cli.approvals.questions import check_patch_approval
from orchestrator_cli.durable.expressions import ExpressionFailed, holds
from orchestrator_cli.errors import LimitReached, ProviderError, ReplyUnusable, RunStopped
from orchestrator_cli.execution.run import Run
from orchestrator_cli.execution.tool_registry import ToolRegistry, ToolUnavailable
from orchestrator_cli.plan import (
    NewTool,
    Patch,
    Plan,
    Subtask,
    as_name,
    descendants,
    needs,
    place_of,
    whole_name,
)
from orchestrator_cli.planning.answer import as_text
from orchestrator_cli.planning.patching import apply as patched
from orchestrator_cli.planning.patching import substituted
from orchestrator_cli.planning.planner import PlannerContext
from orchestrator_cli.planning.reviser import Cause, Revision, Situation, revise
from orchestrator_cli.planning.routing import route_patch
from orchestrator_cli.settings import Settings
from orchestrator_cli.state import RunState
from orchestrator_cli.state.apply import GOAL
from orchestrator_cli.state.duplicate_code import HINT
from toolsmith.search import planned_faults

# --- the reviser

HEARD = {
    "never": ("the user said",),
    "auto": ("the user said", "failed", "reported a surprise", HINT),
}
"""What the reviser is asked about, by the setting `revise`; `always` leaves nothing out."""

HARMLESS = frozenset({"reported a surprise", "finished", HINT})
"""Causes after which the plan can be kept without a decision."""


def causes_for(state: RunState, settings: Settings, *, is_over: bool = False) -> tuple[Cause, ...]:
    """What the reviser has to be asked about now.

    `is_over`: nothing else is left to do, so that it shows whether the plan has met its goal.
    """
    heard = HEARD.get(settings.revise)
    causes = tuple(cause for cause in state.causes if heard is None or cause.what in heard)
    # A hint is no reason to end a run, nor to ask if nothing is left that could follow it.
    if state.revisions >= settings.max_revisions or not state.pending:
        causes = tuple(cause for cause in causes if cause.what != HINT)
    if causes or not is_over or settings.revise == "never" or state.goal_told >= state.plan.version:
        return causes
    missed = goal_missed(state)
    return (Cause(subtask="", what=GOAL, text=missed),) if missed else ()


def held_by(causes: Sequence[Cause], plan: Plan) -> frozenset[str]:
    """What waits for the reviser: all that depends on what it is asked about, or everything."""
    if any(not cause.subtask for cause in causes):
        return plan.ids
    return descendants(plan, [cause.subtask for cause in causes])


def goal_missed(state: RunState) -> str:
    """In what the plan misses its goal though everything is done; empty if it does not."""
    plan = state.plan
    if plan.check is None or state.failed or state.stranded:
        return ""
    try:
        return "" if holds(plan.check, outcomes(state, plan.ids)) else f"{plan.check} does not hold"
    except ExpressionFailed as exc:
        # It may read what was replaced or skipped, and so has no result.
        return "" if state.failures else f"{plan.check} cannot be evaluated: {exc}"


def outcomes(state: RunState, names: Sequence[str] | frozenset[str]) -> dict[str, object]:
    """What an expression reads of some subtasks; None for one without a result."""
    return {
        as_name(name): state.results[name].model_dump(mode="json") if name in state.results else None
        for name in names
    }


def check_revisions(state: RunState, causes: Sequence[Cause], settings: Settings) -> None:
    """Raise `LimitReached` if the plan was revised as often as it may be."""
    if state.revisions >= settings.max_revisions:
        raise LimitReached(
            f"The plan was revised {settings.max_revisions} times and still {causes[0]}."
            f"{settings.set_by('max_revisions')}",
            "Allow more with ORCH_MAX_REVISIONS, or put the prompt another way.",
        )


def settle(run: Run, decision: Revision, causes: Sequence[Cause]) -> None:
    """Say that the reviser left the plan as it is. Raises `RunStopped` if it stops the run."""
    cause = "; ".join(map(str, causes))
    if decision.decision == "stop":
        raise RunStopped(f"The goal cannot be reached: {decision.reason}", f"What led to it: {cause}")
    if decision.decision == "keep":
        ids = tuple(one.id for one in causes)
        run.emit(events.RevisionDeclined(reason=decision.reason, cause=cause, causes=ids))


def keep_after(error: object, causes: Sequence[Cause]) -> Revision | None:
    """The decision to keep the plan, if the reviser gave no usable reply and nothing has failed.

    A surprise is no reason to end a run; a failure, a missed goal or a word of the user's needs a decision.
    """
    if not isinstance(error, ReplyUnusable) or any(cause.what not in HARMLESS for cause in causes):
        return None
    return Revision(decision="keep", reason=f"The reviser could not be understood: {error.message}")


def failures(state: RunState) -> dict[str, str]:
    """Why subtasks failed or were skipped; for a `for_each`, with the values of its finished items."""
    found = dict(state.failures)
    for name, why in state.failures.items():
        items = sorted((one for one in state.instances if whole_name(one) == name), key=place_of)
        done = {one: state.instances[one].value for one in items}
        if done and name not in state.results:
            found[name] = f"{why}\nThe items that were finished: {json.dumps(done, ensure_ascii=False)}"
    return found


def _values(state: RunState) -> dict[str, str]:
    """Of what is done, dense: the reviser is shown the beginning of each."""
    return {name: as_text(one.value, indent=None) for name, one in state.results.items()}


def ask_reviser(run: Run, context: PlannerContext, causes: Sequence[Cause]) -> Revision:
    """Ask the reviser; its patch is applied to the state of that very moment.

    Raises what `revise` raises, `NotApproved` and `ApprovalNeeded`.
    """
    evidence = cache(lambda: run.routing_evidence(run.state.prompt))
    state = run.state
    situation = Situation(
        prompt=state.prompt,
        plan=state.plan,
        states=state.states,
        outcomes=failures(state) | _values(state),
        causes=tuple(causes),
        lessons=state.lessons,
        remarks=tuple(text for text in state.remarks if text not in {cause.text for cause in causes}),
        refusals=state.refusals,
    )
    failed = {name for name, one in state.states.items() if one == "failed"}
    # A person may change their mind; a reviser that does so goes in loops.
    may_go_back = any(cause.what == "the user said" for cause in causes)

    registry = run.registry
    planner_context = context.model_copy(
        update={
            "tools": registry.cards((*state.made, *state.borrowed)),
            "silent": registry.silent(),
            "absent": registry.absent(),
        }
    )
    catalogue = planner_context.catalogue

    def next_version(state: RunState, patch: Patch) -> Plan:
        versions = () if may_go_back else (*state.earlier, state.plan)
        return patched(state.plan, patch, state.states, catalogue, versions)

    def apply(patch: Patch) -> Plan:
        patch = route_patch(patch, situation.plan, evidence(), failed)
        next_version(run.state, patch)
        check_patch_approval(patch, situation.plan, broker=run.broker, cancellation=run.cancellation)

        def choose(state: RunState) -> events.PlanRevised:
            return events.PlanRevised(
                plan=next_version(state, patch),
                patch=patch,
                cause="; ".join(map(str, causes)),
                causes=tuple(cause.id for cause in causes),
            )

        run.stream.decide(choose)
        return run.state.plan

    return revise(situation, planner_context=planner_context, model=run.model, apply=apply, emit=run.emit)


# --- tools


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
    if isinstance(outcome, ProviderError):
        return f"the tool {tool} cannot be built: {outcome}"
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
