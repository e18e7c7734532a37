"""The command line: flags become settings, a run becomes an exit code.

Nothing heavy is imported before a command needs it, so that help and version come at once.
"""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestrator_cli import __version__
from orchestrator_cli.cancellation import something_runs_beside
from orchestrator_cli.errors import Interrupted, OrchError, UsageError

if TYPE_CHECKING:
    from orchestrator_cli.execution.journal import View
    from orchestrator_cli.models.model import Model
    from orchestrator_cli.settings import Settings
    from orchestrator_cli.views.console import Console

app = typer.Typer(
    name="orch",
    help="A prompt becomes a task graph that runs, builds the tools it lacks, and changes as results arrive.",
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

ModelName = Annotated[
    str | None,
    typer.Option("-m", "--model", help="LiteLLM's name of the model."),
]
Folder = Annotated[
    Path | None, typer.Option("-C", "--workspace", help="The folder to work in (default: here).")
]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="Print the answer and nothing else.")]
Verbose = Annotated[bool, typer.Option("-v", "--verbose", help="Show every step.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show where an error came from.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object about the run.")]
StreamJson = Annotated[bool, typer.Option("--stream-json", help="Print every event as a line of JSON.")]
MaxCost = Annotated[float | None, typer.Option(help="End the run at this many US dollars.")]
AllowUnpriced = Annotated[
    bool | None,
    typer.Option("--allow-unpriced", help="With --max-cost, use models whose price is not known as well."),
]
MaxCalls = Annotated[int | None, typer.Option(help="End the run at this many model calls.")]
MaxTokens = Annotated[int | None, typer.Option(help="End the run at this many tokens.")]
Timeout = Annotated[float | None, typer.Option(help="End the run after this many seconds.")]
MaxParallel = Annotated[int | None, typer.Option(help="Subtasks that run at once.")]
Network = Annotated[
    list[str] | None,
    typer.Option("--network", help="Domain that may be reached without a question; repeat for more."),
]
Yes = Annotated[bool, typer.Option("-y", "--yes", help="Answer yes to everything that would be asked.")]
NoSandbox = Annotated[
    bool,
    typer.Option(
        "--unsafe-no-sandbox",
        help="Run code written by a model WITHOUT A SANDBOX, with all your rights. Has to be confirmed.",
    ),
]
RunName = Annotated[
    str, typer.Argument(metavar="RUN", help="The run's id, the end of it, or `last`: this folder's newest.")
]

ENDING_S = 5.0
"""After this long, one more Ctrl-C ends a process that should have ended by itself."""

RECORDED = "The model's replies are recorded; everything else is real."


@dataclass(frozen=True)
class Output:
    """What goes to the screen, and how."""

    quiet: bool = False
    verbose: bool = False
    as_json: bool = False
    stream_json: bool = False
    debug: bool = False

    def console(self) -> Console:
        from orchestrator_cli.views.console import Console

        return Console(quiet=self.quiet or self.as_json or self.stream_json, verbose=self.verbose)


def main() -> None:
    """The `orch` command."""
    interrupts = _Interrupts()
    signal.signal(signal.SIGINT, interrupts)
    signal.signal(signal.SIGTERM, interrupts)
    try:
        app()
    except SystemExit as exc:
        if something_runs_beside():
            _leave(exc.code)
        raise
    except KeyboardInterrupt:
        _leave(Interrupted.exit_code)
    finally:
        # The interpreter's end undoes handlers: one more Ctrl-C would then change the exit code.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        # At exit the interpreter would spend more than a second collecting what is about to vanish.
        gc.freeze()


