"""Markdown on standard output: rendered on a terminal, unchanged elsewhere.

Nothing in it can control the terminal, even if the file was changed since it was written.
"""

import sys
from io import StringIO
from typing import TextIO

from orchestrator_cli.views.streams import write
from orchestrator_cli.views.text import ascii_only, clean

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
