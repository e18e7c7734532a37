"""The entries of a `fileLog.md`, for people and programs: pure functions over its bytes.

Not covered: whether they are true; `orch log verify` checks that. An entry is found by the comment that
ends it, so what a person typed between two entries belongs to the second.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from orchestrator_cli.journal.hash_chain import pieces_of

_TITLE = re.compile(r"### \d+ · (.*)|\*\*\d+\*\* · run [^·]* · [^·]* · (.*)|## (.*)")


@dataclass(frozen=True)
class LogEntry:
    """An entry of the file. `number` is None for what is not an entry, such as the head of the file."""

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
        """Whether it is about a tool that was needed, tried, built, reused or refused."""
        return self.number is not None and self.title.startswith("tool ")

    def as_json(self) -> dict[str, Any]:
        """Keys: `number`, `run`, `line`, `title`, `text`, `hash` (empty if it has none)."""
        return {
            "number": self.number,
            "run": self.run,
            "line": self.line,
            "title": self.title,
            "text": self.text.strip(),
            "hash": self.hash,
        }


@dataclass(frozen=True)
class EntryFilter:
    """Which entries to show; by default all of them."""

    run: str = ""
    """The run's id or the end of it, or `last`."""
    tools: bool = False
    grep: str = ""
    """A text that they contain, in upper or lower case."""

    def __call__(self, entry: LogEntry) -> bool:
        return (
            (not self.run or (entry.number is not None and entry.run.endswith(self.run)))
            and (not self.tools or entry.is_of_tool)
            and (not self.grep or self.grep.casefold() in entry.text.casefold())
        )


def entries_of(data: bytes) -> list[LogEntry]:
    """Every entry in the order of the file, including those from before there were hashes."""
    return [
        LogEntry(piece.seq, piece.run, piece.line, piece.text.decode("utf-8", "replace"), piece.hash)
        for piece in pieces_of(data)
    ]


def select_entries(entries: Iterable[LogEntry], wanted: EntryFilter) -> list[LogEntry]:
    found = list(entries)
    if wanted.run == "last":
        last = next((entry.run for entry in reversed(found) if entry.number is not None), "")
        wanted = EntryFilter(last or "none", wanted.tools, wanted.grep)
    return [entry for entry in found if wanted(entry)]


def markdown_of(entries: Iterable[LogEntry]) -> str:
    """The entries one after the other, without the comments between them."""
    return "\n\n".join(text for entry in entries if (text := entry.text.strip()))
