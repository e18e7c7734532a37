"""`orch memory`: list, search, add, forget, export, import and migrate what is remembered."""

import dataclasses
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

import typer

from orchestrator_cli.admin.memory import MemoryAdmin
from orchestrator_cli.cli.commands.memory_output import as_json as row
from orchestrator_cli.cli.commands.memory_output import (
    export_line,
    forgotten_lines,
    hit_lines,
    page_lines,
    record_lines,
    stats_lines,
)
from orchestrator_cli.cli.options import AsJson, Debug, Folder, Output
from orchestrator_cli.cli.reporting import confirmed, print_json, print_lines, reporting, settings_of
from orchestrator_cli.durable.foreign import escaped
from orchestrator_cli.errors import ApprovalNeeded, RunFailed, UsageError
from orchestrator_cli.views.streams import write

app = typer.Typer(
    rich_markup_mode=None, help="List, search, add, forget, export and import what is remembered."
)

All = Annotated[bool, typer.Option("--all", help="Include all workspaces.")]
Kind = Annotated[
    list[str] | None,
    typer.Option(
        "--kind", help="Show only this kind: fact, session, turn, run or tool. Repeat it for several."
    ),
]
Limit = Annotated[int, typer.Option("-n", "--limit", min=1, help="Show at most this many.")]


@app.callback(invoke_without_command=True)
def memory(context: typer.Context, workspace: Folder = None, debug: Debug = False) -> None:
    """Without a command, list what is remembered."""
    if context.invoked_subcommand is None:
        list_memory(workspace=workspace, debug=debug)


