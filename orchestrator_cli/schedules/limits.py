"""What the runs of a schedule may still cost today."""

from pathlib import Path

from orchestrator_cli.runs.background import background_of
from orchestrator_cli.runs.beginnings import began_today
from orchestrator_cli.runs.find import PastRun, look_at
from orchestrator_cli.schedules.schedule import Schedule


def left_today(home: Path, schedule: Schedule) -> float | None:
    """In US dollars; None if there is no limit."""
    if schedule.max_cost_day is None:
        return None
    spent = 0.0
    for journal in filter(began_today, (home / "runs").glob("*/journal.jsonl")):
        past = PastRun(journal.parent.name, home, Path(schedule.workspace))
        about = background_of(past)
        if about is not None and about.schedule == schedule.name:
            spent += look_at(past).state.usage.cost
    return schedule.max_cost_day - spent
