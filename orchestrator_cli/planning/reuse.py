"""Reuses the plan of an earlier run without asking a planner. Pure.

Memory supplies a plan with its parameters already exchanged. It must pass validation without repairs, and
every tool and file it needs must exist. Otherwise the planner is asked and the reason is recorded; also if
something was learned about the user since, because only a planner can tell whether that matters.

Not covered: whether the files hold the same kind of data as before. A planner cannot see that either.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import PurePosixPath

from pydantic import JsonValue

from orchestrator_cli.plan import FrozenModel, Plan, needs
from orchestrator_cli.planning.context import PlannerContext
from orchestrator_cli.planning.structured_output import Unusable, read_plan

OUTSIDE = frozenset({"fetch_url"})
"""Hand-written tools that return what others wrote."""


class Declined(FrozenModel):
    """Why an earlier plan is not reused."""

    reason: str


def plan_again(
    rows: Mapping[str, JsonValue],
    *,
    why: str,
    needed: Iterable[str],
    planner_context: PlannerContext,
    files: Sequence[str],
) -> Plan | Declined:
    """The plan, or why it is not reused.

    Args:
        rows: the plan as a planner would write it.
        why: becomes the plan's `why`.
        needed: files and folders that the plan uses.
        files: the files of the workspace.
    """
    there = {*files, *(str(folder) for path in files for folder in PurePosixPath(path).parents)}
    if missing := [name for name in needed if name.removeprefix("./").rstrip("/") not in there]:
        return Declined(reason=f"{', '.join(missing)} is not in the workspace")
    try:
        plan, repairs = read_plan({**rows, "why": why}, planner_context.catalogue)
    except Unusable as exc:
        return Declined(reason=f"it is no valid plan any more: {exc}")
    if repairs:
        return Declined(reason=f"it would have to be repaired: {repairs[0]}")
    if gone := needs(plan, planner_context.catalogue.tools):
        return Declined(reason=f"there is no tool {', '.join(tool.name for tool in gone)} any more")
    return plan


def newer_fact_reason(fact: str) -> str:
    """Why a plan is not reused after something was learned about the user."""
    return f"when it was used last it was not known yet: {fact}"


def tools_of(rows: Mapping[str, JsonValue]) -> tuple[str, ...]:
    """The tools named in a plan that is not validated yet."""
    found = rows.get("subtasks")
    listed = [row.get("tools") for row in found if isinstance(row, dict)] if isinstance(found, list) else []
    return tuple(str(name) for names in listed if isinstance(names, list) for name in names)


def reuse_reason(run: str, swaps: Iterable[tuple[str, str]], runs: int) -> str:
    """The `why` of a reused plan."""
    changes = ", ".join(f"{new} for {old}" for old, new in swaps)
    often = "once" if runs == 1 else f"{runs} times"
    return (
        f"The plan of run {run}, which has been run {often}, is used again"
        + (f" with {changes}" if changes else "")
        + "; no planner was asked."
    )


def reads_outside(plans: Iterable[Plan], planner_context: PlannerContext, networked: Collection[str]) -> bool:
    """Whether a run may have read untrusted text: from the web, or an MCP server.

    `networked`: built tools with network access.
    """
    theirs = {card.name for card in planner_context.tools if card.server} | OUTSIDE | set(networked)
    return any(s.network or theirs & set(s.tools) for plan in plans for s in plan.subtasks)
