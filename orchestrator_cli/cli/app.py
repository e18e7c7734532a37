"""The command line: flags become settings, a run becomes an exit code.

Nothing heavy is imported before a command needs it, so that help and version come at once.
"""

import contextlib
import gc
import os
import signal
import sys
import time
from typing import Annotated

import typer

from orchestrator_cli import __version__
from orchestrator_cli.cancellation import something_runs_beside
from orchestrator_cli.cli.commands import approve as approving
from orchestrator_cli.cli.commands import feedback, kb, log, mcp, memory, tools
from orchestrator_cli.cli.commands import runs as past
from orchestrator_cli.cli.options import (
    AllowUnpriced,
    Approve,
    AsJson,
    Continue,
    Debug,
    Folder,
    MaxCalls,
    MaxCost,
    MaxParallel,
    MaxTokens,
    ModelName,
    Network,
    NoReuse,
    NoSandbox,
    OptionsAnywhere,
    Output,
    Quiet,
    SessionName,
    StreamJson,
    Timeout,
    Verbose,
    Yes,
)
from orchestrator_cli.cli.running import Running, kinds, reporting, settings_of
from orchestrator_cli.errors import Interrupted, UsageError
from orchestrator_cli.settings import spare_loopback_the_proxy

app = typer.Typer(
    name="orch",
    cls=OptionsAnywhere,
    help="A prompt becomes a task graph that runs, builds the tools it lacks, and changes as results arrive.",
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

ENDING_S = 5.0
"""After this long, one more Ctrl-C ends a process that should have ended by itself."""

RECORDED = "The model's replies are recorded; everything else is real."


def main() -> None:
    """The `orch` command."""
    spare_loopback_the_proxy()
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
    if keyboard := sys.modules.get("orchestrator_cli.views.keyboard"):
        keyboard.restore()  # nothing that is registered for the end is done
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


def _print_version(context: typer.Context, asked: bool) -> None:
    if asked and not context.resilient_parsing:
        typer.echo(f"orch {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def start(
    context: typer.Context,
    model: ModelName = None,
    workspace: Folder = None,
    goes_on: Continue = False,
    session: SessionName = None,
    max_cost: MaxCost = None,
    allow_unpriced: AllowUnpriced = None,
    verbose: Verbose = False,
    approve: Approve = None,
    yes: Yes = False,
    unsafe_no_sandbox: NoSandbox = False,
    debug: Debug = False,
    _version: Annotated[
        bool,
        typer.Option("--version", help="Print the version.", is_eager=True, callback=_print_version),
    ] = False,
) -> None:
    """Without a command, orch is interactive."""
    if context.invoked_subcommand is not None:
        return
    output = Output(verbose=verbose, debug=debug)
    with reporting(output) as console:
        from orchestrator_cli.cli.chat.repl import run_repl
        from orchestrator_cli.cli.chat.repl_session import ReplSession
        from orchestrator_cli.cli.unsafe import allowed_by

        unsafe = allowed_by(asked=unsafe_no_sandbox, yes=False)
        signal.signal(signal.SIGINT, signal.default_int_handler)  # each run of the loop may be interrupted
        settings = settings_of(
            workspace,
            model=model,
            max_cost=max_cost,
            allow_unpriced=allow_unpriced,
            approve=kinds(approve),
            yes=yes or None,
        )
        loop = ReplSession(settings, console, unsafe, name=session or "", goes_on=goes_on)
        code = run_repl(loop)
        if code != Interrupted.exit_code:
            loop.leave()
        raise typer.Exit(code)


@app.command()
def ask(
    prompt: Annotated[str, typer.Argument(help="What you want done; - reads it from standard input.")] = "-",
    model: ModelName = None,
    workspace: Folder = None,
    goes_on: Continue = False,
    session: SessionName = None,
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
    no_reuse: NoReuse = False,
    approve: Approve = None,
    yes: Yes = False,
    unsafe_no_sandbox: NoSandbox = False,
    debug: Debug = False,
) -> None:
    """Run one prompt and print the answer."""
    output = Output(quiet, verbose, as_json, stream_json, debug)
    with reporting(output) as console:
        from orchestrator_cli.cli.unsafe import allowed_by

        unsafe = allowed_by(asked=unsafe_no_sandbox, yes=yes)
        settings = settings_of(
            workspace,
            model=model,
            max_cost=max_cost,
            allow_unpriced=allow_unpriced,
            max_calls=max_calls,
            max_tokens=max_tokens,
            timeout=timeout,
            max_parallel=max_parallel,
            network=network or None,
            reuse="never" if no_reuse else None,
            approve=kinds(approve),
            yes=yes or None,
        )
        running = Running(settings, output, console, unsafe=unsafe)
        if goes_on or session is not None:
            running.ask_within(_read(prompt), name=session or "", goes_on=goes_on)
        else:
            running.ask(_read(prompt))


@app.command()
def plan(
    prompt: Annotated[str, typer.Argument(help="What you want done; - reads it from standard input.")] = "-",
    model: ModelName = None,
    workspace: Folder = None,
    as_json: AsJson = False,
    network: Network = None,
    no_reuse: NoReuse = False,
    debug: Debug = False,
) -> None:
    """Show the task graph of a prompt without running it."""
    output = Output(quiet=True, debug=debug)
    with reporting(output):
        from orchestrator_cli.orchestrator import plan_prompt
        from orchestrator_cli.runtime import checked_prompt, open_run
        from orchestrator_cli.views.graph import plan_lines

        settings = settings_of(
            workspace, model=model, network=network or None, reuse="never" if no_reuse else None
        )
        text = checked_prompt(_read(prompt), settings.home)
        with open_run(settings, [], wants_engine=False) as run:
            made = plan_prompt(text, run)
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
    with reporting(output) as console:
        from orchestrator_cli.cli import demo as founding

        folder = founding.prepare_workspace(workspace or founding.FOLDER)
        settings = settings_of(folder)
        home = settings.home / "demo"
        founding.prepare_home(home, again=again)
        settings = settings.model_copy(update={"prefect_home": settings.home, "home": home})
        if record:
            with founding.recording(again=again, reuse=reuse) as recorder:
                Running(settings, output, console, recorder=recorder).ask(founding.PROMPT)
            return
        if not (output.quiet or as_json or stream_json):
            console.lines([RECORDED, "", founding.PROMPT, ""])
        Running(settings, output, console, model=founding.recorded_model(again=again)).ask(founding.PROMPT)


@app.command()
def doctor(
    workspace: Folder = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Check that everything orch needs is there, and say what to do where it is not."""
    with reporting(Output(quiet=True, debug=debug)) as console:
        from orchestrator_cli.cli.doctor import examine, report_lines

        findings = examine(settings_of(workspace))
        if as_json:
            typer.echo("[" + ",".join(finding.model_dump_json() for finding in findings) + "]")
        else:
            console.lines(report_lines(findings))
        raise typer.Exit(0 if all(finding.ok for finding in findings) else 3)


def _read(prompt: str) -> str:
    if prompt != "-":
        return prompt
    if sys.stdin.isatty():
        raise UsageError("There is no prompt.", 'Say what you want done: orch ask "…", or open orch alone.')
    try:
        return sys.stdin.buffer.read().decode("utf-8")
    except UnicodeDecodeError as exc:
        raise UsageError("The prompt on standard input is no UTF-8 text.", "Convert it first.") from exc


app.add_typer(past.app)
app.add_typer(approving.app)
app.add_typer(feedback.app)
app.add_typer(kb.app, name="kb")
app.add_typer(log.app, name="log")
app.add_typer(mcp.app)
app.add_typer(memory.app, name="memory")
app.add_typer(tools.app, name="tools")


if __name__ == "__main__":
    main()
