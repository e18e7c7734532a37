"""`orch kb`: documents of the user's that agents can look things up in, and cite."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from orchestrator_cli.admin.knowledge import Found, Gathered, Keeping, Outcome, Told
from orchestrator_cli.cli.options import Debug, Folder, Output
from orchestrator_cli.cli.reporting import print_lines, reporting, settings_of
from orchestrator_cli.errors import OrchError, RunFailed
from orchestrator_cli.recall.knowledge import cite, shown
from orchestrator_cli.views.console import Console
from orchestrator_cli.views.kb import (
    PieceRow,
    Reading,
    SourceRow,
    piece_lines,
    progress,
    reading_lines,
    source_lines,
)
from orchestrator_cli.views.text import counted

app = typer.Typer(
    rich_markup_mode=None,
    help="Add documents that agents can look things up in: list, search, refresh, remove.",
)

NOTHING = "Nothing yet. Add documents with: orch kb add PATH"

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
AllProjects = Annotated[
    bool, typer.Option("--all-projects", help="Also what was added from other workspaces.")
]
Limit = Annotated[int, typer.Option("-n", "--limit", min=1, max=100, help="How many pieces at most.")]


@app.callback(invoke_without_command=True)
def kb(context: typer.Context, workspace: Folder = None, debug: Debug = False) -> None:
    """Without a command, what was added is listed."""
    if context.invoked_subcommand is None:
        list_sources(workspace=workspace, debug=debug)


@app.command()
def add(
    sources: Annotated[
        list[str], typer.Argument(metavar="PATH|URL…", help="Files, folders, addresses of pages.")
    ],
    for_user: Annotated[
        bool, typer.Option("--global", help="For all your workspaces, instead of this one alone.")
    ] = False,
    workspace: Folder = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Read files, folders and pages into the knowledge base. What is unchanged is not read again."""
    with reporting(Output(debug=debug, quiet=as_json)) as console:
        keeping = _keeping(workspace, console)

        def begin(told: Told) -> Gathered:
            return keeping.add(sources, for_user=for_user, told=told)

        outcome = _run(begin, keeping, console, as_json)
        _tell(outcome, keeping, console, as_json)


