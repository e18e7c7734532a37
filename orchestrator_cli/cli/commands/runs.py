"""The commands on runs that were begun before: look at them, go on with them, take them back."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestrator_cli.cli.options import (
    AllowUnpriced,
    Approve,
    AsJson,
    Debug,
    Folder,
    MaxCalls,
    MaxCost,
    MaxParallel,
    MaxTokens,
    ModelName,
    Network,
    NoSandbox,
    Output,
    Quiet,
    RunName,
    StreamJson,
    Timeout,
    Verbose,
    Yes,
)
from orchestrator_cli.cli.running import Running, kinds, print_lines, reporting, settings_of

if TYPE_CHECKING:
    from orchestrator_cli.journal.journal import View
    from orchestrator_cli.runs.find import FoundRun, PastRun
    from orchestrator_cli.settings import Settings
    from orchestrator_cli.views.console import Console
    from orchestrator_cli.views.history import Summary

app = typer.Typer(rich_markup_mode=None)


@app.command()
def runs(
    everywhere: Annotated[bool, typer.Option("--all", help="Those of every workspace.")] = False,
    limit: Annotated[int, typer.Option("-n", "--limit", min=1, help="At most so many.")] = 20,
    workspace: Folder = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """List the runs of this workspace, newest first."""
    with reporting(Output(quiet=True, debug=debug)) as console:
        from orchestrator_cli.runs.find import recent
        from orchestrator_cli.views.history import runs_lines

        settings = settings_of(workspace)
        rows = [_summary(one) for one in recent(settings, everywhere=everywhere, limit=limit)]
        if as_json:
            typer.echo(json.dumps([row.as_json() for row in rows], ensure_ascii=False))
        elif rows:
            print_lines(runs_lines(rows, everywhere=everywhere))
        elif everywhere:
            console.lines(["No run has been made yet."])
        else:
            console.lines([f"No run has worked on {settings.workspace.resolve()}. --all lists every run."])


@app.command()
def show(
    run: RunName,
    workspace: Folder = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Show a run: its graph, how the plan changed, who did what, and what it cost."""
    with reporting(Output(quiet=True, debug=debug)):
        from orchestrator_cli.runs.find import find_run, look_at
        from orchestrator_cli.views.history import show_json, show_lines

        where = find_run(settings_of(workspace), run)
        found = where.events()
        one = look_at(where, found)
        summary, history = _summary(one), one.state
        if as_json:
            typer.echo(json.dumps(show_json(summary, history), ensure_ascii=False))
        else:
            print_lines(show_lines(summary, history))


@app.command()
def resume(
    run: RunName,
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
    max_parallel: MaxParallel = None,
    network: Network = None,
    approve: Approve = None,
    yes: Yes = False,
    unsafe_no_sandbox: NoSandbox = False,
    debug: Debug = False,
) -> None:
    """Go on with a run that was killed, interrupted, stopped by a limit, or waits for you."""
    output = Output(quiet, verbose, as_json, stream_json, debug)
    with reporting(output) as console:
        from orchestrator_cli.cli.unsafe import allowed_by
        from orchestrator_cli.runs.find import find_run

        limits = {"max_cost": max_cost, "max_calls": max_calls, "max_tokens": max_tokens, "timeout": timeout}
        flags = {
            **limits,
            "model": model,
            "allow_unpriced": allow_unpriced,
            "max_parallel": max_parallel,
            "network": network or None,
            "approve": kinds(approve),
            "yes": yes or None,
        }
        unsafe = allowed_by(asked=unsafe_no_sandbox, yes=yes)
        where = find_run(settings_of(workspace), run)
        go_on(where, flags, limits, output, console, unsafe)


@app.command()
def fork(
    run: RunName,
    at: Annotated[str, typer.Option("--at", help="The subtask to do anew, with all that depends on it.")],
    prompt: Annotated[
        str, typer.Option("--prompt", help="What should be otherwise; the plan is changed accordingly.")
    ] = "",
    model: ModelName = None,
    workspace: Folder = None,
    quiet: Quiet = False,
    verbose: Verbose = False,
    as_json: AsJson = False,
    stream_json: StreamJson = False,
    max_cost: MaxCost = None,
    max_calls: MaxCalls = None,
    max_tokens: MaxTokens = None,
    timeout: Timeout = None,
    yes: Yes = False,
    debug: Debug = False,
) -> None:
    """Begin a new run from the finished part of another, without one subtask and what depends on it."""
    output = Output(quiet, verbose, as_json, stream_json, debug)
    with reporting(output) as console:
        from orchestrator_cli.runs.find import find_run
        from orchestrator_cli.runs.fork import fork_run

        limits = {"max_cost": max_cost, "max_calls": max_calls, "max_tokens": max_tokens, "timeout": timeout}
        where = find_run(settings_of(workspace), run)
        made = fork_run(where, at, prompt.strip())
        go_on(made, {**limits, "model": model, "yes": yes or None}, limits, output, console)


