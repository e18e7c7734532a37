"""Prefect's server watches a run and decides nothing: the work ends as if it were there, and in time."""

import contextlib
import os
import signal
import sqlite3
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from command import Orch
from endpoint import Endpoint, Reply
from engine import Engine, end, start_server
from forkserver import SERVER_GONE
from forwarder import Forwarder
from processes import processes_in
from scripted_model import Cast, code, coder, plan

from orchestrator_cli.engine import server as prefect_server

END_S = 5.0
"""From the last reply of a model, or from an interrupt, to the end of the run. An interrupt takes a second on
a quiet machine."""
WRITES = "open('{0}.txt', 'w').write('{0}')\nfinal_answer('{0} is done')"
PLAN = plan(coder("one"), coder("two", ["one"]))

Break = Callable[[], None]


class Home:
    """A data folder with a Prefect server, which can be broken."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        found = prefect_server.running_server(folder)
        deadline = time.monotonic() + 60
        while found is None and time.monotonic() < deadline:
            time.sleep(0.1)
            found = prefect_server.running_server(folder)
        assert found is not None
        self.server = found
        self.closing = contextlib.ExitStack()

    def kill(self) -> None:
        os.kill(self.server.pid, signal.SIGKILL)

    def freeze(self) -> None:
        os.kill(self.server.pid, signal.SIGSTOP)
        self.closing.callback(os.kill, self.server.pid, signal.SIGCONT)

    def lock_database(self) -> None:
        database = sqlite3.connect(
            self.folder / "prefect" / "prefect.db", timeout=30, check_same_thread=False
        )
        self.closing.callback(database.close)
        database.execute("BEGIN EXCLUSIVE")

    @property
    def engine(self) -> Engine:
        """Its API, at the server that runs now."""
        found = prefect_server.running_server(self.folder)
        assert found is not None
        return Engine(self.folder, found.url, found.password, None, None)  # type: ignore[arg-type]


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    """With a server of its own, for what it does not survive."""
    folder = tmp_path / "prefect-home"
    folder.mkdir()
    start_server(folder)
    made = Home(folder)
    yield made
    made.closing.close()
    if found := prefect_server.running_server(folder):
        end(found.pid)
    # Those that runs with this folder started, such as a server that is not up yet.
    for process_id in processes_in(folder):
        end(process_id)


@pytest.fixture
def shared(engine: Engine) -> Iterator[Home]:
    """With the server of all tests."""
    made = Home(engine.home)
    yield made
    made.closing.close()


class Foreign:
    """A server of the user that can begin to fail."""

    def __init__(self, target: str) -> None:
        self.fault: Callable[[], Any] = lambda: None
        self.closing = threading.Event()
        self.forwarder = Forwarder(target, lambda *_: self.fault())

    def become(self, fault: Callable[[], Any]) -> Break:
        return lambda: setattr(self, "fault", fault)

    def hang(self) -> int:
        self.closing.wait(30)
        return 503


@pytest.fixture
def foreign(engine: Engine) -> Iterator[Foreign]:
    made = Foreign(engine.url)
    with made.forwarder:
        yield made
        made.fault = lambda: 503
        made.closing.set()


def refuse() -> Any:
    raise ConnectionResetError


FOREIGN: dict[str, Callable[[Foreign], Any]] = {
    "overloaded": lambda _: 503,
    "reset": lambda _: refuse(),
    "hanging": Foreign.hang,
    "garbage": lambda _: "<html>",
}
WAYS = ["killed", "frozen", "locked", *FOREIGN]
IN_CI = ("killed", "frozen", "hanging", "overloaded")
MOMENTS = ["planner", "agents", "answer"]


class Way(NamedTuple):
    do: Break
    """What breaks a server."""
    env: dict[str, str]
    """Of a user whose runs use it."""
    home: Home | None = None
    """Whose server it is, if it is one of ours."""


def params(ways: Iterable[str], in_ci: Iterable[str]) -> list[Any]:
    return [pytest.param(way, marks=[] if way in in_ci else pytest.mark.thorough) for way in ways]


@pytest.fixture(params=params(WAYS, IN_CI))
def way(request: pytest.FixtureRequest, engine: Engine) -> Way:
    if request.param in FOREIGN:
        foreign = request.getfixturevalue("foreign")
        url = {"PREFECT_API_URL": foreign.forwarder.url, "PREFECT_API_AUTH_STRING": engine.password}
        url |= {SERVER_GONE: "1"}
        return Way(foreign.become(partial(FOREIGN[request.param], foreign)), url)
    home = request.getfixturevalue("shared" if request.param == "frozen" else "home")
    breaks = {"killed": home.kill, "frozen": home.freeze, "locked": home.lock_database}
    return Way(breaks[request.param], {"ORCH_PREFECT_HOME": str(home.folder), SERVER_GONE: "1"}, home)


def first(do: Break, said: Any) -> Callable[[dict[str, Any]], Reply]:
    def line(_: dict[str, Any]) -> Reply:
        do()
        return said

    return line


def cast(do: Break, moment: str) -> Cast:
    """A run of two subtasks and an answer, in which something is done when a model is first asked there."""
    lines: dict[str, Any] = {
        "planner": PLAN,
        "agents": code(WRITES.format("one")),
        "answer": "All is done.",
    }
    lines[moment] = first(do, lines[moment])
    agents = {"Do one": [lines["agents"]], "Do two": [code(WRITES.format("two"))]}
    return Cast(planner=[lines["planner"]], agents=agents, answer=[lines["answer"]])


@pytest.mark.slow  # a server for each of two ways
@pytest.mark.parametrize(
    "moment", [pytest.param(m, marks=[] if m == "agents" else pytest.mark.thorough) for m in MOMENTS]
)
def test_the_work_ends_in_time_without_a_server(
    orch: Orch, endpoint: Endpoint, way: Way, moment: str
) -> None:
    do, env, _ = way
    endpoint.reply = cast(do, moment)
    done = orch("ask", "Do it.", **env)
    assert (done.code, done.out.strip()) == (0, "All is done."), done.err
    assert time.monotonic() - endpoint.exchanges[-1].answered < END_S
    assert [(orch.workspace / f"{name}.txt").read_text() for name in ("one", "two")] == ["one", "two"]
    assert orch.events()[-1]["kind"] == "RunFinished"


def finished(home: Home, run: str) -> bool:
    with contextlib.suppress(AssertionError, OSError, LookupError, TypeError):
        states = [row["state"]["type"] for row in home.engine.flow_runs(run)]
        tasks = {row["name"]: row["state"]["type"] for row in home.engine.task_runs(run)}
        return states == ["COMPLETED"] and tasks == {"one": "COMPLETED", "two": "COMPLETED"}
    return False


@pytest.mark.slow  # two runs
@pytest.mark.parametrize("way", params(["killed", "frozen"], ["frozen"]), indirect=True)
def test_what_could_not_be_sent_is_sent_with_the_next_run(orch: Orch, endpoint: Endpoint, way: Way) -> None:
    do, env, home = way
    assert home is not None
    endpoint.reply = cast(do, "answer" if do == home.kill else "agents")
    done = orch("ask", "Do it.", **env)
    assert done.code == 0, done.err
    run = orch.journal().parent.name
    home.closing.close()

    def await_earlier() -> None:
        deadline = time.monotonic() + 30  # a server that starts on a busy machine needs some of it
        while not finished(home, run) and time.monotonic() < deadline:
            time.sleep(0.2)

    endpoint.reply = cast(await_earlier, "answer")
    assert orch("ask", "Do it again.", **env).code == 0
    await_earlier()
    assert finished(home, run)


@pytest.mark.slow  # a cold process
@pytest.mark.parametrize("way", params(["killed", "frozen", "hanging"], ["frozen"]), indirect=True)
def test_one_interrupt_ends_a_run_without_a_server(orch: Orch, endpoint: Endpoint, way: Way) -> None:
    do, env, _ = way
    begun: list[float] = []

    def never(_: dict[str, Any]) -> Reply:
        do()
        begun.append(time.monotonic())
        return {"content": "late", "sleep": 60}

    endpoint.reply = Cast(planner=[PLAN], agents={"Do one": [never]}, answer=[])
    process = subprocess.Popen(
        [*orch.command, "ask", "Do it."], env=orch.environment(**env), cwd=orch.workspace
    )
    while not begun:
        assert process.poll() is None
        time.sleep(0.05)
    time.sleep(1)
    since = time.monotonic()
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 130
    assert time.monotonic() - since < END_S
    assert orch.events()[-1]["kind"] == "RunFinished"


# --- a server of the user that is wrong from the start

WRONG = {
    "http://127.0.0.1:9/api": "No Prefect server answers",
    "127.0.0.1:4200": "not an address",
    "http://": "not an address",
    "ftp://127.0.0.1/api": "not an address",
    "http://[::1": "not an address",
}


@pytest.mark.parametrize("url", WRONG)
def test_an_address_without_a_server_costs_nothing(orch: Orch, endpoint: Endpoint, url: str) -> None:
    endpoint.reply = Cast(planner=[])
    done = orch("ask", "Do it.", PREFECT_API_URL=url)
    assert (done.code, endpoint.exchanges) == (3, []), done.err
    assert WRONG[url] in done.error


@pytest.mark.parametrize(
    "fault", [lambda: "2.20.1", lambda: {"no": "version"}, lambda: 401, lambda: 404, refuse]
)
def test_a_server_that_cannot_be_used_costs_nothing(
    orch: Orch, endpoint: Endpoint, foreign: Foreign, fault: Callable[[], Any]
) -> None:
    foreign.fault = fault
    endpoint.reply = Cast(planner=[])
    done = orch("ask", "Do it.", PREFECT_API_URL=foreign.forwarder.url)
    assert (done.code, endpoint.exchanges) == (3, []), done.err
    assert foreign.forwarder.url in done.error


def test_a_run_within_a_run_uses_the_same_server(orch: Orch, endpoint: Endpoint, engine: Engine) -> None:
    endpoint.reply = cast(lambda: None, "agents")
    done = orch("ask", "Do it.", PREFECT_API_URL=engine.url)
    assert (done.code, done.out.strip()) == (0, "All is done."), done.err
