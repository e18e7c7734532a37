"""`orch stats`: what the runs of the last weeks add up to."""

import sys
from datetime import datetime
from typing import Annotated

import typer

from orchestrator_cli.cli.options import InspectOptions, Output, with_options
from orchestrator_cli.cli.reporting import print_either, print_lines, reporting, settings_of
from orchestrator_cli.runs.stats import read_stats
from orchestrator_cli.views.stats import stats_json, stats_lines

app = typer.Typer(rich_markup_mode=None)


@app.command()
@with_options
def stats(
    *,
    everywhere: Annotated[bool, typer.Option("--all", help="Include the runs of every workspace.")] = False,
    weeks: Annotated[
        int,
        typer.Option(
            "--weeks", min=1, max=520, help="Cover the last N weeks, including this one.", metavar="N"
        ),
    ] = 8,
    common: InspectOptions,
) -> None:
    """Summarize the runs of this workspace: success, cost, tokens, time, tools and the slowest path."""
    with reporting(Output(quiet=True, debug=common.debug)):
        settings = settings_of(common.workspace)
        unread: list[str] = []
        today = datetime.now().astimezone().date()
        found = read_stats(settings, everywhere=everywhere, weeks=weeks, today=today, on_unread=unread.append)
        print_lines(unread, sys.stderr)
        where = "of all workspaces" if everywhere else f"of {settings.workspace.resolve()}"
        print_either(common.as_json, stats_json(found), stats_lines(found, where))
