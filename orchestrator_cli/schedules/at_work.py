"""A run that `orch up` looks after, and what is known of it."""

import subprocess
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from orchestrator_cli.engine.deployments import ScheduledRun
from orchestrator_cli.journal.journal import lock_owner
from orchestrator_cli.runs.background import BackgroundRun, background_of, write_background
from orchestrator_cli.runs.find import FoundRun, PastRun, past_run
from orchestrator_cli.runtime import RUN_ID, new_run_id
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
    """The flow run that a run is; None if a person started it."""
    if not about.schedule:
        return None
    return ScheduledRun(
        about.flow_run,
        about.schedule,
        datetime.now(UTC),
        past.run,
        is_timed=False,
        state="RUNNING",
        occasion=about.occasion,
    )


def run_id_of(flow: ScheduledRun, home: Path) -> str:
    """The name of a flow run if it was chosen for its run, as that of a request is, or a new one."""
    is_free = RUN_ID.fullmatch(flow.name) and not (home / "runs" / flow.name).exists()
    return flow.name if is_free else new_run_id()


def settle(past: PastRun) -> None:
    """Put down that there is no more to be done about a run."""
    if (about := background_of(past)) is not None:
        write_background(past, about.model_copy(update={"is_settled": True}))


def ended(found: FoundRun) -> str:
    words = {"died": "has died", "paused": "waits for you", "interrupted": "was interrupted"}
    return words.get(found.status, found.status)


def in_place_of(schedule: Schedule, past: PastRun) -> PastRun:
    """A run that has not begun, in the workspace of its schedule."""
    return replace(past, root=Path(schedule.workspace), mark=schedule.mark)


def in_its_place(found: FoundRun) -> PastRun:
    """The run in the workspace that its journal names."""
    return past_run(found.where.journal) or found.where