@app.command()
def refresh(
    all_projects: AllProjects = False,
    workspace: Folder = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Look again at all that was added: what is new, changed or gone there."""
    with reporting(Output(debug=debug, quiet=as_json)) as console:
        keeping = _keeping(workspace, console, everywhere=all_projects)
        outcome = _run(keeping.refresh, keeping, console, as_json)
        _tell(outcome, keeping, console, as_json)


@app.command("list")
def list_sources(
    all_projects: AllProjects = False,
    workspace: Folder = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """List what was added, with how much was read of it; --json names every document."""
    with reporting(Output(quiet=True, debug=debug)) as console:
        keeping = _keeping(workspace, console, everywhere=all_projects)
        rows, documents = _listing(keeping)
        if as_json:
            _json({"sources": [vars(row) for row in rows], "documents": documents})
        elif rows:
            print_lines(source_lines(rows, str(keeping.root)))
        else:
            console.lines([NOTHING])


@app.command()
def search(
    query: Annotated[str, typer.Argument(help="What to look for.")],
    limit: Limit = 5,
    all_projects: AllProjects = False,
    workspace: Folder = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Search what was added, as agents do with search_knowledge."""
    with reporting(Output(quiet=True, debug=debug)) as console:
        keeping = _keeping(workspace, console, everywhere=all_projects)
        found = keeping.search(query, limit)
        if as_json:
            _json([_found_json(one, cite(one, keeping.root)) for one in found])
        elif found:
            rows = [PieceRow(cite(one, keeping.root), _under(one), one.text) for one in found]
            print_lines(piece_lines(rows))
        else:
            console.lines(["Nothing was found." if keeping.listed()[0] else NOTHING])


@app.command()
def remove(
    source: Annotated[
        str, typer.Argument(metavar="SOURCE", help="A file, folder or address, as `orch kb list` names it.")
    ],
    all_projects: AllProjects = False,
    workspace: Folder = None,
    debug: Debug = False,
) -> None:
    """Take documents out; their text is gone from the disk. The files themselves stay."""
    with reporting(Output(debug=debug)) as console:
        removed = _keeping(workspace, console, everywhere=all_projects).remove(source)
        if removed.left_out:
            console.lines(["It was never read, and from now on it is left out."])
            return
        told = [counted(len(removed.documents), "document"), counted(removed.chunks, "piece")]
        console.lines([f"Removed: {', '.join(told)}."])


def _keeping(workspace: Path | None, console: Console, *, everywhere: bool = False) -> Keeping:
    settings = settings_of(workspace)
    return Keeping(settings, everywhere=everywhere, warn=lambda text: console.lines([text]))


def _run(begin: Callable[[Told], Gathered], keeping: Keeping, console: Console, as_json: bool) -> Outcome:
    """Read; where that is broken off, tell how far it came."""
    gathered: Gathered | None = None
    try:
        with progress(not as_json) as told:
            gathered = begin(told)
            return gathered.run()
    except (KeyboardInterrupt, OrchError):
        # Only here is the bar gone from the line that is written to.
        if gathered is not None and _count(gathered.outcome):
            kept = "What was read so far is kept; the same command goes on from there."
            console.lines([*_summary(gathered.outcome, keeping), kept])
        raise


def _count(outcome: Outcome) -> int:
    """How many documents are in, as they are now."""
    return len(outcome.added) + len(outcome.changed) + len(outcome.unchanged)


def _tell(outcome: Outcome, keeping: Keeping, console: Console, as_json: bool) -> None:
    """Raises `RunFailed` where something that was to be read could not be."""
    if as_json:
        _json(
            {
                **{name: getattr(outcome, name) for name in ("added", "changed", "removed")},
                "unchanged": len(outcome.unchanged),
                "skipped": [{"source": ref, "reason": why} for ref, why in outcome.skipped],
                "faults": [{"source": ref, "reason": why} for ref, why in outcome.faults],
                "written": outcome.written,
                "deleted": outcome.deleted,
            }
        )
    else:
        console.lines(_summary(outcome, keeping))
    if outcome.faults:
        count = len(outcome.faults)
        told = "One source" if count == 1 else f"{count:,} sources"
        others = "; the others are in" if _count(outcome) else ""
        raise RunFailed(f"{told} could not be read{others}.", "Why is said above.")


def _summary(outcome: Outcome, keeping: Keeping) -> list[str]:
    def named(rows: list[tuple[str, str]]) -> list[tuple[str, str]]:
        return [(shown(ref, keeping.root), why) for ref, why in rows]

    return reading_lines(
        Reading(
            added=len(outcome.added),
            changed=len(outcome.changed),
            unchanged=len(outcome.unchanged),
            removed=[shown(ref, keeping.root) for ref in outcome.removed],
            skipped=named(outcome.skipped),
            faults=named(outcome.faults),
        )
    )


def _listing(keeping: Keeping) -> tuple[list[SourceRow], list[dict[str, Any]]]:
    sources, documents = keeping.listed()
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
    told = [
        {
            "source": known.ref,
            "title": known.title,
            "project": known.scope.project,
            "chunks": known.chunks,
            "size": known.size,
            "sha256": known.digest,
            "read": known.added.isoformat(),
        }
        for known in documents
    ]
    return rows, told


def _under(found: Found) -> str:
    """The headings that a piece stands under and does not say itself."""
    return " > ".join(name for name in found.headings if name not in found.text)


def _found_json(found: Found, cite: str) -> dict[str, Any]:
    told = {name: value for name, value in vars(found).items() if name != "ref"}
    return {"cite": cite, "source": found.ref, **told, "headings": list(found.headings), "trusted": False}


def _json(value: object) -> None:
    typer.echo(json.dumps(value, ensure_ascii=False))
