"""`orch mcp`: serves built tools and whole runs to other programs over MCP."""

import anyio
import typer

from orchestrator_cli.cli.mcp_server.calls import flags_of
from orchestrator_cli.cli.mcp_server.server import serve
from orchestrator_cli.cli.options import (
    CommonOptions,
    LimitOptions,
    MaxParallel,
    ModelName,
    Output,
    PermissionOptions,
    with_options,
)
from orchestrator_cli.cli.reporting import reporting, run_flags, run_settings
from orchestrator_cli.workspace import check_folder

app = typer.Typer(rich_markup_mode=None)


@app.command()
@with_options
def mcp(
    *,
    model: ModelName = None,
    common: CommonOptions,
    limits: LimitOptions,
    max_parallel: MaxParallel = None,
    permissions: PermissionOptions,
) -> None:
    """Serve the tools of the library, and `ask`, to another program over MCP."""
    with reporting(Output(debug=common.debug)) as console:
        given = {"model": model, "max_parallel": max_parallel}
        settings = run_settings(common.workspace, asks=False, **{**given, **run_flags(limits, permissions)})
        check_folder(settings.workspace)
        console.lines([f"Serving {settings.workspace.resolve()} over MCP until the client disconnects."])
        flags = flags_of({**given, **vars(limits), **vars(permissions)})
        anyio.run(serve, settings, flags, console.lines)
