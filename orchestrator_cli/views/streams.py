"""What is written to a stream: text, pages of Markdown, and a run as JSON for programs.

The reader of a stream may have left, and its encoding may lack letters. A page is rendered on a terminal and
unchanged elsewhere; nothing in it can control the terminal, even if the file was changed since it was
written. A run is every event as a line of JSON, or one JSON object.
"""

import contextlib
import json
import os
import sys
from collections.abc import Iterable
from io import StringIO
from typing import Any, TextIO

from pydantic import JsonValue

from orchestrator_cli import events
from orchestrator_cli.durable.foreign import escaped
from orchestrator_cli.errors import OrchError
from orchestrator_cli.events import SCHEMA, Event, FileChange
from orchestrator_cli.plan import State
from orchestrator_cli.state import RunState
from orchestrator_cli.views.text import ascii_only, clean


def write(stream: TextIO, text: str) -> bool:
    """Write and flush. Returns False if the reader has left (`orch ask … | head -1`).

    A letter that the encoding lacks becomes `?`.
    """
    try:
        try:
            stream.write(text)
        except UnicodeEncodeError:
            encoding = stream.encoding
            stream.write(text.encode(encoding, "replace").decode(encoding))
        stream.flush()
    except BrokenPipeError:
        # The interpreter flushes again at exit: that must not fail a second time.
        with contextlib.suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)
        return False
    return True


WIDEST = 110
"""The most columns that are used, because longer lines are hard to read."""


def show_page(markdown: str, stream: TextIO | None = None) -> None:
    """Print a page to standard output, or to `stream`."""
    sink = stream or sys.stdout
    text = clean(markdown)
    write(sink, _rendered(text, sink) if sink.isatty() else f"{text}\n")


def _rendered(text: str, sink: TextIO) -> str:
    """The page as letters and colours, without HTML."""
    from rich.console import Console
    from rich.markdown import Markdown

    terminal = Console(file=sink, highlight=False)
    rendered = StringIO()
    console = Console(
        file=rendered,
        force_terminal=True,
        color_system=terminal.color_system,  # type: ignore[arg-type]
        no_color=terminal.no_color,
        width=min(terminal.width, WIDEST),
        highlight=False,
    )
    console.print(Markdown(text, hyperlinks=False))
    shown = rendered.getvalue()
    return shown if (sink.encoding or "").lower().startswith("utf") else ascii_only(shown)


class JsonLines:
    """The view that writes `event.json_line()` and flushes, until the reader has left."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._read = True

    def __call__(self, event: Event, state: RunState) -> None:  # noqa: ARG002
        if self._read:
            self._read = write_line(self._stream, event.json_line())

    def close(self) -> None:
        """The stream belongs to the caller and stays open."""


class Envelope:
    """The view that collects the outcome of a run, which `result()` returns as one object."""

    def __init__(self) -> None:
        self._state = RunState()

    def __call__(self, event: Event, state: RunState) -> None:  # noqa: ARG002
        self._state = state

    def close(self) -> None:
        """Nothing is held open."""

    def result(self, error: OrchError | None = None) -> dict[str, Any]:
        """As `envelope_of`."""
        return envelope_of(self._state, error)


def envelope_of(state: RunState, error: OrchError | None = None) -> dict[str, Any]:
    """The envelope, of JSON values. `error` is what ended the run, or kept it from starting.

    Keys: `schema`, `run` (null before one started), `outcome` (`completed`, `failed`,
    `interrupted`, `paused`, `cancelled`), `answer`, `value` (of the only subtask, or null),
    `exit_code`, `plan` (the last version, or null), `states` (per subtask), `approvals` (questions
    without an answer), `revisions`, `tools` (built in this run), `files` (net changes by path),
    `usage`, `seconds`, `error` (null, or `message` and `remedy`).
    """
    end = state.finished
    unended = "interrupted" if error is not None and error.exit_code == 130 else "failed"
    return {
        "schema": SCHEMA,
        "run": state.run or None,
        "outcome": end.outcome if end else unended,
        "answer": end.answer if end else "",
        "value": sole_value(state),
        "exit_code": error.exit_code if error else end.exit_code if end else 1,
        "plan": state.plan.model_dump(mode="json") if state.has_plan else None,
        "states": states_of(state),
        "approvals": [asked.model_dump(mode="json", exclude={"kind"}) for asked in state.unanswered],
        "revisions": [
            {
                "version": version.plan.version,
                "reason": version.reason,
                "cause": version.cause,
                "patch": version.patch.model_dump(mode="json"),
            }
            for version in state.versions
            if version.patch
        ],
        "tools": [
            {"tool": built.tool, "version": built.version, "sha256": built.sha256} for built in state.built
        ],
        "files": [change.model_dump(mode="json") for change in state.changes.values()],
        "usage": state.usage.model_dump(mode="json"),
        "seconds": end.seconds if end else None,
        "error": _error(error, end),
    }


def sole_value(state: RunState) -> JsonValue:
    """The value of a plan's only subtask, as it is before it is worded; None if there are more or none."""
    only = state.plan.subtasks if state.has_plan else ()
    return state.results[only[0].id].value if len(only) == 1 and only[0].id in state.results else None


def states_of(run: RunState) -> dict[str, State]:
    """The state of every subtask of the newest plan, by its id."""
    return {s.id: run.state_of(s.id) for s in run.plan.subtasks} if run.has_plan else {}


def envelope_line(result: dict[str, Any]) -> str:
    """The object on one line."""
    return json.dumps(result, ensure_ascii=False)


def changes_line(run: str, changes: Iterable[FileChange]) -> str:
    """The changes of a run or of its undo as one line of JSON: `schema`, `run`, `files`."""
    files = [change.model_dump(mode="json") for change in changes]
    return envelope_line({"schema": SCHEMA, "run": run, "files": files})


def write_line(stream: TextIO, line: str) -> bool:
    """Write a line of JSON in the encoding of the stream, with nothing in it that a terminal would obey.

    Returns False if the reader has left.
    """
    encoding = (getattr(stream, "encoding", None) or "utf-8").lower()
    if not encoding.startswith("utf"):
        line = json.dumps(json.loads(line))
    return write(stream, escaped(line) + "\n")


def _error(error: OrchError | None, end: events.RunFinished | None) -> dict[str, str] | None:
    if error is not None:
        return {"message": error.message, "remedy": error.remedy}
    if end is None:
        return {"message": "The run has not ended.", "remedy": ""}
    message, _, remedy = (end.error or "").partition("\n")
    return {"message": message, "remedy": remedy} if message else None
