"""Which of the runs that are due begin now: rules without effects."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from orchestrator_cli.durable.expressions import ExpressionFailed, holds
from orchestrator_cli.engine.deployments import ScheduledRun
from orchestrator_cli.runs.find import FoundRun
from orchestrator_cli.schedules.rates import AT_THE_SERVER, EVENT, PAGE
from orchestrator_cli.schedules.schedule import Schedule
from orchestrator_cli.views.envelope import sole_value

MISSED = "orch up did not start it in time"
MADE_UP = "a later run makes up for it"
BUSY = "the run before was still at work"
REPLACED = "a newer run is due"
TOO_MANY = {
    EVENT: f"events have set it off {AT_THE_SERVER[EVENT]} times within an hour",
    PAGE: f"Prefect's server has asked for it {AT_THE_SERVER[PAGE]} times within an hour",
}
"""By source."""


@dataclass(frozen=True)
class Decision:
    """What happens now to the runs of one schedule that are due; what is not named waits."""

    start: ScheduledRun | None = None
    skip: tuple[tuple[ScheduledRun, str], ...] = field(default=())
    """With the reason."""
    cancels: bool = False
    """Whether the run at work is ended for a newer one."""


def objection(schedule: Schedule, found: FoundRun) -> str:
    """Why a schedule does not run after a run that has ended; empty if it does."""
    if not schedule.condition:
        return "" if found.status == "completed" else f"that run ended as {found.status}"
    end = found.state.finished
    known = {
        "outcome": found.status,
        "answer": end.answer if end else "",
        "value": sole_value(found.state),
    }
    try:
        return "" if holds(schedule.condition, known) else "its condition is false"
    except ExpressionFailed as exc:
        return f"its condition cannot be evaluated: {exc}"


def decide(
    schedule: Schedule,
    due: Sequence[ScheduledRun],
    *,
    was_missed: Callable[[datetime], bool],
    is_busy: bool,
    has_room: Callable[[str], bool] = lambda _: True,
) -> Decision:
    """
    Args:
        due: the runs that are due, oldest first.
        was_missed: whether `orch up` did not run at a time.
        is_busy: whether a run of the schedule is at work.
        has_room: whether a source may set it off; not if it did so too often.
    """
    skip = [(run, TOO_MANY[run.source]) for run in due if not (run.is_timed or has_room(run.source))]
    due = [run for run in due if run.is_timed or has_room(run.source)]
    late = [run for run in due if run.is_timed and was_missed(run.due)]
    made_up = late
    if schedule.missed == "skip":
        made_up, skip = [], [*skip, *((run, MISSED) for run in late)]
    elif schedule.missed == "once":
        made_up, skip = late[-1:], [*skip, *((run, MADE_UP) for run in late[:-1])]
    rest = [run for run in due if run in made_up or run not in late]
    cancels = False
    if schedule.overlap == "cancel" and len(rest) > 1:
        skip += [(run, REPLACED) for run in rest[:-1]]
        rest = rest[-1:]
    if is_busy and schedule.overlap == "cancel":
        cancels, rest = bool(rest), []
    elif is_busy and schedule.overlap == "skip":
        skip += [(run, BUSY) for run in rest if run not in made_up]
        rest = []
    elif is_busy:
        rest = []
    return Decision(rest[0] if rest else None, tuple(skip), cancels)
