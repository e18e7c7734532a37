"""One worker process as the host sees it, and one request to it.

The worker is not trusted: reading is bounded, what it sends is only ever JSON, and it cannot make the host
wait longer than `tick` allows by not reading, not writing or flooding.

`Rpc` makes a request and does everything until its answer: calls of host tools, limits, stopping. Nothing
inside runs while a host tool works, and that time is not charged to the step; refused calls are.

Not covered: the worker ends when the host's end of its socket is closed. A host that forks without exec
(multiprocessing's "fork") passes that end to its child, and the worker then lives as long as the child.
"""

import binascii
import contextlib
import json
import os
import select
import socket
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from threading import Event
from typing import Any

from toolsmith.sandbox.bootstrap import first_frame
from toolsmith.sandbox.listener import CallBroker, receive_listener
from toolsmith.sandbox.processes import SandboxProcesses
from toolsmith.sandbox.proxy import Proxy
from toolsmith.sandbox.redaction import Aliases, word
from toolsmith.sandbox.removal import remove
from toolsmith.sandbox.seccomp import asking_program
from toolsmith.sandbox.spec import Backend, Launch, LimitMonitor, SandboxSpec
from toolsmith.sandbox.watch import StopWatch
from toolsmith.sandbox.wire import WireError, decode, encode, pack, unpack

Tick = Callable[[], None]

TICK_S = 0.03
_DRAINED_AT_ONCE = 64  # reads; a flood must not keep the host from its other work


class WorkerLost(Exception):
    """The worker has ended or violated the protocol, and cannot be used any more."""


