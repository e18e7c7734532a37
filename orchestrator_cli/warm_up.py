"""What takes seconds at the start of a run (LiteLLM, Prefect, its server), beside the first model call.

The server starts in a process of its own. The imports are made one after the other in a thread, LiteLLM
first, because the planner's request waits for it. One that fails ends the run.
"""

import gc
import importlib
import threading
from collections.abc import Callable
from contextlib import ExitStack

from orchestrator_cli.cancellation import Cancellation, run_beside
from orchestrator_cli.engine import server
from orchestrator_cli.engine.connection import PrefectConnection
from orchestrator_cli.engine.flow_run import FlowRun
from orchestrator_cli.errors import ConfigError, OrchError
from orchestrator_cli.models.library import IMPORT_LOCK, set_variables
from orchestrator_cli.models.sources import ModelSource
from orchestrator_cli.settings import Settings

BESIDE = (
    *("prefect.main", "prefect.flow_engine", "prefect.task_engine", "prefect.task_runners", "smolagents"),
    *("anyio._core._sockets", "anyio._core._streams"),
)
"""What every graph needs, besides Prefect's settings."""
THREADS = 2
"""For each subtask that may run: one more begins while Prefect puts down the end of the one before it."""


def start_engine(
    closing: ExitStack,
    settings: Settings,
    cancellation: Cancellation,
    run: str,
    source: ModelSource,
    wanted: bool,
    is_resumed: bool,
) -> FlowRun | None:
    """Begin everything slow; the flow run begins as soon as Prefect is imported.

    Raises `ConfigError` if the user's own Prefect server does not answer.
    """
    connection = None
    if wanted:
        home = settings.prefect_home or settings.home
        connection = PrefectConnection(
            settings.prefect_api_url, home, settings.prefect_idle_minutes, cancellation
        )
        connection.open_or_do_without()
    set_variables()
    imported = threading.Event()
    run_beside(_import, source.prepare, wanted, imported, cancellation.cancel)
    if connection is None:
        return None
    threads = THREADS * settings.max_parallel + 1
    flow_run = FlowRun(run, imported.wait, connection, threads=threads, resumed=is_resumed)
    closing.callback(flow_run.close)
    return flow_run


def _import(
    prepare_models: Callable[[], None],
    wanted: bool,
    imported: threading.Event,
    cancel: Callable[[Exception], None],
) -> None:
    # Looking for garbage again and again is a quarter of the time of these imports, and finds none.
    gc.disable()
    try:
        prepare_models()
        if wanted:
            with IMPORT_LOCK:
                server.import_prefect()
            for name in BESIDE:
                with IMPORT_LOCK:
                    importlib.import_module(name)
    except OrchError as exc:
        cancel(exc)
    except Exception as exc:  # of any library; without it nothing goes on
        what = f"{type(exc).__name__}: {exc}"
        cancel(ConfigError(f"A library cannot be loaded: {what}.", "Install orch again."))
    finally:
        gc.enable()
        imported.set()