@app.command()
def cancel(run: RunName, workspace: Folder = None, debug: Debug = False) -> None:
    """End a run for good, whether it goes on now or has stopped; what it finished stays."""
    with reporting(Output(debug=debug)) as console:
        from orchestrator_cli.approvals.inbox import send_cancel
        from orchestrator_cli.runs.find import end_run, find_run, look_at
        from orchestrator_cli.views.filelog import FileLog

        where = find_run(settings_of(workspace), run)
        one = look_at(where)
        if one.status == "running":
            send_cancel(where.folder)
            console.lines([f"Run {where.run} was told to end (process {one.pid or 'unknown'})."])
            return
        log = FileLog(where.root / "fileLog.md", where.home)
        log.complete(where.events())
        end_run(where, [log, console])


@app.command()
def undo(
    run: RunName,
    to: Annotated[
        str, typer.Option("--to", help="Go back only to where the workspace was just after this subtask.")
    ] = "",
    workspace: Folder = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Restore the workspace to before a run; refuses where a file was changed since."""
    with reporting(Output(quiet=as_json, debug=debug)) as console:
        from orchestrator_cli.runs.find import find_run
        from orchestrator_cli.runs.undo import undo_run
        from orchestrator_cli.views.filelog import FileLog
        from orchestrator_cli.views.jsonl import changes_line

        settings = settings_of(workspace)
        past = find_run(settings, run)

        def views() -> list[View]:
            log = FileLog(past.root / "fileLog.md", past.home)
            log.complete(past.events())
            return [log, console]

        changes = undo_run(settings, past, to, views)
        if as_json:
            typer.echo(changes_line(past.run, changes))
        elif not changes:
            console.lines([f"There is nothing to undo: the workspace is as it was before run {past.run}."])


@app.command()
def diff(
    run: RunName,
    workspace: Folder = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Show what a run changed in the workspace, as a unified diff."""
    with reporting(Output(quiet=True, debug=debug)) as console:
        from orchestrator_cli.runs.find import find_run
        from orchestrator_cli.runs.undo import show_changes
        from orchestrator_cli.views.jsonl import changes_line

        past = find_run(settings_of(workspace), run)
        shown = show_changes(past)
        if as_json:
            typer.echo(changes_line(past.run, shown.changes))
            return
        print_lines(shown.lines)
        if not shown.lines:
            console.lines([f"Run {past.run} changed no files."])
        elif shown.undone:
            console.lines([f"Run {past.run} was undone since."])


def go_on(
    where: PastRun,
    flags: dict[str, Any],
    limits: dict[str, Any],
    output: Output,
    console: Console,
    unsafe: str = "",
) -> None:
    """Go on with a run in its own workspace, with the models that it had where they were recorded."""
    from orchestrator_cli.cli import demo
    from orchestrator_cli.execution.resume import is_over
    from orchestrator_cli.state import fold

    found = where.events()
    past = fold(found)
    settings = _settings_for(where, flags)
    names = past.started.models.values() if past.started else ()
    model = demo.model_of(tuple(names)) if settings.home.name == "demo" else None
    running = Running(settings, output, console, model=model, unsafe=unsafe)
    if past.finished is not None and is_over(past):
        running.say_again(found, past.finished)
    else:
        running.resume(where.run, {name: value for name, value in limits.items() if value is not None})


def _settings_for(where: PastRun, flags: dict[str, Any]) -> Settings:
    """The settings of today for the workspace of a run, in the home that has it."""
    settings = settings_of(where.root, **flags)
    if where.home == settings.home:
        return settings
    return settings.model_copy(
        update={"home": where.home, "prefect_home": settings.prefect_home or settings.home}
    )


def _summary(one: FoundRun) -> Summary:
    from orchestrator_cli.views.history import Summary

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
        approvals=state.open if one.status in ("running", "paused") else (),
    )
