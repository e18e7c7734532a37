"""`orch tools build`: builds one tool as a run of its own."""

from typing import Annotated

import typer

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
from orchestrator_cli.cli.reporting import approval_kinds, reporting, settings_of


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
        settings = settings_of(
            workspace,
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
