"""`orch ui`: opens Prefect's page, logged in."""

import webbrowser
from pathlib import Path
from typing import Annotated

import typer

from orchestrator_cli.cancellation import Cancellation
from orchestrator_cli.cli.options import CommonOptions, Output, with_options
from orchestrator_cli.cli.reporting import reporting, settings_of
from orchestrator_cli.engine import server as prefect_server
from orchestrator_cli.engine.connection import PrefectConnection
from orchestrator_cli.engine.server import LocalServer
from orchestrator_cli.errors import RunFailed

app = typer.Typer(rich_markup_mode=None)

IN_A_TERMINAL = ("www-browser", "links", "elinks", "lynx", "w3m")
"""Browsers that run no scripts, of which Prefect's page consists."""


@app.command()
@with_options
def ui(
    common: CommonOptions,
    print_only: Annotated[bool, typer.Option("--print", help="Print the address and open nothing.")] = False,
) -> None:
    """Open the page of Prefect that shows runs as they go, without a question for its password.

    The server is started if none is running. Without a browser, or with --print, an address is printed. It
    can be used once within five minutes; from then on, that browser is logged in until the server stops.
    """
    with reporting(Output(debug=common.debug)):
        settings = settings_of(common.workspace)
        if settings.prefect_api_url:
            address = prefect_server.ui_address(settings.prefect_api_url)
            if print_only or not _open(address):
                typer.echo(address)
            return
        home = settings.prefect_home or settings.home
        url = prefect_server.ensure_server(home, settings.prefect_idle_minutes)
        prefect_server.await_server(url, home, Cancellation())
        PrefectConnection(None, home, settings.prefect_idle_minutes, Cancellation()).send_unsent()
        server = prefect_server.running_server(home)
        if server is None:
            raise RunFailed("The Prefect server has stopped.", "Run orch ui again.")
        if print_only or not _open_private(server, home / "prefect"):
            typer.echo(server.login_url)


def _open_private(server: LocalServer, folder: Path) -> bool:
    """Open a page of this user alone that logs in: others can read the command line of a browser."""
    page = server.write_login_page(folder)
    opened = _open(page.resolve().as_uri())
    if not opened:
        page.unlink(missing_ok=True)
    return opened


def _open(address: str) -> bool:
    try:
        browser = webbrowser.get()
    except webbrowser.Error:
        return False
    return getattr(browser, "name", "") not in IN_A_TERMINAL and browser.open(address)
