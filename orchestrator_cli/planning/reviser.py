"""A failure or a surprise becomes a patch of the pending part, or the decision to leave it."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from pydantic import ValidationError

from orchestrator_cli.events import Fact, PlanRefused, PlanRepaired
from orchestrator_cli.models.model import Message, Model
from orchestrator_cli.plan import NewTool, Patch, Plan, State, Subtask, Value, unstarted
from orchestrator_cli.planning.context import Offer
from orchestrator_cli.planning.patching import PatchRefused, repaired_patch
from orchestrator_cli.planning.structured_output import Unusable, ask_for_object, describe
from orchestrator_cli.prompts import render

OUTCOME_CHARS = 2_000


class Cause(Value):
    """Why the reviser is asked."""

    subtask: str
    """Empty where it concerns the whole run."""
    what: Literal[
        "failed",
        "reported a surprise",
        "finished",
        "the user said",
        "the goal is not met",
        "was refused",
        "wrote the same function",
    ]
    text: str

    def __str__(self) -> str:
        return f"{self.subtask} {self.what}: {self.text}".strip()


class Decision(Value):
    """What the reviser decided; for a patch, `plan` is the next version, already applied."""

    decision: Literal["patch", "keep", "stop"]
    reason: str
    patch: Patch | None = None
    plan: Plan | None = None


class _Reply(Value):
    decision: Literal["patch", "keep", "stop"]
    reason: str
    add: tuple[Subtask, ...] = ()
    replace: tuple[dict[str, Any], ...] = ()
    """Fields that change, with the id of their subtask."""
    remove: tuple[str, ...] = ()
    new_tools: tuple[NewTool, ...] = ()


class Situation(Value):
    """The run as the reviser sees it."""

    prompt: str
    plan: Plan
    states: Mapping[str, State]
    outcomes: Mapping[str, str]
    """Per finished subtask its value as JSON, or why it failed."""
    causes: Sequence[Cause]
    lessons: Sequence[str] = ()
    """The reasons of earlier patches."""


def revise(
    situation: Situation,
    *,
    offer: Offer,
    model: Model,
    apply: Callable[[Patch], Plan],
    emit: Callable[[Fact], None],
) -> Decision:
    """Ask the reviser; a patch is applied by `apply`, at once and against the state of that moment.

    `apply` raises `PatchRefused`, whose faults go back to the reviser, at most three times.
    Raises `ReplyUnusable`, and what `Model.complete` raises.
    """

    def use(rows: dict[str, Any]) -> Decision:
        try:
            reply = _Reply.model_validate(rows)
        except ValidationError as exc:
            raise Unusable(describe(exc, rows)) from exc
        if reply.decision != "patch":
            return Decision(decision=reply.decision, reason=reply.reason)
        patch = _patch(situation.plan, reply)
        if patch.empty:
            raise Unusable(["the patch changes nothing: decide keep, or give add, replace or remove"])
        patch, told = repaired_patch(situation.plan, patch, offer.catalogue)
        if told:
            emit(PlanRepaired(what="patch", repairs=tuple(map(str, told))))
        try:
            return Decision(decision="patch", reason=reply.reason, patch=patch, plan=apply(patch))
        except PatchRefused as exc:
            raise Unusable([str(fault) for fault in exc.faults]) from exc

    return ask_for_object(
        model,
        "reviser",
        _messages(situation, offer),
        what="patch",
        use=use,
        refused=lambda round_, found: emit(PlanRefused(what="patch", round=round_, faults=tuple(found))),
    )


def _messages(situation: Situation, offer: Offer) -> list[Message]:
    plan = situation.plan
    changeable = {s.id for s in unstarted(plan, situation.states)}
    system = render(
        "reviser",
        roles=offer.roles,
        tools=offer.tools,
        processes=offer.processes,
        max_subtasks=offer.max_subtasks,
    )
    request = render(
        "reviser_request",
        prompt=situation.prompt,
        goal=plan.goal,
        version=plan.version,
        subtasks=[
            {
                "subtask": subtask,
                "state": situation.states.get(subtask.id, "pending"),
                "json": _as_json(subtask, started=subtask.id not in changeable),
                "outcome": situation.outcomes.get(subtask.id, "")[:OUTCOME_CHARS],
            }
            for subtask in plan.subtasks
        ],
        causes=situation.causes,
        lessons=situation.lessons,
        pending=[s.id for s in plan.subtasks if s.id in changeable],
    )
    return [{"role": "system", "content": system}, {"role": "user", "content": request}]


def _patch(plan: Plan, reply: _Reply) -> Patch:
    """The patch a reply means: a replaced subtask keeps every field that is not named."""
    replace: list[Subtask] = []
    faults: list[str] = []
    for fields in reply.replace:
        name = str(fields.get("id", ""))
        if name not in plan.ids:
            faults.append(f"replace.{name or '(no id)'}: is no subtask of this plan")
            continue
        try:
            replace.append(Subtask.model_validate(plan[name].model_dump() | fields))
        except ValidationError as exc:
            faults += [f"replace.{name}.{line}" for line in describe(exc, {})]
    if faults:
        raise Unusable(faults)
    return Patch(
        base_version=plan.version,
        reason=reply.reason,
        add=reply.add,
        replace=tuple(replace),
        remove=reply.remove,
        new_tools=reply.new_tools,
    )


def _as_json(subtask: Subtask, *, started: bool) -> str:
    """A subtask for the reviser; of one that can no longer change, only what it is."""
    shown = {"id", "title", "kind", "role", "tools", "depends_on"} if started else None
    return json.dumps(
        subtask.model_dump(mode="json", exclude_defaults=True, include=shown), ensure_ascii=False
    )
