"""`orch tools`: list, build, repair, review, export and import the built tools of the library."""

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from orchestrator_cli.admin.tools import ToolAdmin
from orchestrator_cli.cli.chat.terminal_input import can_read_terminal
from orchestrator_cli.cli.commands.ask import named_values
from orchestrator_cli.cli.foreground import ForegroundRun, confirm_no_sandbox
from orchestrator_cli.cli.mcp_server.calls import ServedCall, not_allowed, unset_secrets
from orchestrator_cli.cli.options import (
    CommonOptions,
    Folder,
    InspectOptions,
    LimitOptions,
    ModelName,
    NoSandbox,
    Output,
    PermissionOptions,
    with_options,
)
from orchestrator_cli.cli.reporting import (
    confirm,
    confirmed,
    on_terminal,
    print_either,
    print_json,
    print_lines,
    reporting,
    run_flags,
    run_settings,
    settings_of,
)
from orchestrator_cli.errors import ApprovalNeeded, ConfigError, OrchError, RunFailed, UsageError
from orchestrator_cli.views.tools import list_lines, page_lines, review_lines, trial_json, trial_lines
from toolsmith.spec import requested_grants

app = typer.Typer(rich_markup_mode=None)


@app.command()
@with_options
def build(
    purpose: Annotated[str, typer.Argument(help="What the tool does, takes and returns.")],
    name: Annotated[
        str, typer.Option("--name", help="Name of the tool (default: made from the purpose).")
    ] = "",
    *,
    model: ModelName = None,
    workspace: Folder = None,
    output: Output,
    limits: LimitOptions,
    permissions: PermissionOptions,
    unsafe_no_sandbox: NoSandbox = False,
) -> None:
    """Build a tool as a run of its own, unless the library has one that serves."""
    with reporting(output) as console:
        unsafe = confirm_no_sandbox(asked=unsafe_no_sandbox, yes=permissions.yes)
        flags = run_flags(limits, permissions)
        settings = run_settings(workspace, asks=output.is_for_people, model=model, **flags)
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
@with_options
def tools(context: typer.Context, *, common: CommonOptions) -> None:
    """List, build, test, repair, export and import built tools. Without a command, list them."""
    if context.invoked_subcommand is None:
        list_tools(**vars(common))


@app.command("list")
@with_options
def list_tools(common: InspectOptions) -> None:
    """List the built tools with their version, state and uses."""
    with reporting(Output(quiet=True, debug=common.debug)) as console:
        rows = _admin(common.workspace).rows()
        if common.as_json:
            print_json([row.as_json() for row in rows])
        elif rows:
            print_lines(list_lines(rows))
        else:
            console.lines(["No tools yet: they are built when a plan needs them."])


@app.command()
@with_options
def show(name: NameAt, *, common: InspectOptions) -> None:
    """Show everything about a tool: purpose, permissions, uses, trial and code."""
    with reporting(Output(quiet=True, debug=common.debug)):
        page = _admin(common.workspace).page(name)
        print_either(common.as_json, page.as_json(), page_lines(page))


@app.command("test")
@with_options
def try_again(name: NameAt, yes: SkipConfirmation = False, *, common: InspectOptions) -> None:
    """Run the trial of a tool again. If it was edited by hand and passes, it becomes the next version."""
    with reporting(Output(debug=common.debug)) as console:
        tested = _admin(common.workspace, yes=yes).test(name)
        found = {"name": tested.name, "version": tested.version, "adopted": tested.adopted}
        print_either(common.as_json, {**found, **trial_json(tested.trial)}, trial_lines(tested.trial))
        if not tested.trial.passed:
            raise RunFailed(
                f"The tool {tested.name} v{tested.version} does not pass its trial.",
                f"Go back to an earlier version with: orch tools rollback {tested.name}",
            )
        if tested.adopted:
            console.lines([f"The edit was proved. {tested.name} v{tested.version} is the current version."])
        if tested.quarantined:
            console.lines([f"It is still in quarantine. Use it again: orch tools enable {tested.name}"])


@app.command("run")
@with_options
def run_tool(
    name: Name,
    given: Annotated[list[str] | None, typer.Argument(metavar="ARG=VALUE", help="Its arguments.")] = None,
    yes: Annotated[bool, typer.Option("-y", "--yes", help="Say yes to every question of the run.")] = False,
    *,
    common: CommonOptions,
) -> None:
    """Run a built tool on this folder, in its sandbox, and print its value as JSON.

    It is a run of its own, without a model: recorded, with an undo, and with the questions of any run.
    """
    with reporting(Output(debug=common.debug)) as console:
        settings = run_settings(common.workspace, asks=True, yes=yes or None)
        tool = _admin(common.workspace).in_use(name)
        arguments = named_values(given or [], tool.spec.arguments)
        if faults := tool.spec.argument_faults(arguments):
            raise UsageError(f"{'; '.join(faults)}.", f"Call it as {tool.spec.signature}")
        if fault := unset_secrets(tool.spec):
            raise ConfigError(f"The tool {tool.name} cannot be run: {fault}.", "Set it, and try again.")
        screen = console if can_read_terminal(console) else None
        if screen is None and not_allowed(tool.spec, settings):
            what = requested_grants(tool.spec)
            raise ApprovalNeeded(
                f"The tool {tool.name} asks for {what}, and no one can be asked here.",
                "Add -y to allow it, and whatever else the run asks.",
            )
        call = ServedCall(tool, arguments, settings, why="You asked for this call.", screen=screen)
        print_json(call.make())


