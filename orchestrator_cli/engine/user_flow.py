"""Runs a Prefect flow of the user's: `python -P -m orchestrator_cli.engine.user_flow FILE:FUNCTION TAG …`.

Its parameters are read as JSON from standard input, its value is printed as JSON, and nothing
else is: what the flow prints goes to standard error. Prefect's server is the one that
`PREFECT_API_URL` names, so the flow run stands in the same UI as the run that asked for it. Files of
the folder set nothing for Prefect, because the run may have written them.
"""

import asyncio
import inspect
import json
import os
import sys
from collections.abc import Sequence
from typing import Any

from orchestrator_cli.engine.server import import_prefect


def main(entrypoint: str, labels: Sequence[str]) -> int:
    parameters = json.load(sys.stdin)
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    try:
        value = run(entrypoint, parameters, labels)
    except Exception as exc:  # whatever the user's flow raises is told to who asked for it
        sys.stderr.write(f"{type(exc).__name__}: {exc}\n")
        return 1
    with out:
        json.dump(value, out, default=str)
    return 0


def run(entrypoint: str, parameters: dict[str, Any], labels: Sequence[str]) -> Any:
    import_prefect()
    from prefect import tags
    from prefect.flows import load_flow_from_entrypoint

    flow: Any = load_flow_from_entrypoint(entrypoint)
    with tags(*labels):
        value = flow(**parameters)
        return asyncio.run(_awaited(value)) if inspect.isawaitable(value) else value


async def _awaited(value: Any) -> Any:
    return await value


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
