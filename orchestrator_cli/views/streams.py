"""What is written to a stream: text, pages of Markdown, and a run as JSON for programs.

The reader of a stream may have left, and its encoding may lack letters. A page is rendered on a terminal and
unchanged elsewhere; nothing in it can control the terminal, even if the file was changed since it was
written. A run is every event as a line of JSON, or one JSON object: see `envelope`.
"""

import contextlib
import json
import os
import shutil
import sys
from collections.abc import Iterable
from io import StringIO
from typing import Any, TextIO

from orchestrator_cli.durable.foreign import escaped
from orchestrator_cli.events import SCHEMA, Event, FileChange
from orchestrator_cli.state import RunState
from orchestrator_cli.views.folding import folded
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


def wrapped(lines: Iterable[str], stream: TextIO) -> list[str]:
    """Lines that a terminal need not break, made clean; elsewhere they are not broken.

    A terminal would break them within words, and go on in its first column, where lines of our own begin.
    """
    cleaned = map(clean, lines)
    if not stream.isatty():
        return list(cleaned)
    width = max(20, shutil.get_terminal_size().columns - 1)
    return [
        piece for text in cleaned for line in text.split("\n") for piece in folded(line.expandtabs(), width)
    ]


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
