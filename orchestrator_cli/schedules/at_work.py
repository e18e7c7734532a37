"""A run that `orch up` looks after, and what is known of it."""

import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from orchestrator_cli.engine.deployments import ScheduledRun
from orchestrator_cli.journal.journal import lock_owner
from orchestrator_cli.runs.background import BackgroundRun, background_of, write_background
from orchestrator_cli.runs.find import FoundRun, PastRun, past_run
from orchestrator_cli.runtime import new_run_id
from orchestrator_cli.schedules.schedule import Schedule


@dataclass
class AtWork:
    """A run that is at work."""

    past: PastRun
    flow: ScheduledRun | None
    """The flow run that it belongs to; None for one that a person started."""
    process: "subprocess.Popen[bytes] | None" = None
    """None if an earlier process started it."""
    is_cancelled: bool = False
    size: int = 0
    """Of its journal, if it waits for a person."""

    @property
    def is_over(self) -> bool:
        if self.process is not None:
            return self.process.poll() is not None
        return lock_owner(self.past.folder) is None


def flow_of(past: PastRun, about: BackgroundRun) -> ScheduledRun | None:
    """The flow run that a run is, as it was begun here; None if a person started it."""
    if not about.schedule:
        return None
    return ScheduledRun(
        about.flow_run,
        about.schedule,
        about.due or datetime.now(UTC),
        past.run,
        is_timed=about.due is not None,
        state="RUNNING",
        occasion=about.occasion,
    )


def run_id_of(flow: ScheduledRun, home: Path) -> str:
    """The id that this home has promised, as to a request, or a new one; never one that a server chose."""
    is_free = flow.run and not (home / "runs" / flow.run).exists()
    return flow.run if is_free else new_run_id()


def settle(past: PastRun) -> None:
    """Put down that there is no more to be done about a run."""
    if (about := background_of(past)) is not None:
        write_background(past, about.model_copy(update={"is_settled": True}))


def ended(found: FoundRun) -> str:
    words = {"died": "has died", "paused": "waits for you", "interrupted": "was interrupted"}
    return words.get(found.status, found.status)


def begun_as(schedule: Schedule, flow: ScheduledRun, left: float | None) -> BackgroundRun:
    """How a run of a schedule begins; `left`: what it may cost, in US dollars, if there is a limit."""
    limit = () if left is None or schedule.process else (f"--max-cost={left:.4f}",)
    return BackgroundRun(
        arguments=(*schedule.arguments, *limit),
        patience=schedule.patience,
        schedule=schedule.name,
        flow_run=flow.id,
        due=flow.due if flow.is_timed else None,
        occasion=flow.occasion,
        notify=schedule.notify,
    )


def command_of(schedule: Schedule, about: BackgroundRun) -> tuple[str, ...]:
    """What `orch` is called with for such a run."""
    return (*schedule.command, *about.arguments[len(schedule.arguments) :])


def in_its_place(found: FoundRun) -> PastRun:
    """The run in the workspace that its journal names."""
    return past_run(found.where.journal) or found.where
