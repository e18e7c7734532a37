"""What a person sees during a run, on standard error; only the answer goes to standard output.

On a terminal, a live table of the subtasks is shown below the lines; otherwise there are only lines. Foreign
text is never read as markup and contains no escape sequences. `NO_COLOR`, `TERM=dumb` and encodings without
Unicode are respected.

The table is drawn by a thread of its own, from the frozen state that came with the latest event;
nothing here is held while printing, so the two cannot wait for each other.
"""

import atexit
import contextlib
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import NamedTuple, TextIO

from rich.console import Console as RichConsole
from rich.console import Group, OverflowMethod, RenderableType
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from orchestrator_cli.errors import OrchError
from orchestrator_cli.events import Event, RunFinished, RunResumed, RunStarted
from orchestrator_cli.state import RunState
from orchestrator_cli.values import seconds_between
from orchestrator_cli.views import text
from orchestrator_cli.views.graph import SIGNS, Row, rows_of
from orchestrator_cli.views.narration import OUTCOMES, Line, file_lines, narrate
from orchestrator_cli.views.streams import write, write_line

NARROW = 60
"""Below this many columns, the table leaves out the role."""
REFRESHES_PER_S = 8
_STYLES = {
    "pending": "dim",
    "waiting": "bold magenta",
    "running": "bold cyan",
    "done": "green",
    "failed": "bold red",
    "skipped": "dim",
}
_RANK = {"waiting": 0, "running": 0, "failed": 1, "pending": 2, "skipped": 3, "done": 4}
OVER = frozenset(OUTCOMES)
"""The phases of a run in which nothing more happens."""
_SPINNER, _ASCII_SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏", "|/-\\"


class TypedLine(NamedTuple):
    """A line that a person types, and the question that it answers."""

    asked: str
    wanted: str
    line: str


