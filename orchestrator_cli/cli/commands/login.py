"""`orch login`: logs in to an MCP server that asks for it."""

import sys
from typing import Annotated
from urllib.parse import urlsplit

import typer

from orchestrator_cli.cancellation import Cancellation
from orchestrator_cli.cli.options import CommonOptions, Output, with_options
from orchestrator_cli.cli.reporting import print_lines, reporting, run_settings
from orchestrator_cli.environment import read_secret
from orchestrator_cli.errors import ProviderError, UsageError
from orchestrator_cli.mcp_client.connection import Connection, Loop, ServerFailed
from orchestrator_cli.mcp_client.login import TokenFile, browser_on_loopback
from orchestrator_cli.mcp_client.over_http import Login

app = typer.Typer(rich_markup_mode=None)


@app.command()
@with_options
def login(
    server: Annotated[str, typer.Argument(help="The server's name in the settings.")],
    *,
    forget: Annotated[bool, typer.Option("--forget", help="Remove its tokens from this machine.")] = False,
    common: CommonOptions,
) -> None:
    """Log in to an MCP server by OAuth, in your browser; later runs use and renew its tokens.

    Its address is printed too, for a browser that does not open by itself. The tokens are kept in the data
    folder, where only you can read them.
    """
    with reporting(Output(debug=common.debug)):
        settings = run_settings(common.workspace, asks=True)
        found = settings.mcp.get(server)
        if found is None or found.url is None:
            known = ", ".join(name for name, one in settings.mcp.items() if one.url) or "none"
            raise UsageError(f"{server} is no MCP server with an address.", f"There are: {known}.")
        tokens = TokenFile(settings.home, found.url)
        had = tokens.forget()
        if forget:
            print_lines([f"The tokens of {server} are removed." if had else f"{server} had no tokens."])
            return
        loop, cancellation = Loop(), Cancellation()
        host = urlsplit(found.url).hostname

        def show(address: str) -> None:
            at = urlsplit(address).hostname
            print_lines(
                [f"Log in to {server} ({host}) in your browser, at {at}:", f"  {address}"], sys.stderr
            )

        with browser_on_loopback(show) as browser:
            connection = Connection(
                server,
                found,
                loop,
                workspace=settings.workspace.resolve(),
                scratch=settings.home / "mcp",
                env=lambda: {
                    name: value
                    for name in (*found.env, *found.references)
                    if (value := read_secret(name)) is not None
                },
                login=Login(tokens, browser),
            )
            try:
                rows = connection.tools(cancellation)
            except ServerFailed as exc:
                raise ProviderError(f"It was not possible to log in: {exc}.", "Try again later.") from exc
            finally:
                connection.close()
                loop.close()
        said = "Runs can use it now" if tokens.is_there else "It asks for no login"
        print_lines([f"{said}: {server} lists {len(rows)} tools."])
