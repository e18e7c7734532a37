"""`orch mcp`: the tools of the library and whole runs, served to other programs over MCP."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from orchestrator_cli.cli.options import (
    AllowUnpriced,
    Approve,
    Debug,
    Folder,
    MaxCalls,
    MaxCost,
    MaxParallel,
    MaxTokens,
    ModelName,
    Network,
    Output,
    Timeout,
    Yes,
)
from orchestrator_cli.cli.running import kinds, reporting, settings_of

if TYPE_CHECKING:
    from orchestrator_cli.settings import Settings
    from orchestrator_cli.views.console import Console

app = typer.Typer(rich_markup_mode=None)


@app.command()
def mcp(
    model: ModelName = None,
    workspace: Folder = None,
    max_cost: MaxCost = None,
    allow_unpriced: AllowUnpriced = None,
    max_calls: MaxCalls = None,
    max_tokens: MaxTokens = None,
    timeout: Timeout = None,
    max_parallel: MaxParallel = None,
    network: Network = None,
    approve: Approve = None,
    yes: Yes = False,
    debug: Debug = False,
) -> None:
    """Serve the tools of the library, and `ask`, to another program over MCP."""
    with reporting(Output(debug=debug)) as console:
        said = {
            "model": model,
            "max_cost": max_cost,
            "allow_unpriced": allow_unpriced,
            "max_calls": max_calls,
            "max_tokens": max_tokens,
            "timeout": timeout,
            "max_parallel": max_parallel,
            "network": network or None,
        }
        settings = settings_of(workspace, **said, approve=kinds(approve), yes=yes or None)
        _serve(settings, {**said, "approve": approve, "yes": yes}, console)


def _serve(settings: Settings, said: dict[str, object], console: Console) -> None:
    import anyio

    from orchestrator_cli.cli.mcp_server.asking import flags_of
    from orchestrator_cli.cli.mcp_server.server import serve
    from orchestrator_cli.workspace import check_folder

    check_folder(settings.workspace)
    console.lines([f"Serving {settings.workspace.resolve()} over MCP until the client goes."])
    anyio.run(serve, settings, flags_of(said), console.lines)
