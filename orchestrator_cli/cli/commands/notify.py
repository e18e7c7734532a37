"""`orch notify`: try the ways in which you are notified."""

import typer

from orchestrator_cli.cli.options import InspectOptions, Output, with_options
from orchestrator_cli.cli.reporting import print_either, reporting, settings_of
from orchestrator_cli.errors import ConfigError, RunFailed
from orchestrator_cli.settings import user_file
from orchestrator_cli.trust import shown_path
from orchestrator_cli.views.notify_channels import send_each
from orchestrator_cli.views.notify_spool import Notification, digest

app = typer.Typer(rich_markup_mode=None)


@app.callback(invoke_without_command=True)
def notify(context: typer.Context) -> None:
    """Test your notifications."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@app.command()
@with_options
def test(common: InspectOptions) -> None:
    """Send a test message through each channel in `[notify]` of your own orch.toml."""
    with reporting(Output(quiet=True, debug=common.debug)):
        settings = settings_of(common.workspace)
        message = Notification(
            event="done",
            run="test",
            workspace=str(settings.workspace),
            prompt="a test of notifications",
            outcome="completed",
            cost=0.0,
            seconds=0.0,
        )
        found = list(send_each(settings.notify, *digest([message])))
        if not found:
            raise ConfigError(
                "You have set no way in which you are notified.",
                f"Set bell, desktop, command or urls in the table [notify] of {shown_path(user_file())}.",
            )
        print_either(
            common.as_json,
            [{"name": one.name, "ok": not one.failed} for one in found],
            [one.failed or f"{one.name}: sent" for one in found],
        )
        if any(one.failed for one in found):
            raise RunFailed("Not every way worked.", "Correct it, and try again.")
