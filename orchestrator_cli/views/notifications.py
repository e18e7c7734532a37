"""The view that notifies the user: a run is done, has failed, is over budget, or waits for a person.

At a terminal, a run or a question younger than `after_s` says nothing: its user sees it. Nothing
that goes wrong here ends or delays a run, but for two seconds at its end.

Not covered: runs that were killed, which tell nothing any more, and those that a person ended.
"""

import contextlib
import sys
import threading
import time
from collections.abc import Callable

from orchestrator_cli.approvals.broker import how_to_answer
from orchestrator_cli.cancellation import run_beside
from orchestrator_cli.events import ApprovalAsked, Event, RunFinished, RunResumed, RunStarted
from orchestrator_cli.journal.journal import EventView
from orchestrator_cli.notify_settings import NotifyEvent
from orchestrator_cli.settings import Settings
from orchestrator_cli.state import RunState
from orchestrator_cli.views.notify_spool import Notification, Sender
from orchestrator_cli.views.text import one_line

QUESTION_S = 5.0
"""How long a question is open before anyone is notified who is not at the terminal."""
LINE_CHARS = 200
LIMIT_CODE, INTERRUPTED_CODE = 5, 130


def notifier(
    settings: Settings, say: Callable[[list[str]], None], *, attended: bool | None = None
) -> EventView:
    """The view for a run, which does nothing if nothing is set.

    Args:
        say: shows lines about what could not be sent.
        attended: whether a person sees the run; by default, whether standard error is a terminal.
    """
    if not settings.notify.is_on:
        return _Silent()
    return Notifications(settings, say, attended=sys.stderr.isatty() if attended is None else attended)


class _Silent:
    """A view that does nothing."""

    def __call__(self, event: Event, state: RunState) -> None:
        """Nothing is shown."""

    def close(self) -> None:
        """Nothing is held open."""


class Notifications:
    """Turns events into messages, and has them sent from a thread beside."""

    def __init__(self, settings: Settings, say: Callable[[list[str]], None], *, attended: bool) -> None:
        self._notify = settings.notify
        self._sender = Sender(settings.home, settings.notify, say)
        self._attended = attended
        self._state = RunState()
        self._lock = threading.Lock()
        self._told: set[str] = set()
        """Questions that the user knows of."""
        self._closed = threading.Event()

    def __call__(self, event: Event, state: RunState) -> None:
        self._state = state
        match event.data:
            case RunStarted() | RunResumed():
                self._sender.flush()  # what an earlier process left
            case ApprovalAsked(id=question) if "waiting" in self._notify.on:
                run_beside(self._ask_later, question)
            case RunFinished() as end:
                self._closed.set()
                kind = _event_of(end)
                if kind is None or (self._attended and end.seconds < self._notify.after_s):
                    return
                if kind != "waiting" or self._is_news(state):
                    self._put(kind, state, end)

    def close(self) -> None:
        self._closed.set()
        self._sender.close()

    def _is_news(self, state: RunState, question: str = "") -> bool:
        """Whether the user does not know of an open question, or of this one; from now on they do."""
        found = {one.id for one in state.open}
        with self._lock:
            unknown = found - self._told
            if not unknown or (question and question not in unknown):
                return False
            self._told |= found
            return True

    def _ask_later(self, question: str) -> None:
        """Notify of a question if it is still open after a while, together with all that are open then."""
        end = time.monotonic() + (self._notify.after_s if self._attended else QUESTION_S)
        while (left := end - time.monotonic()) > 0:
            if self._closed.wait(min(left, 0.5)) or question in self._state.given:
                return
        state = self._state
        if self._is_news(state, question):
            self._put("waiting", state, None)

    def _put(self, kind: NotifyEvent, state: RunState, end: RunFinished | None) -> None:
        if kind not in self._notify.on:
            return
        asked = state.open if kind == "waiting" else ()
        error = (end.error or "").partition("\n")[0] if end is not None and kind != "waiting" else ""
        how = how_to_answer(state.run, asked) if asked else []
        if kind in ("failed", "over_budget"):
            how = [f"Look at it with: orch show {state.run}", f"Go on with: orch resume {state.run}"]
        questions = "; ".join(one_line(one.question, LINE_CHARS) for one in asked)
        usage = state.usage
        message = Notification(
            event=kind,
            run=state.run,
            workspace=one_line(state.workspace, LINE_CHARS),
            prompt=one_line(state.prompt.strip().partition("\n")[0], LINE_CHARS),
            outcome=end.outcome if end is not None else "",
            cost=None if usage.calls and usage.unpriced == usage.calls else usage.cost,
            seconds=end.seconds if end is not None else state.seconds,
            detail=one_line(questions or error, 2 * LINE_CHARS),
            how=tuple(one_line(line, LINE_CHARS) for line in how),
        )
        with contextlib.suppress(OSError):
            self._sender.put(message)


def _event_of(end: RunFinished) -> NotifyEvent | None:
    """What the end of a run is to its user; None for one that a person ended."""
    if end.outcome == "completed":
        return "done"
    if end.outcome == "paused":
        return "waiting"
    if end.outcome == "cancelled" or end.exit_code == INTERRUPTED_CODE:
        return None
    return "over_budget" if end.exit_code == LIMIT_CODE else "failed"
