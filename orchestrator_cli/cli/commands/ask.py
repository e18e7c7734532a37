"""`orch ask` and `orch plan`: run a prompt, or show the plan that it leads to."""

import sys

import typer

from orchestrator_cli.cli.foreground import ForegroundRun, confirm_no_sandbox
from orchestrator_cli.cli.options import (
    Folder,
    InspectOptions,
    LimitOptions,
    MaxParallel,
    ModelName,
    Network,
    NoReuse,
    NoSandbox,
    Output,
    PermissionOptions,
    Prompt,
    SessionOptions,
    with_options,
)
from orchestrator_cli.cli.reporting import reporting, run_flags, settings_of
from orchestrator_cli.errors import UsageError
from orchestrator_cli.orchestrator import plan_prompt
from orchestrator_cli.runtime import checked_prompt, open_run
from orchestrator_cli.views.graph import plan_lines

app = typer.Typer(rich_markup_mode=None)


@app.command()
@with_options
def ask(
    prompt: Prompt = "-",
    *,
    model: ModelName = None,
    workspace: Folder = None,
    conversation: SessionOptions,
    output: Output,
    limits: LimitOptions,
    max_parallel: MaxParallel = None,
    permissions: PermissionOptions,
    no_reuse: NoReuse = False,
    unsafe_no_sandbox: NoSandbox = False,
) -> None:
    """Run one prompt and print the answer."""
    with reporting(output) as console:
        unsafe = confirm_no_sandbox(asked=unsafe_no_sandbox, yes=permissions.yes)
        settings = settings_of(
            workspace,
            model=model,
            max_parallel=max_parallel,
            reuse="never" if no_reuse else None,
            **run_flags(limits, permissions),
        )
        run = ForegroundRun(settings, output, console, unsafe=unsafe)
        if conversation.goes_on or conversation.session is not None:
            name = conversation.session or ""
            run.ask_in_session(_read(prompt), name=name, goes_on=conversation.goes_on)
        else:
            run.ask(_read(prompt))


@app.command()
@with_options
def plan(
    prompt: Prompt = "-",
    *,
    model: ModelName = None,
    common: InspectOptions,
    network: Network = None,
    no_reuse: NoReuse = False,
) -> None:
    """Show the task graph of a prompt without running it."""
    with reporting(Output(quiet=True, debug=common.debug)):
        settings = settings_of(
            common.workspace, model=model, network=network or None, reuse="never" if no_reuse else None
        )
        text = checked_prompt(_read(prompt), settings.home)
        with open_run(settings, [], wants_engine=False) as run:
            made = plan_prompt(text, run)
        typer.echo(made.model_dump_json(indent=2) if common.as_json else "\n".join(plan_lines(made)))


def _read(prompt: str) -> str:
    if prompt != "-":
        return prompt
    if sys.stdin.isatty():
        raise UsageError("There is no prompt.", 'Say what you want done: orch ask "…", or run orch alone.')
    try:
        return sys.stdin.buffer.read().decode("utf-8")
    except UnicodeDecodeError as exc:
        raise UsageError("The prompt on standard input is not UTF-8 text.", "Convert it first.") from exc
