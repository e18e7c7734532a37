"""`orch memory`: what is remembered, to look at, to add to, to forget, to give away and to move."""

import dataclasses
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

import typer

from orchestrator_cli.admin.memory import MemoryKeeping
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
from orchestrator_cli.cli.reporting import print_lines, reporting, settings_of
from orchestrator_cli.errors import ApprovalNeeded, RunFailed, UsageError
from orchestrator_cli.views.streams import write

app = typer.Typer(
    rich_markup_mode=None, help="List, search, add to, forget, give away and take in what is remembered."
)

All = Annotated[bool, typer.Option("--all", help="Of every workspace, not of this one and of none.")]
Kind = Annotated[
    list[str] | None,
    typer.Option("--kind", help="Only this kind: fact, session, turn, run, tool; repeat for more."),
]
Limit = Annotated[int, typer.Option("-n", "--limit", min=1, help="At most so many.")]


@app.callback(invoke_without_command=True)
def memory(context: typer.Context, workspace: Folder = None, debug: Debug = False) -> None:
    """Without a command, it is listed."""
    if context.invoked_subcommand is None:
        list_memory(workspace=workspace, debug=debug)


@app.command("list")
def list_memory(
    kind: Kind = None,
    limit: Limit = 30,
    past: Annotated[bool, typer.Option("--past", help="Also what holds no more.")] = False,
    everywhere: All = False,
    workspace: Folder = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """List what is remembered, newest first: facts about you, sessions, runs, tools."""
    with reporting(Output(quiet=True, debug=debug)):
        found = _keeping(workspace, everywhere).all(tuple(kind or ()), past=past)
        if as_json:
            _json([row(record) for record in found[:limit]])
            return
        print_lines(record_lines(found[:limit]))
        if len(found) > limit:
            print_lines([f"… and {len(found) - limit:,} more: -n {len(found)}"])


@app.command()
def show(
    ident: Annotated[str, typer.Argument(metavar="ID", help="Its beginning, or the name of a session.")],
    everywhere: All = False,
    workspace: Folder = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Show all about one thing that is remembered."""
    with reporting(Output(quiet=True, debug=debug)):
        record = _keeping(workspace, everywhere).one(ident)
        if as_json:
            _json(row(record))
        else:
            print_lines(page_lines(record))


@app.command()
def search(
    text: Annotated[str, typer.Argument(metavar="TEXT", help="What it is about.")],
    kind: Kind = None,
    limit: Limit = 10,
    everywhere: All = False,
    workspace: Folder = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Find what has to do with a text, best first."""
    with reporting(Output(quiet=True, debug=debug)) as console:
        keeping = _keeping(workspace, everywhere, lambda text: console.lines([text]))
        hits = keeping.search(text, limit=limit, kinds=tuple(kind or ()))
        if as_json:
            _json([{**row(hit.record), "score": hit.score} for hit in hits])
        else:
            print_lines(hit_lines(hits))


@app.command()
def add(
    text: Annotated[str, typer.Argument(metavar="TEXT", help="One fact about you, as a sentence.")],
    here: Annotated[bool, typer.Option("--here", help="It holds in this workspace only.")] = False,
    workspace: Folder = None,
    debug: Debug = False,
) -> None:
    """Have a fact remembered for good. One that it contradicts ends."""
    with reporting(Output(debug=debug)) as console:
        learned = _keeping(workspace, everywhere=False).add(text, here=here)
        for record in learned.new:
            console.lines([f"Remembered as {str(record.id)[:8]}: {record.text}"])
        for record in learned.again:
            console.lines([f"It was known as {str(record.id)[:8]}, and is kept for good: {record.text}"])
        for record in learned.ended:
            console.lines([f"No longer so: {record.text}"])


@app.command()
def forget(
    what: Annotated[
        str,
        typer.Argument(
            metavar="TEXT-or-ID", help="What is held by all that goes; or an id, or a session's name."
        ),
    ],
    yes: Annotated[bool, typer.Option("-y", "--yes", help="Do not ask.")] = False,
    everywhere: All = False,
    workspace: Folder = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Take something from memory and from the disk, and say where else it is recorded."""
    with reporting(Output(debug=debug)) as console:
        keeping = _keeping(workspace, everywhere)
        doomed = keeping.doomed(what)
        if not yes:
            console.lines(record_lines(doomed[:20]))
            question = f"Forget {'this' if len(doomed) == 1 else f'these {len(doomed)}'} for good?"
            if not sys.stdin.isatty():
                raise ApprovalNeeded("Forgetting has to be confirmed.", "Add -y to confirm it.")
            if not _confirmed(question):
                raise UsageError("It was not confirmed, so nothing was forgotten.")
        done = keeping.forget(doomed, what)
        if as_json:
            _json(
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
    target: Annotated[Path, typer.Argument(metavar="FILE", help="A new file; - is standard output.")],
    everywhere: All = False,
    workspace: Folder = None,
    debug: Debug = False,
) -> None:
    """Write what is remembered into a file, a line of JSON for each record."""
    with reporting(Output(debug=debug)) as console:
        keeping = _keeping(workspace, everywhere)
        if str(target) == "-":
            write(sys.stdout, "".join(keeping.lines()))
        else:
            console.lines([export_line(keeping.export(target), target)])


@app.command("import")
def import_memory(
    source: Annotated[
        Path, typer.Argument(metavar="FILE", help="What `orch memory export` wrote; - is standard input.")
    ],
    mine: Annotated[
        bool,
        typer.Option(
            "--mine", help="You wrote the file yourself: what it says of you counts as said by you."
        ),
    ] = False,
    replace: Annotated[
        bool, typer.Option("--replace", help="Replace what is there with another content.")
    ] = False,
    workspace: Folder = None,
    debug: Debug = False,
) -> None:
    """Take in what was exported; what is there with another content stays. All is checked first."""
    with reporting(Output(debug=debug)) as console:
        taken = _keeping(workspace, everywhere=True).take_in(source, mine=mine, replace=replace)
        became = "replaced" if replace else "kept as they are here; --replace takes those of the file"
        console.lines(
            [
                f"{len(taken.added)} new, {len(taken.same)} there already, {len(taken.differing)} differ"
                + (f" and were {became}" if taken.differing else "")
            ]
        )
        if not mine and taken.added:
            console.lines(
                [
                    "They count as what a file says, not as what you said. If you wrote it yourself, take it "
                    "in once more with --mine --replace."
                ]
            )


@app.command()
def stats(
    everywhere: All = False, workspace: Folder = None, as_json: AsJson = False, debug: Debug = False
) -> None:
    """Count what is remembered, and say where it lies and how much room it takes."""
    with reporting(Output(quiet=True, debug=debug)):
        found = _keeping(workspace, everywhere).stats()
        if as_json:
            _json(dataclasses.asdict(found) | {"set_aside": [str(path) for path in found.set_aside]})
        else:
            print_lines(stats_lines(found))


@app.command()
def embed(
    anew: Annotated[bool, typer.Option("--anew", help="Also those that are there already.")] = False,
    workspace: Folder = None,
    debug: Debug = False,
) -> None:
    """Make the vectors that are lacking, with the model of memory.dense, which is sent what is remembered."""
    with reporting(Output(debug=debug)) as console:
        keeping = _keeping(workspace, everywhere=True, warn=lambda text: console.lines([text]))
        done = keeping.embed(lambda made, all_: console.lines([f"{made:,} of {all_:,}"]), anew=anew)
        if done.made or not done.lacking:
            console.lines([f"{done.made:,} made, {done.lacking:,} lacking."])
        if done.lacking:
            raise RunFailed(
                f"{done.lacking:,} records have no vector still; they are found by their words.",
                "Put right what is said above, and say it again: what was made is kept.",
            )


@app.command()
def migrate(
    to: Annotated[str, typer.Argument(metavar="server|folder", help="Where all of memory is brought.")],
    workspace: Folder = None,
    debug: Debug = False,
) -> None:
    """Bring all of memory to the server of memory.url, or from there into the data folder."""
    with reporting(Output(debug=debug)) as console:
        targets: tuple[Literal["server"], Literal["folder"]] = ("server", "folder")
        if to not in targets:
            raise UsageError(f"Memory cannot be brought to {to!r}.", "Say server or folder.")
        moved = _keeping(workspace, everywhere=True).migrate(
            to, lambda done, all_: console.lines([f"{done:,} of {all_:,}"])
        )
        came = (
            f"{moved.copied:,} copied, {moved.there:,} there already, {moved.newer:,} newer there and kept."
        )
        console.lines([came, "Where it was, it still is."])


def _keeping(
    workspace: Path | None, everywhere: bool, warn: Callable[[str], None] = lambda _: None
) -> MemoryKeeping:
    return MemoryKeeping(settings_of(workspace), everywhere=everywhere, warn=warn)


def _confirmed(question: str) -> bool:
    try:
        return typer.confirm(question, default=False, err=True)
    except typer.Abort:
        typer.echo(err=True)  # What is told next begins a line.
        raise KeyboardInterrupt from None


def _json(value: object) -> None:
    typer.echo(json.dumps(value, ensure_ascii=False))
