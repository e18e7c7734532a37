"""The live view below the lines of a run: its graph as a tree, what each part does now, and the answer as it
is written. A pure function from a frozen state to something that rich draws.

It is always lower than the terminal, and no line of it is wider: what a terminal has scrolled or wrapped
cannot be removed again.
"""

from collections.abc import Iterator
from datetime import datetime
from typing import NamedTuple

from rich.console import Console, ConsoleOptions, Group, OverflowMethod, RenderableType, RenderResult
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from orchestrator_cli.plan import State
from orchestrator_cli.state import RunState
from orchestrator_cli.values import seconds_between
from orchestrator_cli.views import text
from orchestrator_cli.views.graph import SIGNS
from orchestrator_cli.views.progress import Row, rows_of, wait_of
from orchestrator_cli.views.tree import Branch, tree_of

REFRESHES_PER_S = 8
WIDE = 100
"""From this many columns on, roles are shown."""
MOST_TOOLS = 4
ANSWER_CHARS = 8_000
"""Of the end of an answer; more does not fit on a screen."""
_STYLES = {
    "pending": "dim",
    "waiting": "bold magenta",
    "running": "bold cyan",
    "done": "green",
    "failed": "bold red",
    "skipped": "dim",
}
_RANK: dict[State, int] = {"waiting": 0, "running": 0, "failed": 1, "pending": 2, "skipped": 3, "done": 4}
_SPINNER, _ASCII_SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏", "|/-\\"


class TypedLine(NamedTuple):
    """A line that a person types, and the question that it answers; a hint if `asked` is empty."""

    asked: str
    wanted: str
    line: str


class Size(NamedTuple):
    """Of a terminal, in columns and lines."""

    width: int
    height: int


class Seen(NamedTuple):
    """What is drawn."""

    state: RunState
    now: datetime
    answer: str = ""
    """As far as it is written."""
    typed: TypedLine | None = None


def live_view(seen: Seen, size: Size, *, ascii_only: bool = False) -> RenderableType:
    """What fits a terminal of that size; one of four lines or less shows a part of it."""
    return _Drawing(size, ascii_only).all(seen)


