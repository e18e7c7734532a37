"""Turns a prompt and what was recalled into a plan that may run, by asking a planner or reusing a plan.

Memory supplies an earlier plan with its parameters already exchanged. It must pass validation without
repairs, and every tool and file it needs must exist. Otherwise the planner is asked and the reason is
recorded; also if something was learned about the user since, because only a planner can tell whether that
matters.

Not covered: whether the files hold the same kind of data as before. A planner cannot see that either.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, Literal, Protocol

from pydantic import Field, JsonValue

from orchestrator_cli.events import Fact, PlanRefused, PlanRepaired
from orchestrator_cli.models.model import Message, Model, with_images
from orchestrator_cli.plan import READ_IMAGE, Catalogue, FrozenModel, Plan, needs
from orchestrator_cli.planning.structured_output import (
    RUNTIME_FIELDS,
    Unusable,
    ask_for_object,
    read_plan,
    schema_of,
)
from orchestrator_cli.prompts import render, subtask_fields
from orchestrator_cli.surroundings import Surroundings
from orchestrator_cli.values import AttachedFile, Conversation, Guidance


class RoleCard(FrozenModel):
    name: str
    when: str
    """When to use it."""
    agent: Literal["code", "tools"] = "tools"
    """What its agents do: write code, or call tools."""
    model: str | None = None
    """The role's own model, if it names one."""


class ToolCard(FrozenModel):
    name: str
    signature: str
    purpose: str
    server: str = ""
    """The MCP server whose words the purpose is; empty for our own and built tools."""
    built: bool = False
    """Whether it was built, so that a model wrote the purpose."""
    inputs: dict[str, JsonValue] | None = None
    """JSON Schema of its arguments, by which calls in a plan are checked; None if it is not known."""

    @property
    def source(self) -> str:
        """Whose words the purpose is; empty for our own."""
        return f"the server {self.server}" if self.server else "a built tool" if self.built else ""


class ServerCard(FrozenModel):
    """An MCP server whose tools are not known."""

    name: str
    when: str


class ProcessCard(FrozenModel):
    name: str
    when: str
    """What it does and when to use it."""
    inputs: dict[str, JsonValue] | None = None
    """JSON Schema of its inputs."""


class PlannerContext(FrozenModel):
    roles: tuple[RoleCard, ...]
    tools: tuple[ToolCard, ...]
    processes: tuple[ProcessCard, ...] = ()
    silent: tuple[ServerCard, ...] = ()
    """MCP servers that did not answer when they were asked for their tools."""
    absent: dict[str, str] = Field(default_factory=dict)
    """As in `Catalogue`."""
    max_subtasks: int = 20
    surroundings: Surroundings = Surroundings()
    guidance: Guidance = Guidance()
    attached: tuple[AttachedFile, ...] = ()
    """The files that the user gave the run, as its planner is shown them."""
    answer_schema: dict[str, JsonValue] | None = None
    """What the answer has to satisfy; None if it is in words."""

    @property
    def catalogue(self) -> Catalogue:
        return Catalogue(
            roles=frozenset(role.name for role in self.roles),
            tools=frozenset((*(tool.name for tool in self.tools), READ_IMAGE)),
            attachments=frozenset(file.name for file in self.attached),
            processes=frozenset(process.name for process in self.processes),
            tool_inputs=_schemas(self.tools),
            process_inputs=_schemas(self.processes),
            absent=self.absent,
            max_subtasks=self.max_subtasks,
        )


def _schemas(cards: Iterable[ToolCard | ProcessCard]) -> dict[str, dict[str, JsonValue]]:
    return {card.name: card.inputs for card in cards if card.inputs is not None}


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
    findings: Sequence[str] = (),
    files: Sequence[str],
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
                fields=subtask_fields(
                    processes=bool(planner_context.processes), attachments=bool(planner_context.attached)
                ),
                roles=planner_context.roles,
                tools=planner_context.tools,
                silent=planner_context.silent,
                processes=planner_context.processes,
                max_subtasks=planner_context.max_subtasks,
            ),
        },
        with_images(
            render(
                "planner_request",
                prompt=prompt,
                runs=runs,
                facts=facts,
                findings=findings,
                files=files,
                conversation=conversation,
                here=planner_context.surroundings,
                guidance=planner_context.guidance,
                attached=planner_context.attached,
                answer_schema=planner_context.answer_schema,
            ),
            planner_context.attached,
        ),
    ]
    return ask_for_object(
        model,
        "planner",
        messages,
        what="plan",
        keys=("subtasks", "plan"),
        schema=schema_of(Plan, without=RUNTIME_FIELDS),
        use=use,
        refused=lambda round_, found: emit(PlanRefused(what="plan", round=round_, faults=tuple(found))),
        repaired=lambda text: emit(PlanRepaired(repairs=(text,))),
    )


OUTSIDE = frozenset({"fetch_url", "search_web"})
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
    is_there: Callable[[str], bool],
) -> Plan | Declined:
    """The plan, or why it is not reused.

    Args:
        rows: the plan as a planner would write it.
        why: becomes the plan's `why`.
        needed: files and folders that the plan uses.
        is_there: whether the workspace holds a path.
    """
    if missing := [name for name in needed if not is_there(name)]:
        return Declined(reason=f"{', '.join(missing)} is not in the workspace")
    try:
        # What it had built exists now; what does not is found below.
        plan, repairs = read_plan({**rows, "why": why, "new_tools": []}, planner_context.catalogue)
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
