"""The end of a run on Prefect's server: no one waits for it, and it is not lost."""

import contextlib
import os
import threading
from collections.abc import Iterator
from json import loads
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from orchestrator_cli import afterwards
from orchestrator_cli.engine import server
from orchestrator_cli.engine.connection import NOWHERE
from orchestrator_cli.engine.flow_run import FlowRun
from orchestrator_cli.engine.outbox import send_unsent
from orchestrator_cli.errors import RunFailed


@pytest.fixture(autouse=True)
def prefect(tmp_path: Path) -> Iterator[None]:
    """Prefect in this process, without a server; its settings are variables of the environment."""
    before = dict(os.environ)
    server.configure_client(NOWHERE, tmp_path)
    server.import_prefect()
    yield
    os.environ.clear()
    os.environ.update(before)


class Server:
    """What a client of Prefect is given, and when it gets an answer."""

    def __init__(self) -> None:
        self.answers = threading.Event()
        self.states: list[str] = []

    def request(self, _method: str, path: str, json: Any = None, content: str = "", **_: Any) -> Any:
        assert self.answers.wait(60)
        if path.endswith("/set_state"):
            self.states.append(loads(content)["state"]["type"])
        return SimpleNamespace(json=lambda: {"id": "an-id"})


class Connection:
    url, is_own = NOWHERE, True

    def __init__(self, server: Server, unsent: Path) -> None:
        self.server, self.unsent = server, unsent

    @contextlib.contextmanager
    def client(self) -> Iterator[Server]:
        yield self.server


@pytest.fixture
def slow() -> Server:
    return Server()


@pytest.fixture
def unsent(tmp_path: Path) -> Path:
    return tmp_path / "unsent"


def begun(slow: Server, unsent: Path) -> FlowRun:
    flow_run = FlowRun("one", lambda: None, cast("Any", Connection(slow, unsent)), threads=1, resumed=False)
    flow_run.carry_out(lambda: None)
    return flow_run


def kept_states(unsent: Path) -> list[str]:
    rows = [loads(path.read_text())["messages"] for path in unsent.glob("*.json")]
    return [body["state"]["type"] for messages in rows for path, body in messages if "set_state" in path]


def test_the_end_is_kept_while_it_is_sent_and_no_other_run_sends_it(slow: Server, unsent: Path) -> None:
    assert begun(slow, unsent).close() == ""
    assert kept_states(unsent)[-1] == "COMPLETED"
    other = Server()
    other.answers.set()
    send_unsent(unsent, other)
    assert other.states == []
    slow.answers.set()
    afterwards.finish()
    assert slow.states[-1] == "COMPLETED"
    assert [*unsent.iterdir()] == []


def test_what_a_slow_server_has_not_taken_is_sent_with_the_next_run(slow: Server, unsent: Path) -> None:
    assert begun(slow, unsent).close() == ""
    afterwards.finish()  # it gives up after a second without an answer
    assert slow.states == []
    other = Server()
    other.answers.set()
    send_unsent(unsent, other)
    assert other.states[-1] == "COMPLETED"
    assert [*unsent.iterdir()] == []
    slow.answers.set()


@pytest.mark.parametrize(("error", "state"), [(None, "COMPLETED"), (RunFailed("It cannot."), "FAILED")])
def test_a_flow_run_that_has_not_begun_is_ended_too(
    slow: Server, unsent: Path, error: Exception | None, state: str
) -> None:
    imported = threading.Event()
    connection = cast("Any", Connection(slow, unsent))
    flow_run = FlowRun("one", imported.wait, connection, threads=1, resumed=False)
    slow.answers.set()
    flow_run.close(error)
    imported.set()
    afterwards.finish()
    assert slow.states == [state]
