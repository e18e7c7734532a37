"""Changes of files that a schedule waits for."""

import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from pathspec import PathSpec
from watchfiles import DefaultFilter, watch

from orchestrator_cli.schedules.schedule import Schedule

QUIET_MS = 1600
"""Changes that follow one another within this time are one."""
OWN = frozenset({"fileLog.md"})
"""Written by each run."""

Changed = Callable[[str, frozenset[str]], None]


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
