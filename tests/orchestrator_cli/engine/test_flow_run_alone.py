"""A flow run alone: its task runs share its client, which asks no server, and nothing keeps it in the end."""

import gc
import os
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from orchestrator_cli import afterwards
from orchestrator_cli.engine import server
from orchestrator_cli.engine.connection import NOWHERE
from orchestrator_cli.engine.flow_run import Call, FlowRun, named_task, outcome_of


@pytest.fixture(autouse=True)
def prefect(tmp_path: Path) -> Iterator[None]:
    """Prefect in this process, without a server; its settings are variables of the environment."""
    before = dict(os.environ)
    server.configure_client(NOWHERE, tmp_path)
    server.import_prefect()
    yield
    os.environ.clear()
    os.environ.update(before)


class Unreachable:
    """A connection to no server."""

    url, unsent, is_own = NOWHERE, Path("/dev/null/unsent"), True

    def client(self) -> Any:
        raise ConnectionError


def test_a_task_run_makes_no_client() -> None:
    clients: list[Any] = []

    def note() -> None:
        from prefect.client.orchestration import get_client

        clients.append(get_client(sync_client=True))

    def work() -> None:
        note()
        call = Call(note)
        assert outcome_of(call, flow_run.submit(named_task(call, "one"))) is None

    flow_run = FlowRun("one", lambda: None, cast("Any", Unreachable()), threads=2, resumed=False)
    flow_run.carry_out(work)
    flow_run.close()
    in_flow, in_task = clients
    assert in_task is in_flow


def test_nothing_keeps_a_run_that_has_ended() -> None:
    def ended() -> weakref.ref[FlowRun]:
        flow_run = FlowRun("one", lambda: None, cast("Any", Unreachable()), threads=1, resumed=False)
        flow_run.when_open(lambda *_: flow_run.close())
        flow_run.carry_out(
            lambda: outcome_of(call := Call(lambda: None), flow_run.submit(named_task(call, "one")))
        )
        flow_run.close()
        return weakref.ref(flow_run)

    kept = ended()
    deadline = time.monotonic() + 20
    while kept() is not None and time.monotonic() < deadline:
        time.sleep(0.05)  # its threads end
        gc.collect()
    assert kept() is None


class Late:
    """A connection to a server that answers only once the run has ended."""

    url, is_own = NOWHERE, True

    def __init__(self, folder: Path) -> None:
        self.unsent = folder / "unsent"
        self.ended = threading.Event()
        self.asked: list[str] = []

    @contextmanager
    def client(self) -> Iterator[Any]:
        assert self.ended.wait(20)
        yield self

    def request(self, _method: str, path: str, **_: Any) -> Any:
        self.asked.append(path)
        return SimpleNamespace(json=lambda: {"id": "f1"})


def test_a_server_that_answers_after_the_run_is_sent_all_of_it(tmp_path: Path) -> None:
    late, opened = Late(tmp_path), []
    flow_run = FlowRun("one", lambda: None, cast("Any", late), threads=1, resumed=False)
    flow_run.when_open(lambda *about: opened.append(about))
    flow_run.carry_out(lambda: None)
    flow_run.close()
    late.ended.set()
    afterwards.finish()
    assert opened == []  # the journal of the run may be closed
    assert "/flow_runs/f1/set_state" in late.asked
    assert [*late.unsent.glob("*")] == []
