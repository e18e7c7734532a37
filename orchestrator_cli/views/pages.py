"""Markdown of a log on standard output: rendered on a terminal, as it stands elsewhere.

Nothing in it can act upon the terminal, whoever changed the file since it was written.
"""

import sys
from io import StringIO
from typing import TextIO

from orchestrator_cli.views.streams import write
from orchestrator_cli.views.text import ascii_only, clean

WIDEST = 110
"""Columns that are used at most: longer lines are hard to read."""


def show_page(markdown: str, stream: TextIO | None = None) -> None:
    """Print a page to standard output, or to `stream`."""
    sink = stream or sys.stdout
    text = clean(markdown)
    write(sink, _rendered(text, sink) if sink.isatty() else f"{text}\n")


def _rendered(text: str, sink: TextIO) -> str:
    """What rich makes of it, as letters and colours. HTML is shown by nothing and takes no room."""
    from rich.console import Console
    from rich.markdown import Markdown

    terminal = Console(file=sink, highlight=False)
    gathered = StringIO()
    console = Console(
        file=gathered,
        force_terminal=True,
        color_system=terminal.color_system,  # type: ignore[arg-type]
        no_color=terminal.no_color,
        width=min(terminal.width, WIDEST),
        highlight=False,
    )
    console.print(Markdown(text, hyperlinks=False))
    shown = gathered.getvalue()
    return shown if (sink.encoding or "").lower().startswith("utf") else ascii_only(shown)
