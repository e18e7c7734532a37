"""`orch deploy`: schedules as deployments on a work pool of a team's Prefect server."""

from typing import Annotated

import typer

from orchestrator_cli.cancellation import Cancellation
from orchestrator_cli.cli.options import CommonOptions, Output, with_options
from orchestrator_cli.cli.reporting import reporting, settings_of
from orchestrator_cli.engine.connection import PrefectConnection
from orchestrator_cli.engine.server import import_prefect
from orchestrator_cli.engine.work_pool import WorkPool
from orchestrator_cli.errors import UsageError
from orchestrator_cli.schedules.schedule import Schedule, ScheduleStore

app = typer.Typer(rich_markup_mode=None)

ENTRYPOINT = "orchestrator_cli.schedules.worker_flow.run"
COLLISIONS = {"queue": "ENQUEUE", "skip": "CANCEL_NEW"}
OWN = {"name", "workspace", "mark", "paused"}
"""What of a schedule has no meaning on another machine and says things of this one, and its name, which is
given besides."""


@app.command()
@with_options
def deploy(
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="Schedules of yours.")],
    *,
    pool: Annotated[str, typer.Option("--pool", metavar="POOL", help="The work pool.")],
    folder: Annotated[
        str,
        typer.Option(
            "--folder",
            metavar="PATH",
            help="Work in this folder of the worker's machine (default: the one that its job begins in).",
        ),
    ] = "",
    remove: Annotated[bool, typer.Option("--remove", help="Remove them from the pool.")] = False,
    common: CommonOptions,
) -> None:
    """Have Prefect's workers run schedules: as deployments on a work pool of the server in PREFECT_API_URL.

    The worker's machine needs orch, its models and keys; see docs/background.md.
    """
    with reporting(Output(debug=common.debug)) as console:
        settings = settings_of(common.workspace)
        store = ScheduleStore(settings.home)
        found = [] if remove else [store.get(name) for name in names]
        for one in found:
            _check_deployable(one)
        if settings.prefect_api_url is None:
            raise UsageError(
                "orch deploy needs a Prefect server with a work pool: PREFECT_API_URL names none.",
                "Set it to the API of your team's server. Without one, orch up starts schedules.",
            )
        home = settings.prefect_home or settings.home
        connection = PrefectConnection(
            settings.prefect_api_url, home, settings.prefect_idle_minutes, Cancellation()
        )
        connection.open()
        import_prefect()
        with connection.client() as client:
            deployments = WorkPool(client, pool, store.owner)
            for name in names if remove else ():
                is_gone = deployments.remove(name)
                console.lines([f"{name} is removed from {pool}." if is_gone else f"{pool} has no {name}."])
            for one in found:
                _put(deployments, one, folder)
                console.lines([f"{one.name} is on the work pool {pool}. Its workers run it."])
                if not one.paused:
                    pause = f"orch schedule pause {one.name}"
                    console.lines([f"  orch up would start it too; have only the pool do so with: {pause}"])


def _check_deployable(one: Schedule) -> None:
    """Raise `UsageError` for what only `orch up` can do."""
    triggers = {
        "--on-file": one.files,
        "--after": one.after,
        "--on-event": one.event,
        "--webhook": one.webhook,
    }
    besides = [option for option, given in triggers.items() if given]
    if besides:
        raise UsageError(
            f"{one.name} has {besides[0]}, which needs orch up.", "A work pool starts runs at times only."
        )
    if one.overlap not in COLLISIONS:
        raise UsageError(
            f"{one.name} has --overlap {one.overlap}, which needs orch up.",
            f"With a work pool it can be {' or '.join(COLLISIONS)}.",
        )


def _put(deployments: WorkPool, one: Schedule, folder: str) -> None:
    given = one.model_dump(mode="json", exclude=OWN, exclude_defaults=True) | {"name": one.name}
    deployments.put(
        one.name,
        one.prompt or f"Runs the process {one.process}.",
        one.timing,
        entrypoint=ENTRYPOINT,
        parameters={"schedule": given, "folder": folder or None},
        collision=COLLISIONS[one.overlap],
    )
