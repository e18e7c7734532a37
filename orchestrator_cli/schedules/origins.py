"""What this home knows of a flow run that a server says is due: the rest of what the server says is data.

Whether a flow run was asked for here, for which run and with what, and which times of a schedule had their
run, is on this home's disk. All others were made by a person on Prefect's page, by an event, or by what else
may write to the server, and count as that.
"""

import json
from dataclasses import replace
from datetime import datetime, timedelta
from functools import lru_cache
from pathlib import Path

from orchestrator_cli.engine.deployments import ScheduledRun, has_time
from orchestrator_cli.runs.background import background_of
from orchestrator_cli.runs.find import PastRun
from orchestrator_cli.runtime import RUN_ID
from orchestrator_cli.schedules.rates import EVENT, PAGE
from orchestrator_cli.schedules.schedule import Schedule, ScheduleStore

BEGUN = "that time had its run already, or was before the schedule"
NOT_ITS_TIME = "that is not one of its times"
SET_BACK = timedelta(minutes=1)
"""How long ago the last time counts as, if the clock was set back since."""


class Origins:
    """Tells the flow runs of a home's schedules apart."""

    def __init__(self, home: Path, store: ScheduleStore) -> None:
        self._home = home
        self._store = store

    def of(self, flow: ScheduledRun, schedule: Schedule) -> ScheduledRun:
        """The flow run with what is known of it here instead of what the server says."""
        asked = self._store.asked(flow.id)
        if asked is not None and asked.schedule == schedule.name:
            return replace(flow, is_timed=False, source=asked.source, occasion=asked.occasion, run=asked.run)
        if flow.is_timed and not self._had_run(flow) and _has_time(schedule, flow.due) is not None:
            return replace(flow, source="")
        source = EVENT if schedule.event and flow.source == EVENT else PAGE
        return replace(flow, is_timed=False, source=source)

    def objection(self, flow: ScheduledRun, schedule: Schedule, now: datetime) -> str:
        """Why a flow run of `of` may not begin for a time; empty if it may, or if no time started it."""
        if not flow.is_timed:
            return ""
        last = self._store.last_time(schedule.name)
        if last > now:
            self._store.keep_last_time(schedule.name, last := now - SET_BACK)
        if flow.due <= last:
            return BEGUN
        return "" if flow.due <= now and _has_time(schedule, flow.due) else NOT_ITS_TIME

    def _had_run(self, flow: ScheduledRun) -> bool:
        """Whether it is one that this home has begun before, and a person has it run again."""
        if not RUN_ID.fullmatch(flow.name):
            return False
        about = background_of(PastRun(flow.name, self._home, Path()))
        return about is not None and about.flow_run == flow.id


def _has_time(schedule: Schedule, moment: datetime) -> bool | None:
    """None if that cannot be found out."""
    return False if schedule.timing is None else _found(json.dumps(schedule.timing), moment)


@lru_cache(maxsize=4096)
def _found(timing: str, moment: datetime) -> bool | None:
    try:
        return has_time(json.loads(timing), moment)
    except ValueError:
        return None
