"""Uses the plan of an earlier run again, if it did well and still fits."""

from memory import RecallResult
from orchestrator_cli import events
from orchestrator_cli.execution.run import Run
from orchestrator_cli.plan import Plan
from orchestrator_cli.planning.planner import (
    Declined,
    newer_fact_reason,
    plan_again,
    reuse_reason,
    tools_of,
)
from orchestrator_cli.values import Swapped


def reused_plan(run: Run, recalled: RecallResult) -> Plan | None:
    """The plan of an earlier run; None if a planner has to be asked, as for what is more than its prompt."""
    if run.settings.reuse == "never" or not recalled.plans or run.state.is_more_than_its_prompt:
        return None
    for earlier in recalled.plans:
        why = reuse_reason(earlier.run, earlier.swaps, earlier.runs)
        newer = earlier.unknown(recalled.known)
        reason = earlier.unmapped or (newer_fact_reason(newer.line) if newer else "")
        found = (
            Declined(reason=reason)
            if reason
            else plan_again(
                earlier.plan,
                why=why,
                needed=earlier.files,
                planner_context=run.planner_context(tools_of(earlier.plan)),
                is_there=run.workspace.holds,
            )
        )
        if isinstance(found, Plan):
            swapped = tuple(Swapped(old=old, new=new) for old, new in earlier.swaps)
            run.emit(events.PlanReused(earlier=earlier.run, swapped=swapped, reason=why))
            return found
        run.emit(events.ReuseDeclined(earlier=earlier.run, reason=found.reason))
    return None
