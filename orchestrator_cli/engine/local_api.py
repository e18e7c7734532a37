"""What Prefect's engine asks a server about a flow run, answered in this process.

Prefect's engine runs flows and tasks, and asks a server before each step of a flow run. A server that has
stopped, or that says the run has ended, would decide what happens to the work. So the engine's client has
a transport that accepts every step at once and puts a copy of it into the run's outbox. Events of task
runs and lines of their log go into the outbox too.
"""

import json
import re
import ssl
import uuid
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import httpx

from orchestrator_cli.engine.outbox import EVENTS, LOGS, STATE, PrefectOutbox

FLOW = str(uuid.UUID(int=0))
"""The id of the flow in this process."""
ASKED = re.compile(r"(?<=/)(admin/version|flows|flow_runs(/[^/]+(/set_state)?)?)$")
"""The paths that the engine asks for."""


def unused_tls() -> ssl.SSLContext:
    """For a client that opens no TLS: Prefect would read all authorities' certificates, which takes 30 ms."""
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


class LocalApi(httpx.BaseTransport):
    """Answers what the engine asks about the flow run of an outbox."""

    def __init__(self, outbox: PrefectOutbox) -> None:
        self._outbox = outbox
        self._state: dict[str, Any] = {"type": "PENDING", "name": "Pending"}

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Accept a step. Anything else than the engine's own requests is not found."""
        own = f"flow_runs/{self._outbox.local_id}"
        # Before this is the path of the server's API, which can be any.
        asked = ASKED.search(request.url.path.strip("/"))
        path = asked[0] if asked else request.url.path
        if (request.method, path) == ("GET", "admin/version"):
            return httpx.Response(200, json=version("prefect"))
        if (request.method, path) == ("POST", "flows"):
            return httpx.Response(200, json={"id": FLOW, "name": "orch"})
        if (request.method, path) in (("POST", "flow_runs"), ("GET", own)):
            return httpx.Response(200, json=self._flow_run())
        if (request.method, path) == ("POST", f"{own}/set_state"):
            return httpx.Response(200, json=self._accept(json.loads(request.content)["state"]))
        return httpx.Response(404, json={"detail": f"orch does not answer {request.method} {path}."})

    def _flow_run(self) -> dict[str, Any]:
        return {
            "id": self._outbox.local_id,
            "flow_id": FLOW,
            "name": self._outbox.name,
            "state": self._state,
            "state_type": self._state["type"],
            "state_name": self._state["name"],
        }

    def _accept(self, proposed: dict[str, Any]) -> dict[str, Any]:
        self._outbox.put(STATE, {"state": proposed, "force": True})
        self._state = proposed | {"id": str(uuid.uuid4()), "timestamp": datetime.now(UTC).isoformat()}
        return {"status": "ACCEPT", "state": self._state, "details": {"type": "accept_details"}}


# --- events and logs

_outboxes: dict[str, PrefectOutbox | None] = {}
"""By the ids of their flow runs in this process. None after the end: what Prefect says late is dropped."""


def collect_from_prefect(outbox: PrefectOutbox) -> None:
    """Have what Prefect says of the outbox's flow run put into it; Prefect sends the rest as it does."""
    from prefect.events import utilities
    from prefect.logging.handlers import set_api_log_sink

    _outboxes[outbox.local_id] = outbox
    # Prefect's worker for events asks the server before it sends each one, and its end waits for the server.
    vars(utilities)["EventsWorker"] = _EventCollector
    set_api_log_sink(_collect_log)


def stop_collecting(outbox: PrefectOutbox) -> None:
    """Drop what Prefect says of the outbox's flow run from now on."""
    if outbox.local_id in _outboxes:
        _outboxes[outbox.local_id] = None


class _EventCollector:
    """Takes the place of the class that Prefect's `emit_event` gives events to."""

    def __init__(self, flow_run: Any, outbox: PrefectOutbox | None) -> None:
        from prefect.events.clients import PrefectEventsClient

        self.client_type = PrefectEventsClient
        self._flow_run = flow_run
        self._outbox = outbox

    @classmethod
    def instance(cls) -> Any:
        from prefect.context import FlowRunContext
        from prefect.events.worker import EventsWorker

        context = FlowRunContext.get()
        flow_run = context.flow_run if context else None
        if flow_run and str(flow_run.id) in _outboxes:
            return cls(flow_run, _outboxes[str(flow_run.id)])
        return EventsWorker.instance()

    def send(self, event: Any) -> None:
        if self._outbox is None:
            return
        row = event.model_dump(mode="json")
        row["related"].append(
            {
                "prefect.resource.id": f"prefect.flow-run.{self._flow_run.id}",
                "prefect.resource.role": "flow-run",
                "prefect.resource.name": self._flow_run.name,
            }
        )
        self._outbox.put(EVENTS, row)


def _collect_log(line: dict[str, Any]) -> None:
    line.pop("__payload_size__", None)
    if (flow_run := str(line["flow_run_id"])) in _outboxes:
        if (outbox := _outboxes[flow_run]) is not None:
            outbox.put(LOGS, line)
        return
    from prefect.logging.handlers import APILogWorker

    APILogWorker.instance().send(line)
