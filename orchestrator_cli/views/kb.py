"""`orch kb` on the terminal: sources, hits of a search, the report of reading, and a progress bar."""

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from memory.knowledge import FoundChunk
from memory.knowledge.ingest import IngestReport
from orchestrator_cli.recall.knowledge import cite, display_path
from orchestrator_cli.views.text import clean, counted, one_line, size

NAMED_AT_MOST = 20
"""The most files that are named for one reason; the others are counted."""

OnDocument = Callable[[str, int], None]


@dataclass(frozen=True)
class SourceRow:
    """A source with the number of its documents and chunks."""

    source: str
    type: str
    project: str | None
    documents: int
    chunks: int
    size: int


def source_lines(rows: Sequence[SourceRow], project: str) -> list[str]:
    return [line for row in rows for line in _source_lines(row, project)]


def _source_lines(row: SourceRow, project: str) -> Iterator[str]:
    seen = {None: "seen from everywhere", project: ""}.get(row.project, f"of {row.project}")
    yield row.source
    parts = [row.type, counted(row.documents, "document"), counted(row.chunks, "piece"), size(row.size), seen]
    yield f"    {' · '.join(part for part in parts if part)}"


def chunk_lines(found: Sequence[FoundChunk], root: Path) -> list[str]:
    """Each chunk with its citation, and the headings above it that it does not repeat."""
    lines: list[str] = []
    for chunk in found:
        under = " > ".join(name for name in chunk.headings if name not in chunk.text)
        heading = [f"    {one_line(under, 200)}"] if under else []
        text = (f"    {line}" for line in clean(chunk.text).splitlines())
        lines += [one_line(cite(chunk, root)), *heading, *text, ""]
    return lines[:-1]


def report_lines(report: IngestReport, root: Path) -> list[str]:
    """A summary, and a line for each document that is not in the knowledge base now."""
    counts = {
        "added": report.added,
        "changed": report.changed,
        "unchanged": report.unchanged,
        "removed": report.removed,
    }
    parts = [f"{len(refs):,} {word}" for word, refs in counts.items() if refs]
    lines = [f"Documents: {', '.join(parts) or 'none'}."]
    lines += _named_lines([(ref, "removed: it is gone") for ref in report.removed], root)
    lines += _named_lines([(ref, f"skipped: {why}") for ref, why in report.skipped], root)
    faults = [(ref, f"NOT READ: {why}") for ref, why in report.faults]
    return lines + _named_lines(faults, root, len(faults))


def _named_lines(rows: Sequence[tuple[str, str]], root: Path, limit: int = NAMED_AT_MOST) -> list[str]:
    lines = [f"  {one_line(display_path(ref, root))}: {one_line(why)}" for ref, why in rows[:limit]]
    return lines + ([f"  … and {len(rows) - limit:,} more"] if len(rows) > limit else [])


@contextlib.contextmanager
def progress(wanted: bool = True) -> Iterator[OnDocument]:
    """A callback for each document: it draws a bar on a terminal, and nothing elsewhere."""
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

        def on_document(ref: str, count: int) -> None:
            at = bar.tasks[0].completed
            name = one_line(ref.rsplit("/", 1)[-1], 40)
            bar.update(task, total=count, completed=min(at + 1, count), ref=name)

        yield on_document
