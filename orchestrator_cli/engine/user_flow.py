"""Runs a Prefect flow of the user: `python -P -m orchestrator_cli.engine.user_flow FILE:FUNCTION TAG …`.

Reads its parameters as JSON from standard input and prints its value as JSON and nothing else:
output of the flow goes to standard error. The Prefect server is that of `PREFECT_API_URL`, so the
flow run appears in the same UI as the run that started it. Prefect reads no settings from files of
the folder, because the run may have written them.
"""

import asyncio
import inspect
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from orchestrator_cli.cancellation import Cancellation
from orchestrator_cli.engine.server import await_server, import_prefect


def main(entrypoint: str, labels: Sequence[str]) -> int:
    parameters = json.load(sys.stdin)
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    try:
        value = run(entrypoint, parameters, labels)
    except Exception as exc:  # a flow may raise anything; the caller reports it
        sys.stderr.write(f"{type(exc).__name__}: {exc}\n")
        return 1
    with out:
        json.dump(value, out, default=str)
    return 0


def run(entrypoint: str, parameters: dict[str, Any], labels: Sequence[str]) -> Any:
    # The run does not wait for its server, so this may be the first to need it.
    await_server(os.environ["PREFECT_API_URL"], Path(os.environ["PREFECT_HOME"]).parent, Cancellation())
    import_prefect()
    from prefect import tags
    from prefect.flows import load_flow_from_entrypoint

    flow: Any = load_flow_from_entrypoint(entrypoint)
    with tags(*labels):
        value = flow(**parameters)
        return asyncio.run(_result_of(value)) if inspect.isawaitable(value) else value


async def _result_of(value: Any) -> Any:
    return await value


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
