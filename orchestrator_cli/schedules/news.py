"""What `orch up` notifies a user of by itself, because no run is there that could."""

from collections.abc import Callable
from datetime import date
from pathlib import Path

from orchestrator_cli.notify_settings import NotifyEvent, NotifySettings
from orchestrator_cli.schedules.schedule import Schedule
from orchestrator_cli.views.notify_spool import Notification, Sender
from orchestrator_cli.views.text import one_line

LINE_CHARS = 200


class News:
    """Notifications of the schedules of a home."""

    def __init__(self, home: Path, notify: NotifySettings, say: Callable[[str], None]) -> None:
        self._notify = notify
        self._say = say
        self._sender = Sender(home, notify, self._say_all)
        self._days: dict[str, date] = {}
        """When the user was last notified that a schedule has used up what it may cost in a day."""

    def close(self) -> None:
        """Wait a moment for what is being sent."""
        self._sender.close()

    def _say_all(self, lines: list[str]) -> None:
        for line in lines:
            self._say(line)

    def failed(self, schedule: Schedule, run: str, why: str) -> None:
        """A run could not be begun, or is given up. `run` is empty if there is none."""
        look = f"orch show {run}" if run else f"orch schedule show {schedule.name}"
        self._put("failed", schedule, run, why, f"Look at it with: {look}")

    def over_budget(self, schedule: Schedule, why: str) -> None:
        """No more runs begin today. Said once."""
        today = date.today()
        if self._days.get(schedule.name) != today:
            self._days[schedule.name] = today
            self._put(
                "over_budget", schedule, "", why, f"Look at it with: orch schedule show {schedule.name}"
            )

    def _put(self, event: NotifyEvent, schedule: Schedule, run: str, why: str, how: str) -> None:
        on = self._notify.on if schedule.notify is None else schedule.notify
        if event not in on or not self._notify.has_way:
            return
        what = schedule.prompt.strip().partition("\n")[0] or f"process {schedule.process}"
        self._sender.put(
            Notification(
                event=event,
                run=run,
                workspace=one_line(schedule.workspace, LINE_CHARS),
                prompt=one_line(f"{schedule.name}: {what}", LINE_CHARS),
                outcome="failed",
                cost=None,
                seconds=0.0,
                detail=one_line(why, 2 * LINE_CHARS),
                how=(how,),
            )
        )
