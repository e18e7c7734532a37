"""`orch tools`: list, build, repair, export and import the built tools of the library."""

from pathlib import Path
from typing import Annotated

import typer

from orchestrator_cli.admin.tools import ToolAdmin, on_terminal
from orchestrator_cli.cli.foreground import ForegroundRun, confirm_no_sandbox
from orchestrator_cli.cli.options import (
    AllowUnpriced,
    Approve,
    AsJson,
    Debug,
    Folder,
    MaxCalls,
    MaxCost,
    MaxTokens,
    ModelName,
    Network,
    NoSandbox,
    Output,
    Quiet,
    StreamJson,
    Timeout,
    Verbose,
    Yes,
)
from orchestrator_cli.cli.reporting import (
    approval_kinds,
    confirmed,
    print_json,
    print_lines,
    reporting,
    run_settings,
    settings_of,
)
from orchestrator_cli.errors import ApprovalNeeded, OrchError, RunFailed, UsageError
from orchestrator_cli.views.tools import list_lines, page_lines, trial_json, trial_lines

app = typer.Typer(rich_markup_mode=None, help="List, build, test, repair, export and import built tools.")


@app.command()
def build(
    purpose: Annotated[str, typer.Argument(help="What the tool does, takes and returns.")],
    name: Annotated[
        str, typer.Option("--name", help="Name of the tool (default: made from the purpose).")
    ] = "",
    model: ModelName = None,
    workspace: Folder = None,
    quiet: Quiet = False,
    verbose: Verbose = False,
    as_json: AsJson = False,
    stream_json: StreamJson = False,
    max_cost: MaxCost = None,
    allow_unpriced: AllowUnpriced = None,
    max_calls: MaxCalls = None,
    max_tokens: MaxTokens = None,
    timeout: Timeout = None,
    network: Network = None,
    approve: Approve = None,
    yes: Yes = False,
    unsafe_no_sandbox: NoSandbox = False,
    debug: Debug = False,
) -> None:
    """Build a tool as a run of its own, unless the library has one that serves."""
    output = Output(quiet, verbose, as_json, stream_json, debug)
    with reporting(output) as console:
        unsafe = confirm_no_sandbox(asked=unsafe_no_sandbox, yes=yes)
        settings = run_settings(
            workspace,
            asks=output.is_for_people,
            model=model,
            max_cost=max_cost,
            allow_unpriced=allow_unpriced,
            max_calls=max_calls,
            max_tokens=max_tokens,
            timeout=timeout,
            network=network or None,
            approve=approval_kinds(approve),
            yes=yes or None,
        )
        ForegroundRun(settings, output, console, unsafe=unsafe).build(purpose, name)


def _known_names(incomplete: str) -> list[str]:
    """Completions for the shell, which must not see errors."""
    try:
        return [name for name in _admin(None).names() if name.startswith(incomplete)]
    except OrchError:
        return []


Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of the tool.", autocompletion=_known_names)]
NameAt = Annotated[
    str,
    typer.Argument(
        metavar="NAME[@V]",
        help="Name of the tool, with a version if not the current one.",
        autocompletion=_known_names,
    ),
]
SkipConfirmation = Annotated[bool, typer.Option("-y", "--yes", help="Do not ask for confirmation.")]


@app.callback(invoke_without_command=True)
def tools(context: typer.Context, workspace: Folder = None, debug: Debug = False) -> None:
    """List, build, test, repair, export and import built tools. Without a command, list them."""
    if context.invoked_subcommand is None:
        list_tools(workspace=workspace, debug=debug)


@app.command("list")
def list_tools(workspace: Folder = None, as_json: AsJson = False, debug: Debug = False) -> None:
    """List the built tools with their version, state and uses."""
    with reporting(Output(quiet=True, debug=debug)) as console:
        rows = _admin(workspace).rows()
        if as_json:
            print_json([row.as_json() for row in rows])
        elif rows:
            print_lines(list_lines(rows))
        else:
            console.lines(["No tools yet: they are built when a plan needs them."])


@app.command()
def show(name: NameAt, workspace: Folder = None, as_json: AsJson = False, debug: Debug = False) -> None:
    """Show everything about a tool: purpose, permissions, uses, trial and code."""
    with reporting(Output(quiet=True, debug=debug)):
        page = _admin(workspace).page(name)
        if as_json:
            print_json(page.as_json())
        else:
            print_lines(page_lines(page))


