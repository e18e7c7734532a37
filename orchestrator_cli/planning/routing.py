"""Which role does which subtask, and why: pure rules over what the roles did before.

The planner proposes; routing confirms, and says what is known of the role, or takes another role of
the same kind of agent. It does that only where the intervals of the two success rates (Wilson, 95 %)
do not touch, at subtasks that needed the same tools, `ENOUGH` of them for each role. Among several
that are better, the highest lower bound decides, then the cost, then the time.

Left as it was proposed, whatever the record says: a role that the prompt names, and one that the
reviser gives to a subtask that was there already, because the reviser knows what happened in this run.
A role that failed in this run takes no subtask over.

A role whose own model cannot be asked keeps its subtasks, and the model of the other agents does them:
another model is a smaller change than another trade.

What is not covered: subtasks that are no agent's; a subtask without a role, or with one that nobody
knows, which is a fault of the plan; how hard subtasks were, beyond the tools they needed.
"""

import re
from collections.abc import Collection, Iterable, Mapping
from math import inf, sqrt

from pydantic import Field, JsonValue

from orchestrator_cli.planning.offer import RoleCard
from orchestrator_cli.planning.plan import Patch, Plan, Route, Subtask, Value

ENOUGH = 5
"""How often a role must have done or failed such work before its record says anything."""
Z = 1.96


class Deed(Value):
    """A subtask that a role did, or failed, in an earlier run."""

    role: str
    tools: tuple[str, ...] = ()
    ok: bool
    seconds: float | None = None
    cost: float | None = None


class RoleRecord(Value):
    """What a role came to at one sort of work; means of what is known of its time and cost."""

    role: str
    done: int = 0
    failed: int = 0
    seconds: float | None = None
    cost: float | None = None

    @property
    def count(self) -> int:
        return self.done + self.failed

    @property
    def lowest(self) -> float:
        """The lower bound of its rate of success."""
        return wilson(self.done, self.count)[0]

    @property
    def highest(self) -> float:
        return wilson(self.done, self.count)[1]

    @property
    def merit(self) -> tuple[float, float, float, str]:
        """Sorts the best first."""
        cost, seconds = (inf if known is None else known for known in (self.cost, self.seconds))
        return (-self.lowest, cost, seconds, self.role)


class Ground(Value):
    """What routing goes by."""

    cards: tuple[RoleCard, ...]
    deeds: tuple[Deed, ...] = ()
    prompt: str = ""
    model: str | None = None
    """The model of agents whose role names none."""
    unasked: dict[str, str] = Field(default_factory=dict)
    """Roles whose own model cannot be asked, each with the reason."""


def route(plan: Plan, ground: Ground) -> Plan:
    """The plan with a role chosen for every agent, and every choice with its reason in `routes`."""
    subtasks, routes = _routed(plan.subtasks, ground)
    return plan.model_copy(update={"subtasks": subtasks, "routes": routes})


def route_patch(patch: Patch, plan: Plan, ground: Ground, failed: Collection[str] = ()) -> Patch:
    """The patch with a role chosen for what it adds; `failed` are the roles that failed in this run."""
    added, routes = _routed(patch.add, ground, barred=failed)
    _, kept = _routed([s for s in patch.replace if _has_new_role(s, plan)], ground, confirm=True)
    return patch.model_copy(update={"add": added, "routes": (*kept, *routes)})


def _has_new_role(subtask: Subtask, plan: Plan) -> bool:
    return subtask.id not in plan.ids or plan[subtask.id].role != subtask.role


def _routed(
    subtasks: Iterable[Subtask], ground: Ground, *, barred: Collection[str] = (), confirm: bool = False
) -> tuple[tuple[Subtask, ...], tuple[Route, ...]]:
    rows, routes = [], []
    for subtask in subtasks:
        found = _choice(subtask, ground, barred, confirm)
        if found is not None:
            routes.append(found)
        changed = found is not None and found.role != subtask.role
        rows.append(subtask.model_copy(update={"role": found.role}) if found and changed else subtask)
    return tuple(rows), tuple(routes)