@app.command()
@with_options
def diff(
    name: Name,
    old: Annotated[int | None, typer.Argument(metavar="A", help="The older version.")] = None,
    new: Annotated[int | None, typer.Argument(metavar="B", help="The newer version.")] = None,
    *,
    common: InspectOptions,
) -> None:
    """Show what changed between two versions, by default the previous and the current one."""
    with reporting(Output(quiet=True, debug=common.debug)) as console:
        lines = _admin(common.workspace).difference(name, old, new)
        if common.as_json:
            print_json(lines)
        elif lines:
            print_lines(lines)
        else:
            console.lines(["The two versions are the same."])


@app.command()
@with_options
def rollback(
    name: Name,
    version: Annotated[
        int | None, typer.Argument(metavar="V", help="The version (default: the previous one).")
    ] = None,
    because: Annotated[
        str, typer.Option("--because", metavar="TEXT", help="The reason, for the history.")
    ] = "",
    *,
    common: CommonOptions,
) -> None:
    """Make an earlier version the current one. Nothing is deleted; later versions get new numbers."""
    with reporting(Output(debug=common.debug)) as console:
        tool = _admin(common.workspace).roll_back(name, version, because)
        console.lines([f"The tool {tool.name} v{tool.version} is the current version."])


@app.command()
@with_options
def disable(
    name: Name,
    because: Annotated[
        str,
        typer.Option(
            "--because", metavar="TEXT", help="The reason, which a planner sees if it asks for the tool."
        ),
    ] = "",
    *,
    common: CommonOptions,
) -> None:
    """Stop offering and using a tool until it is enabled again."""
    with reporting(Output(debug=common.debug)) as console:
        known = _admin(common.workspace).disable(name, because)
        console.lines([f"The tool {known} is disabled. Undo this with: orch tools enable {known}"])


@app.command()
@with_options
def enable(name: Name, *, common: CommonOptions) -> None:
    """Use a tool again that was disabled, retired, or that passed its trial while in quarantine."""
    with reporting(Output(debug=common.debug)) as console:
        known, changed = _admin(common.workspace).enable(name)
        console.lines([f"The tool {known} is in use again." if changed else f"The tool {known} is in use."])


@app.command()
@with_options
def review(
    days: Annotated[
        int, typer.Option("--unused-for", metavar="DAYS", min=0, help="Name tools unused for so many days.")
    ] = 90,
    *,
    common: InspectOptions,
) -> None:
    """Show tools that nothing has used for long, and tools that pass all cases of another.

    The sandbox tries the latter. Nothing is changed.
    """
    with reporting(Output(quiet=common.as_json, debug=common.debug)):
        found = _admin(common.workspace).review(days)
        print_either(common.as_json, found.as_json(), review_lines(found, days))


@app.command()
@with_options
def retire(
    name: Name,
    instead: Annotated[
        str, typer.Option("--for", metavar="OTHER", help="The tool that serves in its place from now on.")
    ] = "",
    *,
    common: CommonOptions,
) -> None:
    """Stop offering a tool. It is used again if a plan needs it, without being built again.

    With --for, the other tool is used in its place. It must pass all cases of the retired one.
    """
    with reporting(Output(debug=common.debug)) as console:
        known = _admin(common.workspace).retire(name, instead)
        by = f" {instead} serves in its place." if instead else ""
        console.lines([f"The tool {known} is retired.{by} Undo this with: orch tools enable {known}"])


@app.command()
@with_options
def remove(name: Name, yes: SkipConfirmation = False, *, common: CommonOptions) -> None:
    """Move a tool with all its versions to the trash folder of the library."""
    with reporting(Output(debug=common.debug)) as console:
        admin = _admin(common.workspace)
        page = admin.page(name)
        versions = len(page.row.versions)
        what = (
            f"the tool {page.row.name} with {'its version' if versions == 1 else f'all {versions} versions'}"
        )
        if not yes:
            confirm(f"Remove {what}?", f"Removing {what}", "removed")
        known, place = admin.remove(name)
        console.lines([f"The tool {known} is removed. Until you delete it, it remains in {place}"])


@app.command()
@with_options
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
    skill: Annotated[
        bool,
        typer.Option("--skill", help="Write folders with a SKILL.md and a script, for any agent."),
    ] = False,
    *,
    common: CommonOptions,
) -> None:
    """Write tools into a folder or zip file that `orch tools import` reads, or as folders for others."""
    with reporting(Output(debug=common.debug)) as console:
        if smolagents and skill:
            raise UsageError("--smolagents and --skill write different folders.", "Give one of them.")
        form: Literal["archive", "smolagents", "skill"] = "archive"
        if smolagents or skill:
            form = "skill" if skill else "smolagents"
        tools = _admin(common.workspace).export(names, target, form)
        console.lines([f"{', '.join(f'{tool.name} v{tool.version}' for tool in tools)} → {target}"])


@app.command("import")
@with_options
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
    *,
    common: CommonOptions,
) -> None:
    """Import tools from others. Each is checked and tried in the sandbox here before it is kept."""
    with reporting(Output(debug=common.debug)) as console:
        refused = 0
        for tool, became in _admin(common.workspace, yes=yes).take_in(source, beside=next_version):
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
@with_options
def reindex(common: InspectOptions) -> None:
    """Update the search index of tools from the library."""
    with reporting(Output(debug=common.debug)) as console:
        found = _admin(common.workspace).reindex()
        if common.as_json:
            print_json(vars(found))
            return
        added, removed = ", ".join(found.added) or "none", ", ".join(found.removed) or "none"
        console.lines([f"Added: {added}. Removed: {removed}."])


def _admin(workspace: Path | None, *, yes: bool = False) -> ToolAdmin:
    settings = settings_of(workspace, yes=yes or None)
    return ToolAdmin(
        settings,
        confirmed if on_terminal() else None,
        warn=lambda text: print_lines([text], sys.stderr),
    )
