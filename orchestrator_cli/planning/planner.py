"""Prompt and recall become a plan that may run, or a clear error."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from pydantic import ValidationError

from orchestrator_cli.events import Fact, PlanRefused, Turn
from orchestrator_cli.models.model import Message, Model
from orchestrator_cli.planning.conversation import Unusable, ask_for_object, describe
from orchestrator_cli.planning.offer import Offer
from orchestrator_cli.planning.plan import Plan, match_aliases
from orchestrator_cli.planning.validation import faults
from orchestrator_cli.prompts import render

Emit = Callable[[Fact], None]


class EarlierRun(Protocol):
    """What the prompt shows of a remembered run; memory's own records have this shape."""

    @property
    def prompt(self) -> str: ...
    @property
    def outcome(self) -> str: ...


def make_plan(
    prompt: str,
    *,
    runs: tuple[EarlierRun, ...],
    conversation: Sequence[Turn] = (),
    files: list[str],
    offer: Offer,
    model: Model,
    emit: Emit,
) -> Plan:
    """Ask the planner for a plan; its faults go back to it, at most three times.

    Raises `ReplyUnusable` with the faults of the last plan, and what `Model.complete` raises.
    """

    def use(rows: dict[str, Any]) -> Plan:
        try:
            plan = Plan.model_validate({k: v for k, v in rows.items() if k != "version"})
        except ValidationError as exc:
            raise Unusable(describe(exc, rows)) from exc
        plan = match_aliases(plan, offer.catalogue)
        if found := faults(plan, offer.catalogue):
            raise Unusable([str(fault) for fault in found])
        return plan

    messages: list[Message] = [
        {
            "role": "system",
            "content": render(
                "planner", roles=offer.roles, tools=offer.tools, max_subtasks=offer.max_subtasks
            ),
        },
        {
            "role": "user",
            "content": render(
                "planner_request", prompt=prompt, runs=runs, files=files, conversation=conversation
            ),
        },
    ]
    return ask_for_object(
        model,
        "planner",
        messages,
        what="plan",
        use=use,
        refused=lambda round_, found: emit(PlanRefused(what="plan", round=round_, faults=tuple(found))),
    )