@app.command("list")
def list_memory(
    kind: Kind = None,
    limit: Limit = 30,
    past: Annotated[bool, typer.Option("--past", help="Include facts that no longer hold.")] = False,
    everywhere: All = False,
    workspace: Folder = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """List what is remembered, newest first: facts about you, sessions, runs, tools."""
    with reporting(Output(quiet=True, debug=debug)):
        found = _admin(workspace, everywhere).all(tuple(kind or ()), past=past)
        if as_json:
            print_json([row(record) for record in found[:limit]])
            return
        print_lines(record_lines(found[:limit]))
        if len(found) > limit:
            print_lines([f"… and {len(found) - limit:,} more: -n {len(found)}"])


@app.command()
def show(
    ident: Annotated[
        str, typer.Argument(metavar="ID", help="The beginning of the id, or the name of a session.")
    ],
    everywhere: All = False,
    workspace: Folder = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Show everything about one record."""
    with reporting(Output(quiet=True, debug=debug)):
        record = _admin(workspace, everywhere).find(ident)
        if as_json:
            print_json(row(record))
        else:
            print_lines(page_lines(record))


@app.command()
def search(
    text: Annotated[str, typer.Argument(metavar="TEXT", help="The words to search for.")],
    kind: Kind = None,
    limit: Limit = 10,
    everywhere: All = False,
    workspace: Folder = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Search what is remembered; the best hits come first."""
    with reporting(Output(quiet=True, debug=debug)) as console:
        admin = _admin(workspace, everywhere, lambda text: console.lines([text]))
        hits = admin.search(text, limit=limit, kinds=tuple(kind or ()))
        if as_json:
            print_json([{**row(hit.record), "score": hit.score} for hit in hits])
        else:
            print_lines(hit_lines(hits))


@app.command()
def add(
    text: Annotated[str, typer.Argument(metavar="TEXT", help="A fact about you, as one sentence.")],
    here: Annotated[bool, typer.Option("--here", help="The fact holds in this workspace only.")] = False,
    workspace: Folder = None,
    debug: Debug = False,
) -> None:
    """Remember a fact for good. Facts that it contradicts no longer hold."""
    with reporting(Output(debug=debug)) as console:
        learned = _admin(workspace, everywhere=False).add(text, here=here)
        for record in learned.new:
            console.lines([f"Remembered as {str(record.id)[:8]}: {record.text}"])
        for record in learned.again:
            console.lines([f"Already known as {str(record.id)[:8]}, now kept for good: {record.text}"])
        for record in learned.ended:
            console.lines([f"No longer holds: {record.text}"])


@app.command()
def forget(
    what: Annotated[
        str,
        typer.Argument(
            metavar="TEXT-or-ID",
            help="Forget all records that contain this text, or the one with this id or session name.",
        ),
    ],
    yes: Annotated[bool, typer.Option("-y", "--yes", help="Do not ask for confirmation.")] = False,
    everywhere: All = False,
    workspace: Folder = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Erase records from memory and from the disk, and report where else their text is recorded."""
    with reporting(Output(debug=debug)) as console:
        admin = _admin(workspace, everywhere)
        records = admin.to_forget(what)
        if not yes:
            console.lines(record_lines(records[:20]))
            question = f"Forget {'this' if len(records) == 1 else f'these {len(records)}'} for good?"
            if not sys.stdin.isatty():
                raise ApprovalNeeded("Forgetting must be confirmed.", "Add -y to confirm.")
            if not confirmed(question):
                raise UsageError("Not confirmed; nothing was forgotten.")
        done = admin.forget(records, what)
        if as_json:
            print_json(
                {
                    "forgotten": [str(record.id) for record in done.records],
                    "files": done.looked.files,
                    "bytes": done.looked.bytes,
                    "left": [str(record.id) for record in done.left],
                    "found": [str(path) for path in done.looked.found],
                    "unread": [str(path) for path in done.looked.unread],
                    "elsewhere": [{"path": str(p.path), "remedy": p.remedy} for p in done.elsewhere],
                }
            )
        else:
            print_lines(forgotten_lines(done))


@app.command()
def export(
    target: Annotated[Path, typer.Argument(metavar="FILE", help="The file to create; - is standard output.")],
    everywhere: All = False,
    workspace: Folder = None,
    debug: Debug = False,
) -> None:
    """Write what is remembered to a file, one line of JSON for each record."""
    with reporting(Output(debug=debug)) as console:
        admin = _admin(workspace, everywhere)
        if str(target) == "-":
            write(sys.stdout, escaped("".join(admin.export_lines())))
        else:
            console.lines([export_line(admin.export(target), target)])


@app.command("import")
def import_memory(
    source: Annotated[
        Path,
        typer.Argument(metavar="FILE", help="A file written by `orch memory export`; - is standard input."),
    ],
    mine: Annotated[
        bool,
        typer.Option("--mine", help="Trust the file as your own: facts in it count as said by you."),
    ] = False,
    replace: Annotated[
        bool, typer.Option("--replace", help="Overwrite existing records that differ.")
    ] = False,
    workspace: Folder = None,
    debug: Debug = False,
) -> None:
    """Import an export. Existing records that differ are kept. If one line is wrong, nothing is imported."""
    with reporting(Output(debug=debug)) as console:
        result = _admin(workspace, everywhere=True).import_file(source, mine=mine, replace=replace)
        action = "replaced" if replace else "kept; --replace overwrites them"
        console.lines(
            [
                f"{len(result.added)} new, {len(result.same)} unchanged, {len(result.differing)} differ"
                + (f" and were {action}" if result.differing else "")
            ]
        )
        if not mine and result.added:
            console.lines(
                [
                    "They count as said by a file, not by you. If the file is your own, import it again with "
                    "--mine --replace."
                ]
            )


@app.command()
def stats(
    everywhere: All = False, workspace: Folder = None, as_json: AsJson = False, debug: Debug = False
) -> None:
    """Show how much is remembered, where it is stored and how much space it takes."""
    with reporting(Output(quiet=True, debug=debug)):
        found = _admin(workspace, everywhere).stats()
        if as_json:
            print_json(dataclasses.asdict(found) | {"set_aside": [str(path) for path in found.set_aside]})
        else:
            print_lines(stats_lines(found))


@app.command()
def embed(
    anew: Annotated[bool, typer.Option("--anew", help="Make all vectors again, also existing ones.")] = False,
    workspace: Folder = None,
    debug: Debug = False,
) -> None:
    """Make missing vectors with the model of memory.dense. The model receives what is remembered."""
    with reporting(Output(debug=debug)) as console:
        admin = _admin(workspace, everywhere=True, warn=lambda text: console.lines([text]))
        done = admin.embed(lambda made, all_: console.lines([f"{made:,} of {all_:,}"]), anew=anew)
        if done.made or not done.missing:
            console.lines([f"{done.made:,} made, {done.missing:,} missing."])
        if done.missing:
            raise RunFailed(
                f"{done.missing:,} records still have no vector; they are found by their words.",
                "Fix the problem above and run the command again: finished vectors are kept.",
            )


@app.command()
def migrate(
    to: Annotated[str, typer.Argument(metavar="server|folder", help="Where to copy all of memory.")],
    workspace: Folder = None,
    debug: Debug = False,
) -> None:
    """Copy all of memory to the server of memory.url, or from there to the data folder."""
    with reporting(Output(debug=debug)) as console:
        targets: tuple[Literal["server"], Literal["folder"]] = ("server", "folder")
        if to not in targets:
            raise UsageError(f"Memory cannot be copied to {to!r}.", "Use server or folder.")
        moved = _admin(workspace, everywhere=True).migrate(
            to, lambda done, all_: console.lines([f"{done:,} of {all_:,}"])
        )
        counts = (
            f"{moved.copied:,} copied, {moved.there:,} already there, {moved.newer:,} newer there and kept."
        )
        console.lines([counts, "The original is unchanged."])


def _admin(
    workspace: Path | None, everywhere: bool, warn: Callable[[str], None] = lambda _: None
) -> MemoryAdmin:

    return MemoryAdmin(settings_of(workspace), everywhere=everywhere, warn=warn)
