"""The runs of one interactive loop: what they spend, and whether one has gone on.

Each run that the process opens, starts, resumes or watches is followed from then on, by its journal. So a
plan that was only drawn counts, a run that failed or was interrupted, and one that works in another process.

Not covered: model calls of commands that are no run, and what a run spends after its journal was removed.
"""

import json
from contextlib import suppress
from contextvars import ContextVar
from pathlib import Path

from orchestrator_cli.durable.files import read_records
from orchestrator_cli.values import Usage


class FollowedRuns:
    def __init__(self) -> None:
        self._before: dict[Path, Usage] = {}
        """What each had spent before it was followed."""
        self._read: dict[Path, tuple[int, Usage]] = {}
        """The size of each journal when it was read, and what it says."""

    def follow(self, journal: Path) -> None:
        if journal not in self._before:
            self._before[journal] = self._spent(journal)

    @property
    def spent(self) -> Usage:
        """What all have spent since they are followed."""
        found = (self._spent(journal) - before for journal, before in self._before.items())
        return sum(found, start=Usage())

    @property
    def sizes(self) -> dict[Path, int]:
        """The bytes of each journal, which change with every event; 0 if it is not there."""
        return {journal: _size(journal) for journal in self._before}

    def _spent(self, journal: Path) -> Usage:
        known, usage = self._read.get(journal, (0, Usage()))
        if (size := _size(journal)) not in (0, known):
            with suppress(OSError):
                # Two calls that end together may be written in the other order.
                totals = [usage, *read_records(journal, _total, containing=b'"Spent"')]
                usage = max(totals, key=lambda one: one.tries)
                self._read[journal] = size, usage
        return usage


def _size(journal: Path) -> int:
    try:
        return journal.stat().st_size
    except OSError:
        return 0


def _total(line: bytes) -> Usage:
    data = json.loads(line)["data"]
    if data["kind"] != "Spent":
        raise LookupError(data["kind"])
    return Usage(**data["total"])


_FOLLOWED: ContextVar[FollowedRuns | None] = ContextVar("followed", default=None)


def follow_runs() -> FollowedRuns:
    """Follow all runs that this process opens or starts from now on."""
    runs = FollowedRuns()
    _FOLLOWED.set(runs)
    return runs


def follow(journal: Path) -> None:
    """Called before a run is opened, started or watched. It has no effect unless `follow_runs` was called."""
    if (runs := _FOLLOWED.get()) is not None:
        runs.follow(journal)
