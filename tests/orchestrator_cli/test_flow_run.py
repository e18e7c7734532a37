"""The flow run of a run exists on Prefect's server while the planner thinks, and ends as the run does."""

import base64
import contextlib
import json
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from command import Orch
from endpoint import Endpoint, Reply, fault
from engine import Engine
from forwarder import Forwarder, completed_elsewhere, with_results
from scripted_model import Cast, code, coder, plan

WRITES = [code("open('one.txt', 'w').write('1')\nfinal_answer('one is done')")]


def states(orch: Orch, engine: Engine) -> list[tuple[str, str | None]]:
    """State and message of each flow run that belongs to the run."""
    with contextlib.suppress(IndexError, FileNotFoundError, ValueError):
        found = engine.flow_runs(orch.journal().parent.name)
        return [(row["state"]["type"], row["state"]["message"]) for row in found]
    return []


def once_begun(orch: Orch, engine: Engine, said: Reply) -> Callable[[dict[str, Any]], Reply]:
    """A planner that says nothing before the flow run is running."""

    def line(_: dict[str, Any]) -> Reply:
        deadline = time.monotonic() + 60
        while "RUNNING" not in [kind for kind, _ in states(orch, engine)]:
            if time.monotonic() > deadline:
                return fault(400, "no flow run was begun")
            time.sleep(0.05)
        return said

    return line


def test_a_run_without_a_plan_leaves_a_failed_flow_run_that_says_why(
    orch: Orch, endpoint: Endpoint, engine: Engine
) -> None:
    endpoint.reply = Cast(planner=[once_begun(orch, engine, fault(401, "no such key"))])
    assert orch("ask", "Do it.").code == 4
    ((kind, message),) = states(orch, engine)
    assert (kind, "no such key" in str(message)) == ("FAILED", True)


def test_a_plan_is_carried_out_in_the_flow_run_that_was_begun_beside_the_planner(
    orch: Orch, endpoint: Endpoint, engine: Engine
) -> None:
    endpoint.reply = Cast(
        planner=[once_begun(orch, engine, plan(coder("one")))], agents={"Do one": WRITES}, answer=[]
    )
    assert orch("ask", "Do it.").code == 0
    assert [kind for kind, _ in states(orch, engine)] == ["COMPLETED"]
    assert [row["name"] for row in engine.task_runs(orch.journal().parent.name)] == ["one"]


@pytest.mark.slow  # starts a cold process: 5 s
def test_a_run_that_was_killed_while_planning_goes_on_in_the_same_flow_run(
    orch: Orch, endpoint: Endpoint, engine: Engine
) -> None:
    begun = threading.Event()

    def never(request: dict[str, Any]) -> Reply:
        once_begun(orch, engine, "")(request)
        begun.set()
        return {"content": "late", "sleep": 60}

    endpoint.reply = Cast(planner=[never])
    process = subprocess.Popen([*orch.command, "ask", "Do it."], env=orch.environment(), cwd=orch.workspace)
    assert begun.wait(60)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    endpoint.reply = Cast(planner=[plan(coder("one"))], agents={"Do one": WRITES}, answer=[])
    assert orch("resume", "last").code == 0
    assert [kind for kind, _ in states(orch, engine)] == ["COMPLETED"]


class _Trap:
    """What leaves a file where its pickle is loaded."""

    def __init__(self, sprung: Path) -> None:
        self._sprung = sprung

    def __reduce__(self) -> tuple[Any, ...]:
        return (open, (str(self._sprung), "w"))


def _set_trap(folder: Path, sprung: Path) -> str:
    """Lay a pickle in a folder of results; the key that a state names it by."""
    key = f"trap-{uuid.uuid4().hex}"
    result = base64.b64encode(pickle.dumps(_Trap(sprung))).decode()
    metadata = {"storage_key": key, "serializer": {"type": "pickle"}, "prefect_version": "3.0.0"}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / key).write_text(json.dumps({"metadata": metadata, "result": result}))
    return key


