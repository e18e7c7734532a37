"""One request to a worker and everything until its answer: calls of host tools, limits, stopping.

Nothing inside runs while a host tool works, and that time is not charged to the step.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from threading import Event
from typing import Any

from toolsmith.sandbox.redaction import Aliases
from toolsmith.sandbox.spec import LimitMonitor
from toolsmith.sandbox.wire import WireError, decode, encode
from toolsmith.sandbox.worker_process import WorkerLost, WorkerProcess

HostTool = Callable[..., Any]

STOP_S = 2.0
MAX_TOOL_ERROR = 2_000


@dataclass
class Rpc:
    """Talks to `worker` about one request.

    `outward` and `inward` replace paths by their names on the other side; `mask_bytes` masks secrets in data
    that leaves.
    """

    worker: WorkerProcess
    host: Mapping[str, HostTool]
    monitor: LimitMonitor
    closed: Event
    outward: Aliases
    inward: Aliases
    mask_bytes: Callable[[bytes], bytes] = bytes
    calls: int = 0
    stopped_for: str = ""
    _stop_deadline: float = 0.0

    def run(self, request: dict[str, Any]) -> dict[str, Any]:
        """The worker's answer, still encoded. Raises WorkerLost, OSError; WireError if nothing was sent."""
        self.worker.processes.wake()
        self.worker.send(request, self._tick)
        while (message := self.worker.receive(self._tick))["t"] == "call":
            outcome = self._serve(message)
            try:
                self.worker.send({"t": "returned", **outcome}, self._tick)
            except WireError as exc:
                self.worker.send({"t": "returned", "error": f"ValueError: {exc}"}, self._tick)
        if message["t"] != "done" or message.get("id") != request["id"]:
            raise WorkerLost("it sent a message out of order")
        if self.fault(message) is not None:
            self.worker.resync(bytes.fromhex(request["id"]), self._tick)
        return message

    def fault(self, answer: dict[str, Any]) -> str | None:
        """What ended the step from outside its code, if anything did."""
        if answer.get("stopped") is True:
            return self.stopped_for or "the step was ended"
        fault = answer.get("fault")
        return None if fault is None else str(fault)[:200]

    def _tick(self) -> None:
        if self.closed.is_set():
            raise WorkerLost("it was closed")
        if self.stopped_for:
            if time.monotonic() > self._stop_deadline:
                raise WorkerLost("it could not be stopped")
            return
        why = self.monitor.exceeded()
        if why is not None:
            self.stopped_for = why
            self._stop_deadline = time.monotonic() + STOP_S
            self.worker.processes.end_step()

    def _serve(self, message: dict[str, Any]) -> dict[str, Any]:
        began = time.monotonic()
        self.worker.processes.suspend()
        try:
            return self._call(message)
        finally:
            self.worker.processes.resume()
            self.monitor.paused_s += time.monotonic() - began

    def _call(self, message: dict[str, Any]) -> dict[str, Any]:
        name = message.get("name")
        self.calls += 1
        if not isinstance(name, str) or name not in self.host:
            return {"error": f"PermissionError: tool {str(name)[:80]!r} is not granted"}
        most = self.monitor.limits.calls
        if self.calls > most:
            return {"error": f"PermissionError: more than {most} calls of tools in one step"}
        args, kwargs = self._arguments(message)
        try:
            return {"value": encode(self.host[name](*args, **kwargs), self.inward.hide)}
        except Exception as exc:
            return {"error": self.inward.hide(f"{type(exc).__name__}: {exc}")[:MAX_TOOL_ERROR]}

    def _arguments(self, message: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
        try:
            args = decode(message.get("args"), self.outward.hide, self.mask_bytes)
            kwargs = decode(message.get("kwargs"), self.outward.hide, self.mask_bytes)
        except WireError as exc:
            raise WorkerLost(f"it sent a malformed call: {exc}") from exc
        match args, kwargs:
            case list(), dict() if all(isinstance(name, str) for name in kwargs):
                return args, kwargs
        raise WorkerLost("it sent a malformed call")
