"""The view that starts the programs of `[[hooks]]` at the events that they name.

The programs are started one after the other, from a thread beside: an event waits for those before it, and
the run for none. What fails is said once and stops nothing. The end of the process waits for what is not done
yet, `END_S` at most.

Not covered: events that come so fast that `MOST_WAITING` of them wait; those that follow are left out.
"""

import contextlib
import queue
import time
from collections.abc import Callable, Sequence
from threading import Event as Flag

from orchestrator_cli import afterwards
from orchestrator_cli.cancellation import Cancellation, run_beside
from orchestrator_cli.environment import is_from_a_hook
from orchestrator_cli.event_settings import Hook
from orchestrator_cli.events import Event
from orchestrator_cli.state import RunState
from orchestrator_cli.views.text import one_line
from orchestrator_cli.views.user_command import CommandFailed, start_command

END_S = 10.0
"""The most that a process waits at its end."""
MOST_WAITING = 1_000
NAME_CHARS = 60


class Hooks:
    """Has the events of a run handed to the user's programs. Called under a lock, so it only queues."""

    def __init__(self, hooks: Sequence[Hook], say: Callable[[list[str]], None]) -> None:
        """`say` shows lines about what did not work."""
        self._hooks = () if is_from_a_hook() else tuple(hooks)
        self._say = say
        self._said: set[str] = set()
        self._waiting: queue.Queue[tuple[Hook, str] | None] = queue.Queue(MOST_WAITING)
        self._ended: Flag | None = None
        self._cancellation = Cancellation()

    def __call__(self, event: Event, state: RunState) -> None:  # noqa: ARG002
        for hook in self._hooks:
            if event.kind in hook.on:
                self._put(hook, event.json_line())

    def close(self) -> None:
        if self._ended is None:
            return
        afterwards.register(self._ended)
        run_beside(self._finish, self._ended)

    def _put(self, hook: Hook, line: str) -> None:
        if self._ended is None:
            self._ended = Flag()
            run_beside(self._work, self._ended)
        try:
            self._waiting.put_nowait((hook, line))
        except queue.Full:
            self._tell("hooks: more events wait than are kept; some are left out")

    def _finish(self, ended: Flag) -> None:
        """Let what waits be done until `END_S`, and end then what is at work."""
        end = time.monotonic() + END_S
        with contextlib.suppress(queue.Full):
            self._waiting.put(None, timeout=END_S)
        if not ended.wait(max(0.0, end - time.monotonic())):
            self._cancellation.cancel(CommandFailed("it was at work, or waited, when the run had ended"))
            ended.wait(END_S)
            ended.set()

    def _work(self, ended: Flag) -> None:
        try:
            while self._cancellation.reason is None and (one := self._waiting.get()) is not None:
                self._start(*one)
        finally:
            ended.set()

    def _start(self, hook: Hook, line: str) -> None:
        name = one_line(hook.command[0], NAME_CHARS)
        try:
            start_command(hook.command, line, hook.timeout_s, self._cancellation)
        except CommandFailed as exc:
            self._tell(f"hooks: {name}: {exc}")
        except Exception as exc:  # nothing that a hook does ends a run
            self._tell(f"hooks: {name} failed ({type(exc).__name__})")

    def _tell(self, line: str) -> None:
        """Say something once."""
        if line not in self._said:
            self._said.add(line)
            self._say([line])
