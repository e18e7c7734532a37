"""What each subtask does now, and what the run as a whole waits for: pure functions of its state."""

from datetime import datetime
from typing import NamedTuple

from orchestrator_cli.plan import State, Subtask, whole_name
from orchestrator_cli.state import Activity, PendingCall, RunState
from orchestrator_cli.views.text import one_line

DOING_CHARS = 200


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
    asking: PendingCall | None = None
    """The model call that it waits for."""


def rows_of(state: RunState) -> list[Row]:
    """A row per subtask, in plan order."""
    if not state.has_plan:
        return []
    calls = [call for call in reversed(state.asking) if call.role in ("agent", "judge")]
    asking = {whole_name(call.subtask): call for call in calls}
    return [_row(state, subtask, asking.get(subtask.id)) for subtask in state.plan.subtasks]


def _row(run: RunState, subtask: Subtask, asking: PendingCall | None) -> Row:
    state, activity = run.state_of(subtask.id), run.activity.get(subtask.id, Activity())
    doing = subtask.title if state == "pending" else activity.doing
    label = one_line(subtask.role or subtask.kind, 24)
    doing = one_line(doing, DOING_CHARS)
    return Row(subtask.id, subtask.depends_on, label, state, doing, activity.since, activity.seconds, asking)


# --- what a run waits for

ROLES_AT_WORK = {
    "planner": "the planner thinks",
    "reviser": "the reviser thinks",
    "answer": "the answer is written",
}
"""What a model call of a role does for the run."""


class Wait(NamedTuple):
    what: str
    since: datetime | None = None


def wait_of(state: RunState) -> Wait:
    """What the run as a whole does or waits for now, in a few words."""
    whole = next((call for call in state.asking if not call.subtask), None)
    if whole is not None:
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
