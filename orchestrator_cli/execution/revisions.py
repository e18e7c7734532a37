"""When the reviser is asked and what about: functions of the run's state; and how its patch is applied."""

from collections.abc import Sequence
from functools import cache

from orchestrator_cli import events
from orchestrator_cli.approvals.questions import check_patch_approval
from orchestrator_cli.errors import LimitReached, RunFailed
from orchestrator_cli.execution.run import Run
from orchestrator_cli.plan import Patch, Plan, as_name, descendants
from orchestrator_cli.planning.answer import as_text
from orchestrator_cli.planning.context import PlannerContext
from orchestrator_cli.planning.expressions import ExpressionFailed, holds
from orchestrator_cli.planning.patching import apply as patched
from orchestrator_cli.planning.reviser import Cause, Revision, Situation, revise
from orchestrator_cli.planning.routing import route_patch
from orchestrator_cli.settings import Settings
from orchestrator_cli.state import RunState
from orchestrator_cli.state.apply import GOAL
from orchestrator_cli.state.duplicate_code import HINT

HEARD = {
    "never": ("the user said",),
    "auto": ("the user said", "failed", "reported a surprise", HINT),
}
"""What the reviser is asked about, by the setting `revise`; `always` leaves nothing out."""


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
    if plan.check is None or state.failures:
        return ""
    try:
        return "" if holds(plan.check, outcomes(state, plan.ids)) else f"{plan.check} does not hold"
    except ExpressionFailed as exc:
        return f"{plan.check} cannot be evaluated: {exc}"


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
            f"The plan was revised {settings.max_revisions} times and still {causes[0]}.",
            "Allow more with ORCH_MAX_REVISIONS, or put the prompt another way.",
        )


def settle(run: Run, decision: Revision, causes: Sequence[Cause]) -> None:
    """Say that the reviser left the plan as it is. Raises `RunFailed` if it stops the run."""
    cause = "; ".join(map(str, causes))
    if decision.decision == "stop":
        raise RunFailed(f"The goal cannot be reached: {decision.reason}", f"What led to it: {cause}")
    if decision.decision == "keep":
        ids = tuple(one.id for one in causes)
        run.emit(events.RevisionDeclined(reason=decision.reason, cause=cause, causes=ids))


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
        outcomes=dict(state.failures) | {name: as_text(r.value) for name, r in state.results.items()},
        causes=tuple(causes),
        lessons=state.lessons,
    )
    failed = {name for name, one in state.states.items() if one == "failed"}
    # A person may change their mind; a reviser that does so goes in loops.
    may_go_back = any(cause.what == "the user said" for cause in causes)

    def next_version(state: RunState, patch: Patch) -> Plan:
        versions = () if may_go_back else (*state.earlier, state.plan)
        return patched(state.plan, patch, state.states, context.catalogue, versions)

    def apply(patch: Patch) -> Plan:
        patch = route_patch(patch, situation.plan, evidence(), failed)
        next_version(run.state, patch)
        check_patch_approval(patch, broker=run.broker, cancellation=run.cancellation)

        def choose(state: RunState) -> events.PlanRevised:
            return events.PlanRevised(
                plan=next_version(state, patch),
                patch=patch,
                cause="; ".join(map(str, causes)),
                causes=tuple(cause.id for cause in causes),
            )

        run.stream.decide(choose)
        return run.state.plan

    planner_context = context.model_copy(update={"tools": run.registry.cards((*state.made, *state.borrowed))})
    return revise(situation, planner_context=planner_context, model=run.model, apply=apply, emit=run.emit)
