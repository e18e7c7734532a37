"""What a person sees during a run, on standard error; only the answer goes to standard output.

On a terminal, the live view is shown below the lines; otherwise there are only lines. Foreign text is never
read as markup and contains no escape sequences. `NO_COLOR`, `TERM=dumb` and encodings without Unicode are
respected.

The live view is drawn by a thread of its own, from the frozen state that came with the latest event.
`whole_writes` keeps the two from writing at the same time.
"""

import atexit
import contextlib
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

from rich.console import Console as RichConsole
from rich.console import Group, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from orchestrator_cli.errors import OrchError
from orchestrator_cli.events import AnswerDelta, Event, RunFinished, RunResumed, RunStarted
from orchestrator_cli.state import RunState
from orchestrator_cli.views import text
from orchestrator_cli.views.folding import folded
from orchestrator_cli.views.inline_image import ImageProtocol, drawn
from orchestrator_cli.views.live import REFRESHES_PER_S, Seen, Size, TypedLine, live_view
from orchestrator_cli.views.narration import OUTCOMES, Line, file_lines, narrate
from orchestrator_cli.views.streams import envelope_line, write, write_line
from orchestrator_cli.views.whole_writes import WholeLive, WholeWrites

BY_THE_USER = ("interrupted", "cancelled")
"""Outcomes that a user has wanted: they are no faults."""
OVER = frozenset(OUTCOMES)
"""The phases of a run in which nothing more happens."""


class Console:
    """The view for people. `quiet` leaves errors and the answer; `verbose` adds every step."""

    def __init__(
        self,
        stderr: TextIO | None = None,
        *,
        stdout: TextIO | None = None,
        quiet: bool = False,
        verbose: bool = False,
        hint: Callable[[str], str] = str,
    ) -> None:
        """`hint` makes a hint at commands what can be typed here."""
        self._rich = WholeWrites(
            file=stderr or sys.stderr, markup=False, highlight=False, emoji=False, soft_wrap=False
        )
        self._stdout = stdout
        self._quiet = quiet
        self._verbose = verbose
        self._hint = hint
        # From the file and not from rich, which takes FORCE_COLOR for a terminal.
        self._terminal = self._rich.file.isatty()
        self._animated = self._terminal and not quiet and not self._rich.is_dumb_terminal
        self._ascii = not self._rich.encoding.lower().startswith("utf")
        self._answer = ""
        self._enveloped = False
        self._state = RunState()
        self._live: WholeLive | None = None
        self._shown_error = ""
        self._typed: TypedLine | None = None
        self._held: list[Line] | None = None

    @property
    def animated(self) -> bool:
        """Whether a live view is shown during a run."""
        return self._animated

    @property
    def can_draw(self) -> bool:
        """Whether images may be drawn now."""
        return self._animated and self._held is None

    @property
    def state(self) -> RunState:
        """Of the run that it has shown last."""
        return self._state

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
            self._shown_error = self._answer = ""
            self._start()
        elif isinstance(event.data, AnswerDelta):
            self._answer += event.data.text
        elif isinstance(event.data, RunFinished):
            self._stop()
            if event.data.error:
                self._show_error(event.data.error, is_fault=event.data.outcome not in BY_THE_USER)
        self._say(narrate(event, before, live=self._live is not None, verbose=self._verbose))

    def close(self) -> None:
        """Remove the live view and restore the terminal. May be called again."""
        self._stop()

    def error(self, exc: OrchError) -> None:
        """Show what happened and the remedy, unless the end of the run has just shown the same."""
        self._show_error(str(exc))
        self._shown_error = ""  # of another prompt it says something, also if it is the same

    def lines(self, lines: list[str]) -> None:
        """Show plain lines, such as those of `plan_lines`, even if quiet."""
        self._say([Line("", text.clean(line)) for line in lines])

    def show_typed(self, typed: TypedLine | None) -> None:
        """Show what a person types below the live view; None shows nothing."""
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
            self._say(file_lines(self._state, _current_folder(), self._hint))

    def draw(self, protocol: ImageProtocol, name: str, png: bytes, width: int) -> None:
        """Draw an image below its name."""
        self._say([Line("  ", text.file_name(name), "dim")])
        self.stream.write(drawn(protocol, png, width, self._rich.width))
        self.stream.flush()

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

    def print_envelope(self, result: dict[str, Any]) -> None:
        """Print a run as one JSON object on standard output; only the first one is printed."""
        if not self._enveloped:
            self._enveloped = True
            write_line(self._stdout or sys.stdout, envelope_line(result))

    # --- lines

    def _show_error(self, message: str, *, is_fault: bool = True) -> None:
        if message == self._shown_error:
            return
        self._shown_error = message
        first, *remedy = text.clean(message).strip().split("\n") or [""]
        sign = Line("error: ", first, sign_style="bold red") if is_fault else Line("", first)
        self._say([sign, *(Line("  ", self._hint(line)) for line in remedy)])

    def _say(self, lines: list[Line]) -> None:
        if self._held is not None:
            self._held += lines
        elif lines:
            # A command or an address that is wider than the terminal is for the terminal to break.
            self._rich.print(Group(*map(self._renderable, lines)), soft_wrap=True)

    def _renderable(self, line: Line) -> RenderableType:
        sign, words = self._text(line.sign, line.sign_style), self._text(line.text, line.style)
        if not self._terminal:
            return sign + words
        # Folded here and not by rich, whose widths are not those of every terminal.
        sign.truncate(min(sign.cell_len, self._rich.width // 2))
        rows = [row.expandtabs() for row in words.plain.split("\n")]
        indent = 0 if line.sign else None
        pieces = (piece for row in rows for piece in folded(row, self._rich.width - sign.cell_len, indent))
        below = "\n" + " " * sign.cell_len
        return sign + Text(below.join(pieces), line.style)

    def _text(self, words: str, style: str = "") -> Text:
        words = text.clean(words)
        return Text(text.ascii_only(words) if self._ascii else words, style)

    # --- the live view

    def _start(self) -> None:
        self._stop()
        if self._animated:
            self._live = WholeLive(
                self._shown,
                self._rich,
                REFRESHES_PER_S,
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

    def _shown(self) -> RenderableType:
        size = Size(self._rich.width, self._rich.height)
        seen = Seen(self._state, datetime.now(UTC), self._answer, self._typed)
        return live_view(seen, size, ascii_only=self._ascii)


@contextlib.contextmanager
def document_progress(wanted: bool = True) -> Iterator[Callable[[str, int, float], None]]:
    """A callback for each document, with its ref, the number of documents, and the share that is done of it.

    It draws a bar on a terminal, and nothing elsewhere.
    """
    if not (wanted and sys.stderr.isatty()):
        yield lambda _ref, _of, _share: None
        return
    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[ref]}", markup=False),
    )
    with Progress(*columns, console=RichConsole(stderr=True, highlight=False), transient=True) as bar:
        task = bar.add_task("", total=None, ref="")

        def on_document(ref: str, count: int, share: float) -> None:
            at = bar.tasks[0].completed
            name = text.one_line(ref.rsplit("/", 1)[-1], 40)
            if share:
                bar.update(task, ref=f"{name}, {share:.0%} stored")
            else:
                bar.update(task, total=count, completed=min(at + 1, count), ref=name)

        yield on_document


def _current_folder() -> Path:
    """The current folder; one that is nowhere if it is gone."""
    try:
        return Path.cwd()
    except OSError:
        return Path()
