"""What is left on a terminal if several threads print and draw at the same time."""

import io
import threading
import time

import pyte
import pytest
from test_console import PLAN, STARTED, event

from orchestrator_cli import events
from orchestrator_cli.plan import Subtask
from orchestrator_cli.state import apply, fold
from orchestrator_cli.views.console import Console
from orchestrator_cli.views.live import TypedLine

PRINTS = 60


class SlowTerminal(io.StringIO):
    """Takes its time for each write, as a terminal does."""

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        time.sleep(0.001)
        return super().write(text)


def rows_left(written: str) -> list[str]:
    """What stays on a terminal of 80 columns and 24 lines, with what it has scrolled away."""
    screen = pyte.HistoryScreen(80, 24, history=4000)
    pyte.Stream(screen).feed(written.replace("\n", "\r\n"))
    above = ["".join(row[x].data for x in range(80)) for row in screen.history.top]
    return [row.rstrip() for row in (*above, *screen.display) if row.strip()]


def test_no_row_of_the_live_view_stays_between_printed_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("LINES", "24")
    terminal = SlowTerminal()
    console = Console(terminal)
    more = [Subtask(id=f"more-{i}", title="More", kind="agent") for i in range(9)]
    grown = [PLAN.model_copy(update={"subtasks": (*PLAN.subtasks, *more[:i])}) for i in range(10)]
    states = [fold([event(STARTED), event(events.PlanProposed(plan=plan))]) for plan in grown]
    console(event(STARTED), apply(states[0], event(STARTED)))

    def typed() -> None:
        for i in range(PRINTS):
            console.show_typed(TypedLine("you", "", f"t{i}") if i % 2 else None)

    def printed() -> None:
        for i in range(PRINTS):
            console(event(events.ModelAsked(role="planner", subtask=None, model="m")), states[i % 10])
            console.lines([f"line {i}"])

    threads = [threading.Thread(target=what) for what in (typed, printed)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    console.close()
    left = rows_left(terminal.getvalue())
    assert left[-PRINTS:] == [f"line {i}" for i in range(PRINTS)]
    assert not [row for row in left if "more-" in row or "›" in row or "done" in row]
