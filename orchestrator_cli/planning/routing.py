"""Chooses the role and model of each agent subtask from what they did in earlier runs: pure rules.

The planner proposes a role. Routing keeps it and adds what is known of it, or replaces it with another role
of the same kind of agent if that one did clearly better: at subtasks that needed the same tools, each did at
least `ENOUGH`, and their smoothed rates of success, (done + 1) / (count + 2), differ by `MARGIN`. Of several
better ones the highest rate wins, then the lowest cost, then the shortest time.

Never replaced: a role that the prompt names, and one that the reviser gives to an existing subtask, because
the reviser knows what happened in this run. A role that failed in this run replaces no other.

The same rule first chooses among the models that the user allows for agents, as that role: another model is
a smaller change than another role. A role with a model of its own keeps it. A model that was chosen for its
record and failed in this run is not chosen again. If a role's own model has no key, the other agents' model
does its work.

Not covered: how hard subtasks were, beyond their tools; and models that were never used, which are not
tried out.
"""

import re
from collections.abc import Collection, Iterable, Mapping
from math import inf

from pydantic import Field, JsonValue

from orchestrator_cli.plan import FrozenModel, Patch, Plan, Route, Subtask, whole_name
from orchestrator_cli.planning.planner import RoleCard

ENOUGH = 5
"""Subtasks that a role must have done or failed before its record counts."""
MARGIN = 0.4
"""How much higher a rate must be; docs/experiments.md (2026-11-28) has how often that is right and wrong."""


class PastOutcome(FrozenModel):
    """A subtask that a role did, or failed, in an earlier run."""

    role: str
    tools: tuple[str, ...] = ()
    ok: bool
    seconds: float | None = None
    cost: float | None = None
    model: str | None = None
    """The model of its agent; None if there were several, or it is unknown."""


class WorkRecord(FrozenModel):
    """What a role, or a model in that role, achieved at one sort of work; mean seconds and cost (dollars)."""

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
    def rate(self) -> float:
        """The rate of success, drawn towards one half while the count is small."""
        return (self.done + 1) / (self.count + 2)

    @property
    def merit(self) -> tuple[float, float, float, str]:
        """Sorts the best first."""
        cost, seconds = (inf if known is None else known for known in (self.cost, self.seconds))
        return (-self.rate, cost, seconds, self.role)


class RoutingEvidence(FrozenModel):
    """What routing decides by."""

    cards: tuple[RoleCard, ...]
    outcomes: tuple[PastOutcome, ...] = ()
    prompt: str = ""
    model: str | None = None
    """The model of agents whose role names none."""
    alternatives: tuple[str, ...] = ()
    """Other models that may be used instead."""
    unasked: dict[str, str] = Field(default_factory=dict)
    """Roles whose own model cannot be used, each with the reason."""


class _Excluded(FrozenModel):
    """What failed in this run, and so replaces nothing."""

    roles: frozenset[str] = frozenset()
    models: frozenset[str] = frozenset()


def route(plan: Plan, evidence: RoutingEvidence) -> Plan:
    """The plan with a role for every agent subtask, and the reason of every choice in `routes`."""
    subtasks, routes = _routed(plan.subtasks, evidence, _Excluded())
    return plan.model_copy(update={"subtasks": subtasks, "routes": routes})


def route_patch(patch: Patch, plan: Plan, evidence: RoutingEvidence, failed: Collection[str] = ()) -> Patch:
    """The patch with a role for the subtasks it adds; `failed` are the subtasks that failed in this run."""
    rows = [plan[name] for name in failed if name in plan.ids]
    chosen = [found for row in rows if (found := plan.route_of(row)) is not None and found.model_instead_of]
    excluded = _Excluded(
        roles=frozenset(row.role for row in rows if row.role),
        models=frozenset(found.model for found in chosen if found.model),
    )
    added, routes = _routed(patch.add, evidence, excluded)
    changed = [row for row in patch.replace if row.id not in plan.ids or plan[row.id].role != row.role]
    _, confirmed = _routed(changed, evidence, excluded, keep_role=True)
    return patch.model_copy(update={"add": added, "routes": (*confirmed, *routes)})


def chosen_model(plan: Plan, subtask: Subtask, allowed: Collection[str]) -> str | None:
    """The model that routing chose for a subtask, if it is still `allowed`.

    None if the subtask uses the model of its role or of the settings.
    """
    name = whole_name(subtask.id)
    found = plan.route_of(plan[name]) if name in plan.ids else None
    if found is None or found.model_instead_of is None or found.role != subtask.role:
        return None
    return found.model if found.model in allowed else None


def _routed(
    subtasks: Iterable[Subtask], evidence: RoutingEvidence, excluded: _Excluded, *, keep_role: bool = False
) -> tuple[tuple[Subtask, ...], tuple[Route, ...]]:
    rows, routes = [], []
    for subtask in subtasks:
        found = _choice(subtask, evidence, excluded, keep_role)
        if found is not None:
            routes.append(found)
        changed = found is not None and found.role != subtask.role
        rows.append(subtask.model_copy(update={"role": found.role}) if found and changed else subtask)
    return tuple(rows), tuple(routes)