def _leave(code: object) -> None:
    """End the process here and now; all that has to last is on disk."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code if isinstance(code, int) else 1 if code else 0)


class _Interrupts:
    """The first signal ends the run; more of them do not disturb its end, unless that takes too long."""

    def __init__(self) -> None:
        self._first: float | None = None

    def __call__(self, *_: object) -> None:
        if self._first is None:
            self._first = time.monotonic()
            raise KeyboardInterrupt
        if time.monotonic() - self._first > ENDING_S:
            _leave(Interrupted.exit_code)


@app.callback(invoke_without_command=True)
def start(
    context: typer.Context,
    model: ModelName = None,
    workspace: Folder = None,
    max_cost: MaxCost = None,
    allow_unpriced: AllowUnpriced = None,
    verbose: Verbose = False,
    unsafe_no_sandbox: NoSandbox = False,
    debug: Debug = False,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    """Without a command, orch is interactive."""
    if version:
        typer.echo(f"orch {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is not None:
        return
    output = Output(verbose=verbose, debug=debug)
    with _reporting(output) as console:
        from orchestrator_cli.repl import run_repl
        from orchestrator_cli.session import ReplSession
        from orchestrator_cli.unsafe import allowed_by

        unsafe = allowed_by(asked=unsafe_no_sandbox, yes=False)
        signal.signal(signal.SIGINT, signal.default_int_handler)  # each run of the loop may be interrupted
        settings = _settings(workspace, model=model, max_cost=max_cost, allow_unpriced=allow_unpriced)
        raise typer.Exit(run_repl(ReplSession(settings, console, unsafe)))


@app.command()
def ask(
    prompt: Annotated[str, typer.Argument(help="What you want done; - reads it from standard input.")] = "-",
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
    yes: Yes = False,
    unsafe_no_sandbox: NoSandbox = False,
    debug: Debug = False,
) -> None:
    """Run one prompt and print the answer."""
    output = Output(quiet, verbose, as_json, stream_json, debug)
    with _reporting(output) as console:
        from orchestrator_cli.unsafe import allowed_by

        unsafe = allowed_by(asked=unsafe_no_sandbox, yes=yes)
        settings = _settings(
            workspace,
            model=model,
            max_cost=max_cost,
            allow_unpriced=allow_unpriced,
            max_calls=max_calls,
            max_tokens=max_tokens,
            timeout=timeout,
            max_parallel=max_parallel,
            network=network or None,
            yes=yes or None,
        )
        _run(_read(prompt), settings, output, console, unsafe=unsafe)


@app.command()
def plan(
    prompt: Annotated[str, typer.Argument(help="What you want done; - reads it from standard input.")] = "-",
    model: ModelName = None,
    workspace: Folder = None,
    as_json: AsJson = False,
    network: Network = None,
    debug: Debug = False,
) -> None:
    """Show the task graph of a prompt without running it."""
    output = Output(quiet=True, debug=debug)
    with _reporting(output):
        from orchestrator_cli.house import checked_prompt, open_house
        from orchestrator_cli.orchestrator import plan_prompt
        from orchestrator_cli.views.graph import plan_lines

        settings = _settings(workspace, model=model, network=network or None)
        text = checked_prompt(_read(prompt), settings.home)
        with open_house(settings, [], wants_engine=False) as house:
            made = plan_prompt(text, house)
        typer.echo(made.model_dump_json(indent=2) if as_json else "\n".join(plan_lines(made)))


@app.command()
def demo(
    workspace: Folder = None,
    again: Annotated[
        bool, typer.Option("--again", help="Repeat the prompt, now that it and its tool are remembered.")
    ] = False,
    record: Annotated[bool, typer.Option("--record", hidden=True)] = False,
    reuse: Annotated[bool, typer.Option("--reuse", hidden=True)] = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    as_json: AsJson = False,
    stream_json: StreamJson = False,
    debug: Debug = False,
) -> None:
    """Watch the founding prompt run on recorded model replies; everything else is real."""
    output = Output(quiet, verbose, as_json, stream_json, debug)
    with _reporting(output) as console:
        from orchestrator_cli import demo as founding

        folder = founding.prepare_workspace(workspace or founding.FOLDER)
        settings = _settings(folder)
        home = settings.home / "demo"
        founding.prepare_home(home, again=again)
        settings = settings.model_copy(update={"prefect_home": settings.home, "home": home})
        if record:
            with founding.recording(again=again, reuse=reuse) as recorder:
                _run(founding.PROMPT, settings, output, console, recorder=recorder)
            return
        if not (output.quiet or as_json or stream_json):
            console.lines([RECORDED, "", founding.PROMPT, ""])
        _run(founding.PROMPT, settings, output, console, model=founding.recorded_model(again=again))


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
    with _reporting(Output(quiet=as_json, debug=debug)) as console:
        from orchestrator_cli.undo import find_run, undo_run
        from orchestrator_cli.views.filelog import FileLog
        from orchestrator_cli.views.jsonl import changes_line

        settings = _settings(workspace)
        past = find_run(settings, run)

        def views() -> list[View]:
            return [FileLog(past.root / "fileLog.md"), console]

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
    with _reporting(Output(quiet=True, debug=debug)) as console:
        from orchestrator_cli.undo import find_run, show_changes
        from orchestrator_cli.views.jsonl import changes_line
        from orchestrator_cli.views.streams import write
        from orchestrator_cli.views.text import clean

        past = find_run(_settings(workspace), run)
        shown = show_changes(past)
        if as_json:
            typer.echo(changes_line(past.run, shown.changes))
            return
        lines = map(clean, shown.lines) if sys.stdout.isatty() else shown.lines
        write(sys.stdout, "".join(f"{line}\n" for line in lines))
        if not shown.lines:
            console.lines([f"Run {past.run} changed no files."])
        elif shown.undone:
            console.lines([f"Run {past.run} was undone since."])


@app.command()
def doctor(
    workspace: Folder = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Check that everything orch needs is there, and say what to do where it is not."""
    with _reporting(Output(quiet=True, debug=debug)) as console:
        from orchestrator_cli.doctor import examine, report_lines

        findings = examine(_settings(workspace))
        if as_json:
            typer.echo("[" + ",".join(finding.model_dump_json() for finding in findings) + "]")
        else:
            console.lines(report_lines(findings))
        raise typer.Exit(0 if all(finding.ok for finding in findings) else 3)


