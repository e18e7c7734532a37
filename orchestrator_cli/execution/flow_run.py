"""The flow run of a run that goes on in another process: the same one, so that all of it stands in one place.

What the process that died had under way stands as running on Prefect's server; it is marked as crashed.
"""

from contextlib import suppress
from typing import Any
from uuid import UUID

GONE = "The process that ran it has ended; orch went on with the run in another one."


def begin(flow: Any, earlier: str) -> None:
    """Run a flow, within the flow run `earlier` where there is one and the server knows it."""
    found = _made_ready(earlier) if earlier else None
    if found is None:
        flow()
        return
    from prefect.flow_engine import run_flow

    run_flow(flow, flow_run=found)


def _made_ready(ident: str) -> Any:
    """The flow run, ready to run once more; None where the server has none, as after a change of servers."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import FlowRunFilter, TaskRunFilter
    from prefect.exceptions import ObjectNotFound
    from prefect.states import Crashed, Pending

    with get_client(sync_client=True) as client, suppress(ObjectNotFound):
        flow_run = UUID(ident)
        # Forced, because the server begins neither a run that is running nor one that has ended.
        client.set_flow_run_state(flow_run, Pending(message="Resumed."), force=True)
        running = client.read_task_runs(
            flow_run_filter=FlowRunFilter.model_validate({"id": {"any_": [ident]}}),
            task_run_filter=TaskRunFilter.model_validate(
                {"state": {"type": {"any_": ["RUNNING", "PENDING", "SCHEDULED"]}}}
            ),
        )
        for task_run in running:
            client.set_task_run_state(task_run.id, Crashed(message=GONE), force=True)
        return client.read_flow_run(flow_run)
    return None