class _Drawing:
    def __init__(self, size: Size, ascii_only: bool) -> None:
        self._size = size
        self._ascii = ascii_only
        self._overflow: OverflowMethod = "crop" if ascii_only else "ellipsis"

    def all(self, seen: Seen) -> RenderableType:
        below = [self._tool_line(tool, doing) for tool, doing in self._tools(seen.state)]
        below.append(self._status(seen))
        if seen.typed is not None:
            below.append(self._typed_line(seen.typed))
        room = max(1, self._size.height - 4 - len(below))
        written = text.clean(seen.answer[-ANSWER_CHARS:]).strip()
        for_answer = room * 2 // 3 if written else 0
        parts: list[RenderableType] = ["", *self._tree(rows_of(seen.state), room - for_answer, seen.now)]
        if for_answer > 1:
            parts += ["", _End(self._rendered(written), for_answer - 1)]
        return Group(*parts, *below)

    def _rendered(self, written: str) -> RenderableType:
        from rich.markdown import Markdown  # only once an answer is written

        return self._text(written) if self._ascii else Markdown(written, hyperlinks=False)

    def _tree(self, rows: list[Row], room: int, now: datetime) -> Iterator[RenderableType]:
        """The rows that fit, active ones before finished ones, and how many of each state do not."""
        room = room if len(rows) <= room else max(1, room - 1)
        chosen = {row.id for row in sorted(rows, key=lambda row: _RANK[row.state])[:room]}
        if chosen:
            yield self._table(tree_of([row for row in rows if row.id in chosen]), now)
        if hidden := [row.state for row in rows if row.id not in chosen]:
            counts = ", ".join(f"{hidden.count(state)} {state}" for state in SIGNS if state in hidden)
            yield self._line(self._text(f"  … and {counts}", "dim"))

    def _table(self, branches: list[Branch[Row]], now: datetime) -> Table:
        wide = self._size.width >= WIDE
        grid = Table.grid(padding=(0, 1), expand=True)
        grid.add_column(no_wrap=True, max_width=self._size.width * 2 // 5, overflow=self._overflow)
        if wide:
            grid.add_column(no_wrap=True, max_width=14, overflow=self._overflow, style="dim")
        grid.add_column(no_wrap=True, justify="right", min_width=6)
        grid.add_column(no_wrap=True, ratio=1, overflow=self._overflow)
        for branch in branches:
            grid.add_row(*self._cells(branch, now, wide))
        return grid

    def _cells(self, branch: Branch[Row], now: datetime, wide: bool) -> list[Text]:
        row, style = branch.node, _STYLES[branch.node.state]
        seconds = seconds_between(row.since, now) if row.since is not None else row.seconds
        name = self._text(branch.drawn, "dim") + self._text(f"{SIGNS[row.state]} ", style)
        cells = [name + self._text(row.id, style if row.since else "")]
        cells += [self._text(row.label)] if wide else []
        cells.append(self._text("" if seconds is None else text.duration(seconds), "dim"))
        first = ""
        if row.wait is not None:
            since = row.wait.since
            took = "" if since is None else f" {text.duration(seconds_between(since, now))}"
            first = f"{text.one_line(row.wait.what, 60)}{took} · "
        elif row.state == "pending" and branch.others:
            first = f"after {', '.join(text.one_line(name, 40) for name in branch.others)} too · "
        return [*cells, self._text(first, "cyan") + self._text(row.doing, "" if row.since else "dim")]

    def _tools(self, state: RunState) -> list[tuple[str, str]]:
        tools = list(state.building.items())
        most = min(MOST_TOOLS, self._size.height // 6)
        more = [("…", f"and {len(tools) - most} more")] if 0 < most < len(tools) else []
        return [*tools[:most], *more]

    def _tool_line(self, tool: str, doing: str) -> Text:
        words = f"{text.one_line(tool, 60)} · {text.one_line(doing, 200)}"
        return self._line(self._text("tool  ", "magenta") + self._text(words))

    def _status(self, seen: Seen) -> Text:
        """What the run does or waits for, how far it is, and what it took so far."""
        state, wait = seen.state, wait_of(seen.state)
        frames = _ASCII_SPINNER if self._ascii else _SPINNER
        frame = frames[int(seen.now.timestamp() * REFRESHES_PER_S) % len(frames)]
        since = "" if wait.since is None else f" {text.duration(seconds_between(wait.since, seen.now))}"
        parts = [f"{wait.what}{since}"]
        if state.has_plan:
            over = sum(state.state_of(one.id) in ("done", "skipped") for one in state.plan.subtasks)
            parts.append(f"{over} of {len(state.plan.subtasks)} done")
        if state.since is not None:
            parts.append(text.duration(seconds_between(state.since, seen.now)))
        took = text.spent(state.usage).split(" · ")
        made = [call for call in state.asking if not call.waits_for]
        if made and not state.usage.calls:
            took[0] = f"{text.counted(len(made), 'call')} under way"
        if len(" · ".join((*parts, *took))) > self._size.width - 2:
            took = [*took[:1], *took[2:]]  # without tokens, so that the cost is not cut off
        parts += took
        return self._line(self._text(f"{frame} ", "cyan") + self._text(" · ".join(parts), "dim"))

    def _typed_line(self, typed: TypedLine) -> Text:
        """The end of the line is always visible, and so is the form of the answer."""
        if not typed.asked:
            return self._line(self._text(typed.line, "dim"))
        room = max(4, self._size.width // 2 - len(typed.wanted))
        parts = (text.one_line(typed.asked, room), typed.wanted, "› ")
        prompt = self._text(" ".join(filter(None, parts)), "magenta")
        words = self._text(typed.line, "bold")
        while words.cell_len > max(10, self._size.width - prompt.cell_len - 2):
            words = words[1:]
        return self._line(prompt + words + self._text("_" if self._ascii else "▏", "blink"))

    def _line(self, words: Text) -> Text:
        words.no_wrap, words.overflow = True, self._overflow
        return words

    def _text(self, words: str, style: str = "") -> Text:
        words = text.clean(words)
        return Text(text.ascii_only(words) if self._ascii else words, style)


class _End:
    """The last lines of something."""

    def __init__(self, whole: RenderableType, lines: int) -> None:
        self._whole = whole
        self._lines = lines

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for line in console.render_lines(self._whole, options, pad=False)[-self._lines :]:
            yield from line
            yield Segment.line()
