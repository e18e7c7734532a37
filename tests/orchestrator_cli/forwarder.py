"""A lying Prefect server: it passes requests on to the real one, and answers some of them itself."""

import json
import threading
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler
from typing import Any

from endpoint import LoopbackServer

Lie = Callable[[str, Any], Any]
"""Given the path and the JSON of a request, returns the JSON to answer with, or None to pass it on.

An `int` is the status of an empty reply, and an exception closes the connection.
"""
Spoil = Callable[[Any], Any]
"""Given the JSON of the real server's reply, returns what the client is given."""


class Forwarder:
    """As a context manager it serves until it is left."""

    def __init__(self, target: str, lie: Lie, spoil: Spoil = lambda reply: reply) -> None:
        """`target` is the address of the real API."""
        self._server = _Server(target, lie, spoil)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/api"

    def __enter__(self) -> "Forwarder":
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def reference(storage_key: str) -> dict[str, Any]:
    """The data of a state whose result is the pickle of that key."""
    result = {"storage_key": storage_key, "serializer": {"type": "pickle"}, "storage_block_id": None}
    return result | {"expiration": None, "prefect_version": "3.0.0"}


def with_results(storage_key: str) -> Spoil:
    """Each state in a reply says that it has such a result."""

    def spoil(reply: Any) -> Any:
        if isinstance(reply, list):
            return [spoil(one) for one in reply]
        if not isinstance(reply, dict):
            return reply
        spoilt = {name: spoil(value) for name, value in reply.items()}
        return spoilt | {"data": reference(storage_key)} if "state_details" in reply else spoilt

    return spoil


def completed_elsewhere(storage_key: str) -> dict[str, Any]:
    """The reply to a proposed state: no, the run has completed, and its result is the pickle of that key."""
    state = {
        "id": str(uuid.uuid4()),
        "type": "COMPLETED",
        "name": "Completed",
        "timestamp": datetime.now(UTC).isoformat(),
        "data": reference(storage_key),
    }
    return {
        "status": "REJECT",
        "state": state,
        "details": {"type": "reject_details", "reason": "it has completed"},
    }


class _Server(LoopbackServer):
    def __init__(self, target: str, lie: Lie, spoil: Spoil) -> None:
        super().__init__(_Requests)
        self.target = target
        self.lie = lie
        self.spoil = spoil

    def handle_error(self, *_: object) -> None:
        """Silent."""


class _Requests(BaseHTTPRequestHandler):
    server: "_Server"

    def log_message(self, *_: object) -> None:
        """Silent."""

    def _pass_on(self) -> None:
        if self.headers.get("upgrade"):
            self._send(501, b"{}")  # Prefect's events go over a websocket; they are not needed here
            return
        data = self.rfile.read(int(self.headers.get("content-length", 0))) or None
        path = self.path.removeprefix("/api")
        lie = self.server.lie(path, json.loads(data) if data else None)
        if isinstance(lie, int):
            self._send(lie, b"{}")
            return
        if lie is not None:
            self._send(200, json.dumps(lie).encode())
            return
        headers = {"content-type": "application/json", "authorization": self.headers.get("authorization", "")}
        request = urllib.request.Request(self.server.target + path, data, headers, method=self.command)
        try:
            with urllib.request.urlopen(request, timeout=10) as reply:
                body = reply.read()
                spoilt = json.dumps(self.server.spoil(json.loads(body))).encode() if body else body
                self._send(reply.status, spoilt)
        except urllib.error.HTTPError as exc:
            self._send(exc.code, exc.read())

    def do_GET(self) -> None:
        self._pass_on()

    def do_POST(self) -> None:
        self._pass_on()

    def do_PATCH(self) -> None:
        self._pass_on()

    def _send(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
