"""Which role does which subtask, on which model, and why: pure rules over what they did before.

The planner proposes; routing confirms, and says what is known of the role, or takes another role of
the same kind of agent. It does that only where the intervals of the two success rates (Wilson, 95 %)
do not touch, at subtasks that needed the same tools, `ENOUGH` of them for each role. Among several
that are better, the highest lower bound decides, then the cost, then the time.

Left as it was proposed, whatever the record says: a role that the prompt names, and one that the
reviser gives to a subtask that was there already, because the reviser knows what happened in this run.
A role that failed in this run takes no subtask over.

Models are chosen by the same rule, among those that the user has named for agents, the first of them unless
another did clearly better as the same role. That comes before another role is looked for: another model is a
smaller change than another trade. A role that names its own model asks that one. A model that was taken for
what it did, and failed in this run, is not taken for anything more.

A role whose own model cannot be asked keeps its subtasks, and the model of the other agents does them.

What is not covered: subtasks that are no agent's; a subtask without a role, or with one that nobody
knows, which is a fault of the plan; how hard subtasks were, beyond the tools they needed; a model that was
never asked, which is not tried to see how it does; the models behind the record of a role, which counts the
work of all.
"""

import re
from collections.abc import Collection, Iterable, Mapping
from math import inf

from pydantic import Field, JsonValue

from orchestrator_cli.durable.similarity import wilson_interval
from orchestrator_cli.plan import Patch, Plan, Route, Subtask, Value, whole_name
from orchestrator_cli.planning.context import RoleCard

ENOUGH = 5
"""How often a role must have done or failed such work before its record says anything."""


class Deed(Value):
    """A subtask that a role did, or failed, in an earlier run."""

    role: str
    tools: tuple[str, ...] = ()
    ok: bool
    seconds: float | None = None
    cost: float | None = None
    model: str | None = None
    """The one that its agent asked; None where several were asked, or nobody has kept it."""


class WorkRecord(Value):
    """What a role, or a model as that role, came to at one sort of work; means of its known time and cost."""

    role: str
    model: str | None = None
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
        return wilson_interval(self.done, self.count)[0]

    @property
    def highest(self) -> float:
        return wilson_interval(self.done, self.count)[1]

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
    alternatives: tuple[str, ...] = ()
    """Others that may be asked in its place."""
    unasked: dict[str, str] = Field(default_factory=dict)
    """Roles whose own model cannot be asked, each with the reason."""


class _Barred(Value):
    """What has failed in this run."""

    roles: frozenset[str] = frozenset()
    models: frozenset[str] = frozenset()


NOTHING_FAILED = _Barred()


def route(plan: Plan, ground: Ground) -> Plan:
    """The plan with a role chosen for every agent, and every choice with its reason in `routes`."""
    subtasks, routes = _routed(plan.subtasks, ground)
    return plan.model_copy(update={"subtasks": subtasks, "routes": routes})


def route_patch(patch: Patch, plan: Plan, ground: Ground, failed: Collection[str] = ()) -> Patch:
    """The patch with a role chosen for what it adds; `failed` are the subtasks that failed in this run."""
    barred = _barred(plan, failed)
    added, routes = _routed(patch.add, ground, barred=barred)
    changed = [subtask for subtask in patch.replace if _has_new_role(subtask, plan)]
    _, kept = _routed(changed, ground, barred=barred, confirm=True)
    return patch.model_copy(update={"add": added, "routes": (*kept, *routes)})


def _barred(plan: Plan, failed: Collection[str]) -> _Barred:
    """What takes nothing over after these subtasks of the plan have failed."""
    rows = [plan[name] for name in failed if name in plan.ids]
    taken = [found for row in rows if (found := plan.route_of(row)) is not None and found.model_instead_of]
    return _Barred(
        roles=frozenset(row.role for row in rows if row.role),
        models=frozenset(found.model for found in taken if found.model),
    )


def chosen_model(plan: Plan, subtask: Subtask, named: Collection[str]) -> str | None:
    """The model that a subtask was given for what it did before; `named` are those that may be asked now.

    None where it is the one that its role, or the settings, would have it ask anyway.
    """
    name = whole_name(subtask.id)
    found = plan.route_of(plan[name]) if name in plan.ids else None
    if found is None or found.model_instead_of is None or found.role != subtask.role:
        return None
    return found.model if found.model in named else None


def _has_new_role(subtask: Subtask, plan: Plan) -> bool:
    return subtask.id not in plan.ids or plan[subtask.id].role != subtask.role


