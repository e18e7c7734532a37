"""Turns a prompt and what was recalled into a plan that may run."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from orchestrator_cli.events import Conversation, Fact, PlanRefused, PlanRepaired
from orchestrator_cli.models.model import Message, Model
from orchestrator_cli.plan import Plan
from orchestrator_cli.planning.context import PlannerContext
from orchestrator_cli.planning.structured_output import ask_for_object, read_plan
from orchestrator_cli.prompts import render, subtask_fields

Emit = Callable[[Fact], None]
NOTHING_SAID = Conversation()


class EarlierRun(Protocol):
    """What the prompt shows of a remembered run; memory's records have this shape."""

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
    planner_context: PlannerContext,
    model: Model,
    emit: Emit,
) -> Plan:
    """Ask the planner for a plan. Slips are repaired and emitted; faults go back, at most three times.

    Raises `ReplyUnusable` with the faults of the last plan, and what `Model.complete` raises.
    """

    def use(rows: dict[str, Any]) -> Plan:
        plan, repairs = read_plan(rows, planner_context.catalogue)
        if repairs:
            emit(PlanRepaired(repairs=tuple(map(str, repairs))))
        return plan

    messages: list[Message] = [
        {
            "role": "system",
            "content": render(
                "planner",
                fields=subtask_fields(processes=bool(planner_context.processes)),
                roles=planner_context.roles,
                tools=planner_context.tools,
                processes=planner_context.processes,
                max_subtasks=planner_context.max_subtasks,
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
