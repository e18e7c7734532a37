"""`orch kb` on the terminal: what there is, what was found, what was read and what not, and how far it is."""

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from orchestrator_cli.views.text import clean, counted, one_line, size

NAMED_AT_MOST = 20
"""Files that are named for one reason; of more, the number is told."""

Told = Callable[[str, int], None]


@dataclass(frozen=True)
class SourceRow:
    """What the user has added, with what was read of it."""

    source: str
    type: str
    project: str | None
    documents: int
    chunks: int
    size: int


@dataclass(frozen=True)
class PieceRow:
    cite: str
    under: str
    text: str


@dataclass(frozen=True)
class Reading:
    """What became of the documents that were looked at."""

    added: int
    changed: int
    unchanged: int
    removed: Sequence[str]
    skipped: Sequence[tuple[str, str]]
    faults: Sequence[tuple[str, str]]


def source_lines(rows: Sequence[SourceRow], project: str) -> list[str]:
    return [line for row in rows for line in _source_lines(row, project)]


def _source_lines(row: SourceRow, project: str) -> Iterator[str]:
    seen = {None: "seen from everywhere", project: ""}.get(row.project, f"of {row.project}")
    yield row.source
    parts = [row.type, counted(row.documents, "document"), counted(row.chunks, "piece"), size(row.size), seen]
    yield f"    {' · '.join(part for part in parts if part)}"


def piece_lines(rows: Sequence[PieceRow]) -> list[str]:
    lines: list[str] = []
    for row in rows:
        under = [f"    {one_line(row.under, 200)}"] if row.under else []
        lines += [row.cite, *under, *(f"    {line}" for line in clean(row.text).splitlines()), ""]
    return lines[:-1]


def reading_lines(reading: Reading) -> list[str]:
    """A summary, and by name what is not in the knowledge base now."""
    said = {
        "added": reading.added,
        "changed": reading.changed,
        "unchanged": reading.unchanged,
        "removed": len(reading.removed),
    }
    told = [f"{count:,} {word}" for word, count in said.items() if count]
    lines = [f"Documents: {', '.join(told) or 'none'}."]
    lines += _named([(name, "removed: it is gone") for name in reading.removed])
    lines += _named([(name, f"skipped: {why}") for name, why in reading.skipped])
    return lines + _named([(name, f"NOT READ: {why}") for name, why in reading.faults], len(reading.faults))


def _named(rows: Sequence[tuple[str, str]], most: int = NAMED_AT_MOST) -> list[str]:
    lines = [f"  {one_line(name)}: {one_line(why)}" for name, why in rows[:most]]
    return lines + ([f"  … and {len(rows) - most:,} more"] if len(rows) > most else [])


@contextlib.contextmanager
def progress(wanted: bool = True) -> Iterator[Told]:
    """What is told of each document: a bar on a terminal, nothing elsewhere."""
    if not (wanted and sys.stderr.isatty()):
        yield lambda _ref, _of: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[ref]}", markup=False),
    )
    with Progress(*columns, console=Console(stderr=True, highlight=False), transient=True) as bar:
        task = bar.add_task("", total=None, ref="")

        def told(ref: str, of: int) -> None:
            at = bar.tasks[0].completed
            bar.update(task, total=of, completed=min(at + 1, of), ref=one_line(ref.rsplit("/", 1)[-1], 40))

        yield told