def _routed(
    subtasks: Iterable[Subtask], ground: Ground, *, barred: _Barred = NOTHING_FAILED, confirm: bool = False
) -> tuple[tuple[Subtask, ...], tuple[Route, ...]]:
    rows, routes = [], []
    for subtask in subtasks:
        found = _choice(subtask, ground, barred, confirm)
        if found is not None:
            routes.append(found)
        changed = found is not None and found.role != subtask.role
        rows.append(subtask.model_copy(update={"role": found.role}) if found and changed else subtask)
    return tuple(rows), tuple(routes)


def _choice(subtask: Subtask, ground: Ground, barred: _Barred, confirm: bool) -> Route | None:
    card = next((card for card in ground.cards if card.name == subtask.role), None)
    if card is None or subtask.kind != "agent":
        return None
    own = record_of(card.name, subtask.tools, ground.deeds)
    model = _better_model(card, subtask, ground, barred)
    if model is not None:
        return _route(subtask, card, "as planned", ground, model=model)
    fixed = confirm or is_named(card.name, ground.prompt)
    better = None if fixed else _better_role(card, own, subtask, ground, barred)
    if better is None:
        reason = f"as planned; {_told(own, ' such subtasks')}" if own.count else "as planned"
        return _route(subtask, card, reason, ground)
    taken = next(other for other in ground.cards if other.name == better.role)
    failed, did = _told(own, " such subtasks"), _told(better)
    reason = f"instead of {card.name}, who {failed}; {better.role} {did}"
    model = _better_model(taken, subtask, ground, barred)
    return _route(subtask, taken, reason, ground, instead_of=card.name, model=model)


def _better_role(
    card: RoleCard, own: WorkRecord, subtask: Subtask, ground: Ground, barred: _Barred
) -> WorkRecord | None:
    """The record of the best role that is clearly better at such work; None where there is none."""
    return _clearly_better(
        own,
        [
            record_of(other.name, subtask.tools, ground.deeds)
            for other in ground.cards
            if other.name != card.name
            and other.agent == card.agent
            and other.name not in ground.unasked
            and other.name not in barred.roles
        ],
    )


def _better_model(
    card: RoleCard, subtask: Subtask, ground: Ground, barred: _Barred
) -> tuple[WorkRecord, WorkRecord] | None:
    """The record of the model that agents ask, and of the best that is clearly better as this role."""
    if card.model is not None or ground.model is None:
        return None
    own = record_of(card.name, subtask.tools, ground.deeds, ground.model)
    names = [name for name in ground.alternatives if name != ground.model and name not in barred.models]
    others = [record_of(card.name, subtask.tools, ground.deeds, name) for name in names]
    better = _clearly_better(own, others)
    return (own, better) if better is not None else None


def _clearly_better(own: WorkRecord, others: Iterable[WorkRecord]) -> WorkRecord | None:
    """The best of those whose interval lies above that of `own`; None where there is none, or too little."""
    if own.count < ENOUGH:
        return None
    clear = [other for other in others if other.count >= ENOUGH and other.lowest > own.highest]
    return min(clear, key=lambda other: other.merit, default=None)


def _route(
    subtask: Subtask,
    card: RoleCard,
    reason: str,
    ground: Ground,
    *,
    instead_of: str | None = None,
    model: tuple[WorkRecord, WorkRecord] | None = None,
) -> Route:
    unasked = ground.unasked.get(card.name)
    asked = ground.model if unasked is not None else card.model or ground.model
    if unasked is not None:
        reason = f"{reason}; its own model {card.model} cannot be asked: {unasked}"
    if model is not None:
        first, taken = model
        asked = taken.model
        reason = (
            f"{reason}; {taken.model} instead of {first.model}, which {_told(first, ' such subtasks')}; "
            f"{taken.model} {_told(taken)}"
        )
    return Route(
        subtask=subtask.id,
        role=card.name,
        model=asked,
        reason=reason,
        planned=instead_of is None and unasked is None and model is None,
        instead_of=instead_of,
        model_instead_of=ground.model if model is not None else None,
    )


def _told(record: WorkRecord, what: str = "") -> str:
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


def record_of(
    role: str, tools: Collection[str], deeds: Iterable[Deed], model: str | None = None
) -> WorkRecord:
    """What a role came to at work that needed these tools, or more; of none, at work without tools.

    With a `model`, only what was done with that one.
    """
    needed = frozenset(tools)
    alike = [
        deed
        for deed in deeds
        if deed.role == role and model in (None, deed.model) and _is_alike(needed, deed)
    ]
    return WorkRecord(
        role=role,
        model=model,
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


def deeds_of(plans: Iterable[JsonValue]) -> tuple[Deed, ...]:
    """What remembered plans say of roles: their subtasks that an agent did or failed."""
    return tuple(
        Deed(
            role=str(row["role"]),
            tools=_names(row.get("tools")),
            ok=row["state"] == "done",
            seconds=_number(row.get("seconds")),
            cost=_number(row.get("cost")),
            model=row["model"] if isinstance(row.get("model"), str) else None,
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
