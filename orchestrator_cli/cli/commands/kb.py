"""`orch kb`: documents of the user that agents can search and cite."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from memory.knowledge import KnowledgeSource, StoredDocument
from orchestrator_cli.admin.knowledge import IngestRun, KnowledgeAdmin, OnDocument
from orchestrator_cli.cli.options import Debug, Folder, Output
from orchestrator_cli.cli.reporting import print_lines, reporting, settings_of
from orchestrator_cli.errors import OrchError, RunFailed
from orchestrator_cli.recall.knowledge import cite
from orchestrator_cli.views.console import Console
from orchestrator_cli.views.kb import SourceRow, chunk_lines, progress, report_lines, source_lines
from orchestrator_cli.views.text import counted

app = typer.Typer(
    rich_markup_mode=None,
    help="Add, list, search, refresh and remove documents that agents can look things up in.",
)

NOTHING = "Nothing yet. Add documents with: orch kb add PATH"

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
AllProjects = Annotated[
    bool, typer.Option("--all-projects", help="Include documents added from other workspaces.")
]
Limit = Annotated[int, typer.Option("-n", "--limit", min=1, max=100, help="Show at most this many pieces.")]


@app.callback(invoke_without_command=True)
def kb(context: typer.Context, workspace: Folder = None, debug: Debug = False) -> None:
    """Without a command, list what was added."""
    if context.invoked_subcommand is None:
        list_sources(workspace=workspace, debug=debug)


@app.command()
def add(
    sources: Annotated[
        list[str], typer.Argument(metavar="PATH|URL…", help="Files, folders, or addresses of web pages.")
    ],
    for_user: Annotated[
        bool, typer.Option("--global", help="Add them for all your workspaces, not just this one.")
    ] = False,
    workspace: Folder = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Read files, folders and pages into the knowledge base. Unchanged documents are not converted again."""
    with reporting(Output(debug=debug, quiet=as_json)) as console:
        admin = _admin(workspace, console)

        def prepare(on_document: OnDocument) -> IngestRun:
            return admin.add(sources, for_user=for_user, on_document=on_document)

        _ingest(prepare, admin.root, console, as_json)


@app.command()
def refresh(
    all_projects: AllProjects = False,
    workspace: Folder = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Read all sources again: add new documents, update changed ones and remove missing ones."""
    with reporting(Output(debug=debug, quiet=as_json)) as console:
        admin = _admin(workspace, console, everywhere=all_projects)
        _ingest(admin.refresh, admin.root, console, as_json)


@app.command("list")
def list_sources(
    all_projects: AllProjects = False,
    workspace: Folder = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """List the sources with the number of their documents; --json lists every document."""
    with reporting(Output(quiet=True, debug=debug)) as console:
        admin = _admin(workspace, console, everywhere=all_projects)
        sources, documents = admin.listed()
        rows = _source_rows(sources, documents)
        if as_json:
            listed = [_document_json(document) for document in documents]
            _json({"sources": [vars(row) for row in rows], "documents": listed})
        elif rows:
            print_lines(source_lines(rows, str(admin.root)))
        else:
            console.lines([NOTHING])


@app.command()
def search(
    query: Annotated[str, typer.Argument(help="The words to search for.")],
    limit: Limit = 5,
    all_projects: AllProjects = False,
    workspace: Folder = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Search the documents, as agents do with search_knowledge."""
    with reporting(Output(quiet=True, debug=debug)) as console:
        admin = _admin(workspace, console, everywhere=all_projects)
        found = admin.search(query, limit)
        if as_json:
            rows = []
            for one in found:
                fields = {name: value for name, value in vars(one).items() if name != "ref"}
                row = {"cite": cite(one, admin.root), "source": one.ref, **fields, "trusted": False}
                rows.append(row | {"headings": list(one.headings)})
            _json(rows)
        elif found:
            print_lines(chunk_lines(found, admin.root))
        else:
            console.lines(["Nothing was found." if admin.listed()[0] else NOTHING])


@app.command()
def remove(
    source: Annotated[
        str, typer.Argument(metavar="SOURCE", help="A file, folder or address, as `orch kb list` shows it.")
    ],
    all_projects: AllProjects = False,
    workspace: Folder = None,
    debug: Debug = False,
) -> None:
    """Remove documents and erase their text from the disk. Your files stay."""
    with reporting(Output(debug=debug)) as console:
        removed = _admin(workspace, console, everywhere=all_projects).remove(source)
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
        with progress(not as_json) as on_document:
            run = prepare(on_document)
            report = run.run()
    except (KeyboardInterrupt, OrchError):
        # Only here has the progress bar left the line.
        if run is not None and run.report.current:
            kept = "What was read so far is kept; run the same command to continue."
            console.lines([*report_lines(run.report, root), kept])
        raise
    if as_json:
        _json(
            {
                **{name: getattr(report, name) for name in ("added", "changed", "removed")},
                "unchanged": len(report.unchanged),
                "skipped": [{"source": ref, "reason": why} for ref, why in report.skipped],
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
                size=sum(known.size for known in own),
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
    }


def _json(value: object) -> None:
    typer.echo(json.dumps(value, ensure_ascii=False))
