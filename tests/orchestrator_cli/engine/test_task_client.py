"""Task runs share the client of their flow run, which asks no server and was made before they began."""

from pathlib import Path
from typing import Any, cast

from orchestrator_cli.engine import server
from orchestrator_cli.engine.connection import NOWHERE
from orchestrator_cli.engine.flow_run import Call, FlowRun, named_task, outcome_of, submit_after


class Unreachable:
    """A connection to no server."""

    url, unsent = NOWHERE, None

    def client(self) -> Any:
        raise ConnectionError


def test_a_task_run_makes_no_client(tmp_path: Path) -> None:
    server.configure_client(NOWHERE, tmp_path)
    server.import_prefect()
    clients: list[Any] = []

    def note() -> None:
        from prefect.client.orchestration import get_client

        clients.append(get_client(sync_client=True))

    def work() -> None:
        note()
        call = Call(note)
        assert outcome_of(call, submit_after(named_task(call, "one"), [])) is None

    flow_run = FlowRun("one", lambda: None, cast("Any", Unreachable()), threads=2, resumed=False)
    flow_run.carry_out(work)
    flow_run.close()
    in_flow, in_task = clients
    assert in_task is in_flow
