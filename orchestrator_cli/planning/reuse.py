"""A plan of an earlier run as the plan of this one, without a planner. Pure.

What memory hands over is a plan whose parameters were exchanged already. Here it has to stand the usual
validation, without a repair, and more: every tool it names exists, and so does every file it needs. Where
one of these fails the planner is asked, and the reason is told. So it is where something was learned of the
user that the plan was made without: whether it changes anything is for the planner to say.

What is not covered: whether the files hold what those of the earlier run held. A planner does not see that
either.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence

from pydantic import JsonValue

from orchestrator_cli.plan import Plan, Value, needs
from orchestrator_cli.planning.context import Offer
from orchestrator_cli.planning.reading import read_plan
from orchestrator_cli.planning.structured_output import Unusable

OUTSIDE = frozenset({"fetch_url"})
"""Hand-written tools that bring what others have written."""


class Declined(Value):
    """Why an earlier plan is not used again."""

    reason: str


def plan_again(
    rows: Mapping[str, JsonValue], *, why: str, needed: Iterable[str], offer: Offer, files: Sequence[str]
) -> Plan | Declined:
    """The plan, or why it is not to be used.

    Args:
        rows: the plan as a planner would have written it.
        why: stands in the plan as the reason of its shape.
        needed: names of files and folders that it works with.
        files: those of the workspace.
    """
    there = {*files, *(folder for path in files for folder in _folders(path))}
    if missing := [name for name in needed if name.removeprefix("./").rstrip("/") not in there]:
        return Declined(reason=f"{', '.join(missing)} is not in the workspace")
    try:
        plan, told = read_plan({**rows, "why": why}, offer.catalogue)
    except Unusable as exc:
        return Declined(reason=f"it is no valid plan any more: {exc}")
    if told:
        return Declined(reason=f"it would have to be set right: {told[0]}")
    if gone := needs(plan, offer.catalogue.tools):
        return Declined(reason=f"there is no tool {', '.join(tool.name for tool in gone)} any more")
    return plan


def told_newer(fact: str) -> str:
    """Why a plan is not used again after something was learned of the user."""
    return f"when it was used last it was not known yet: {fact}"


def tools_of(rows: Mapping[str, JsonValue]) -> tuple[str, ...]:
    """The names of the tools in a plan that was not validated yet."""
    found = rows.get("subtasks")
    listed = [row.get("tools") for row in found if isinstance(row, dict)] if isinstance(found, list) else []
    return tuple(str(name) for names in listed if isinstance(names, list) for name in names)


def told_why(run: str, swaps: Iterable[tuple[str, str]], runs: int) -> str:
    """The reason of a plan that was used again."""
    changes = ", ".join(f"{new} for {old}" for old, new in swaps)
    often = "once" if runs == 1 else f"{runs} times"
    return (
        f"The plan of run {run}, which has been run {often}, is used again"
        + (f" with {changes}" if changes else "")
        + "; no planner was asked."
    )


def reads_outside(plans: Iterable[Plan], offer: Offer, networked: Collection[str]) -> bool:
    """Whether a run may have read what strangers wrote: the web, or a server of others.

    `networked` are built tools that reach the network.
    """
    theirs = {card.name for card in offer.tools if card.server} | OUTSIDE | set(networked)
    return any(s.network or theirs & set(s.tools) for plan in plans for s in plan.subtasks)


def _folders(path: str) -> list[str]:
    parts = path.split("/")[:-1]
    return ["/".join(parts[: n + 1]) for n in range(len(parts))]
