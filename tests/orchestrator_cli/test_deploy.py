"""Schedules on a work pool: what is refused, and a worker of Prefect that runs one."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock
from uuid import uuid4

import pytest
from command import Orch
from endpoint import Endpoint
from engine import Engine
from scripted_model import Cast, answered, caller, plan
from test_background import FINISH
from test_terminal_people import CHOOSE, wait_for

from orchestrator_cli.cli.options import LimitOptions, PermissionOptions
from orchestrator_cli.engine.server import import_prefect
from orchestrator_cli.engine.work_pool import WorkPool
from orchestrator_cli.errors import UsageError
from orchestrator_cli.events import RunStarted
from orchestrator_cli.journal.journal import EventStream
from orchestrator_cli.runs.background import BackgroundRun, write_background
from orchestrator_cli.runs.find import PastRun
from orchestrator_cli.schedules.schedule import made

USE = caller("use", ["choose"], inputs={"colour": "$choose.value"})

Team = dict[str, str]


@pytest.fixture
def team(engine: Engine, tmp_path: Path) -> Team:
    """Variables for which the session's server is that of a team."""
    return {
        "PREFECT_API_URL": engine.url,
        "PREFECT_API_AUTH_STRING": engine.password,
        "ORCH_PREFECT_HOME": str(tmp_path / "own-prefect"),
    }


@pytest.fixture
def pool(engine: Engine) -> str:
    name = f"pool-{os.urandom(4).hex()}"
    engine.api("work_pools/", {"name": name, "type": "process"})
    return name


def deployment(engine: Engine, pool: str) -> dict[str, Any]:
    (found,) = engine.api("deployments/filter", {"work_pools": {"name": {"any_": [pool]}}})
    return dict(found)


def test_what_cannot_be_deployed_is_refused(orch: Orch, team: Team, pool: str) -> None:
    assert orch("schedule", "add", "one", "Go.", "--every=1d").code == 0
    assert orch("schedule", "add", "files", "Go.", "--on-file=*.csv").code == 0
    assert orch("schedule", "add", "next", "Go.", "--after=one").code == 0
    assert orch("schedule", "add", "newest", "Go.", "--every=1d", "--overlap=cancel").code == 0
    assert "PREFECT_API_URL" in orch("deploy", "one", "--pool", pool).error
    assert "no schedule two" in orch("deploy", "one", "two", "--pool", pool, **team).error
    assert "no work pool" in orch("deploy", "one", "--pool=nowhere", **team).error
    for name in ("files", "next", "newest"):
        refused = orch("deploy", name, "--pool", pool, **team)
        assert (refused.code, "orch up" in refused.error) == (2, True)


def test_a_deployment_carries_the_schedule_and_nothing_of_this_machine(
    orch: Orch, engine: Engine, team: Team, pool: str
) -> None:
    added = orch("schedule", "add", "one", "Go.", "--cron=0 6 * * *", "--max-calls=5", "--answer-within=2h")
    assert added.code == 0
    assert orch("deploy", "one", "--pool", pool, "--folder=/srv/one", **team).code == 0
    found = deployment(engine, pool)
    assert found["parameters"]["folder"] == "/srv/one"
    given = found["parameters"]["schedule"]
    assert (given["prompt"], given["arguments"]) == ("Go.", ["--max-calls=5"])
    assert given["patience"]["within_s"] == 7200
    assert str(orch.workspace) not in json.dumps(found)
    assert not {"mark", "workspace"} & given.keys()
    assert found["schedules"][0]["schedule"]["cron"] == "0 6 * * *"
    assert orch("deploy", "one", "--pool", pool, **team).code == 0
    assert deployment(engine, pool)["id"] == found["id"]
    assert orch("deploy", "one", "--pool", pool, "--remove", **team).code == 0
    assert engine.api("deployments/filter", {"work_pools": {"name": {"any_": [pool]}}}) == []


def test_a_deployment_gives_the_options_of_schedules_and_no_others() -> None:
    import_prefect()
    from orchestrator_cli.schedules.worker_flow import OPTIONS, check_given

    known = {**vars(LimitOptions()), **vars(PermissionOptions())}
    assert {f"--{name.replace('_', '-')}" for name in known} | {"--model"} == {*OPTIONS}
    check_given(made(name="one", workspace="/", prompt="Go.", arguments=["--max-calls=3", "--yes"]))
    for wrong in (
        {"prompt": "Go.", "arguments": ["--unsafe-no-sandbox"]},
        {"prompt": "Go.", "arguments": ["-C", "/"]},
        {"process": "--help"},
        {"process": "one", "inputs": {"-x": "1"}},
    ):
        with pytest.raises(UsageError):
            check_given(made(name="one", workspace="/", **wrong))


class Liar:
    """A client of a server that answers with what a colleague has written."""

    def __init__(self, text: str, status: int = 200) -> None:
        self.text, self.status = text, status

    def request(self, _: str, path: str, **__: Any) -> Any:
        if path == "/deployments/":
            import httpx

            request = httpx.Request("POST", "http://127.0.0.1/")
            reply = httpx.Response(422, text=self.text, request=request)
            reply.raise_for_status()
        rows = [{"name": "pool", "id": "1"}, {"name": self.text, "id": "2"}]
        return SimpleNamespace(json=lambda: rows if path.endswith("filter") else rows[0])


FORGED = "x\nDeployed one on pool.\n\x1b]0;hi\x07" + "y" * 5000


