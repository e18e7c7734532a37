"""The conversation with one sandbox: requests, host tools, limits, and a new worker when one is lost.

Knows nothing of smolagents. Between two requests the worker is stopped (SIGSTOP) and holds one process
beside the nanny, so nothing inside runs, and nothing changes the workspace, while the host is not looking.
The same holds while a host tool works.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from toolsmith.sandbox import proctree
from toolsmith.sandbox.backend import SHOWN_WORKSPACE, Backend, Room, python_folders
from toolsmith.sandbox.codec import CodecError, decode, encode
from toolsmith.sandbox.errors import SandboxClosed, SandboxError, SandboxUnavailable
from toolsmith.sandbox.limits import Limits
from toolsmith.sandbox.process import WorkerLost, WorkerProcess
from toolsmith.sandbox.transcript import Aliases, printed, told
from toolsmith.sandbox.watch import DiskGauge, Watch

HostTool = Callable[..., Any]

START_S = 20.0
STOP_S = 2.0
SETTLE_S = 1.0
MAX_TOOL_ERROR = 2_000

ROLLED_BACK = "The Python state is as it was before this step; files it wrote remain."
RESTARTED = "The sandbox was restarted; its variables are lost, files in the workspace remain."
CLOSED = "the sandbox was closed"


@dataclass(frozen=True)
class Reply:
    """What a request brought."""

    value: Any
    final: bool
    output: str


@dataclass
class Bindings:
    """What the namespace holds before the first step; told again to each new worker."""

    variables: dict[str, Any] = field(default_factory=dict)
    host: Mapping[str, HostTool] = field(default_factory=dict)
    inside: Mapping[str, str] = field(default_factory=dict)
    """Names and sources of the model-written tools."""


class Session:
    """One sandbox. Requests come from one thread at a time; `interrupt` and `close` from any."""

    def __init__(self, workspace: Path, *, limits: Limits, backend: Backend, writable: bool) -> None:
        workspace = workspace.resolve(strict=True)
        if writable:
            _refuse_the_interpreter(workspace)
        self._room = Room(workspace, writable, limits)
        self._backend = backend
        self._limits = limits
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._worker: WorkerProcess | None = None
        self._generation = 0  # pid of the process that holds the Python state
        self._disk: DiskGauge | None = None
        self._aliases = Aliases({})
        self.bindings = Bindings()
        self.last_output = ""

    # --- for callers --------------------------------------------------------------------------------------

    def bind(self) -> None:
        """Brings `bindings` into the namespace; starts the worker only for sources. Raises SandboxError."""
        with self._busy():
            if self._worker is not None:
                self._bind(self._worker)
            elif self.bindings.inside:
                self._start()

    def request(self, request: dict[str, Any], *, message_first: bool = False) -> Reply:
        """Has the worker, started if need be, do one thing. Raises SandboxError, SandboxUnavailable."""
        with self._busy():
            self.last_output = ""
            worker = self._worker or self._start()
            return self._exchange(worker, request, self.bindings.host, message_first)

    def interrupt(self) -> None:
        """Ends the worker at once; a running or later request raises SandboxClosed."""
        self._closed.set()
        worker = self._worker
        if worker is not None:
            worker.kill()

    def close(self) -> None:
        """As `interrupt`, and gives back what the sandbox held. A running request does that as it ends."""
        self.interrupt()
        if self._lock.acquire(blocking=False):
            try:
                self._drop()
            finally:
                self._lock.release()

    # --- one request --------------------------------------------------------------------------------------

    @contextmanager
    def _busy(self) -> Iterator[None]:
        if self._closed.is_set():
            raise SandboxClosed(CLOSED)
        if not self._lock.acquire(blocking=False):
            raise SandboxError("the sandbox is busy with another step; use one sandbox for each agent")
        try:
            yield
        finally:
            if self._closed.is_set():
                self._drop()
            self._lock.release()

    def _exchange(
        self,
        worker: WorkerProcess,
        request: dict[str, Any],
        host: Mapping[str, HostTool],
        message_first: bool,
    ) -> Reply:
        exchange = _Exchange(self, worker, host)
        worker.take_output()
        try:
            answer = exchange.run({**request, "id": secrets.token_hex(8), "wall_s": self._limits.wall_s})
            self._generation = _settle(worker.top)
        except (WorkerLost, CodecError, OSError) as error:
            self._lose(worker, exchange.stopped_for or f"the sandbox failed: {error}")
        finally:
            if self._worker is worker:
                self.last_output = self._printed(worker)
        if (fault := exchange.fault(answer)) is not None:
            raise SandboxError(f"{fault}. {ROLLED_BACK}")
        if "error" in answer:
            raise SandboxError(told(answer["error"], self._aliases, message_first=message_first))
        return self._reply(answer)

    def _reply(self, answer: dict[str, Any]) -> Reply:
        try:
            value = decode(answer.get("value"), self._aliases.hide)
        except CodecError as error:
            raise SandboxError(f"the step returned no proper value: {error}") from error
        return Reply(value=value, final=answer.get("final") is True, output=self.last_output)

    def _lose(self, worker: WorkerProcess, why: str) -> None:
        """Raises: the worker is of no more use; the next request starts a new one."""
        self.last_output = self._printed(worker)
        self._drop()
        if self._closed.is_set():
            raise SandboxClosed(CLOSED)
        raise SandboxError(f"{self._aliases.hide(why)}. {RESTARTED}")

    def _printed(self, worker: WorkerProcess) -> str:
        data, cut = worker.take_output()
        return printed(data, cut, self._limits.output_chars, self._aliases)

    # --- the worker's life --------------------------------------------------------------------------------

    def _start(self) -> WorkerProcess:
        if self._disk is None:
            self._disk = DiskGauge([self._room.workspace], self._limits.disk_mb << 20)
        try:
            worker = WorkerProcess(self._backend, self._room)
        except OSError as error:
            raise SandboxUnavailable(f"cannot start the sandbox ({self._backend.detail}): {error}") from error
        self._worker = worker
        launch = worker.launch
        self._aliases = Aliases({**launch.aliases, launch.workspace: SHOWN_WORKSPACE})
        deadline = time.monotonic() + START_S
        try:
            worker.start(lambda: self._still_starting(deadline))
            self._generation = _settle(worker.top)
        except (WorkerLost, OSError, ValueError) as error:
            self._drop()
            if self._closed.is_set():
                raise SandboxClosed(CLOSED) from None
            raise SandboxUnavailable(
                f"the sandbox did not start ({self._backend.detail}): {error}"
            ) from error
        if launch.scratch is not None:
            self._disk = DiskGauge([self._room.workspace, launch.scratch], self._limits.disk_mb << 20)
        if self.bindings != Bindings():
            self._bind(worker)
        return worker

    def _still_starting(self, deadline: float) -> None:
        if self._closed.is_set():
            raise WorkerLost("closed")
        if time.monotonic() > deadline:
            raise WorkerLost(f"it was not ready after {START_S:g} s")

    def _bind(self, worker: WorkerProcess) -> None:
        given = self.bindings
        request = {
            "t": "bind",
            "variables": encode(given.variables),
            "host": sorted(given.host),
            "inside": {name: (source, digest(source)) for name, source in sorted(given.inside.items())},
        }
        self._exchange(worker, request, {}, message_first=True)

    def _drop(self) -> None:
        worker, self._worker = self._worker, None
        if worker is not None:
            worker.close()


class _Exchange:
    """One request to a worker and all that happens until its answer."""

    def __init__(self, session: Session, worker: WorkerProcess, host: Mapping[str, HostTool]) -> None:
        self._session, self._worker, self._host = session, worker, host
        self._limits = session._limits
        assert session._disk is not None
        self._watch = Watch(worker.top, self._limits, session._disk, self._limits.wall_s)
        self._calls = 0
        self.stopped_for = ""
        self._stop_deadline = 0.0

    def run(self, request: dict[str, Any]) -> dict[str, Any]:
        """The worker's answer, still encoded. Raises WorkerLost, CodecError, OSError."""
        proctree.send(self._session._generation, signal.SIGCONT)
        self._worker.send(request, self._tick)
        while (message := self._worker.receive(self._tick))["t"] == "call":
            self._worker.send({"t": "returned", **self._served(message)}, self._tick)
        if message["t"] != "done" or message.get("id") != request["id"]:
            raise WorkerLost("it sent a message out of order")
        if self.fault(message) is not None:
            self._worker.resync(bytes.fromhex(request["id"]), self._tick)
        return message

    def fault(self, answer: dict[str, Any]) -> str | None:
        """What ended the step from outside its code."""
        if answer.get("stopped") is True:
            return self.stopped_for or "the step was ended"
        fault = answer.get("fault")
        return None if fault is None else str(fault)[:200]

    def _tick(self) -> None:
        if self._session._closed.is_set():
            raise WorkerLost("closed")
        if self.stopped_for:
            if time.monotonic() > self._stop_deadline:
                raise WorkerLost("it could not be stopped")
            return
        why = self._watch.exceeded()
        if why is not None:
            self.stopped_for = why
            self._stop_deadline = time.monotonic() + STOP_S
            proctree.send(self._session._generation, signal.SIGUSR1)

    def _served(self, message: dict[str, Any]) -> dict[str, Any]:
        """Calls a host tool for the step. Nothing inside runs meanwhile, and the time is not the step's."""
        began = time.monotonic()
        stopped = proctree.freeze(self._worker.top)
        try:
            return self._called(message)
        finally:
            proctree.thaw(stopped)
            self._watch.held_s += time.monotonic() - began

    def _called(self, message: dict[str, Any]) -> dict[str, Any]:
        name = message.get("name")
        self._calls += 1
        if not isinstance(name, str) or name not in self._host:
            return {"error": f"PermissionError: tool {str(name)[:80]!r} is not granted"}
        if self._calls > self._limits.calls:
            return {"error": f"PermissionError: more than {self._limits.calls} calls of tools in one step"}
        hide = self._session._aliases.hide
        args, kwargs = decode(message.get("args"), hide), decode(message.get("kwargs"), hide)
        if not isinstance(args, list) or not isinstance(kwargs, dict) or not all(map(_is_text, kwargs)):
            raise WorkerLost("it sent a call that is none")
        try:
            return {"value": encode(self._host[name](*args, **kwargs))}
        except Exception as error:
            return {"error": f"{type(error).__name__}: {error}"[:MAX_TOOL_ERROR]}


def digest(source: str) -> str:
    """Names a tool's source: it is loaded once for each."""
    return hashlib.sha256(source.encode()).hexdigest()[:12]


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _settle(top: int) -> int:
    """Waits until one process is left beside the nanny, stops it, and returns its pid."""
    deadline = time.monotonic() + SETTLE_S
    while True:
        pids = proctree.tree(top)[1:]
        if len(pids) == 1:
            proctree.send(pids[0], signal.SIGSTOP)
            if proctree.tree(top)[1:] == pids:
                return pids[0]
        if time.monotonic() > deadline:
            raise WorkerLost("processes of the step outlived it")
        time.sleep(0.0005)


def _refuse_the_interpreter(workspace: Path) -> None:
    for folder in python_folders():
        if Path(os.path.realpath(folder)).is_relative_to(workspace):
            raise SandboxUnavailable(
                f"the workspace {workspace} holds the Python environment {folder}, which the host runs "
                "and the sandbox could change. Use a copy of the workspace, or an environment outside of it."
            )
