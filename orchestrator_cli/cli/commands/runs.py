"""The commands on runs of the past: list them, show one, undo it, end it, and say how it was."""

import contextlib
import sys
from datetime import datetime, timedelta
from functools import partial
from typing import Annotated, Literal

import typer

from orchestrator_cli.approvals.inbox import send_cancel
from orchestrator_cli.cli.formats import forms_of_run, print_formatted
from orchestrator_cli.cli.options import (
    ChangedRunName,
    CommonOptions,
    FormatOptions,
    InspectOptions,
    Output,
    RunName,
    with_options,
)
from orchestrator_cli.cli.page_images import page_images
from orchestrator_cli.cli.reporting import (
    confirm,
    print_content,
    print_json,
    print_lines,
    reporting,
    settings_of,
)
from orchestrator_cli.durable.lengths import seconds_of
from orchestrator_cli.errors import ConfigError, UsageError
from orchestrator_cli.journal.journal import EventView, damage
from orchestrator_cli.runs.background import background_of
from orchestrator_cli.runs.find import (
    LAST,
    FoundRun,
    PastRun,
    end_run,
    find_run,
    last_changed,
    look_at,
    named_with,
    recent,
)
from orchestrator_cli.runs.undo import show_changes, undo_run
from orchestrator_cli.same_folder import FolderReplaced
from orchestrator_cli.settings import Settings
from orchestrator_cli.state import fold
from orchestrator_cli.views.console import Console
from orchestrator_cli.views.filelog import FileLog
from orchestrator_cli.views.history import Summary, runs_lines
from orchestrator_cli.views.streams import changes_line, write_line
from orchestrator_cli.views.text import counted, one_line, size
from orchestrator_cli.workspace.diff import readable

app = typer.Typer(rich_markup_mode=None)

PROMPT_CHARS = 100
NAMED = 20
"""Runs that are named before they are removed."""


@app.command()
@with_options
def runs(
    *,
    everywhere: Annotated[bool, typer.Option("--all", help="List the runs of every workspace.")] = False,
    limit: Annotated[int, typer.Option("-n", "--limit", min=1, help="Show at most N.", metavar="N")] = 20,
    common: InspectOptions,
) -> None:
    """List the runs of this workspace, newest first."""
    with reporting(Output(quiet=True, debug=common.debug)) as console:
        settings = settings_of(common.workspace)
        unread: list[str] = []
        found = recent(settings, everywhere=everywhere, limit=limit, on_unread=unread.append)
        rows = [_summary(one) for one in found]
        print_lines(unread, sys.stderr)
        if common.as_json:
            print_json([row.as_json() for row in rows])
        elif rows:
            print_lines(runs_lines(rows, everywhere=everywhere))
        elif everywhere:
            console.lines(["There are no runs yet."])
        else:
            console.lines([f"There are no runs of {settings.workspace.resolve()}. --all lists every run."])


@app.command()
@with_options
def show(run: RunName, common: FormatOptions) -> None:
    """Show a run: its graph, how the plan changed, who did what, and what it cost."""
    with reporting(Output(quiet=True, debug=common.debug)):
        settings = settings_of(common.workspace)
        past = find_run(settings, run)
        found = past.events()
        print_lines(damage(past.journal), sys.stderr)
        one = look_at(past, found)
        images = partial(page_images, past, one.state, settings)
        print_formatted(common, forms_of_run(_summary(one), one.state, found, images), settings)


@app.command()
@with_options
def cancel(run: RunName, common: CommonOptions) -> None:
    """End a run for good, whether it is running or has stopped. What it finished stays."""
    with reporting(Output(debug=common.debug)) as console:
        past = find_run(settings_of(common.workspace), run)
        one = look_at(past)
        if one.status == "running":
            send_cancel(past.folder)
            console.lines([f"Run {past.run} was asked to end (process {one.pid or 'unknown'})."])
            return
        end_run(past, [*_logs_of(past), console])


@app.command()
@with_options
def undo(
    run: ChangedRunName,
    *,
    to: Annotated[str, typer.Option("--to", help="Go back only to the state just after this subtask.")] = "",
    common: InspectOptions,
) -> None:
    """Restore the workspace as it was before a run, unless a file has changed since."""
    with reporting(Output(quiet=common.as_json, debug=common.debug)) as console:
        settings = settings_of(common.workspace)
        past = named_with(_changed_run(settings, run, common, console), run, common.workspace)
        changes = undo_run(settings, past, to, lambda: [*_logs_of(past), console])
        _remember_undo(settings, past, console)
        if common.as_json:
            write_line(sys.stdout, changes_line(past.run, changes))
        elif not changes:
            console.lines([f"There is nothing to undo: the workspace is as it was before run {past.run}."])


def _changed_run(settings: Settings, name: str, common: InspectOptions, console: Console) -> PastRun:
    """The run whose changes a command is about. A person is shown which one `last` is."""
    if name != LAST:
        return find_run(settings, name)
    past, newer = last_changed(settings)
    if not common.as_json:
        lines = [f"run {past.run}: {one_line(fold(past.events()).prompt, PROMPT_CHARS)}"]
        console.lines([*lines, f"{counted(newer, 'newer run')} changed no files."] if newer else lines)
    return past


