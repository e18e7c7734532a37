"""The first calls of a model may come while other libraries are still being imported."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from endpoint import Endpoint

from orchestrator_cli.cancellation import Cancellation
from orchestrator_cli.models.client import LiteLLMModel
from orchestrator_cli.models.library import litellm
from orchestrator_cli.models.model import ModelRequest

ROUNDS = 3

FIRST_CALLS = """
import json, os, sys, threading
from pathlib import Path

from orchestrator_cli import warm_up
from orchestrator_cli.models.sources import LiveModels
from orchestrator_cli.cancellation import Cancellation
from orchestrator_cli.models.client import LiteLLMModel
from orchestrator_cli.models.model import ModelRequest

from orchestrator_cli.engine.server import configure_client

configure_client("http://127.0.0.1:9/api", Path(sys.argv[2]))
sys.setswitchinterval(0.0001)
# What is imported, is imported once in a process: so each round has one of its own.
for _ in range(int(sys.argv[1])):
    child = os.fork()
    if child == 0:
        function = {"name": "f", "parameters": {"type": "object"}}
        faults, tools = [], ({"type": "function", "function": function},)

        def call(number):
            request = ModelRequest(
                role="planner",
                model="openai/planner",
                messages=({"role": "user", "content": "x"},),
                tools=tools if number % 2 else (),
            )
            try:
                LiteLLMModel(Cancellation(), timeout=150).complete(request, lambda _: None)
            except Exception as exc:
                faults.append(f"{type(exc).__name__}: {exc}")

        arguments = (LiveModels().prepare, True, threading.Event(), lambda exc: faults.append(str(exc)))
        work = [threading.Thread(target=warm_up._import, args=arguments)]
        work += [threading.Thread(target=call, args=(number,)) for number in range(4)]
        for thread in work:
            thread.start()
        for thread in work:
            thread.join()
        print(json.dumps(faults), flush=True)
        os._exit(0)
    os.waitpid(child, 0)
"""


@pytest.mark.thorough
def test_no_first_call_meets_a_library_that_is_half_imported(endpoint: Endpoint, tmp_path: Path) -> None:
    endpoint.reply = lambda _request, _n: "hello"
    env = {**os.environ, "OPENAI_BASE_URL": endpoint.url, "OPENAI_API_KEY": "test-key"}
    done = subprocess.run(
        [sys.executable, "-c", FIRST_CALLS, str(ROUNDS), str(tmp_path)],
        capture_output=True,
        text=True,
        env=env,
        timeout=180,
        check=True,
    )
    assert [json.loads(line) for line in done.stdout.splitlines()] == [[]] * ROUNDS, done.stderr
    assert endpoint.arrived == 4 * ROUNDS


@pytest.mark.filterwarnings("ignore")  # LiteLLM's own, in this process
def test_the_library_is_warmed_up_once(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    endpoint.reply = lambda _request, _n: "hello"
    monkeypatch.setenv("OPENAI_BASE_URL", endpoint.url)
    monkeypatch.setenv("OPENAI_API_KEY", "test-key")
    request = ModelRequest(role="agent", model="openai/agent", messages=({"role": "user", "content": "x"},))
    model, asked = LiteLLMModel(Cancellation()), []
    model.complete(request)
    completion = litellm().completion

    def counted(**given: Any) -> Any:
        asked.append(given)
        return completion(**given)

    monkeypatch.setattr(litellm(), "completion", counted)
    model.complete(request)
    assert len(asked) == 1