@pytest.mark.parametrize("pool", ["pool", "nowhere"])
def test_what_a_server_says_forges_no_line_of_an_error(pool: str) -> None:
    with pytest.raises(UsageError) as raised:
        WorkPool(Liar(FORGED), pool, "me").put(
            "one", "Go.", None, entrypoint="a.b", parameters={}, collision="ENQUEUE"
        )
    assert raised.value.remedy.isprintable()
    assert len(raised.value.remedy) < 1200


@pytest.mark.parametrize("own", [True, False])
def test_a_worker_goes_on_with_the_run_of_its_flow_run_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own: bool
) -> None:
    import_prefect()
    from orchestrator_cli.schedules import worker_flow

    class Ended(Exception):
        """With the run that was begun or resumed."""

    def end(past: PastRun, *_: Any) -> None:
        raise Ended(past.run)

    flow_run = uuid4()
    named = PastRun("20261201-090000-abcdef", tmp_path / "home", tmp_path)
    stream = EventStream(named.run, named.journal, [])
    stream.emit(RunStarted(prompt="p", workspace=str(tmp_path), models={}, sandbox="s", version="1"))
    stream.close()
    if own:
        write_background(named, BackgroundRun(schedule="one", flow_run=str(flow_run), is_settled=True))
    monkeypatch.setattr(worker_flow, "go_on", end)
    monkeypatch.setattr(worker_flow, "begin", end)
    monkeypatch.setattr(worker_flow, "get_client", lambda **_: MagicMock())
    monkeypatch.setattr(worker_flow, "name_deployed_run", lambda _: None)
    with pytest.raises(Ended) as ended:
        worker_flow._run(
            made(name="one", workspace=str(tmp_path), prompt="Go."), named.home, flow_run, named.run
        )
    assert (str(ended.value) == named.run) is own


class Worker:
    """`prefect worker start` on a machine of its own, as far as folders and variables go."""

    def __init__(self, folder: Path, pool: str, env: dict[str, str]) -> None:
        self.home, self.workspace = folder / "home", folder / "workspace"
        for path in (self.home, self.workspace):
            path.mkdir(parents=True)
        self.log = folder / "worker.log"
        command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", pool, "--type", "process"]
        own = {"ORCH_HOME": str(self.home), "PREFECT_HOME": str(folder / "prefect"), "DO_NOT_TRACK": "1"}
        own |= {"PREFECT_WORKER_QUERY_SECONDS": "1", "PREFECT_WORKER_PREFETCH_SECONDS": "1"}
        with self.log.open("w") as log:
            self._process = subprocess.Popen(command, env={**env, **own}, cwd=folder, stdout=log, stderr=log)

    def events(self, kind: str) -> list[dict[str, Any]]:
        rows = [
            json.loads(line)
            for path in (self.home / "runs").glob("*/journal.jsonl")
            for line in path.read_text().splitlines()
        ]
        return [row["data"] for row in rows if row["data"]["kind"] == kind]

    def end(self) -> None:
        self._process.terminate()
        self._process.wait(timeout=60)


@pytest.fixture
def work(orch: Orch, team: Team, pool: str, tmp_path: Path) -> Iterator[Callable[[], Worker]]:
    begun: list[Worker] = []

    def begin() -> Worker:
        env = orch.environment(**team)
        begun.append(Worker(tmp_path / "elsewhere", pool, env))
        return begun[-1]

    yield begin
    for one in begun:
        one.end()


@pytest.mark.thorough
def test_a_worker_runs_a_deployment_and_goes_on_with_one_that_waited(
    orch: Orch, endpoint: Endpoint, engine: Engine, team: Team, pool: str, work: Callable[[], Worker]
) -> None:
    endpoint.reply = Cast(
        planner=[answered("Painted."), plan(CHOOSE, USE)], agents={"Do use": [FINISH]}, answer=["Done."]
    )
    assert orch("schedule", "add", "paint", "Paint it.").code == 0
    worker = work()
    deployed = orch("deploy", "paint", "--pool", pool, "--folder", str(worker.workspace), **team)
    assert deployed.code == 0
    start = f"deployments/{deployment(engine, pool)['id']}/create_flow_run"
    job: dict[str, Any] = {}

    def flow_run() -> dict[str, Any]:
        found: dict[str, Any] = engine.api(f"flow_runs/{job['id']}")
        return found

    def await_end() -> str:
        wait_for(lambda: flow_run()["state_type"] in ("FAILED", "CRASHED", "COMPLETED"))
        return str(flow_run()["state_type"])

    job |= engine.api(start, {"state": {"type": "SCHEDULED", "name": "Scheduled"}})
    assert await_end() == "COMPLETED"
    assert worker.events("RunFinished")[-1]["answer"] == "Painted."
    assert (worker.home / "runs" / flow_run()["name"] / "journal.jsonl").exists()

    job |= engine.api(start, {"state": {"type": "SCHEDULED", "name": "Scheduled"}})
    assert await_end() == "FAILED"
    assert "orch approve" in flow_run()["state"]["message"]
    run = flow_run()["name"]
    there = {"ORCH_HOME": str(worker.home)}
    assert {one["outcome"] for one in worker.events("RunFinished")} == {"completed", "paused"}
    assert orch("approve", run, "--answer=red", "--json", **team, **there).envelope["outcome"] == "completed"
    # A retry of the flow run finds the run at its end.
    again = {"state": {"type": "SCHEDULED", "name": "AwaitingRetry"}, "force": True}
    engine.api(f"flow_runs/{job['id']}/set_state", again)
    assert await_end() == "COMPLETED"
    assert [row["name"] for row in engine.task_runs(run)].count("use") == 1
    assert len(engine.flow_runs(run)) == 1
    assert (worker.workspace / "fileLog.md").exists()