class WorkerProcess:
    """A started worker. One thread talks to it; `kill` may be called from any."""

    def __init__(self, backend: Backend, spec: SandboxSpec) -> None:
        """Starts the process without waiting for it: the first frame it sends is "ready". Raises OSError."""
        self._output_limit = 4 * spec.limits.output_chars  # bytes; a character takes four at most
        self._buffer = bytearray()
        self._output = bytearray()
        self._cut = False
        self._guard = threading.Lock()
        self._closed = False
        worker_rx, self._tx = _socket_pair()
        self._rx, worker_tx = _socket_pair()
        self._out, worker_out = os.pipe()
        self._network, self._most, self._imports = spec.network, spec.limits.processes, spec.imports
        self._control: socket.socket | None = None
        self._broker: CallBroker | None = None
        self._asking: dict[str, Any] | None = None
        theirs = [worker_rx, worker_tx, worker_out]
        passed = [worker_rx, worker_tx]
        try:
            self.launch: Launch = backend.launch(spec, worker_rx, worker_tx)
            theirs += self.launch.passed_fds
            if self.launch.asks_host:
                self._control, their_control = socket.socketpair()
                control = their_control.detach()  # over which the worker sends its listener
                theirs.append(control)
                passed.append(control)
                program = asking_program(connections=spec.network is not None)
                self._asking = {"control": control, "filter_base64": binascii.b2a_base64(program).decode()}
            self._popen = subprocess.Popen(
                self.launch.argv,
                pass_fds=(*passed, *self.launch.passed_fds),
                stdin=subprocess.DEVNULL,
                stdout=worker_out,
                stderr=worker_out,
                env=dict(self.launch.env),
                cwd=self.launch.cwd,
                start_new_session=True,
            )
        except BaseException:
            self._close_fds()
            raise
        finally:
            for fd in theirs:
                os.close(fd)
        self.processes = self._processes(self._popen.pid)
        """The host's control over what runs inside."""
        for fd in (self._tx, self._rx, self._out):
            os.set_blocking(fd, False)

    def start(self, tick: Tick) -> None:
        """Sends the worker's program and waits until it is ready. Raises WorkerLost."""
        try:
            settings = {
                **self.launch.settings,
                "asking": self._asking,
                "packages": self.launch.packages,
                "imports": self._imports,
            }
            self._write(first_frame(settings), tick)
            first = self.receive(tick)["t"]
        except WorkerLost as exc:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._popen.wait(timeout=1)
            self._drain()
            last_output = bytes(self._output[-500:]).decode(errors="replace").strip()
            raise WorkerLost(f"{exc}: {last_output or 'it printed nothing'}") from exc
        if first != "ready":
            raise WorkerLost("it did not start as it should")
        if self.launch.pid_report is not None:
            report = json.loads(os.pread(self.launch.pid_report, 4096, 0))
            self.processes = self._processes(report["child-pid"])
        if self._control is not None:
            proxy = Proxy(self._network.grants, self._network.dialer) if self._network is not None else None
            self._broker = CallBroker(receive_listener(self._control), self.processes, proxy)

    def _processes(self, pid: int) -> SandboxProcesses:
        dies_with_top: bool = self.launch.settings["pid_namespace"]
        return SandboxProcesses(pid, dies_with_top=dies_with_top, most=self._most)

    def send(self, message: dict[str, Any], tick: Tick, *, wakes: bool = False) -> None:
        """Raises WireError for what cannot be sent, before it `wakes`; WorkerLost if the worker has ended."""
        data = pack(message)
        if wakes:
            self.processes.wake()
        self._write(data, tick)

    def resync(self, mark: bytes, tick: Tick) -> None:
        """After a rollback: marks where the messages begin that the worker has to read."""
        self._write(mark, tick)
        if self.receive(tick)["t"] != "synced":
            raise WorkerLost("it sent a message out of order")

    def _write(self, data: bytes, tick: Tick) -> None:
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[os.write(self._tx, rest) :]
            except BlockingIOError:
                _wait({self._out: select.POLLIN, self._tx: select.POLLOUT})
                self._drain()
                tick()
            except BrokenPipeError:
                raise WorkerLost("it ended") from None

    def receive(self, tick: Tick) -> dict[str, Any]:
        """The next message. Calls `tick` at least every 30 ms; `tick` ends the wait by raising."""
        while True:
            try:
                message = unpack(self._buffer)
            except WireError as exc:
                raise WorkerLost(f"it sent a malformed message: {exc}") from exc
            if message is not None:
                self._drain()
                return message
            ready = _wait({self._rx: select.POLLIN, self._out: select.POLLIN})
            if self._out in ready:
                self._drain()
            if self._rx in ready:
                chunk = os.read(self._rx, 1 << 20)
                if not chunk:
                    raise WorkerLost("it ended")
                self._buffer += chunk
            tick()

    def take_output(self) -> tuple[bytes, bool]:
        """What was printed since the last call, and whether some of it was dropped."""
        self._drain()
        taken = bytes(self._output), self._cut
        self._output.clear()
        self._cut = False
        return taken

    def kill(self) -> None:
        """Signals all processes of the sandbox to end, without waiting. Safe to call from any thread."""
        with self._guard:
            if self._closed:
                return
            self.processes.kill()
            self._popen.kill()

    def close(self) -> None:
        """Ends the worker and releases all it held. Idempotent; only from the thread that talks to it."""
        self.kill()
        with self._guard:
            if self._closed:
                return
            self._closed = True
            self._popen.wait()
            if self._broker is not None:
                self._broker.close()
            self._close_fds()
        if self.launch.scratch is not None:
            remove(self.launch.scratch)

    def _drain(self) -> None:
        with contextlib.suppress(BlockingIOError):
            for _ in range(_DRAINED_AT_ONCE):
                chunk = os.read(self._out, 1 << 16)
                if not chunk:
                    return
                space = self._output_limit - len(self._output)
                self._output += chunk[:space] if space > 0 else b""
                self._cut = self._cut or len(chunk) > space

    def _close_fds(self) -> None:
        if self._control is not None:
            self._control.close()
        ours = [self._tx, self._rx, self._out]
        launch: Launch | None = getattr(self, "launch", None)
        if launch is not None and launch.pid_report is not None:
            ours.append(launch.pid_report)
        for fd in ours:
            os.close(fd)


def _socket_pair() -> tuple[int, int]:
    """Two connected ends. A pipe's other end could be opened inside, through /proc; a socket's cannot."""
    one, other = socket.socketpair()
    return one.detach(), other.detach()


