"""Removing runs of the past: their journals, and what undo would need.

Only a run that is over is removed: it was completed or cancelled, it failed, or it was only planned. One that
was interrupted or waits for a person stays. What is in the workspace, with `fileLog.md`, what memory learned
and Prefect's page stay as they are; the run cannot be shown, undone or forked any more, and `orch log verify`
checks its entries by their chain only.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from orchestrator_cli.durable.files import write_atomic
from orchestrator_cli.errors import OrchError, UsageError
from orchestrator_cli.journal.journal import run_lock
from orchestrator_cli.runs.beginnings import began, newest_first
from orchestrator_cli.runs.find import PastRun, check_names_itself, look_at, past_run
from toolsmith.sandbox.removal import remove

OVER = ("completed", "cancelled", "failed", "planned")
DAILY = timedelta(days=1)
_GOING = ".removed-"
"""Begins the name of a folder that is being removed, so that nothing takes it for a run."""


class Prunable(NamedTuple):
    """A run that may be removed, and how many bytes that frees."""

    past: PastRun
    size: int


def _nothing(_: str) -> None:
    pass


def prunable(
    home: Path, before: datetime, root: Path | None = None, on_unread: Callable[[str], None] = _nothing
) -> Iterator[Prunable]:
    """The runs that began before a time and are over, oldest first; of one workspace, or of all.

    Those with an unreadable journal stay, because their user may want to look at them. They are passed to
    `on_unread`, each as a line for people.
    """
    oldest = before.astimezone()
    for journal in reversed(newest_first((home / "runs").glob("*/journal.jsonl"))):
        if began(journal) >= oldest:
            return
        try:
            check_names_itself(journal)
            past = past_run(journal)
            if past is None or (root is not None and past.root != root):
                continue
            found = look_at(past)
        except (OrchError, OSError) as exc:
            on_unread(f"Run {journal.parent.name} cannot be read: {exc}")
            continue
        if found.status in OVER and found.pid is None:
            yield Prunable(past, _size(past.folder))


def remove_runs(found: Iterable[Prunable], on_failed: Callable[[str], None]) -> list[Prunable]:
    """Remove runs, and return those that were; of each other one `on_failed` is given a line for people."""
    removed = []
    for one in found:
        try:
            remove_run(one.past)
            removed.append(one)
        except (OrchError, OSError) as exc:
            on_failed(f"Run {one.past.run} cannot be removed: {exc}")
    return removed


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


_SEEN = "old-runs.json"
"""In the data folder: when each run was first seen to be too old."""


class DailyPruning:
    """Removes what is older than so many days, once a day; never if there is no limit.

    A run is removed if it was too old already a day before, also by the clock of an earlier process: a clock
    that is set wrong for a while removes nothing.
    """

    def __init__(self, home: Path, days: int | None, say: Callable[[str], None]) -> None:
        self._home = home
        self._days = days
        self._say = say
        self._last = datetime.min

    def look(self, now: datetime | None = None) -> None:
        """Remove runs if a day has gone by since the last time."""
        now = now or datetime.now()
        # Not if the clock was set back since.
        if self._days is None or (self._last <= now < self._last + DAILY):
            return
        self._last = now
        finish_removals(self._home)
        before, seen = self._seen(), {}
        due = []
        for one in prunable(self._home, now - timedelta(days=self._days), on_unread=self._say):
            first = min(before.get(one.past.run, now), now)
            seen[one.past.run] = first
            if now - first >= DAILY:
                due.append(one)
        removed = remove_runs(due, self._say)
        for one in removed:
            del seen[one.past.run]
        rows = {run: first.isoformat() for run, first in seen.items()}
        try:
            write_atomic(self._home / _SEEN, json.dumps(rows), sync=False)
        except OSError as exc:
            self._say(f"{self._home / _SEEN} cannot be written, so old runs stay: {exc}")
        if removed:
            said = "run" if len(removed) == 1 else "runs"
            self._say(f"removed {len(removed)} {said} older than {self._days} days")

    def _seen(self) -> dict[str, datetime]:
        try:
            rows = json.loads((self._home / _SEEN).read_bytes())
            return {run: datetime.fromisoformat(first).replace(tzinfo=None) for run, first in rows.items()}
        except (OSError, ValueError, TypeError, AttributeError):
            return {}


def _size(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.rglob("*") if not path.is_dir())
