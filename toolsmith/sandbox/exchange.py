"""One request to a worker, and all that happens until its answer: host tools, limits, the stop.

Nothing inside runs while a host tool works, and that time is not charged to the step.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from threading import Event
from typing import Any

from toolsmith.sandbox.codec import CodecError, decode, encode
from toolsmith.sandbox.process import WorkerLost, WorkerProcess
from toolsmith.sandbox.transcript import Aliases
from toolsmith.sandbox.watch import Watch

HostTool = Callable[..., Any]

STOP_S = 2.0
MAX_TOOL_ERROR = 2_000


@dataclass
class Exchange:
    """Talks to `worker` about one request.

    `outward` and `inward` put the names that paths have on the other side into what is passed, and `masked`
    takes secrets out of data that leaves.
    """

    worker: WorkerProcess
    host: Mapping[str, HostTool]
    watch: Watch
    closed: Event
    outward: Aliases
    inward: Aliases
    masked: Callable[[bytes], bytes] = bytes
    calls: int = 0
    stopped_for: str = ""
    _stop_deadline: float = 0.0

    def run(self, request: dict[str, Any]) -> dict[str, Any]:
        """The worker's answer, still encoded. Raises WorkerLost, OSError; CodecError if nothing was sent."""
        self.worker.processes.wake()
        self.worker.send(request, self._tick)
        while (message := self.worker.receive(self._tick))["t"] == "call":
            self._return(self._served(message))
        if message["t"] != "done" or message.get("id") != request["id"]:
            raise WorkerLost("it sent a message out of order")
        if self.fault(message) is not None:
            self.worker.resync(bytes.fromhex(request["id"]), self._tick)
        return message

    def _return(self, outcome: dict[str, Any]) -> None:
        try:
            self.worker.send({"t": "returned", **outcome}, self._tick)
        except CodecError as error:
            self.worker.send({"t": "returned", "error": f"ValueError: {error}"}, self._tick)

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
        why = self.watch.exceeded()
        if why is not None:
            self.stopped_for = why
            self._stop_deadline = time.monotonic() + STOP_S
            self.worker.processes.end_step()

    def _served(self, message: dict[str, Any]) -> dict[str, Any]:
        began = time.monotonic()
        self.worker.processes.hold()
        try:
            return self._called(message)
        finally:
            self.worker.processes.release()
            self.watch.held_s += time.monotonic() - began

    def _called(self, message: dict[str, Any]) -> dict[str, Any]:
        name = message.get("name")
        self.calls += 1
        if not isinstance(name, str) or name not in self.host:
            return {"error": f"PermissionError: tool {str(name)[:80]!r} is not granted"}
        most = self.watch.limits.calls
        if self.calls > most:
            return {"error": f"PermissionError: more than {most} calls of tools in one step"}
        args, kwargs = self._arguments(message)
        try:
            return {"value": encode(self.host[name](*args, **kwargs), self.inward.hide)}
        except Exception as error:
            return {"error": self.inward.hide(f"{type(error).__name__}: {error}")[:MAX_TOOL_ERROR]}

    def _arguments(self, message: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
        try:
            args = decode(message.get("args"), self.outward.hide, self.masked)
            kwargs = decode(message.get("kwargs"), self.outward.hide, self.masked)
        except CodecError as error:
            raise WorkerLost(f"it sent what is no call: {error}") from error
        if not isinstance(args, list) or not isinstance(kwargs, dict):
            raise WorkerLost("it sent what is no call")
        if not all(isinstance(name, str) for name in kwargs):
            raise WorkerLost("it sent what is no call")
        return args, kwargs
