"""Removing runs of the past: their journals, and what undo would need.

Only a run that is over is removed: it was completed or cancelled, it failed, or it was only planned. One that
was interrupted or waits for a person stays. What is in the workspace, with `fileLog.md`, what memory learned
and Prefect's page stay as they are; the run cannot be shown, undone or forked any more, and `orch log verify`
checks its entries by their chain only.
"""

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from orchestrator_cli.errors import OrchError, UsageError
from orchestrator_cli.journal.journal import run_lock
from orchestrator_cli.runs.find import PastRun, look_at, past_run
from toolsmith.sandbox.removal import remove

OVER = ("completed", "cancelled", "failed", "planned")
DAILY = timedelta(days=1)
_GOING = ".removed-"
"""Begins the name of a folder that is being removed, so that nothing takes it for a run."""


class Prunable(NamedTuple):
    """A run that may be removed, and how many bytes that frees."""

    past: PastRun
    size: int


def prunable(home: Path, before: datetime, root: Path | None = None) -> Iterator[Prunable]:
    """The runs that began before a time and are over, oldest first; of one workspace, or of all."""
    oldest = f"{before:%Y%m%d-%H%M%S}"
    for journal in sorted((home / "runs").glob("*/journal.jsonl")):
        if journal.parent.name >= oldest:
            return
        past = past_run(journal)
        if past is None or (root is not None and past.root != root):
            continue
        try:
            found = look_at(past)
        except OrchError:
            continue  # damaged: its user may want to look at it
        if found.status in OVER and found.pid is None:
            yield Prunable(past, _size(past.folder))


def remove_run(past: PastRun) -> None:
    """Remove a run. Raises `UsageError` if a process has it, or if it is not over any more."""
    with run_lock(past.folder):
        if (status := look_at(past).status) not in OVER:
            raise UsageError(f"Run {past.run} is {status} now.", "It can be removed when it is over.")
        going = past.folder.with_name(_GOING + past.run)
        past.folder.rename(going)
    remove(going)


def finish_removals(home: Path) -> None:
    """Remove what an earlier process had begun to remove."""
    for folder in (home / "runs").glob(f"{_GOING}*"):
        remove(folder)


class DailyPruning:
    """Removes what is older than so many days, once a day; never if there is no limit."""

    def __init__(self, home: Path, days: int | None, say: Callable[[str], None]) -> None:
        self._home = home
        self._days = days
        self._say = say
        self._next = datetime.min

    def look(self, now: datetime | None = None) -> None:
        """Remove runs if a day has gone by since the last time."""
        now = now or datetime.now()
        if self._days is None or now < self._next:
            return
        self._next = now + DAILY
        finish_removals(self._home)
        removed = 0
        for one in prunable(self._home, now - timedelta(days=self._days)):
            try:
                remove_run(one.past)
                removed += 1
            except (OrchError, OSError) as exc:
                self._say(f"run {one.past.run} cannot be removed: {exc}")
        if removed:
            self._say(f"removed {removed} {'run' if removed == 1 else 'runs'} older than {self._days} days")


def _size(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.rglob("*") if not path.is_dir())