HERE = "local_storage_path = '.'\npersist_by_default = true\n"
HOSTILE_FOLDER = {
    "prefect.toml": f"profiles_path = 'profiles.toml'\n[results]\n{HERE}",
    "pyproject.toml": f"[tool.prefect.results]\n{HERE}",
    ".env": "PREFECT_RESULTS_LOCAL_STORAGE_PATH=.\nPREFECT_RESULTS_PERSIST_BY_DEFAULT=true\n",
    "profiles.toml": "active = 'mine'\n[profiles.mine]\nPREFECT_RESULTS_LOCAL_STORAGE_PATH = '.'\n",
}


@pytest.fixture
def trap(orch: Orch, engine: Engine, tmp_path: Path) -> tuple[str, Path]:
    """The key of a pickle that lies wherever Prefect may look, and the file that it makes if it is loaded."""
    sprung = tmp_path / "sprung"
    key = _set_trap(engine.home / "prefect" / "storage", sprung)
    (orch.workspace / key).write_bytes((engine.home / "prefect" / "storage" / key).read_bytes())
    for name, text in HOSTILE_FOLDER.items():
        (orch.workspace / name).write_text(text)
    return key, sprung


# Cold processes, because Prefect reads at import where its server is: 10 s.


@pytest.mark.slow
def test_no_result_is_loaded_that_the_server_names(
    orch: Orch, endpoint: Endpoint, engine: Engine, trap: tuple[str, Path]
) -> None:
    key, sprung = trap

    def lie(path: str, body: Any) -> Any:
        begins = path.endswith("/set_state") and body["state"]["type"] == "RUNNING"
        return completed_elsewhere(key) if begins else None

    endpoint.reply = Cast(planner=[plan(coder("one"))], agents={"Do one": WRITES}, answer=[])
    with Forwarder(engine.url, lie) as server:
        done = orch.cold("ask", "Do it.", **access(server, engine), timeout=90)
    assert not sprung.exists()
    # Nor does a server that says the run has ended keep it from its work.
    assert (done.code, (orch.workspace / "one.txt").read_text()) == (0, "1"), done.err


@pytest.mark.slow
def test_states_with_results_of_others_change_nothing(
    orch: Orch, endpoint: Endpoint, engine: Engine, trap: tuple[str, Path]
) -> None:
    key, sprung = trap
    endpoint.reply = Cast(planner=[fault(401, "no such key")])
    with Forwarder(engine.url, lambda *_: None, with_results(key)) as server:
        assert orch.cold("ask", "Do it.", **access(server, engine), timeout=90).code == 4
        endpoint.reply = Cast(planner=[plan(coder("one"))], agents={"Do one": WRITES}, answer=[])
        done = orch.cold("resume", "last", **access(server, engine), timeout=90)
    assert not sprung.exists()
    assert (done.code, (orch.workspace / "one.txt").read_text()) == (0, "1"), done.err


@pytest.mark.slow
def test_the_trap_springs_where_a_result_is_loaded(
    orch: Orch, engine: Engine, trap: tuple[str, Path]
) -> None:
    """Prefect itself, in that folder, loads what a server names: the tests above can fail."""
    key, sprung = trap
    program = (
        "import json, sys; from prefect.client.schemas import State; "
        "State.model_validate(json.loads(sys.argv[1])).result()"
    )
    state = json.dumps(completed_elsewhere(key)["state"])
    command = [sys.executable, "-c", program, state]
    subprocess.run(command, cwd=orch.workspace, env=orch.environment(), timeout=90, check=False)
    assert sprung.exists()


def access(server: Forwarder, engine: Engine) -> dict[str, str]:
    """What a user sets whose own server is this one."""
    return {"PREFECT_API_URL": server.url, "PREFECT_API_AUTH_STRING": engine.password}
