"""Asks a model how to react to failures and surprises: patch the pending part, keep it, or stop."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from pydantic import ValidationError

from orchestrator_cli.durable.foreign import excerpt
from orchestrator_cli.events import Fact, PlanRefused, PlanRepaired
from orchestrator_cli.models.model import Message, Model
from orchestrator_cli.plan import FrozenModel, NewTool, Patch, Plan, State, Subtask, unstarted
from orchestrator_cli.planning.patching import PatchRefused, repaired_patch
from orchestrator_cli.planning.planner import PlannerContext
from orchestrator_cli.planning.repair import reshaped
from orchestrator_cli.planning.structured_output import Unusable, ask_for_object, describe, schema_of
from orchestrator_cli.prompts import render, subtask_fields

OUTCOME_CHARS = 2_000


class Cause(FrozenModel):
    """Why the reviser is asked."""

    subtask: str
    """Empty if it concerns the whole run."""
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

    @property
    def id(self) -> str:
        """The same for the same words, so that it holds in another process and in a forked run."""
        return hashlib.sha256(str(self).encode()).hexdigest()[:8]


class Revision(FrozenModel):
    """The reviser's decision; for a patch, `plan` is the next version, already applied."""

    decision: Literal["patch", "keep", "stop"]
    reason: str
    patch: Patch | None = None
    plan: Plan | None = None


class _Reply(FrozenModel):
    decision: Literal["patch", "keep", "stop"]
    reason: str
    add: tuple[Subtask, ...] = ()
    replace: tuple[dict[str, Any], ...] = ()
    """The changed fields, with the id of their subtask."""
    remove: tuple[str, ...] = ()
    new_tools: tuple[NewTool, ...] = ()


class UserRefusal(FrozenModel):
    """What the user did not allow, and why."""

    subject: str
    """A subtask, or "the plan"."""
    reason: str


class Situation(FrozenModel):
    """The run as the reviser sees it."""

    prompt: str
    plan: Plan
    states: Mapping[str, State]
    outcomes: Mapping[str, str]
    """Per finished subtask its value as JSON, or the failure."""
    causes: Sequence[Cause]
    lessons: Sequence[str] = ()
    """The reasons of earlier patches."""
    remarks: Sequence[str] = ()
    """What the user said earlier in the run, without what is among the causes."""
    refusals: Sequence[UserRefusal] = ()


def revise(
    situation: Situation,
    *,
    planner_context: PlannerContext,
    model: Model,
    apply: Callable[[Patch], Plan],
    emit: Callable[[Fact], None],
) -> Revision:
    """Ask the reviser; `apply` applies a patch at once, to the current state.

    `apply` raises `PatchRefused`, whose faults go back to the reviser, at most three times.
    Raises `ReplyUnusable`, and what `Model.complete` raises.
    """

    def use(rows: dict[str, Any]) -> Revision:
        rows, shape = reshaped(rows, "decision")
        if shape:
            emit(PlanRepaired(what="patch", repairs=tuple(map(str, shape))))
        try:
            reply = _Reply.model_validate(rows)
        except ValidationError as exc:
            raise Unusable(describe(exc, rows)) from exc
        if reply.decision != "patch":
            return Revision(decision=reply.decision, reason=reply.reason)
        patch = _patch(situation.plan, reply)
        if patch.empty:
            raise Unusable(["the patch changes nothing: decide keep, or give add, replace or remove"])
        patch, repairs = repaired_patch(situation.plan, patch, planner_context.catalogue)
        if repairs:
            emit(PlanRepaired(what="patch", repairs=tuple(map(str, repairs))))
        try:
            return Revision(decision="patch", reason=reply.reason, patch=patch, plan=apply(patch))
        except PatchRefused as exc:
            raise Unusable([str(fault) for fault in exc.faults]) from exc

    return ask_for_object(
        model,
        "reviser",
        _messages(situation, planner_context),
        what="patch",
        keys=("decision",),
        schema=schema_of(_Reply),
        use=use,
        refused=lambda round_, found: emit(PlanRefused(what="patch", round=round_, faults=tuple(found))),
        repaired=lambda text: emit(PlanRepaired(what="patch", repairs=(text,))),
    )


def _messages(situation: Situation, planner_context: PlannerContext) -> list[Message]:
    plan = situation.plan
    changeable = {s.id for s in unstarted(plan, situation.states)}
    # What went well needs no more than a name; of what did not, the reviser has to find the reason.
    whole = changeable | {cause.subtask for cause in situation.causes}
    whole |= {name for name, state in situation.states.items() if state == "failed"}
    if any(not cause.subtask for cause in situation.causes):  # it may concern what is under way
        whole |= {name for name, state in situation.states.items() if state in ("running", "waiting")}
    system = render(
        "reviser",
        fields=subtask_fields(
            processes=bool(planner_context.processes), attachments=bool(planner_context.attached)
        ),
        roles=planner_context.roles,
        tools=planner_context.tools,
        silent=planner_context.silent,
        processes=planner_context.processes,
        max_subtasks=planner_context.max_subtasks,
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
                "json": _as_json(subtask, whole=subtask.id in whole),
                "outcome": _outcome(situation, subtask.id),
            }
            for subtask in plan.subtasks
        ],
        causes=situation.causes,
        lessons=situation.lessons,
        remarks=situation.remarks,
        refusals=situation.refusals,
        guidance=planner_context.guidance,
        here=planner_context.surroundings,
        attached=[file.model_copy(update={"text": "", "image": ""}) for file in planner_context.attached],
        pending=[s.id for s in plan.subtasks if s.id in changeable],
    )
    return [{"role": "system", "content": system}, {"role": "user", "content": request}]


def _outcome(situation: Situation, subtask: str) -> str:
    """The beginning of what a subtask came to; nothing if it is what the reviser is asked about anyway."""
    text = situation.outcomes.get(subtask, "")
    said = any(cause.subtask == subtask and cause.text == text for cause in situation.causes)
    return "" if said else excerpt(text, OUTCOME_CHARS)


def _patch(plan: Plan, reply: _Reply) -> Patch:
    """The patch in a reply; a replaced subtask keeps every field that the reply does not name."""
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


def _as_json(subtask: Subtask, *, whole: bool) -> str:
    """A subtask for the reviser, with all its fields or only the main ones."""
    shown = None if whole else {"id", "title", "kind", "role", "tools", "depends_on"}
    return json.dumps(
        subtask.model_dump(mode="json", exclude_defaults=True, include=shown), ensure_ascii=False
    )
