"""`orch up`: the process that starts what is scheduled."""

import os
import shlex
import sys
from datetime import datetime
from pathlib import Path
from typing import Annotated

import platformdirs
import typer

from orchestrator_cli.cancellation import Cancellation
from orchestrator_cli.cli.options import CommonOptions, Output, with_options
from orchestrator_cli.cli.reporting import print_lines, reporting, settings_of
from orchestrator_cli.cli.schedule_times import due_line
from orchestrator_cli.durable.files import write_atomic
from orchestrator_cli.engine.connection import PrefectConnection
from orchestrator_cli.engine.server import import_prefect
from orchestrator_cli.runs.prune import DailyPruning
from orchestrator_cli.schedules.schedule import FOLDER, ScheduleStore
from orchestrator_cli.schedules.serve import Serving
from orchestrator_cli.schedules.service_files import LABEL, UNIT, launchd_agent, systemd_unit
from orchestrator_cli.settings import Settings
from orchestrator_cli.views.text import label

app = typer.Typer(rich_markup_mode=None)

LINE_CHARS = 1000


@app.command()
@with_options
def up(
    *,
    install: Annotated[
        bool,
        typer.Option(
            "--install",
            help="Write a systemd unit or a launchd agent of yours that does this from each login on.",
        ),
    ] = False,
    common: CommonOptions,
) -> None:
    """Start scheduled runs, and resume background runs that a restart has ended.

    It runs until Ctrl-C. Runs that it has started go on.
    """
    with reporting(Output(debug=common.debug)) as console:
        settings = settings_of(common.workspace)
        if install:
            console.lines(_install(settings))
            return
        cancellation = Cancellation()
        connection = PrefectConnection(
            settings.prefect_api_url,
            settings.prefect_home or settings.home,
            settings.prefect_idle_minutes,
            cancellation,
        )
        connection.open()
        import_prefect()
        serving = Serving(
            settings.home,
            connection.client,
            say_line,
            notify=settings.notify,
            is_shared=settings.prefect_api_url is not None,
            unsent=connection.unsent,
            often=DailyPruning(settings.home, settings.keep_runs_days, say_line).look,
        )
        say_line("orch up. Ctrl-C ends it; runs at work go on.")
        for one in ScheduleStore(settings.home).all().values():
            say_line(due_line(one))
        try:
            serving.serve()
        except KeyboardInterrupt:
            say_line("orch up has ended. Runs at work go on.")


def say_line(line: str) -> None:
    """Print one line, whatever a server, a journal or a model has written of it."""
    print_lines([f"{datetime.now():%Y-%m-%d %H:%M:%S}  {label(line, LINE_CHARS)}"])
    sys.stdout.flush()


def _install(settings: Settings) -> list[str]:
    """Write the unit or the agent. Returns how to start it."""
    command, home = (sys.executable, "-P", "-m", "orchestrator_cli", "up"), settings.home.absolute()
    keys = "Keys go into ~/.config/orch/environment, as NAME=VALUE."
    if sys.platform == "darwin":
        agent = Path.home() / "Library" / "LaunchAgents" / f"{LABEL}.plist"
        (home / FOLDER).mkdir(parents=True, exist_ok=True, mode=0o700)  # for its log
        _write(agent, launchd_agent(command, home))
        return [
            f"{agent} is written. {keys}",
            f"Start it with: launchctl bootstrap gui/{os.getuid()} {shlex.quote(str(agent))}",
        ]
    unit = platformdirs.user_config_path() / "systemd" / "user" / UNIT
    _write(unit, systemd_unit(command, home).encode())
    return [
        f"{unit} is written. {keys}",
        f"Start it with: systemctl --user enable --now {UNIT}",
        "To have it run while you are logged out: loginctl enable-linger",
    ]


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, content)