class Console:
    """The view for people. `quiet` leaves errors and the answer; `verbose` adds every step."""

    def __init__(
        self,
        stderr: TextIO | None = None,
        *,
        stdout: TextIO | None = None,
        quiet: bool = False,
        verbose: bool = False,
    ) -> None:
        self._rich = RichConsole(
            file=stderr or sys.stderr, markup=False, highlight=False, emoji=False, soft_wrap=False
        )
        self._stdout = stdout
        self._quiet = quiet
        self._verbose = verbose
        # From the file and not from rich, which takes FORCE_COLOR for a terminal.
        self._terminal = self._rich.file.isatty()
        self._animated = self._terminal and not quiet and not self._rich.is_dumb_terminal
        self._ascii = not self._rich.encoding.lower().startswith("utf")
        self._overflow: OverflowMethod = "crop" if self._ascii else "ellipsis"
        self._state = RunState()
        self._live: Live | None = None
        self._shown_error = ""
        self._typed: TypedLine | None = None
        self._held: list[Line] | None = None

    @property
    def animated(self) -> bool:
        """Whether a table is shown during a run."""
        return self._animated

    @property
    def stream(self) -> TextIO:
        return self._rich.file  # type: ignore[return-value]  # rich says IO

    def __call__(self, event: Event, state: RunState) -> None:
        # What another process did is known only from the state that comes with the first event of this one.
        before = state if isinstance(event.data, RunResumed) else self._state
        self._state = state
        if self._quiet:
            return
        if isinstance(event.data, RunStarted | RunResumed):
            self._shown_error = ""
            self._start()
        elif isinstance(event.data, RunFinished):
            self._stop()
            if event.data.error:
                self._show_error(event.data.error)
        self._say(narrate(event, before, live=self._live is not None, verbose=self._verbose))

    def close(self) -> None:
        """Remove the table and restore the terminal. May be called again."""
        self._stop()

    def error(self, exc: OrchError) -> None:
        """Show what happened and the remedy, unless the end of the run has just shown the same."""
        self._show_error(str(exc))

    def lines(self, lines: list[str]) -> None:
        """Show plain lines, such as those of `plan_lines`, even if quiet."""
        self._say([Line("", text.clean(line)) for line in lines])

    def show_typed(self, typed: TypedLine | None) -> None:
        """Show what a person types below the table; None shows nothing."""
        if typed != self._typed:
            self._typed = typed
            if (live := self._live) is not None:
                live.refresh()

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Leave the screen to another program; lines that arrive meanwhile follow at the end."""
        self._held, shown = [], self._live is not None
        self._stop()
        try:
            yield
        finally:
            lines, self._held = self._held, None
            if shown and self._state.phase not in OVER:
                self._start()
            self._say(lines)

    def print_answer(self, answer: str, *, is_data: bool = False) -> None:
        """Print the answer on standard output: rendered on a terminal, otherwise as it was written.

        In neither case does it hold anything that a terminal would obey: a pipe may lead to one. An answer
        that is JSON (`is_data`) is printed as such. After it, the files that the run changed are listed, on
        standard error.
        """
        self._print(answer, is_data=is_data)
        if not self._quiet:
            self._say(file_lines(self._state))

    def _print(self, answer: str, *, is_data: bool) -> None:
        stdout = self._stdout or sys.stdout
        if is_data:
            if answer:
                write_line(stdout, answer)
            return
        answer = text.clean(answer)
        if not stdout.isatty():
            write(stdout, answer if answer.endswith("\n") else answer + "\n")
            return
        screen = RichConsole(file=stdout, highlight=False)
        if screen.is_dumb_terminal or not screen.encoding.lower().startswith("utf"):
            write(stdout, answer.rstrip("\n") + "\n")
            return
        from rich.markdown import Markdown

        # Links are spelled out, because a link can show another address than its own.
        screen.print("", Markdown(answer, hyperlinks=False))

    # --- lines

    def _show_error(self, message: str) -> None:
        if message == self._shown_error:
            return
        self._shown_error = message
        first, *remedy = text.clean(message).strip().split("\n") or [""]
        self._say([Line("error: ", first, sign_style="bold red"), *(Line("  ", line) for line in remedy)])

    def _say(self, lines: list[Line]) -> None:
        if self._held is not None:
            self._held += lines
        elif lines:
            self._rich.print(Group(*map(self._renderable, lines)), soft_wrap=not self._terminal)

    def _renderable(self, line: Line) -> RenderableType:
        sign, words = self._text(line.sign, line.sign_style), self._text(line.text, line.style)
        if not self._terminal or not line.sign:
            return sign + words
        grid = Table.grid(expand=False)
        grid.add_column(no_wrap=True, width=min(sign.cell_len, self._rich.width // 2))
        grid.add_column(overflow="fold")
        grid.add_row(sign, words)
        return grid

    def _text(self, words: str, style: str = "") -> Text:
        words = text.clean(words)
        return Text(text.ascii_only(words) if self._ascii else words, style)

    # --- the table

    def _start(self) -> None:
        self._stop()
        if self._animated:
            self._live = Live(
                console=self._rich,
                get_renderable=self._table,
                refresh_per_second=REFRESHES_PER_S,
                transient=True,
                redirect_stdout=False,
                redirect_stderr=self._rich.file is sys.stderr,
            )
            # A terminal with a hidden cursor is broken for the next program.
            atexit.register(self.close)
            self._live.start()

    def _stop(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None
            atexit.unregister(self.close)

    def _table(self) -> RenderableType:
        state, now = self._state, datetime.now(UTC)
        rows = rows_of(state)
        # The rows that fit, active ones before finished ones.
        room = max(1, self._rich.height - 6 - len(state.building))
        chosen = {row.id for row in sorted(rows, key=lambda row: _RANK[row.state])[:room]}
        shown = [row for row in rows if row.id in chosen]
        hidden = [row for row in rows if row.id not in chosen]
        grid = Table.grid(padding=(0, 1), expand=True)
        wide = self._rich.width >= NARROW
        grid.add_column(width=1)
        grid.add_column(no_wrap=True, max_width=24 if wide else 12, overflow=self._overflow)
        if wide:
            grid.add_column(no_wrap=True, max_width=14, overflow=self._overflow, style="dim")
        grid.add_column(no_wrap=True, justify="right", min_width=6)
        grid.add_column(no_wrap=True, ratio=1, overflow=self._overflow)
        for row in shown:
            grid.add_row(*self._cells(row, now, wide))
        parts: list[RenderableType] = ["", grid] if shown else [""]
        if hidden:
            states = [row.state for row in hidden]
            counts = ", ".join(f"{states.count(state)} {state}" for state in SIGNS if state in states)
            parts.append(self._text(f"  … and {counts}", "dim"))
        parts += [self._tool_line(tool, doing) for tool, doing in state.building.items()]
        parts.append(self._status(state, rows, now))
        if self._typed is not None:
            parts.append(self._typed_line(self._typed))
        return Group(*parts)

    def _typed_line(self, typed: TypedLine) -> Text:
        """The end of the line is always visible, and so is the form of the answer."""
        room = max(4, self._rich.width // 2 - len(typed.wanted))
        parts = (text.one_line(typed.asked, room), typed.wanted, "› ")
        prompt = self._text(" ".join(filter(None, parts)), "magenta")
        words = self._text(typed.line, "bold")
        while words.cell_len > max(10, self._rich.width - prompt.cell_len - 2):
            words = words[1:]
        line = prompt + words + self._text("_" if self._ascii else "▏", "blink")
        line.no_wrap, line.overflow = True, self._overflow
        return line

    def _cells(self, row: Row, now: datetime, wide: bool) -> list[Text]:
        style = _STYLES[row.state]
        seconds = seconds_between(row.since, now) if row.since is not None else row.seconds
        cells = [self._text(SIGNS[row.state], style), self._text(row.id, style if row.since else "")]
        cells += [self._text(row.label)] if wide else []
        cells.append(self._text("" if seconds is None else text.duration(seconds), "dim"))
        return [*cells, self._text(row.doing, "" if row.since is not None else "dim")]

    def _tool_line(self, tool: str, doing: str) -> Text:
        line = self._text("tool  ", "magenta") + self._text(
            f"{text.one_line(tool, 60)} · {text.one_line(doing, 200)}"
        )
        line.no_wrap, line.overflow = True, self._overflow
        return line

    def _status(self, state: RunState, rows: list[Row], now: datetime) -> Text:
        frames = _ASCII_SPINNER if self._ascii else _SPINNER
        frame = frames[int(now.timestamp() * REFRESHES_PER_S) % len(frames)]
        over = sum(row.state in ("done", "skipped") for row in rows)
        phase = f"{state.phase} {over}/{len(rows)}" if rows else state.phase
        elapsed = text.duration(seconds_between(state.since, now)) if state.since is not None else ""
        words = f"{phase} · {elapsed} · {text.spent(state.usage)}"
        return self._text(f"{frame} ", "cyan") + self._text(words, "dim")


@contextlib.contextmanager
def document_progress(wanted: bool = True) -> Iterator[Callable[[str, int], None]]:
    """A callback for each document, with its ref and the number of documents.

    It draws a bar on a terminal, and nothing elsewhere.
    """
    if not (wanted and sys.stderr.isatty()):
        yield lambda _ref, _of: None
        return
    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[ref]}", markup=False),
    )
    with Progress(*columns, console=RichConsole(stderr=True, highlight=False), transient=True) as bar:
        task = bar.add_task("", total=None, ref="")

        def on_document(ref: str, count: int) -> None:
            at = bar.tasks[0].completed
            name = text.one_line(ref.rsplit("/", 1)[-1], 40)
            bar.update(task, total=count, completed=min(at + 1, count), ref=name)

        yield on_document
