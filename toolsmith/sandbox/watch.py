"""Watches that what the host has stopped does not run: between two requests, and while a host tool works.

Code inside cannot have the signal sent that wakes what is stopped (see seccomp.py). If something runs anyway,
it is stopped again, its limits are measured, and after it has happened often the sandbox is ended.

What does not run takes nothing, so as long as nothing has run only that is looked at, which is cheap. The
kernel counts each time that it takes a thread off a processor, so one that ran between two looks shows.

Not covered: systems without /proc.
"""

import threading
from collections.abc import Callable

from toolsmith.sandbox.processes import has_run
from toolsmith.sandbox.spec import LimitMonitor

LOOK_EVERY_S = 0.1
MOST_WAKES = 5
"""A few are put up with: a user can send any signal, and a suspended computer wakes all processes."""

RAN_ON = "processes that were stopped went on running"


class StopWatch:
    """Watches processes that have just been stopped, in a thread of its own, until `end`."""

    def __init__(self, monitor: LimitMonitor, kill: Callable[[], None]) -> None:
        """`kill` ends the sandbox from any thread."""
        self._monitor, self._kill = monitor, kill
        self._why = ""
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sandbox-watch", daemon=True)
        self._thread.start()

    def end(self) -> str:
        """Ends the watch; returns why it has ended the sandbox, empty if it has not. Can be repeated."""
        self._over.set()
        self._thread.join()
        return self._why

    def _run(self) -> None:
        processes, wakes = self._monitor.processes, 0
        seen = processes.look()
        while seen and not self._over.wait(LOOK_EVERY_S):
            if not has_run(seen, processes.look()):
                continue
            wakes += 1
            try:
                self._why = RAN_ON if wakes > MOST_WAKES else self._monitor.overused()
            except OSError as exc:  # such as a workspace that was deleted meanwhile
                self._why = f"what it holds cannot be measured: {exc}"
            if self._why:
                self._kill()
                return
            seen = processes.hold(LOOK_EVERY_S)
