"""Prompt and recall become a plan that may run, or a clear error."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from orchestrator_cli.events import Conversation, Fact, PlanRefused, PlanRepaired
from orchestrator_cli.models.model import Message, Model
from orchestrator_cli.plan import Plan
from orchestrator_cli.planning.context import Offer
from orchestrator_cli.planning.reading import read_plan
from orchestrator_cli.planning.structured_output import ask_for_object
from orchestrator_cli.prompts import render

Emit = Callable[[Fact], None]
NOTHING_SAID = Conversation()


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
    conversation: Conversation = NOTHING_SAID,
    facts: Sequence[str] = (),
    files: list[str],
    offer: Offer,
    model: Model,
    emit: Emit,
) -> Plan:
    """Ask the planner for a plan; slips are set right and told, faults go back to it, at most three times.

    Raises `ReplyUnusable` with the faults of the last plan, and what `Model.complete` raises.
    """

    def use(rows: dict[str, Any]) -> Plan:
        plan, told = read_plan(rows, offer.catalogue)
        if told:
            emit(PlanRepaired(repairs=tuple(map(str, told))))
        return plan

    messages: list[Message] = [
        {
            "role": "system",
            "content": render(
                "planner",
                roles=offer.roles,
                tools=offer.tools,
                processes=offer.processes,
                max_subtasks=offer.max_subtasks,
            ),
        },
        {
            "role": "user",
            "content": render(
                "planner_request",
                prompt=prompt,
                runs=runs,
                facts=facts,
                files=files,
                conversation=conversation,
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
