"""Changes of files that a schedule waits for."""

import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from pathspec import PathSpec
from watchfiles import DefaultFilter, watch

from orchestrator_cli.durable.foreign import on_one_line
from orchestrator_cli.schedules.schedule import Schedule

QUIET_MS = 1600
"""Changes that follow one another within this time are one."""
OWN = frozenset({"fileLog.md"})
"""Written by each run."""

OWN_S = 5.0
"""For how long after a run what it changed may still be reported."""
MOST_NAMED = 50

Changed = Callable[[str, frozenset[str]], None]


class FileChanges:
    """Files that have changed, by the schedule that waits for them; without what its own run changed.

    `add` may be called from any thread. What a run changes itself is not known before its end, so nothing is
    taken while one is at work.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._changed: dict[str, frozenset[str]] = {}
        self._own: dict[str, tuple[frozenset[str], float]] = {}
        """What the last run of a schedule changed, and until when that may still be reported."""

    def add(self, name: str, files: frozenset[str]) -> None:
        with self._lock:
            self._changed[name] = self._changed.get(name, frozenset()) | files

    def ran(self, name: str, changed: Iterable[str]) -> None:
        """A run of the schedule has ended, which has changed these."""
        self._own[name] = frozenset(changed), time.monotonic() + OWN_S

    def take(self, busy: Collection[str]) -> Iterator[tuple[str, list[str]]]:
        """The schedules that are not busy, with the files that have changed since."""
        with self._lock:
            names = [name for name in self._changed if name not in busy]
        for name in names:
            own, until = self._own.get(name, (frozenset(), 0.0))
            with self._lock:
                files = self._changed.pop(name) - (own if time.monotonic() < until else frozenset())
            if files:
                yield name, sorted(files)


def names_of(files: Sequence[str]) -> str:
    """The names, a line each, for the run that they set off."""
    more = len(files) - MOST_NAMED
    rows = [f"- {on_one_line(name)}" for name in files[:MOST_NAMED]]
    rows += [f"- and {more:,} more"] if more > 0 else []
    return "\n".join(["These files have changed:", *rows])


class FileWatch:
    """Watches the workspaces of schedules with patterns, in a thread.

    Folders that no one edits by hand, such as `.git`, do not count, nor does what changes in another folder
    at the path of a workspace. Not covered: what changes while nothing watches.
    """

    def __init__(self, on_change: Changed) -> None:
        """`on_change` is given the name of a schedule and the changed files, relative to its workspace."""
        self._on_change = on_change
        self._followed: dict[str, tuple[Schedule, Any]] = {}
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def follow(self, schedules: Iterable[Schedule]) -> None:
        """Watch for these schedules from now on, and for no others."""
        self._end()
        self._followed = {
            one.name: (one, PathSpec.from_lines("gitignore", one.files))
            for one in schedules
            if one.files and not (one.paused or one.replaced) and Path(one.workspace).is_dir()
        }
        if self._followed:
            self._stop = threading.Event()
            self._thread = threading.Thread(target=self._watch, args=[self._stop], daemon=True)
            self._thread.start()

    def _end(self) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _watch(self, stop: threading.Event) -> None:
        folders = {Path(one.workspace) for one, _ in self._followed.values()}
        for changes in watch(*folders, stop_event=stop, debounce=QUIET_MS, watch_filter=DefaultFilter()):
            paths = [Path(path) for _, path in changes]
            for name, (one, wanted) in self._followed.items():
                folder = Path(one.workspace)
                inside = {str(path.relative_to(folder)) for path in paths if path.is_relative_to(folder)}
                found = frozenset(wanted.match_files(inside - OWN))
                if found and not one.replaced:
                    self._on_change(name, found)
