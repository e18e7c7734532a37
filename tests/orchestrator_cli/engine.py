"""The test session's Prefect server, its API, and the process that runs `orch` on it."""

import base64
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from forkserver import Warm
from residents import Residents

from orchestrator_cli.engine.outbox import send_unsent


@dataclass(frozen=True)
class Engine:
    home: Path
    url: str
    password: str
    warm: Warm
    residents: Residents

    def api(self, path: str, body: dict[str, Any] | None = None) -> Any:
        """What Prefect's server says: to a POST where there is a body."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"content-type": "application/json", **authorization(self.password)}
        request = urllib.request.Request(f"{self.url}/{path}", data, headers)
        with urllib.request.urlopen(request, timeout=10) as reply:
            return json.load(reply)

    def flow_runs(self, run: str) -> list[dict[str, Any]]:
        """The flow runs of one run of ours."""
        found: list[dict[str, Any]] = self.api("flow_runs/filter", {"flow_runs": {"name": {"any_": [run]}}})
        return found

    def end_states(self, run: str) -> tuple[str, ...]:
        """The states of the flow runs of one of our runs at its end, which the server is sent afterwards.

        What a busy server has not taken in time is sent, as the next run would.
        """
        started = time.monotonic()
        while True:
            states = tuple(str(row["state_type"]) for row in self.flow_runs(run))
            waited = time.monotonic() - started
            if (states and not {*states} & {"PENDING", "RUNNING"}) or waited > 30:
                return states
            if waited > 5:
                send_unsent(self.home / "prefect" / "unsent", self)
            time.sleep(0.05)

    def request(self, method: str, path: str, **given: Any) -> Any:
        """As a client of Prefect, for what sends to one."""
        body = given.get("content") or json.dumps(given.get("json"))
        headers = {"content-type": "application/json", **authorization(self.password)}
        url = f"{self.url}{path}"
        request = urllib.request.Request(url, body.encode(), headers, method=method)
        with urllib.request.urlopen(request, timeout=10) as reply:
            content = reply.read()
        return SimpleNamespace(json=lambda: json.loads(content))

    def task_runs(self, run: str) -> list[dict[str, Any]]:
        flow_run = self.flow_runs(run)[0]["id"]
        found: list[dict[str, Any]] = self.api(
            "task_runs/filter", {"flow_runs": {"id": {"any_": [flow_run]}}}
        )
        return found


def authorization(password: str) -> dict[str, str]:
    """The header that Prefect's server asks for."""
    return {"authorization": f"Basic {base64.b64encode(password.encode()).decode()}"}


def start_server(home: Path, idle_minutes: float = 30) -> str:
    """Have another process ask for a home's server, as `orch` does; its address."""
    program = (
        "import sys; from pathlib import Path; from orchestrator_cli.engine.server import *; "
        "print(ensure_server(Path(sys.argv[1]), float(sys.argv[2])))"
    )
    command = [sys.executable, "-c", program, str(home), str(idle_minutes)]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.strip()


def end(process_id: int) -> None:
    """Ask a process to end, and wait until it is gone."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(process_id, signal.SIGTERM)
        for _ in range(200):
            with contextlib.suppress(ChildProcessError):
                os.waitpid(process_id, os.WNOHANG)
            os.kill(process_id, 0)
            time.sleep(0.05)
