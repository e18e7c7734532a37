"""What each subtask does now, and what the run as a whole waits for: pure functions of its state."""

from datetime import datetime
from typing import NamedTuple

from orchestrator_cli.events import ApprovalAsked
from orchestrator_cli.plan import State, Subtask, whole_name
from orchestrator_cli.state import Activity, PendingCall, RunState
from orchestrator_cli.views.text import one_line

DOING_CHARS = 200


class Wait(NamedTuple):
    what: str
    since: datetime | None = None


class Row(NamedTuple):
    """One subtask."""

    id: str
    depends_on: tuple[str, ...] = ()
    label: str = ""
    """Its role, or its kind if it has none."""
    state: State = "pending"
    doing: str = ""
    since: datetime | None = None
    """When it started, while it runs."""
    seconds: float | None = None
    """How long it took, once it has ended."""
    wait: Wait | None = None
    """What it waits for, if it could go on otherwise."""


def rows_of(state: RunState) -> list[Row]:
    """A row per subtask, in plan order."""
    if not state.has_plan:
        return []
    startable = {subtask.id for subtask in state.startable()}
    return [_row(state, subtask, may_start=subtask.id in startable) for subtask in state.plan.subtasks]


def _row(run: RunState, subtask: Subtask, *, may_start: bool) -> Row:
    state, activity = run.state_of(subtask.id), run.activity.get(subtask.id, Activity())
    wait, doing = None, activity.doing
    if state == "pending":
        wait, doing = _wait_to_start(run, subtask) if may_start else None, subtask.title
    if state in ("pending", "running", "waiting"):
        if (question := _question_of(run, subtask)) is not None:
            wait, doing = Wait("waits for you"), question.question
        elif (call := _call_of(run, subtask)) is not None:
            wait = Wait(f"waits for {call.waits_for}" if call.waits_for else "thinks", call.since)
    label = one_line(subtask.role or subtask.kind, 24)
    doing = one_line(doing, DOING_CHARS)
    return Row(subtask.id, subtask.depends_on, label, state, doing, activity.since, activity.seconds, wait)


def _question_of(run: RunState, subtask: Subtask) -> ApprovalAsked | None:
    """The oldest open question about a subtask, or about a tool or a process that it names.

    Not covered: a question about files that are executed, which names only these.
    """
    names = {subtask.id, *subtask.tools, subtask.process}
    own = run.waiting.get(subtask.id)
    return next((one for one in run.unanswered if one.id == own or whole_name(one.subject) in names), None)


def _call_of(run: RunState, subtask: Subtask) -> PendingCall | None:
    """The oldest model call of a subtask; if all of them wait, the oldest of these."""
    own = [one for one in run.asking if whole_name(one.subtask) == subtask.id and one.role in AT_WORK]
    return next((one for one in own if not one.waits_for), own[0] if own else None)


def _wait_to_start(run: RunState, subtask: Subtask) -> Wait | None:
    """Why a subtask has not started, although nothing that it depends on is left."""
    if tool := next((name for name in subtask.tools if name in run.building), ""):
        return Wait(f"waits for the tool {tool}")
    if any(call.role == "reviser" for call in run.asking):
        return Wait("waits for the reviser")
    return Wait("waits for its turn") if "running" in run.states.values() or run.building else None


# --- what a run waits for

AT_WORK = ("agent", "judge")
"""The roles whose model calls are work on a subtask."""

ROLES_AT_WORK = {
    "planner": "the planner thinks",
    "reviser": "the reviser thinks",
    "answer": "the answer is written",
}
"""What a model call of a role does for the run."""


def wait_of(state: RunState) -> Wait:
    """What the run as a whole does or waits for now, in a few words."""
    whole = next((call for call in state.asking if not call.subtask), None)
    if whole is not None:
        if whole.waits_for:
            return Wait(f"the {whole.role} call waits for {whole.waits_for}", whole.since)
        return Wait(ROLES_AT_WORK.get(whole.role, state.phase), whole.since)
    if state.finished is not None or not state.has_plan:
        return Wait(state.phase)
    states = {subtask.id: state.state_of(subtask.id) for subtask in state.plan.subtasks}
    asking = {whole_name(asked.subject) for asked in state.unanswered}
    running = sum(one == "running" and name not in asking for name, one in states.items())
    if state.unanswered and not running:
        return Wait("waits for you")
    if running:
        return Wait(f"{running} running")
    if state.building:
        return Wait("a tool is built")
    if state.startable():
        return Wait("starting Prefect" if _is_unbegun(state) else "starting")
    if state.phase == "running":
        return Wait("starting" if "pending" in states.values() else "finishing")
    return Wait(state.phase)


def _is_unbegun(state: RunState) -> bool:
    """Whether this process has started no subtask yet."""
    return state.since is None or not any(begun >= state.since for begun in state.starts.values())
