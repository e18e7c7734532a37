"""One worker process as the host sees it: its pipes, its frames, its output, its end.

The worker is not trusted: reading is bounded, nothing it sends is more than JSON, and nothing it does (not
reading, not writing, flooding) makes the host wait beyond what `tick` allows.

What is not covered: the worker ends when the host's end of its pipe is closed. A host that forks without exec
(multiprocessing's "fork") hands that end to its child, and the worker then lives as long as the child.
"""

import binascii
import contextlib
import json
import os
import select
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable
from typing import Any

from toolsmith.sandbox.backend import Backend, Launch, Room
from toolsmith.sandbox.codec import CodecError, pack, unpack
from toolsmith.sandbox.door import Door, take_listener
from toolsmith.sandbox.processes import LocalProcesses, Processes, Unsettled
from toolsmith.sandbox.proxy import Proxy
from toolsmith.sandbox.seccomp import connection_program
from toolsmith.sandbox.shipping import first_frame

Tick = Callable[[], None]

TICK_S = 0.03
_DRAINED_AT_ONCE = 64  # reads; a flood must not keep the host from its other work


class WorkerLost(Exception):
    """The worker has ended, or said what it must not say; it is of no more use."""


class WorkerProcess:
    """A started worker. One thread talks to it; `kill` may be called from any."""

    def __init__(self, backend: Backend, room: Room) -> None:
        """Starts the process without waiting for it: the first frame it sends is "ready". Raises OSError."""
        self._output_limit = 4 * room.limits.output_chars  # bytes; a character takes four at most
        self._buffer = bytearray()
        self._output = bytearray()
        self._cut = False
        self._guard = threading.Lock()
        self._closed = False
        worker_rx, self._tx = os.pipe()
        self._rx, worker_tx = os.pipe()
        self._out, worker_out = os.pipe()
        self._network = room.network
        self._control: socket.socket | None = None
        self._door: Door | None = None
        control: int | None = None
        theirs = [worker_rx, worker_tx, worker_out]
        try:
            if room.network is not None:
                self._control, control = _pair()
                theirs.append(control)
            self._connections = None if control is None else _connections(control)
            self.launch: Launch = backend.launch(room, worker_rx, worker_tx)
            theirs += self.launch.passed_fds
            self._popen = _spawn(self.launch, worker_rx, worker_tx, worker_out, control)
        except BaseException:
            self._close_fds()
            raise
        finally:
            for fd in theirs:
                os.close(fd)
        self.processes = self._hold(self._popen.pid)
        """The host's hold on what runs inside."""
        for fd in (self._tx, self._rx, self._out):
            os.set_blocking(fd, False)

    def start(self, tick: Tick) -> None:
        """Ships the worker's program and waits until it is ready. Raises WorkerLost."""
        try:
            settings = {
                **self.launch.settings,
                "connections": self._connections,
                "packages": self.launch.packages,
            }
            self._write(first_frame(settings), tick)
            first = self.receive(tick)["t"]
        except WorkerLost as error:
            raise WorkerLost(f"{error}: {self._last_words()}") from error
        if first != "ready":
            raise WorkerLost("it did not start as it should")
        if self._control is not None and self._network is not None:
            proxy = Proxy(self._network.grants, self._network.dialer)
            self._door = Door(take_listener(self._control), proxy)
        if self.launch.pid_report is not None:
            self.processes = self._hold(json.loads(os.pread(self.launch.pid_report, 4096, 0))["child-pid"])

    def send(self, message: dict[str, Any], tick: Tick) -> None:
        """Raises CodecError for what cannot be sent, WorkerLost when the worker has gone."""
        self._write(pack(message), tick)

    def resync(self, mark: bytes, tick: Tick) -> None:
        """After a rollback: tells the worker where the messages begin that it is to read."""
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
        """The next message. `tick` is called at least every 30 ms, and ends the wait by raising."""
        while True:
            try:
                message = unpack(self._buffer)
            except CodecError as error:
                raise WorkerLost(f"it sent what is no message: {error}") from error
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

    def settle(self) -> None:
        """Waits until one process is left beside the nanny, and stops it. Raises WorkerLost."""
        try:
            self.processes.settle()
        except Unsettled as error:
            raise WorkerLost(str(error)) from error

    def _hold(self, pid: int) -> Processes:
        if self.launch.processes is not None:
            return self.launch.processes(pid)
        return LocalProcesses(pid, dies_with_top=self.launch.settings["pid_namespace"])

    def take_output(self) -> tuple[bytes, bool]:
        """What was printed since the last call, and whether some of it was dropped."""
        self._drain()
        taken = bytes(self._output), self._cut
        self._output.clear()
        self._cut = False
        return taken

    def kill(self) -> None:
        """Ends all processes of the sandbox; returns when they have been told. From any thread."""
        with self._guard:
            if self._closed:
                return
            self.processes.kill()
            self._popen.kill()

    def close(self) -> None:
        """Ends the worker and gives back all it held. Idempotent; only from the thread that talks to it."""
        self.kill()
        with self._guard:
            if self._closed:
                return
            self._closed = True
            self._popen.wait()
            if self._door is not None:
                self._door.close()
            self._close_fds()
        if self.launch.scratch is not None:
            shutil.rmtree(self.launch.scratch, ignore_errors=True)

    def _drain(self) -> None:
        with contextlib.suppress(BlockingIOError):
            for _ in range(_DRAINED_AT_ONCE):
                chunk = os.read(self._out, 1 << 16)
                if not chunk:
                    return
                room = self._output_limit - len(self._output)
                self._output += chunk[:room] if room > 0 else b""
                self._cut = self._cut or len(chunk) > room

    def _last_words(self) -> str:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._popen.wait(timeout=1)
        self._drain()
        return bytes(self._output[-500:]).decode(errors="replace").strip() or "it said nothing"

    def _close_fds(self) -> None:
        if self._control is not None:
            self._control.close()
        mine = [self._tx, self._rx, self._out]
        launch: Launch | None = getattr(self, "launch", None)
        if launch is not None and launch.pid_report is not None:
            mine.append(launch.pid_report)
        for fd in mine:
            os.close(fd)


def _wait(wanted: dict[int, int]) -> list[int]:
    """The descriptors that are ready within a tick. Not `select`, which knows only the first 1,024."""
    poll = select.poll()
    for fd, events in wanted.items():
        poll.register(fd, events)
    return [fd for fd, _ in poll.poll(TICK_S * 1000)]


def _pair() -> tuple[socket.socket, int]:
    """What the worker sends its listener over: our end, and the descriptor that it is given."""
    ours, theirs = socket.socketpair()
    return ours, theirs.detach()


def _connections(control: int) -> dict[str, Any]:
    program = binascii.b2a_base64(connection_program()).decode()
    return {"control": control, "filter_base64": program}


def _spawn(launch: Launch, rx: int, tx: int, out: int, control: int | None = None) -> subprocess.Popen[bytes]:
    over_streams = launch.standard_streams
    passed = launch.passed_fds if control is None else (*launch.passed_fds, control)
    return subprocess.Popen(
        launch.argv,
        pass_fds=passed if over_streams else (rx, tx, *passed),
        stdin=rx if over_streams else subprocess.DEVNULL,
        stdout=tx if over_streams else out,
        stderr=out,
        env=dict(launch.env),
        cwd=launch.cwd,
        start_new_session=True,
    )
