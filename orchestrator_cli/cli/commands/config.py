"""`orch config`: every setting with its origin, and changes of the user's own `orch.toml`."""

import getpass
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from orchestrator_cli.admin.config import (
    SettingRow,
    get,
    parsed,
    parts_of,
    rows,
    set_own,
    unset_own,
    written,
)
from orchestrator_cli.admin.own_settings import own_content, replace_text
from orchestrator_cli.cli.editor import edit
from orchestrator_cli.cli.options import CommonOptions, InspectOptions, Output, with_options
from orchestrator_cli.cli.reporting import (
    confirmed,
    on_terminal,
    print_either,
    print_json,
    print_lines,
    reporting,
    settings_of,
)
from orchestrator_cli.errors import ConfigError, OrchError
from orchestrator_cli.settings import Settings, check_user_values, user_file
from orchestrator_cli.trust import shown, shown_path
from orchestrator_cli.views.text import one_line

app = typer.Typer(rich_markup_mode=None)

MOST_WIDTH = 34
"""Of a column of names."""


def _known_names(incomplete: str) -> list[str]:
    """Completions for the shell, which must not see errors."""
    try:
        return [row.name for row in rows(settings_of(None)) if row.name.startswith(incomplete)]
    except OrchError:
        return []


Name = Annotated[
    str,
    typer.Argument(
        metavar="NAME", help="The setting, such as model or models.agent.", autocompletion=_known_names
    ),
]
All = Annotated[bool, typer.Option("--all", help="Include settings that have their default value.")]


@app.callback(invoke_without_command=True)
@with_options
def config(context: typer.Context, *, common: CommonOptions) -> None:
    """List and change settings, with where each comes from. Without a command, list those that are set."""
    if context.invoked_subcommand is None:
        list_settings(**vars(common))


@app.command("list")
@with_options
def list_settings(every: All = False, *, common: InspectOptions) -> None:
    """List the settings with their values and where these come from. Keys are not shown."""
    with reporting(Output(quiet=True, debug=common.debug)) as console:
        settings = settings_of(common.workspace)
        found = [row for row in rows(settings) if every or row.origin != "default"]
        print_either(common.as_json, [vars(row) for row in found], _lines(found))
        if not common.as_json:
            console.lines(_left_out(settings))
            if not every:
                console.lines(["All others have their default. See them with: orch config list --all"])


@app.command("get")
@with_options
def get_setting(name: Name, *, common: InspectOptions) -> None:
    """Print the value of one setting, as it counts in this folder. Keys are not shown."""
    with reporting(Output(quiet=True, debug=common.debug)):
        value = get(settings_of(common.workspace), parsed(name))
        if common.as_json:
            print_json(value)
        else:
            print_lines([value if isinstance(value, str) else "none" if value is None else shown(value)])


@app.command("set")
@with_options
def set_setting(
    name: Name,
    value: Annotated[
        str,
        typer.Argument(
            metavar="VALUE",
            help="The value; a list or a table as TOML or JSON; - reads it from standard input.",
        ),
    ],
    *,
    common: CommonOptions,
) -> None:
    """Set a value in your own orch.toml. It is checked first, and comments are kept."""
    with reporting(Output(debug=common.debug)) as console:
        wanted, place = parsed(name), user_file()
        kept = set_own(place, wanted, _read(value))
        console.lines([f"{written(wanted)} = {shown(kept, text=True)} is written to {shown_path(place)}."])
        console.lines(overridden(common.workspace, name))


@app.command("unset")
@with_options
def unset_setting(name: Name, *, common: CommonOptions) -> None:
    """Remove a value from your own orch.toml, so that the default counts."""
    with reporting(Output(debug=common.debug)) as console:
        place = user_file()
        unset_own(place, parts_of(name))
        console.lines([f"{name} is removed from {shown_path(place)}."])
        console.lines(overridden(common.workspace, name))


@app.command("edit")
@with_options
def edit_file(common: CommonOptions) -> None:
    """Open your own orch.toml in your editor. It is checked before it replaces the file."""
    with reporting(Output(debug=common.debug)) as console:
        place = user_file()
        before, text = own_content(place)
        while True:
            edited = edit(text, "orch.toml")
            if edited is None:
                console.lines(["Nothing was changed."])
                return
            try:
                replace_text(place, before, edited, lambda values: check_user_values(values, place))
            except ConfigError as exc:
                if not on_terminal():
                    raise
                console.error(exc)
                if not confirmed("Edit it again?"):
                    raise ConfigError("It was not written.", "Your file is as it was.") from exc
                text = edited
                continue
            console.lines([f"{shown_path(place)} is written."])
            return


@app.command("path")
def path() -> None:
    """Print the path of your own orch.toml, whether it is there or not."""
    with reporting(Output()):
        print_lines([str(user_file())])


def _read(value: str) -> str:
    """A value that standard input gives is not in the history of a shell."""
    if value != "-":
        return value
    return getpass.getpass("Value: ") if on_terminal() else sys.stdin.read().removesuffix("\n")


def _lines(found: list[SettingRow]) -> Iterator[str]:
    """Name, value and origin; a long value is cut so that a line fits the terminal."""
    names = min(max((len(row.name) for row in found), default=0), MOST_WIDTH)
    width = shutil.get_terminal_size().columns
    for row in found:
        value = "none" if row.value is None or row.value in ([], {}) else shown(row.value)
        room = max(20, width - names - len(row.words) - 6)
        yield f"{row.name:<{names}}  {one_line(value, room)}  ({row.words})"


def _left_out(settings: Settings) -> list[str]:
    question = settings.origin.left_out
    if question is None:
        return []
    names = ", ".join(sorted(shown(name) for name in question.open_names if name))
    what = f"sets {names}, which" if names else "cannot be used, or its folder"
    return [f"{shown_path(question.file)} {what} you have not allowed: {question.command}"]


def overridden(workspace: Path | None, name: str) -> list[str]:
    """What counts instead of the user's own file in this folder, if something does."""
    try:
        found = list(rows(settings_of(workspace), parts_of(name)))
    except OrchError:
        return []
    stronger = [row for row in found if row.origin in ("environment", "workspace")]
    return [f"Here {row.name} = {shown(row.value, text=True)}, from {row.words}." for row in stronger]
