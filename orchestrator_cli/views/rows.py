"""The subtasks of a run as rows of a table: what each is doing, cleaned to one line."""

from datetime import datetime
from typing import NamedTuple

from orchestrator_cli.plan import State, Subtask
from orchestrator_cli.state import Activity, RunState
from orchestrator_cli.views.text import one_line

DOING_CHARS = 200


class Row(NamedTuple):
    """One subtask."""

    id: str
    label: str = ""
    """Its role, or its kind if it has none."""
    state: State = "pending"
    doing: str = ""
    since: datetime | None = None
    """When it started, while it runs."""
    seconds: float | None = None
    """How long it took, once it has ended."""


def rows_of(state: RunState) -> list[Row]:
    """A row per subtask, in plan order."""
    return [_row(state, subtask) for subtask in state.plan.subtasks] if state.has_plan else []


def _row(run: RunState, subtask: Subtask) -> Row:
    state, activity = run.state_of(subtask.id), run.activity.get(subtask.id, Activity())
    doing = activity.doing
    if state == "pending" and subtask.depends_on:
        doing = "waits for " + ", ".join(one_line(name, 40) for name in subtask.depends_on)
    label = one_line(subtask.role or subtask.kind, 24)
    doing = one_line(doing, DOING_CHARS)
    return Row(subtask.id, label, state, doing, activity.since, activity.seconds)
