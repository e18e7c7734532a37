"""`orch log`: read what the runs of a workspace did, check that nobody changed it, and do it again."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from orchestrator_cli.cli.options import AsJson, Debug, Folder, Output, RunName
from orchestrator_cli.cli.running import print_lines, reporting, settings_of
from orchestrator_cli.errors import UsageError

app = typer.Typer(rich_markup_mode=None)


@app.callback(invoke_without_command=True)
def log(
    context: typer.Context,
    run: Annotated[
        str, typer.Option("--run", metavar="RUN", help="Only this run: its id, the end of it, or `last`.")
    ] = "",
    tools: Annotated[bool, typer.Option("--tools", help="Only what befell tools.")] = False,
    grep: Annotated[str, typer.Option("--grep", metavar="TEXT", help="Only entries with this text.")] = "",
    workspace: Folder = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Read fileLog.md: what the runs of this workspace did."""
    if context.invoked_subcommand is not None:
        return
    with reporting(Output(quiet=True, debug=debug)):
        from orchestrator_cli.runs.verify import read_file_log
        from orchestrator_cli.views.pages import show_page
        from orchestrator_cli.views.reading import Wanted, chosen, entries_of, markdown_of

        path = _log_of(workspace)
        found = chosen(entries_of(read_file_log(path)), Wanted(run, tools, grep))
        if as_json:
            rows = [entry.as_json() for entry in found if entry.number is not None]
            typer.echo(json.dumps(rows, ensure_ascii=False))
        elif found:
            show_page(markdown_of(found))
        else:
            raise UsageError(f"No entry of {path} fits.", "`orch log` without options shows all of them.")


@app.command()
def verify(
    file: Annotated[
        Path | None, typer.Argument(help="The log to check (default: that of the workspace).")
    ] = None,
    workspace: Folder = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Check that no entry was altered, removed, reordered or inserted; name the first that was."""
    with reporting(Output(quiet=True, debug=debug)):
        from orchestrator_cli.cli.commands.log_output import audit_json, audit_lines
        from orchestrator_cli.runs.verify import audit

        found = audit(file or _log_of(workspace), settings_of(workspace))
        if as_json:
            typer.echo(json.dumps(audit_json(found), ensure_ascii=False))
        else:
            print_lines(audit_lines(found))
        raise typer.Exit(1 if found.fault else 0)


@app.command()
def show(
    digest: Annotated[str, typer.Argument(metavar="HASH", help="What an entry names, or its beginning.")],
    workspace: Folder = None,
    debug: Debug = False,
) -> None:
    """Print the whole of a text that was too long for its entry."""
    with reporting(Output(quiet=True, debug=debug)):
        from orchestrator_cli.runs.verify import kept_text
        from orchestrator_cli.views.streams import write
        from orchestrator_cli.views.text import clean

        text = kept_text(settings_of(workspace), digest)
        write(sys.stdout, clean(text) if sys.stdout.isatty() else text)


@app.command()
def replay(
    run: RunName,
    workspace: Folder = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Do a run's recorded work again on a copy of the workspace, and compare the files it makes."""
    with reporting(Output(quiet=True, debug=debug)):
        from orchestrator_cli.cli.commands.log_output import replayed_json, replayed_lines
        from orchestrator_cli.replay.compare import replay_run
        from orchestrator_cli.runs.find import find_run
        from orchestrator_cli.runtime import choose_sandbox

        settings = settings_of(workspace)
        found = replay_run(find_run(settings, run), settings, choose_sandbox(settings))
        if as_json:
            typer.echo(json.dumps(replayed_json(found), ensure_ascii=False))
        else:
            print_lines(replayed_lines(found))
        raise typer.Exit(0 if found.same else 1)


def _log_of(workspace: Path | None) -> Path:
    return settings_of(workspace).workspace.resolve() / "fileLog.md"
