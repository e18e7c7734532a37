"""Everything that a command imports, some of it only on its way, for processes that are forked."""

import contextlib
import gc
import importlib
import os
from pathlib import Path

OF_LIBRARIES = (
    *("prefect.artifacts", "prefect.main", "prefect.engine", "prefect.task_runners", "prefect.runtime"),
    *("prefect.concurrency.context", "prefect.flow_engine", "prefect.task_engine"),
    *("prefect.input.run_input", "prefect.telemetry.run_telemetry", "anyio._backends._asyncio"),
    *("smolagents", "graphviz", "portalocker", "pygments.styles.monokai"),
)
OURS = (
    *("orchestrator_cli.cli.commands.ask", "orchestrator_cli.cli.commands.resume"),
    *("orchestrator_cli.cli.commands.runs", "orchestrator_cli.cli.chat.repl_session"),
    *("orchestrator_cli.execution.agents", "orchestrator_cli.execution.scheduler"),
    *("orchestrator_cli.workspace.diff", "orchestrator_cli.workspace.undo", "memory.edge"),
    *("orchestrator_cli.views.filelog", "orchestrator_cli.views.console"),
    *("orchestrator_cli.views.streams", "orchestrator_cli.views.narration"),
)


def preload(url: str, home: Path) -> None:
    """Import it all, and compile the prompts; starts no thread and opens no connection.

    `url`, `home`: of the Prefect server that Prefect's settings are for until a fork takes its own.
    """
    from memory.records import EmbeddingFailed
    from memory.small_model import has_small_model, small_model
    from orchestrator_cli import prompts
    from orchestrator_cli.engine.server import configure_client, import_prefect
    from orchestrator_cli.models.library import prepare, rehearse

    gc.disable()
    # numpy would start a thread for each processor. A worker has its client's environment.
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    configure_client(url, home)
    prepare()
    rehearse()
    import_prefect()
    for name in OF_LIBRARIES:
        with contextlib.suppress(ImportError):  # other versions lack some of them
            importlib.import_module(name)
    for name in OURS:
        importlib.import_module(name)
    prompts.compile_all()
    if has_small_model():
        with contextlib.suppress(EmbeddingFailed):  # the next call says why
            small_model().load()
    gc.collect()
    gc.freeze()  # or each fork would copy what was imported, by looking through it for garbage