def _run(
    prompt: str,
    settings: Settings,
    output: Output,
    console: Console,
    *,
    model: Model | None = None,
    recorder: Callable[[Model], Model] | None = None,
    unsafe: str = "",
) -> None:
    from orchestrator_cli.house import checked_prompt, open_house
    from orchestrator_cli.orchestrator import run_prompt
    from orchestrator_cli.views.filelog import FileLog
    from orchestrator_cli.views.jsonl import Envelope, JsonLines, envelope_line

    envelope = Envelope()
    error: OrchError | None = None
    try:
        text = checked_prompt(prompt, settings.home)
        views: list[Any] = [file_log(settings, FileLog), console, envelope]
        if output.stream_json:
            views.append(JsonLines(sys.stdout))
        with open_house(settings, views, model=model, recorder=recorder, unsafe=unsafe) as house:
            result = run_prompt(text, house)
            error = result.shortfall
    except OrchError as exc:
        error = exc
        raise
    finally:
        if output.as_json:
            typer.echo(envelope_line(envelope.result(error)))
    if not (output.as_json or output.stream_json):
        console.print_answer(result.answer)
    if result.shortfall is not None:
        raise result.shortfall


def file_log(settings: Settings, make: Any) -> Any:
    """The log of the workspace. Raises `UsageError` where the workspace is no folder, before the log can."""
    from orchestrator_cli.execution.workspace import check_folder

    check_folder(settings.workspace)
    return make(settings.workspace / "fileLog.md")


def _settings(workspace: Path | None, **flags: Any) -> Settings:
    from orchestrator_cli.settings import load_settings

    return load_settings(flags, workspace or Path.cwd())


def _read(prompt: str) -> str:
    if prompt != "-":
        return prompt
    if sys.stdin.isatty():
        raise UsageError("There is no prompt.", 'Say what you want done: orch ask "…", or open orch alone.')
    try:
        return sys.stdin.buffer.read().decode("utf-8")
    except UnicodeDecodeError as exc:
        raise UsageError("The prompt on standard input is no UTF-8 text.", "Convert it first.") from exc


@contextlib.contextmanager
def _reporting(output: Output) -> Iterator[Console]:
    """Turn errors into one message and an exit code; a traceback only where it was asked for."""
    console = output.console()
    try:
        yield console
    except OrchError as exc:
        console.close()
        if output.debug:
            traceback.print_exc()
        console.error(exc)
        raise typer.Exit(exc.exit_code) from exc
    except KeyboardInterrupt:
        console.close()
        interrupted = Interrupted("Interrupted.")
        console.error(interrupted)
        raise typer.Exit(interrupted.exit_code) from None
    finally:
        console.close()


if __name__ == "__main__":
    main()