def _choice(
    subtask: Subtask, evidence: RoutingEvidence, excluded: _Excluded, keep_role: bool
) -> Route | None:
    cards = {card.name: card for card in evidence.cards}
    card = cards.get(subtask.role or "")
    if card is None or subtask.kind != "agent":
        return None
    model = _better_model(card, subtask, evidence, excluded)
    if model is not None:
        return _route(subtask, card, "as planned", evidence, model=model)
    own = record_of(card.name, subtask.tools, evidence.outcomes)
    others = [
        record_of(other.name, subtask.tools, evidence.outcomes)
        for other in evidence.cards
        if other.name != card.name
        and other.agent == card.agent
        and other.name not in evidence.unasked
        and other.name not in excluded.roles
    ]
    keep_role = keep_role or is_named(card.name, evidence.prompt)
    better = None if keep_role else _clearly_better(own, others)
    if better is None:
        reason = f"as planned; {_summary(own, ' such subtasks')}" if own.count else "as planned"
        return _route(subtask, card, reason, evidence)
    failed, did = _summary(own, " such subtasks"), _summary(better)
    reason = f"instead of {card.name}, who {failed}; {better.role} {did}"
    model = _better_model(cards[better.role], subtask, evidence, excluded)
    return _route(subtask, cards[better.role], reason, evidence, instead_of=card.name, model=model)


def _better_model(
    card: RoleCard, subtask: Subtask, evidence: RoutingEvidence, excluded: _Excluded
) -> tuple[WorkRecord, WorkRecord] | None:
    """The records of the agents' usual model and of the best one that is clearly better in this role."""
    if card.model is not None or evidence.model is None:
        return None
    own = record_of(card.name, subtask.tools, evidence.outcomes, evidence.model)
    names = [name for name in evidence.alternatives if name != evidence.model and name not in excluded.models]
    others = [record_of(card.name, subtask.tools, evidence.outcomes, name) for name in names]
    better = _clearly_better(own, others)
    return (own, better) if better is not None else None


def _clearly_better(own: WorkRecord, others: Iterable[WorkRecord]) -> WorkRecord | None:
    if own.count < ENOUGH:
        return None
    better = [other for other in others if other.count >= ENOUGH and other.rate - own.rate >= MARGIN]
    return min(better, key=lambda other: other.merit, default=None)


def _route(
    subtask: Subtask,
    card: RoleCard,
    reason: str,
    evidence: RoutingEvidence,
    *,
    instead_of: str | None = None,
    model: tuple[WorkRecord, WorkRecord] | None = None,
) -> Route:
    unasked = evidence.unasked.get(card.name)
    asked = evidence.model if unasked is not None else card.model or evidence.model
    if unasked is not None:
        reason = f"{reason}; its own model {card.model} cannot be asked: {unasked}"
    if model is not None:
        first, taken = model
        asked = taken.model
        reason = (
            f"{reason}; {taken.model} instead of {first.model}, which {_summary(first, ' such subtasks')}; "
            f"{taken.model} {_summary(taken)}"
        )
    return Route(
        subtask=subtask.id,
        role=card.name,
        model=asked,
        reason=reason,
        planned=instead_of is None and unasked is None and model is None,
        instead_of=instead_of,
        model_instead_of=evidence.model if model is not None else None,
    )


def _summary(record: WorkRecord, what: str = "") -> str:
    parts = [f"did {record.done} of {record.count}{what}"]
    if record.seconds is not None:
        parts.append(f"in {record.seconds:.{0 if record.seconds >= 10 else 1}f} s")
    if record.cost:
        parts.append(f"for ${record.cost:.4f}")
    return ", ".join(parts)


def is_named(role: str, prompt: str) -> bool:
    """Whether a prompt names a role, as a word."""
    return re.search(rf"(?<![\w-]){re.escape(role)}(?![\w-])", prompt, re.IGNORECASE) is not None


def record_of(
    role: str, tools: Collection[str], outcomes: Iterable[PastOutcome], model: str | None = None
) -> WorkRecord:
    """The record of a role at work that needed at least these tools, or none if `tools` is empty.

    `model`: count only what was done with that one.
    """
    needed = frozenset(tools)
    alike = [
        outcome
        for outcome in outcomes
        if outcome.role == role
        and model in (None, outcome.model)
        and (needed <= set(outcome.tools) if needed else not outcome.tools)
    ]
    return WorkRecord(
        role=role,
        model=model,
        done=sum(outcome.ok for outcome in alike),
        failed=sum(not outcome.ok for outcome in alike),
        seconds=_mean(outcome.seconds for outcome in alike),
        cost=_mean(outcome.cost for outcome in alike),
    )


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def past_outcomes(plans: Iterable[JsonValue]) -> tuple[PastOutcome, ...]:
    """The agent subtasks that remembered plans record as done or failed."""
    return tuple(
        PastOutcome(
            role=str(row["role"]),
            tools=tuple(map(str, tools)) if isinstance(tools := row.get("tools"), list) else (),
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


def _number(found: JsonValue) -> float | None:
    return float(found) if isinstance(found, int | float) else None
