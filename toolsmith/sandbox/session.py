"""One sandbox as its callers use it: requests, and a new worker when one is lost.

Knows nothing of smolagents. Between two requests the worker is stopped (SIGSTOP) and holds one process
beside the nanny, so nothing inside runs and changes the workspace; a watch ends the sandbox if it does.
"""

import hashlib
import os
import secrets as tokens
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, NoReturn

from toolsmith.sandbox.disk import DiskGauge, FolderUse
from toolsmith.sandbox.processes import Unsettled
from toolsmith.sandbox.proxy import Dialer, parse_grants
from toolsmith.sandbox.redaction import Aliases, Secrets, error_parts, format_error, format_output
from toolsmith.sandbox.spec import (
    SHOWN_WORKSPACE,
    Backend,
    LimitMonitor,
    Limits,
    Network,
    SandboxClosed,
    SandboxError,
    SandboxSpec,
    SandboxUnavailable,
)
from toolsmith.sandbox.verdicts import doubt
from toolsmith.sandbox.watch import StopWatch
from toolsmith.sandbox.wire import WireError, decode, encode
from toolsmith.sandbox.worker_process import HostTool, Rpc, WorkerLost, WorkerProcess

START_S = 20.0

ROLLED_BACK = "The Python state is as it was before this step; files it wrote remain."
RESTARTED = "The sandbox was restarted; its variables are lost, files in the workspace remain."
OVERFULL = "The step was run to its end; delete files before anything else."
CLOSED = "the sandbox was closed"
NOTHING: Mapping[str, str] = MappingProxyType({})
_PROXY = "http://127.0.0.1:3128"  # every address that code connects to leads to the host's proxy
PROXIES = MappingProxyType(
    {name: _PROXY for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy")}
)


@dataclass(frozen=True)
class StepResult:
    """The value of a request, whether it is the final answer, and what was printed."""

    value: Any
    final: bool
    output: str


@dataclass
class Bindings:
    """What the namespace holds before the first step; sent again to each new worker."""

    variables: dict[str, Any] = field(default_factory=dict)
    host: Mapping[str, HostTool] = field(default_factory=dict)
    built: frozenset[str] = frozenset()
    """The names of those that run in a sandbox of their own."""


@dataclass(frozen=True)
class _Running:
    """A started worker and what belongs to it."""

    worker: WorkerProcess
    disk: DiskGauge
    outward: Aliases
    inward: Aliases


class SandboxSession:
    """One sandbox. Requests come from one thread at a time; `interrupt` and `close` from any."""

    def __init__(
        self,
        workspace: Path,
        *,
        limits: Limits,
        backend: Backend,
        writable: bool,
        secrets: Mapping[str, str] = NOTHING,
        network: Sequence[str] = (),
        dialer: Dialer = Dialer(),  # noqa: B008  (frozen)
        packages: Path | None = None,
        readable: Path | None = None,
        imports: bool = True,
    ) -> None:
        """Starts nothing yet. Raises FileNotFoundError, SandboxUnavailable, ValueError."""
        workspace = workspace.resolve(strict=True)
        if writable:
            _refuse_interpreter_in(workspace)
        self._secrets = Secrets(secrets)
        granted = _network(backend, network, dialer)
        environment = {**self._secrets.values, **(PROXIES if granted else NOTHING)}
        packages = packages.resolve(strict=True) if packages is not None else None
        readable = readable.resolve(strict=True) if readable is not None else None
        self._spec = SandboxSpec(
            workspace, writable, limits, environment, granted, packages, readable, imports
        )
        self._backend = backend
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._worker: WorkerProcess | None = None  # set as soon as there is something to kill
        self._running: _Running | None = None
        self._watch: StopWatch | None = None
        self._disk: DiskGauge | None = None
        self.bindings = Bindings()
        self.last_output = ""

    # --- for callers --------------------------------------------------------------------------------------

    def bind(self) -> None:
        """Brings `bindings` into the namespace of a worker that has started. Raises SandboxError."""
        with self._exclusive():
            if self._running is not None:
                self._bind(self._running)

    def request(self, request: dict[str, Any]) -> StepResult:
        """Has the worker, started if need be, do one thing. Raises SandboxError, SandboxUnavailable."""
        with self._exclusive():
            return self._perform(self._ready(), request, self.bindings)

    def call(
        self, source: str, function: str, arguments: dict[str, Any], args: Sequence[Any] = ()
    ) -> StepResult:
        """Has the worker call `function(*args, **arguments)` of the module `source`, which it loads once.

        A text that is a path of the workspace is passed as the path that it has inside. Raises as `request`;
        the SandboxError for what the function raised begins with `Type: message`.
        """
        with self._exclusive():
            running = self._ready()
            request = {"t": "call_tool", "function": function, "source": source, "digest": digest(source)}
            try:
                place = _placed(running.worker.launch.workspace)
                request["args"], request["arguments"] = encode(list(args), place), encode(arguments, place)
            except WireError as exc:
                raise SandboxError(f"cannot pass the arguments of {function}: {exc}") from exc
            return self._perform(running, request, self.bindings, message_first=True)

    def interrupt(self) -> None:
        """Ends the worker at once; a running or later request raises SandboxClosed."""
        self._closed.set()
        worker = self._worker
        if worker is not None:
            worker.kill()

    def close(self) -> None:
        """As `interrupt`, and releases what the sandbox held. A running request does that as it ends."""
        self.interrupt()
        if self._lock.acquire(blocking=False):
            try:
                self._drop()
            finally:
                self._lock.release()

    # --- one request --------------------------------------------------------------------------------------

    @contextmanager
    def _exclusive(self) -> Iterator[None]:
        if self._closed.is_set():
            raise SandboxClosed(CLOSED)
        if not self._lock.acquire(blocking=False):
            raise SandboxError("the sandbox is busy with another step; use one sandbox for each agent")
        try:
            yield
        except WireError as exc:  # before anything was sent
            raise SandboxError(str(exc)) from exc
        finally:
            self._lock.release()
            if self._closed.is_set():
                self.close()

    def _ready(self) -> _Running:
        self.last_output = ""
        return self._running or self._start()

    def _perform(
        self, running: _Running, request: dict[str, Any], given: Bindings, *, message_first: bool = False
    ) -> StepResult:
        worker, limits = running.worker, self._spec.limits
        rpc = Rpc(
            worker=worker,
            host=given.host,
            built=given.built,
            monitor=LimitMonitor(worker.processes, limits, running.disk, limits.wall_s, worker.launch.mounts),
            closed=self._closed,
            outward=running.outward,
            inward=running.inward,
            mask_bytes=self._secrets.mask_bytes,
        )
        if self._watch is not None and (why := self._watch.end()):
            self._lose(running, why)
        worker.take_output()
        running.disk.begin_step()
        try:
            answer = rpc.run({**request, "id": tokens.token_hex(8), "wall_s": limits.wall_s})
            worker.processes.settle()
            self._watch = StopWatch(rpc.monitor, worker.kill)
        except (WorkerLost, Unsettled, OSError) as exc:
            self._lose(running, rpc.why_ended() or f"the sandbox failed: {exc}")
        except WireError:
            self._watch = StopWatch(rpc.monitor, worker.kill)
            raise
        except BaseException:  # such as a KeyboardInterrupt in a host tool: the worker is in mid-request
            self._drop()
            raise
        self.last_output = self._output(running)
        if (fault := rpc.fault(answer)) is not None:
            raise SandboxError(f"{running.outward.hide(fault)}. {ROLLED_BACK}")
        if "error" in answer:
            error, aliases = answer["error"], running.outward
            text = format_error(error, aliases, message_first=message_first)
            raise SandboxError(text, error_parts(error, aliases))
        try:
            why = running.disk.exceeded(at_end=True) if request["t"] != "bind" else ""
        except OSError as exc:  # such as for a workspace that was deleted
            self._lose(running, f"what it holds cannot be measured: {exc}")
        if why:
            raise SandboxError(f"{why}. {OVERFULL}")
        try:
            value = decode(answer.get("value"), running.outward.hide, self._secrets.mask_bytes)
        except WireError as exc:
            raise SandboxError(f"the step returned no proper value: {exc}") from exc
        return StepResult(value=value, final=answer.get("final") is True, output=self.last_output)

    def _lose(self, running: _Running, why: str) -> NoReturn:
        """Drops the worker, which is of no more use; the next request starts a new one."""
        self.last_output = self._output(running)
        self._drop()
        if self._closed.is_set():
            raise SandboxClosed(CLOSED)
        raise SandboxError(f"{running.outward.hide(why)}. {RESTARTED}")

    def _output(self, running: _Running) -> str:
        data, cut = running.worker.take_output()
        return format_output(data, cut, self._spec.limits.output_chars, running.outward)

    # --- the worker's life --------------------------------------------------------------------------------

    def _start(self) -> _Running:
        deadline = time.monotonic() + START_S

        def tick() -> None:
            if self._closed.is_set():
                raise WorkerLost("it was closed")
            if time.monotonic() > deadline:
                raise WorkerLost(f"it was not ready after {START_S:g} s")

        try:
            self._worker = worker = WorkerProcess(self._backend, self._spec)
            worker.start(tick)
            worker.processes.settle()
        except (WorkerLost, Unsettled, OSError, ValueError) as exc:
            self._drop()
            if self._closed.is_set():
                raise SandboxClosed(CLOSED) from None
            doubt()
            message = self._secrets.mask(f"the sandbox did not start ({self._backend.detail}): {exc}")
            raise SandboxUnavailable(message) from exc
        workspace, launch = self._spec.workspace, worker.launch
        if self._disk is None:  # a step that loses its worker must not begin to count afresh
            limits = self._spec.limits
            written = workspace if self._spec.writable else None
            self._disk = DiskGauge(written, FolderUse(limits.disk_mb << 20, limits.files))
        self._disk.attach(worker.processes, launch.scratch, launch.mounts)
        names = {str(workspace): SHOWN_WORKSPACE, launch.workspace: SHOWN_WORKSPACE}
        self._running = running = _Running(
            worker=worker,
            disk=self._disk,
            outward=Aliases({**launch.aliases, **names}, self._secrets.mask),
            inward=Aliases({str(workspace): launch.workspace}),
        )
        if self.bindings != Bindings():
            self._bind(running)
        return running

    def _bind(self, running: _Running) -> None:
        given = self.bindings
        request = {
            "t": "bind",
            "variables": encode(given.variables, running.inward.hide),
            "host": {name: name in given.built for name in sorted(given.host)},
        }
        self._perform(running, request, Bindings(), message_first=True)

    def _drop(self) -> None:
        worker, self._worker, self._running = self._worker, None, None
        watch, self._watch = self._watch, None
        if worker is not None:
            worker.close()
        if watch is not None:
            watch.end()


def _network(backend: Backend, grants: Sequence[str], dialer: Dialer) -> Network | None:
    """What is granted; None for nothing. Raises SandboxUnavailable if the backend cannot grant it."""
    parsed = parse_grants(grants)
    if not parsed or backend.connections == "open":
        return None
    if backend.connections == "never":
        raise SandboxUnavailable(
            f"the sandbox {backend.name} cannot be granted connections ({', '.join(grants)}). "
            "Use bubblewrap or Landlock, or do without the network."
        )
    return Network(parsed, dialer)


def _placed(workspace: str) -> Callable[[str], str]:
    """Replaces the workspace's name at the beginning of a text by its path inside."""

    def place(text: str) -> str:
        shown = text == SHOWN_WORKSPACE or text.startswith(f"{SHOWN_WORKSPACE}/")
        return workspace + text[len(SHOWN_WORKSPACE) :] if shown else text

    return place


def digest(source: str) -> str:
    """Identifies a tool's source, which a worker loads once."""
    return hashlib.sha256(source.encode()).hexdigest()[:12]


def _refuse_interpreter_in(workspace: Path) -> None:
    for folder in (sys.prefix, sys.base_prefix):
        if Path(os.path.realpath(folder)).is_relative_to(workspace):
            raise SandboxUnavailable(
                f"the workspace {workspace} holds the Python environment {folder}, which the host runs "
                "and the sandbox could change. Use a copy of the workspace, or an environment outside of it."
            )