def _wait(wanted: dict[int, int]) -> list[int]:
    """The descriptors that are ready within a tick. Not `select`, which is limited to the first 1,024."""
    poll = select.poll()
    for fd, events in wanted.items():
        poll.register(fd, events)
    return [fd for fd, _ in poll.poll(TICK_S * 1000)]


HostTool = Callable[..., Any]

STOP_S = 2.0
MAX_TOOL_ERROR = 2_000
MAX_REFUSED = 1_000
"""Calls beyond the limit, or of tools that were not granted, before the step is ended."""


@dataclass
class Rpc:
    """Talks to `worker` about one request.

    `outward` and `inward` replace paths by their names on the other side; `mask_bytes` masks secrets in data
    that leaves.
    """

    worker: WorkerProcess
    host: Mapping[str, HostTool]
    built: frozenset[str]
    """Those of `host` that the host calls in another sandbox."""
    monitor: LimitMonitor
    closed: Event
    outward: Aliases
    inward: Aliases
    mask_bytes: Callable[[bytes], bytes] = bytes
    calls: Counter[bool] = field(default_factory=Counter)
    """How many were made, of built tools and of others."""
    stopped_for: str = ""
    _stop_deadline: float = 0.0

    def run(self, request: dict[str, Any]) -> dict[str, Any]:
        """The worker's answer, still encoded. Raises WorkerLost, OSError; WireError if nothing was sent."""
        self.worker.send(request, self._tick, wakes=True)
        while (message := self.worker.receive(self._tick))["t"] == "call":
            self._tick()  # the next messages may have arrived already, which nothing waits for
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
            return self.why_ended() or "the step was ended"
        fault = answer.get("fault")
        return None if fault is None else word(fault)[:200]

    def why_ended(self) -> str:
        """The limit for which the step was ended; empty if it was not. Too many processes end it at once."""
        return self.stopped_for or self.monitor.crowded()

    def _tick(self) -> None:
        if self.closed.is_set():
            raise WorkerLost("it was closed")
        if self.stopped_for:
            if time.monotonic() > self._stop_deadline:
                raise WorkerLost("it could not be stopped")
            return
        why = self.monitor.exceeded()
        if why is not None:
            self._stop(why)

    def _stop(self, why: str) -> None:
        if not self.stopped_for:
            self.stopped_for = why
            self._stop_deadline = time.monotonic() + STOP_S
            self.worker.processes.end_step()

    def _serve(self, message: dict[str, Any]) -> dict[str, Any]:
        name, limits = message.get("name"), self.monitor.limits
        built = name in self.built
        self.calls[built] += 1
        most = limits.built_calls if built else limits.calls
        if self.calls[built] > most + MAX_REFUSED:
            self._stop(f"the step went on calling tools after {MAX_REFUSED} more calls than it may make")
        if not isinstance(name, str) or name not in self.host:
            return {"error": f"PermissionError: tool {word(name)[:80]!r} is not granted"}
        if self.calls[built] > most:
            return {"error": f"PermissionError: more than {most} calls of tools in one step"}
        return self._granted(name, message)

    def _granted(self, name: str, message: dict[str, Any]) -> dict[str, Any]:
        """A call that is allowed. Only its time is not charged to the step."""
        began = time.monotonic()
        self.worker.processes.suspend()
        watch = StopWatch(self.monitor, self.worker.kill)
        try:
            outcome = self._call(name, message)
        finally:
            ended_for = watch.end()
            self.worker.processes.resume()
            self.monitor.paused_s += time.monotonic() - began
        if ended_for:
            self.stopped_for = ended_for
            raise WorkerLost(ended_for)
        return outcome

    def _call(self, name: str, message: dict[str, Any]) -> dict[str, Any]:
        args, kwargs = self._arguments(message)
        try:
            return {"value": encode(self.host[name](*args, **kwargs), self.inward.hide)}
        except Exception as exc:
            kind, text = type(exc).__name__, str(exc)
            if name not in self.built:
                return {"error": self.inward.hide(f"{kind}: {text}")[:MAX_TOOL_ERROR]}
            kind, text = getattr(exc, "raised", None) or (kind, text)
            return {"error": self.inward.hide(text)[:MAX_TOOL_ERROR], "type": kind}

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
