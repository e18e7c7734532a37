"""A lying Prefect server: it passes requests on to the real one, and answers some of them itself."""

import json
import threading
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Lie = Callable[[str, Any], Any]
"""Given the path and the JSON of a request, returns the JSON to answer with, or None to pass it on."""


class Forwarder:
    """As a context manager it serves until it is left."""

    def __init__(self, target: str, lie: Lie) -> None:
        """`target` is the address of the real API."""
        self._server = _Server(target, lie)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/api"

    def __enter__(self) -> "Forwarder":
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def completed_elsewhere(storage_key: str) -> dict[str, Any]:
    """The reply to a proposed state: no, the run has completed, and its result is the pickle of that key."""
    result = {"storage_key": storage_key, "serializer": {"type": "pickle"}, "storage_block_id": None}
    state = {
        "id": str(uuid.uuid4()),
        "type": "COMPLETED",
        "name": "Completed",
        "timestamp": datetime.now(UTC).isoformat(),
        "data": result | {"expiration": None, "prefect_version": "3.0.0"},
    }
    return {
        "status": "REJECT",
        "state": state,
        "details": {"type": "reject_details", "reason": "it has completed"},
    }


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, target: str, lie: Lie) -> None:
        super().__init__(("127.0.0.1", 0), _Requests)
        self.target = target
        self.lie = lie


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
        if lie is not None:
            self._send(200, json.dumps(lie).encode())
            return
        request = urllib.request.Request(
            self.server.target + path, data, {"content-type": "application/json"}, method=self.command
        )
        try:
            with urllib.request.urlopen(request, timeout=10) as reply:
                self._send(reply.status, reply.read())
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