def _choice(subtask: Subtask, ground: Ground, barred: Collection[str], confirm: bool) -> Route | None:
    card = next((card for card in ground.cards if card.name == subtask.role), None)
    if card is None or subtask.kind != "agent":
        return None
    own = record_of(card.name, subtask.tools, ground.deeds)
    fixed = confirm or is_named(card.name, ground.prompt)
    better = None if fixed else _better(card, own, subtask, ground, barred)
    if better is None:
        reason = f"as planned; {_told(own, ' such subtasks')}" if own.count else "as planned"
        return _route(subtask, card, reason, ground)
    taken = next(other for other in ground.cards if other.name == better.role)
    failed, did = _told(own, " such subtasks"), _told(better)
    reason = f"instead of {card.name}, who {failed}; {better.role} {did}"
    return _route(subtask, taken, reason, ground, instead_of=card.name)


def _better(
    card: RoleCard, own: RoleRecord, subtask: Subtask, ground: Ground, barred: Collection[str]
) -> RoleRecord | None:
    """The record of the best role that is clearly better at such work; None where there is none."""
    if own.count < ENOUGH:
        return None
    others = [
        record_of(other.name, subtask.tools, ground.deeds)
        for other in ground.cards
        if other.name != card.name
        and other.agent == card.agent
        and other.name not in ground.unasked
        and other.name not in barred
    ]
    clear = [other for other in others if other.count >= ENOUGH and other.lowest > own.highest]
    return min(clear, key=lambda other: other.merit, default=None)


def _route(
    subtask: Subtask, card: RoleCard, reason: str, ground: Ground, instead_of: str | None = None
) -> Route:
    unasked = ground.unasked.get(card.name)
    if unasked is not None:
        reason = f"{reason}; its own model {card.model} cannot be asked: {unasked}"
    return Route(
        subtask=subtask.id,
        role=card.name,
        model=ground.model if unasked is not None else card.model or ground.model,
        reason=reason,
        planned=instead_of is None and unasked is None,
        instead_of=instead_of,
    )


def _told(record: RoleRecord, what: str = "") -> str:
    parts = [f"did {record.done} of {record.count}{what}"]
    if record.seconds is not None:
        parts.append(f"in {record.seconds:.{0 if record.seconds >= 10 else 1}f} s")
    if record.cost:
        parts.append(f"for ${record.cost:.4f}")
    return ", ".join(parts)


def is_named(role: str, prompt: str) -> bool:
    """Whether a prompt names a role, as a word."""
    return re.search(rf"(?<![\w-]){re.escape(role)}(?![\w-])", prompt, re.IGNORECASE) is not None


# --- records


def record_of(role: str, tools: Collection[str], deeds: Iterable[Deed]) -> RoleRecord:
    """What a role came to at work that needed these tools, or more; of none, at work without tools."""
    needed = frozenset(tools)
    alike = [deed for deed in deeds if deed.role == role and _is_alike(needed, deed)]
    return RoleRecord(
        role=role,
        done=sum(deed.ok for deed in alike),
        failed=sum(not deed.ok for deed in alike),
        seconds=_mean(deed.seconds for deed in alike),
        cost=_mean(deed.cost for deed in alike),
    )


def _is_alike(needed: frozenset[str], deed: Deed) -> bool:
    return needed <= set(deed.tools) if needed else not deed.tools


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def wilson(done: int, count: int) -> tuple[float, float]:
    """Between which rates of success the true one lies, in 95 of 100 cases."""
    if count == 0:
        return 0.0, 1.0
    rate, square = done / count, Z * Z / count
    middle = rate + square / 2
    half = Z * sqrt(rate * (1 - rate) / count + square / (4 * count))
    return max(0.0, (middle - half) / (1 + square)), min(1.0, (middle + half) / (1 + square))


def deeds_of(plans: Iterable[JsonValue]) -> tuple[Deed, ...]:
    """What remembered plans say of roles: their subtasks that an agent did or failed."""
    return tuple(
        Deed(
            role=str(row["role"]),
            tools=_names(row.get("tools")),
            ok=row["state"] == "done",
            seconds=_number(row.get("seconds")),
            cost=_number(row.get("cost")),
        )
        for rows in plans
        if isinstance(rows, list)
        for row in rows
        if isinstance(row, Mapping)
        if row.get("kind") == "agent" and row.get("role") and row.get("state") in ("done", "failed")
    )


def _names(found: JsonValue) -> tuple[str, ...]:
    return tuple(map(str, found)) if isinstance(found, list) else ()


def _number(found: JsonValue) -> float | None:
    return float(found) if isinstance(found, int | float) else None
