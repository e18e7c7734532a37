"""What stands in a `fileLog.md`, entry by entry, for people and programs: pure functions over its bytes.

What is not covered: whether it is true; `orch log verify` tells that. An entry is found by the
comment that ends it, so what a person typed between two belongs to the second.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from orchestrator_cli.journal.hash_chain import pieces_of

_TITLE = re.compile(r"### \d+ · (.*)|\*\*\d+\*\* · run [^·]* · [^·]* · (.*)|## (.*)")


@dataclass(frozen=True)
class LogEntry:
    """An entry as it stands in the file. Of what is no entry (the head of the file) `number` is None."""

    number: int | None
    run: str
    line: int
    text: str
    """Markdown, without the comment that ends it."""
    hash: str = ""

    @property
    def title(self) -> str:
        first = self.text.strip().partition("\n")[0]
        match = _TITLE.match(first)
        return next((part for part in match.groups() if part), "") if match else first.lstrip("# ")

    @property
    def is_of_tool(self) -> bool:
        """Whether it tells of a tool that was needed, tried, built, reused or refused."""
        return self.number is not None and self.title.startswith("tool ")

    def as_json(self) -> dict[str, Any]:
        """Keys: `number`, `run`, `line`, `title`, `text`, `hash` (empty where it has none)."""
        return {
            "number": self.number,
            "run": self.run,
            "line": self.line,
            "title": self.title,
            "text": self.text.strip(),
            "hash": self.hash,
        }


@dataclass(frozen=True)
class Wanted:
    """Which entries are to be shown; all, where nothing is said."""

    run: str = ""
    """The run's id or the end of it, or `last`."""
    tools: bool = False
    grep: str = ""
    """A text that they hold, in either case of letters."""

    def __call__(self, entry: LogEntry) -> bool:
        return (
            (not self.run or (entry.number is not None and entry.run.endswith(self.run)))
            and (not self.tools or entry.is_of_tool)
            and (not self.grep or self.grep.casefold() in entry.text.casefold())
        )


def entries_of(data: bytes) -> list[LogEntry]:
    """Every entry in the order of the file, those from before there were hashes too."""
    return [
        LogEntry(piece.seq, piece.run, piece.line, piece.text.decode("utf-8", "replace"), piece.hash)
        for piece in pieces_of(data)
    ]


def chosen(entries: Iterable[LogEntry], wanted: Wanted) -> list[LogEntry]:
    found = list(entries)
    if wanted.run == "last":
        last = next((entry.run for entry in reversed(found) if entry.number is not None), "")
        wanted = Wanted(last or "none", wanted.tools, wanted.grep)
    return [entry for entry in found if wanted(entry)]


def markdown_of(entries: Iterable[LogEntry]) -> str:
    """The entries one after the other, without the comments between them."""
    return "\n\n".join(text for entry in entries if (text := entry.text.strip()))
