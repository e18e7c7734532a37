"""`orch tools`: the library of built tools, to look at, to put right, to give away and to take in."""

import json
from pathlib import Path
from typing import Annotated

import typer

from orchestrator_cli.admin.tools import Keeping, on_terminal
from orchestrator_cli.cli.commands.build import build
from orchestrator_cli.cli.options import AsJson, Debug, Folder, Output
from orchestrator_cli.cli.reporting import print_lines, reporting, settings_of
from orchestrator_cli.errors import ApprovalNeeded, OrchError, RunFailed, UsageError
from orchestrator_cli.views.tools import list_lines, page_lines, trial_json, trial_lines

app = typer.Typer(rich_markup_mode=None, help="List, build, test, repair, give away and take in built tools.")
app.command()(build)


def _known_names(incomplete: str) -> list[str]:
    """For the completion of a shell, which must not be told of errors."""
    try:
        return [name for name in _keeping(None).names() if name.startswith(incomplete)]
    except OrchError:
        return []


Name = Annotated[str, typer.Argument(metavar="NAME", help="Of the tool.", autocompletion=_known_names)]
NameAt = Annotated[
    str,
    typer.Argument(
        metavar="NAME[@V]",
        help="Of the tool, and its version if not that which counts.",
        autocompletion=_known_names,
    ),
]
Yes = Annotated[bool, typer.Option("-y", "--yes", help="Do not ask.")]


@app.callback(invoke_without_command=True)
def tools(context: typer.Context, workspace: Folder = None, debug: Debug = False) -> None:
    """Without a command, the tools are listed."""
    if context.invoked_subcommand is None:
        list_tools(workspace=workspace, debug=debug)


@app.command("list")
def list_tools(workspace: Folder = None, as_json: AsJson = False, debug: Debug = False) -> None:
    """List the built tools: version, state, and how their uses went."""
    with reporting(Output(quiet=True, debug=debug)) as console:
        rows = _keeping(workspace).rows()
        if as_json:
            _json([row.as_json() for row in rows])
        elif rows:
            print_lines(list_lines(rows))
        else:
            console.lines(["No tools yet: they are built when a plan needs them."])


@app.command()
def show(name: NameAt, workspace: Folder = None, as_json: AsJson = False, debug: Debug = False) -> None:
    """Show all about a tool: what it does and may reach, its uses, its trial, its code."""
    with reporting(Output(quiet=True, debug=debug)):
        page = _keeping(workspace).page(name)
        if as_json:
            _json(page.as_json())
        else:
            print_lines(page_lines(page))