def _remember_undo(settings: Settings, past: PastRun, console: Console) -> None:
    """Have planners know of an undo, also if the process that did it was killed before it could say so."""
    if not fold(past.events()).undone:
        return
    # Most commands here need no memory, and start faster without it.
    from memory import MemoryFault
    from orchestrator_cli.recall.run_memory import open_memory
    from orchestrator_cli.recall.scopes import user_scope
    from orchestrator_cli.runs.feedback import learn_undo

    try:
        settings = settings.model_copy(update={"home": past.home})
        with contextlib.closing(open_memory(settings, lambda text: console.lines([text]))) as memory:
            learn_undo(past, memory, user_scope(settings))
    except (MemoryFault, ConfigError) as exc:
        console.lines([f"The files are restored, but memory does not know of it: {exc}"])


@app.command()
@with_options
def diff(run: ChangedRunName, common: InspectOptions) -> None:
    """Show what a run changed in the workspace, as a unified diff."""
    with reporting(Output(quiet=True, debug=common.debug)) as console:
        past = _changed_run(settings_of(common.workspace), run, common, console)
        shown = show_changes(past)
        if common.as_json:
            write_line(sys.stdout, changes_line(past.run, shown.changes))
            return
        # To a person everything is shown; a program receives the patch.
        if sys.stdout.isatty():
            print_lines(readable(shown.lines))
        else:
            print_content("".join(f"{line}\n" for line in shown.lines))
        if not shown.lines:
            console.lines([f"Run {past.run} changed no files."])
        elif shown.undone:
            console.lines([f"Run {past.run} was undone since."])


@app.command()
@with_options
def prune(
    *,
    older_than: Annotated[
        str,
        typer.Option(
            "--older-than", metavar="LENGTH", help="Remove runs that began longer ago than this: 12h, 30d."
        ),
    ],
    everywhere: Annotated[bool, typer.Option("--all", help="Remove runs of every workspace.")] = False,
    dry_run: Annotated[bool, typer.Option("-n", "--dry-run", help="Only say what would be removed.")] = False,
    yes: Annotated[bool, typer.Option("-y", "--yes", help="Remove them without a question.")] = False,
    common: InspectOptions,
) -> None:
    """Remove old runs that have ended, with what undo needs. Your files and fileLog.md stay."""
    with reporting(Output(quiet=common.as_json, debug=common.debug)) as console:
        from orchestrator_cli.runs.prune import finish_removals, prunable, remove_runs

        settings = settings_of(common.workspace)
        try:
            before = datetime.now() - timedelta(seconds=seconds_of(older_than))
        except (ValueError, OverflowError) as exc:
            raise UsageError(f"{exc}.", "Write 12h, 30d or 8w.") from exc
        root = None if everywhere else settings.workspace.resolve()
        unread: list[str] = []
        found = list(prunable(settings.home, before, root, unread.append))
        print_lines(unread, sys.stderr)
        what = f"{counted(len(found), 'run')}, {size(sum(one.size for one in found))}"
        if found and not dry_run:
            if not yes:
                console.lines([f"{one.past.run}  {one.past.root}" for one in found[:NAMED]])
                confirm(f"Remove {what}? They can no longer be undone or shown.", "Removing runs", "removed")
            finish_removals(settings.home)
            failed: list[str] = []
            found = remove_runs(found, failed.append)
            print_lines(failed, sys.stderr)
            what = f"{counted(len(found), 'run')}, {size(sum(one.size for one in found))}"
        if common.as_json:
            print_json({"runs": [one.past.run for one in found], "bytes": sum(one.size for one in found)})
        else:
            print_lines([f"{what} {'would be removed' if dry_run else 'removed'}"])


@app.command()
@with_options
def feedback(
    run: RunName,
    vote: Annotated[Literal["good", "bad"], typer.Argument(help="How the run was.", show_default=False)],
    why: Annotated[str, typer.Argument(metavar="WHY", help="Why, in a sentence that planners see.")] = "",
    *,
    common: InspectOptions,
) -> None:
    """Say whether a run was good or bad. Later plans for similar requests take it into account."""
    with reporting(Output(quiet=True, debug=common.debug)) as console:
        # The other commands here need no memory, and start faster without it.
        from orchestrator_cli.recall.run_memory import open_memory
        from orchestrator_cli.recall.scopes import user_scope
        from orchestrator_cli.runs.feedback import give_feedback

        settings = settings_of(common.workspace)
        past = find_run(settings, run)
        settings = settings.model_copy(update={"home": past.home})
        with contextlib.closing(open_memory(settings, lambda text: console.lines([text]))) as memory:
            user = user_scope(settings)
            message = give_feedback(past, vote, why, memory=memory, user=user, views=lambda: _logs_of(past))
        if common.as_json:
            print_json({"run": past.run, "vote": vote, "why": why, "message": message})
        else:
            console.lines([message])


def _logs_of(past: PastRun) -> list[EventView]:
    """The log of the run's workspace, with every entry of the run; none if another folder has its place."""
    try:
        log = FileLog(past.root / "fileLog.md", past.home, past.mark)
    except FolderReplaced:
        return []
    log.complete(past.events())
    return [log]


def _summary(one: FoundRun) -> Summary:
    state = one.state
    return Summary(
        run=one.where.run,
        state=one.status,
        prompt=state.prompt,
        workspace=str(one.where.root),
        began=state.began,
        seconds=state.seconds,
        usage=state.usage,
        pid=one.pid,
        forked_from=state.started.forked_from if state.started else None,
        schedule=about.schedule if (about := background_of(one.where)) else "",
        approvals=state.open if one.status in ("running", "paused") else (),
        undone=state.undone,
    )
