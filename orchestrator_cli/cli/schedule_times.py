"""When schedules run, in words."""

from datetime import datetime

from orchestrator_cli.durable.lengths import length_text
from orchestrator_cli.engine.deployments import next_time
from orchestrator_cli.engine.server import import_prefect
from orchestrator_cli.schedules.schedule import Schedule
from orchestrator_cli.views.text import one_line


def when_of(one: Schedule) -> str:
    """When a schedule runs, in words."""
    parts = []
    if one.cron:
        parts.append(f"at {one.cron} ({one.timezone})")
    elif one.every_s:
        parts.append(f"every {length_text(one.every_s)}")
    elif one.at:
        parts.append(f"at {one.at:%Y-%m-%d %H:%M:%S} ({one.timezone})")
    elif one.rrule:
        parts.append(f"by {one_line(one.rrule, 60)} ({one.timezone})")
    if one.files:
        parts.append(f"when {one_line(', '.join(one.files), 60)} changes")
    if one.event:
        parts.append(f"at each event {one.event}" + (f" about {one.resource}" if one.resource else ""))
    if one.webhook:
        parts.append("when a request comes in")
    if one.after:
        parts.append(f"after {one.after}" + (f" if {one_line(one.condition, 60)}" if one.condition else ""))
    return ", and ".join(parts) or f"when you say so (orch schedule run {one.name})"


def due_line(one: Schedule) -> str:
    """When a schedule runs, and the next of its times."""
    due = next_of(one)
    state = ", but is paused" if one.paused else f"; next: {time_text(due)}" if due else ""
    return f"{one.name} runs {when_of(one)}{state}"


def next_of(one: Schedule) -> datetime | None:
    """The next time of a schedule that there is; None if there is none, or while it is paused."""
    if one.paused or one.timing is None:
        return None
    import_prefect()
    try:
        return next_time(one.timing)
    except ValueError:
        return None


def time_text(time: datetime) -> str:
    return f"{time:%Y-%m-%d %H:%M:%S %Z}"