@app.command("test")
def try_again(
    name: NameAt,
    yes: Yes = False,
    workspace: Folder = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Run a tool's trial again. One that was edited by hand and passes is kept as the next version."""
    with reporting(Output(debug=debug)) as console:
        tested = _keeping(workspace, yes=yes).test(name)
        if as_json:
            told = {"name": tested.name, "version": tested.version, "adopted": tested.adopted}
            _json({**told, **trial_json(tested.trial)})
        else:
            print_lines(trial_lines(tested.trial))
        if not tested.trial.passed:
            raise RunFailed(
                f"The tool {tested.name} v{tested.version} does not pass its trial.",
                f"Go back to an earlier version with: orch tools rollback {tested.name}",
            )
        if tested.adopted:
            console.lines([f"The edit was proved: {tested.name} v{tested.version} counts now."])
        if tested.quarantined:
            console.lines([f"It is still in quarantine. Use it again: orch tools enable {tested.name}"])


@app.command()
def diff(
    name: Name,
    old: Annotated[int | None, typer.Argument(metavar="[A", help="A version.")] = None,
    new: Annotated[int | None, typer.Argument(metavar="B]", help="Another.")] = None,
    workspace: Folder = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Show what changed between two versions: by default the one before, and the one that counts."""
    with reporting(Output(quiet=True, debug=debug)) as console:
        lines = _keeping(workspace).difference(name, old, new)
        if as_json:
            _json(lines)
        elif lines:
            print_lines(lines)
        else:
            console.lines(["The two are the same."])


@app.command()
def rollback(
    name: Name,
    version: Annotated[
        int | None, typer.Argument(metavar="[V]", help="The version (default: the one before).")
    ] = None,
    because: Annotated[str, typer.Option("--because", metavar="TEXT", help="Why; it is kept.")] = "",
    workspace: Folder = None,
    debug: Debug = False,
) -> None:
    """Make an earlier version count. Nothing is deleted; what is built later gets a new number."""
    with reporting(Output(debug=debug)) as console:
        tool = _keeping(workspace).roll_back(name, version, because)
        console.lines([f"The tool {tool.name} v{tool.version} counts now."])


@app.command()
def disable(
    name: Name,
    because: Annotated[
        str, typer.Option("--because", metavar="TEXT", help="Why; a planner that asks for it is told.")
    ] = "",
    workspace: Folder = None,
    debug: Debug = False,
) -> None:
    """Do not offer or use a tool until it is enabled again."""
    with reporting(Output(debug=debug)) as console:
        known = _keeping(workspace).disable(name, because)
        console.lines([f"The tool {known} is disabled. Take that back with: orch tools enable {known}"])


@app.command()
def enable(name: Name, workspace: Folder = None, debug: Debug = False) -> None:
    """Use a tool again that was disabled, or that is in quarantine and has passed its trial since."""
    with reporting(Output(debug=debug)) as console:
        known, changed = _keeping(workspace).enable(name)
        console.lines([f"The tool {known} is in use again." if changed else f"The tool {known} is in use."])


@app.command()
def remove(name: Name, yes: Yes = False, workspace: Folder = None, debug: Debug = False) -> None:
    """Move a tool with all its versions into the library's trash folder."""
    with reporting(Output(debug=debug)) as console:
        keeping = _keeping(workspace)
        page = keeping.page(name)
        versions = len(page.row.versions)
        what = (
            f"the tool {page.row.name} with {'its version' if versions == 1 else f'all {versions} versions'}"
        )
        if not yes and not on_terminal():
            raise ApprovalNeeded(f"Removing {what} has to be confirmed.", "Add -y to confirm it.")
        if not yes and not _confirmed(f"Remove {what}?"):
            raise UsageError("It was not confirmed, so nothing was removed.", "Keep it, or say yes.")
        known, place = keeping.remove(name)
        console.lines([f"The tool {known} is removed. Until you delete it, it lies in {place}"])


@app.command()
def export(
    names: Annotated[
        list[str], typer.Argument(metavar="NAME…", help="Of the tools.", autocompletion=_known_names)
    ],
    target: Annotated[Path, typer.Argument(metavar="FILE-or-DIR", help="A new folder, or a file .zip.")],
    smolagents: Annotated[
        bool,
        typer.Option(
            "--smolagents", help="Folders that smolagents loads without orch, outside of any sandbox."
        ),
    ] = False,
    workspace: Folder = None,
    debug: Debug = False,
) -> None:
    """Write tools into a folder or a zip file from which `orch tools import` takes them."""
    with reporting(Output(debug=debug)) as console:
        tools = _keeping(workspace).export(names, target, smolagents=smolagents)
        console.lines([f"{', '.join(f'{tool.name} v{tool.version}' for tool in tools)} → {target}"])


@app.command("import")
def import_tools(
    source: Annotated[Path, typer.Argument(metavar="FILE-or-DIR", help="What `orch tools export` wrote.")],
    next_version: Annotated[
        bool,
        typer.Option("--next-version", help="Take a tool in also as the next version of one that differs."),
    ] = False,
    yes: Yes = False,
    workspace: Folder = None,
    debug: Debug = False,
) -> None:
    """Take tools in that somebody else made: checked, and tried here in the sandbox, before they are kept."""
    with reporting(Output(debug=debug)) as console:
        refused = 0
        for tool, became in _keeping(workspace, yes=yes).take_in(source, beside=next_version):
            if isinstance(became, str):
                refused += 1
                console.lines([f"{tool.name}: not taken in. {became}"])
            elif became.new:
                console.lines([f"{tool.name}: its trial passed here; it is v{became.tool.version}."])
            else:
                console.lines([f"{tool.name}: the library has the same, as v{became.tool.version}."])
        if refused:
            raise RunFailed(
                f"{refused} of the tools in {source} could not be taken in.", "Why is said above."
            )


@app.command()
def reindex(workspace: Folder = None, as_json: AsJson = False, debug: Debug = False) -> None:
    """Bring the index, by which tools are recalled for a prompt, in step with the library."""
    with reporting(Output(debug=debug)) as console:
        found = _keeping(workspace).reindex()
        if as_json:
            _json({"added": list(found.added), "removed": list(found.removed)})
            return
        added, removed = ", ".join(found.added) or "none", ", ".join(found.removed) or "none"
        console.lines([f"Added: {added}. Removed: {removed}."])


def _keeping(workspace: Path | None, *, yes: bool = False) -> Keeping:
    settings = settings_of(workspace, yes=yes or None)
    return Keeping(settings, _confirmed if on_terminal() else None)


def _confirmed(question: str) -> bool:
    return typer.confirm(question, default=False, err=True)


def _json(value: object) -> None:
    typer.echo(json.dumps(value, ensure_ascii=False))
