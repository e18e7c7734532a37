"""`orch kb`: documents of the user that agents can search and cite."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from memory.knowledge import FoundChunk, KnowledgeSource, StoredDocument
from memory.knowledge.ingest import IngestReport
from orchestrator_cli.admin.knowledge import IngestRun, KnowledgeAdmin, OnDocument
from orchestrator_cli.cli.options import CommonOptions, InspectOptions, Output, with_options
from orchestrator_cli.cli.reporting import print_json, print_lines, reporting, settings_of
from orchestrator_cli.errors import OrchError, RunFailed
from orchestrator_cli.recall.knowledge import cite, display_path
from orchestrator_cli.views.console import Console, document_progress
from orchestrator_cli.views.text import clean, counted, one_line, size

app = typer.Typer(rich_markup_mode=None)

NOTHING = "Nothing yet. Add documents with: orch kb add PATH"

AllProjects = Annotated[
    bool, typer.Option("--all-projects", help="Include documents added from other workspaces.")
]
Limit = Annotated[int, typer.Option("-n", "--limit", min=1, max=100, help="Show at most this many pieces.")]


@dataclass(frozen=True)
class SourceRow:
    """A source with the number of its documents and chunks."""

    source: str
    type: str
    project: str | None
    documents: int
    chunks: int
    size: int


@app.callback(invoke_without_command=True)
@with_options
def kb(context: typer.Context, *, common: CommonOptions) -> None:
    """Manage the documents that agents can search. Without a command, list what was added."""
    if context.invoked_subcommand is None:
        list_sources(**vars(common))


@app.command()
@with_options
def add(
    sources: Annotated[
        list[str], typer.Argument(metavar="PATH|URL…", help="Files, folders, or addresses of web pages.")
    ],
    for_user: Annotated[
        bool, typer.Option("--global", help="Add them for all your workspaces, not just this one.")
    ] = False,
    *,
    common: InspectOptions,
) -> None:
    """Read files, folders and pages into the knowledge base. Unchanged documents are not converted again."""
    with reporting(Output(debug=common.debug, quiet=common.as_json)) as console:
        admin = _admin(common.workspace, console)

        def prepare(on_document: OnDocument) -> IngestRun:
            return admin.add(sources, for_user=for_user, on_document=on_document)

        _ingest(prepare, admin.root, console, common.as_json)


@app.command()
@with_options
def refresh(all_projects: AllProjects = False, *, common: InspectOptions) -> None:
    """Read all sources again: add new documents, update changed ones and remove missing ones."""
    with reporting(Output(debug=common.debug, quiet=common.as_json)) as console:
        admin = _admin(common.workspace, console, everywhere=all_projects)
        _ingest(admin.refresh, admin.root, console, common.as_json)


@app.command("list")
@with_options
def list_sources(all_projects: AllProjects = False, *, common: InspectOptions) -> None:
    """List the sources with the number of their documents; --json lists every document."""
    with reporting(Output(quiet=True, debug=common.debug)) as console:
        admin = _admin(common.workspace, console, everywhere=all_projects)
        sources, documents = admin.listed()
        rows = _source_rows(sources, documents)
        if common.as_json:
            listed = [_document_json(document) for document in documents]
            print_json({"sources": [vars(row) for row in rows], "documents": listed})
        elif rows:
            print_lines(source_lines(rows, str(admin.root)))
        else:
            console.lines([NOTHING])


@app.command()
@with_options
def search(
    query: Annotated[str, typer.Argument(help="The words to search for.")],
    limit: Limit = 5,
    all_projects: AllProjects = False,
    *,
    common: InspectOptions,
) -> None:
    """Search the documents, as agents do with search_knowledge."""
    with reporting(Output(quiet=True, debug=common.debug)) as console:
        admin = _admin(common.workspace, console, everywhere=all_projects)
        found = admin.search(query, limit)
        if common.as_json:
            rows = []
            for one in found:
                fields = {name: value for name, value in vars(one).items() if name != "ref"}
                row = {"cite": cite(one, admin.root), "source": one.ref, **fields, "trusted": False}
                rows.append(row | {"headings": list(one.headings)})
            print_json(rows)
        elif found:
            print_lines(chunk_lines(found, admin.root))
        else:
            console.lines(["Nothing was found." if admin.listed()[0] else NOTHING])


@app.command()
@with_options
def remove(
    source: Annotated[
        str, typer.Argument(metavar="SOURCE", help="A file, folder or address, as `orch kb list` shows it.")
    ],
    all_projects: AllProjects = False,
    *,
    common: CommonOptions,
) -> None:
    """Remove documents and erase their text from the disk. Your files stay."""
    with reporting(Output(debug=common.debug)) as console:
        removed = _admin(common.workspace, console, everywhere=all_projects).remove(source)
        if removed.excluded:
            console.lines(["The file was never read; it will not be tried again."])
            return
        parts = [counted(len(removed.documents), "document"), counted(removed.chunks, "piece")]
        console.lines([f"Removed: {', '.join(parts)}."])


def _admin(workspace: Path | None, console: Console, *, everywhere: bool = False) -> KnowledgeAdmin:
    settings = settings_of(workspace)
    return KnowledgeAdmin(settings, everywhere=everywhere, warn=lambda text: console.lines([text]))


def _ingest(prepare: Callable[[OnDocument], IngestRun], root: Path, console: Console, as_json: bool) -> None:
    """Read documents and show the report. Raises `RunFailed` if documents could not be read."""
    run: IngestRun | None = None
    try:
        with document_progress(not as_json) as on_document:
            run = prepare(on_document)
            report = run.run()
    except (KeyboardInterrupt, OrchError):
        # Only here has the progress bar left the line.
        if run is not None and run.report.current:
            kept = "What was read so far is kept; run the same command to continue."
            console.lines([*report_lines(run.report, root), kept])
        raise
    if as_json:
        print_json(
            {
                **{name: getattr(report, name) for name in ("added", "changed", "removed")},
                "unchanged": len(report.unchanged),
                "skipped": [{"source": ref, "reason": why} for ref, why in report.skipped],
                "partly": [{"source": ref, "unread": why} for ref, why in report.partly],
                "faults": [{"source": ref, "reason": why} for ref, why in report.faults],
                "written": report.written,
                "deleted": report.deleted,
            }
        )
    else:
        console.lines(report_lines(report, root))
    if report.faults:
        count = len(report.faults)
        which = "One source" if count == 1 else f"{count:,} sources"
        others = "; the others were" if report.current else ""
        raise RunFailed(f"{which} could not be read{others}.", "The reasons are given above.")


def _source_rows(sources: list[KnowledgeSource], documents: list[StoredDocument]) -> list[SourceRow]:
    rows = []
    for source in sources:
        own = [known for known in documents if known.scope == source.scope and source.holds(known.ref)]
        rows.append(
            SourceRow(
                source=source.ref,
                type=source.type,
                project=source.scope.project,
                documents=len(own),
                chunks=sum(known.chunks for known in own),
                size=sum(known.size for known in own if not known.within),
            )
        )
    return rows


def _document_json(document: StoredDocument) -> dict[str, object]:
    return {
        "source": document.ref,
        "title": document.title,
        "project": document.scope.project,
        "chunks": document.chunks,
        "size": document.size,
        "sha256": document.digest,
        "read": document.added.isoformat(),
        "within": document.within or None,
        "unread": list(document.unread),
    }


# --- lines of text

NAMED_AT_MOST = 20
"""The most files that are named for one reason; the others are counted."""


def source_lines(rows: Sequence[SourceRow], project: str) -> list[str]:
    lines = []
    for row in rows:
        seen = {None: "seen from everywhere", project: ""}.get(row.project, f"of {row.project}")
        held = [counted(row.documents, "document"), counted(row.chunks, "piece"), size(row.size)]
        lines += [one_line(row.source), f"    {' · '.join(part for part in (row.type, *held, seen) if part)}"]
    return lines


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
    lines += _named_lines([(ref, f"read without {why}") for ref, why in report.partly], root)
    faults = [(ref, f"NOT READ: {why}") for ref, why in report.faults]
    return lines + _named_lines(faults, root, len(faults))


def _named_lines(rows: Sequence[tuple[str, str]], root: Path, limit: int = NAMED_AT_MOST) -> list[str]:
    lines = [f"  {one_line(display_path(ref, root))}: {one_line(why)}" for ref, why in rows[:limit]]
    return lines + ([f"  … and {len(rows) - limit:,} more"] if len(rows) > limit else [])