@app.command("test")
def try_again(
    name: NameAt,
    yes: SkipConfirmation = False,
    workspace: Folder = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Run the trial of a tool again. If it was edited by hand and passes, it becomes the next version."""
    with reporting(Output(debug=debug)) as console:
        tested = _admin(workspace, yes=yes).test(name)
        if as_json:
            found = {"name": tested.name, "version": tested.version, "adopted": tested.adopted}
            print_json({**found, **trial_json(tested.trial)})
        else:
            print_lines(trial_lines(tested.trial))
        if not tested.trial.passed:
            raise RunFailed(
                f"The tool {tested.name} v{tested.version} does not pass its trial.",
                f"Go back to an earlier version with: orch tools rollback {tested.name}",
            )
        if tested.adopted:
            console.lines([f"The edit was proved. {tested.name} v{tested.version} is the current version."])
        if tested.quarantined:
            console.lines([f"It is still in quarantine. Use it again: orch tools enable {tested.name}"])


@app.command()
def diff(
    name: Name,
    old: Annotated[int | None, typer.Argument(metavar="[A", help="The older version.")] = None,
    new: Annotated[int | None, typer.Argument(metavar="B]", help="The newer version.")] = None,
    workspace: Folder = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Show what changed between two versions, by default the previous and the current one."""
    with reporting(Output(quiet=True, debug=debug)) as console:
        lines = _admin(workspace).difference(name, old, new)
        if as_json:
            print_json(lines)
        elif lines:
            print_lines(lines)
        else:
            console.lines(["The two versions are the same."])


@app.command()
def rollback(
    name: Name,
    version: Annotated[
        int | None, typer.Argument(metavar="[V]", help="The version (default: the previous one).")
    ] = None,
    because: Annotated[
        str, typer.Option("--because", metavar="TEXT", help="The reason, for the history.")
    ] = "",
    workspace: Folder = None,
    debug: Debug = False,
) -> None:
    """Make an earlier version the current one. Nothing is deleted; later versions get new numbers."""
    with reporting(Output(debug=debug)) as console:
        tool = _admin(workspace).roll_back(name, version, because)
        console.lines([f"The tool {tool.name} v{tool.version} is the current version."])


@app.command()
def disable(
    name: Name,
    because: Annotated[
        str,
        typer.Option(
            "--because", metavar="TEXT", help="The reason, which a planner sees if it asks for the tool."
        ),
    ] = "",
    workspace: Folder = None,
    debug: Debug = False,
) -> None:
    """Stop offering and using a tool until it is enabled again."""
    with reporting(Output(debug=debug)) as console:
        known = _admin(workspace).disable(name, because)
        console.lines([f"The tool {known} is disabled. Undo this with: orch tools enable {known}"])


@app.command()
def enable(name: Name, workspace: Folder = None, debug: Debug = False) -> None:
    """Use a tool again that was disabled, or that passed its trial while in quarantine."""
    with reporting(Output(debug=debug)) as console:
        known, changed = _admin(workspace).enable(name)
        console.lines([f"The tool {known} is in use again." if changed else f"The tool {known} is in use."])


@app.command()
def remove(name: Name, yes: SkipConfirmation = False, workspace: Folder = None, debug: Debug = False) -> None:
    """Move a tool with all its versions to the trash folder of the library."""
    with reporting(Output(debug=debug)) as console:
        admin = _admin(workspace)
        page = admin.page(name)
        versions = len(page.row.versions)
        what = (
            f"the tool {page.row.name} with {'its version' if versions == 1 else f'all {versions} versions'}"
        )
        if not yes and not on_terminal():
            raise ApprovalNeeded(f"Removing {what} has to be confirmed.", "Add -y to confirm it.")
        if not yes and not confirmed(f"Remove {what}?"):
            raise UsageError("It was not confirmed, so nothing was removed.", "Keep it, or say yes.")
        known, place = admin.remove(name)
        console.lines([f"The tool {known} is removed. Until you delete it, it remains in {place}"])


@app.command()
def export(
    names: Annotated[
        list[str], typer.Argument(metavar="NAME…", help="Names of the tools.", autocompletion=_known_names)
    ],
    target: Annotated[Path, typer.Argument(metavar="FILE-or-DIR", help="A new folder or .zip file.")],
    smolagents: Annotated[
        bool,
        typer.Option(
            "--smolagents", help="Write folders that smolagents loads without orch and without a sandbox."
        ),
    ] = False,
    workspace: Folder = None,
    debug: Debug = False,
) -> None:
    """Write tools into a folder or zip file that `orch tools import` reads."""
    with reporting(Output(debug=debug)) as console:
        tools = _admin(workspace).export(names, target, smolagents=smolagents)
        console.lines([f"{', '.join(f'{tool.name} v{tool.version}' for tool in tools)} → {target}"])


@app.command("import")
def import_tools(
    source: Annotated[
        Path, typer.Argument(metavar="FILE-or-DIR", help="A folder or file that `orch tools export` wrote.")
    ],
    next_version: Annotated[
        bool,
        typer.Option(
            "--next-version", help="If the library has a different tool of that name, add a version to it."
        ),
    ] = False,
    yes: SkipConfirmation = False,
    workspace: Folder = None,
    debug: Debug = False,
) -> None:
    """Import tools from others. Each is checked and tried in the sandbox here before it is kept."""
    with reporting(Output(debug=debug)) as console:
        refused = 0
        for tool, became in _admin(workspace, yes=yes).take_in(source, beside=next_version):
            if isinstance(became, str):
                refused += 1
                console.lines([f"{tool.name}: not imported. {became}"])
            elif became.new:
                console.lines([f"{tool.name}: passed its trial here and is now v{became.tool.version}."])
            else:
                console.lines([f"{tool.name}: the library has the same tool as v{became.tool.version}."])
        if refused:
            raise RunFailed(
                f"{refused} of the tools in {source} could not be imported.", "The reasons are above."
            )


@app.command()
def reindex(workspace: Folder = None, as_json: AsJson = False, debug: Debug = False) -> None:
    """Update the search index of tools from the library."""
    with reporting(Output(debug=debug)) as console:
        found = _admin(workspace).reindex()
        if as_json:
            print_json({"added": list(found.added), "removed": list(found.removed)})
            return
        added, removed = ", ".join(found.added) or "none", ", ".join(found.removed) or "none"
        console.lines([f"Added: {added}. Removed: {removed}."])


def _admin(workspace: Path | None, *, yes: bool = False) -> ToolAdmin:
    settings = settings_of(workspace, yes=yes or None)
    return ToolAdmin(settings, confirmed if on_terminal() else None)
