"""The flow run of a run, and its task runs.

Prefect's engine runs them. Its server is sent a copy of every step (see `outbox` and `local_api`) and decides
nothing: the run is the same whether the server is there or not.

To begin a flow run takes Prefect as long as several subtasks. So it begins in a thread of its own beside the
planner, and waits there for what it is to carry out. If no graph is needed it ends as completed, if no plan
could be made as failed. A run that another process continues is the same flow run on the server.
"""

import queue
import threading
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

from orchestrator_cli import afterwards
from orchestrator_cli.cancellation import run_beside
from orchestrator_cli.engine.connection import PrefectConnection
from orchestrator_cli.engine.local_api import LocalApi, collect_from_prefect, stop_collecting, unused_tls
from orchestrator_cli.engine.outbox import CLOSING_S, STATE, Message, PrefectOutbox
from orchestrator_cli.engine.server import ui_address
from orchestrator_cli.errors import ApprovalNeeded, Cancelled, Interrupted, RunFailed

INTERRUPTED_S = 0.3
"""How long the end of an interrupted run waits for the server to be sent the last messages."""
INTERRUPTS = (KeyboardInterrupt, Interrupted, Cancelled)
LATER_S = 0.15
"""How long, with Prefect imported, the interpreter is left to what leads to the planner's request."""


class FlowRun:
    """One flow run. `close` ends it."""

    def __init__(
        self,
        name: str,
        await_import: Callable[[], object],
        connection: PrefectConnection,
        *,
        threads: int,
        resumed: bool,
    ) -> None:
        """Begin it beside.

        Args:
            name: its name.
            await_import: returns when Prefect can be imported.
            connection: the way to its server.
            threads: how many task runs there are at once.
            resumed: whether an earlier process may have begun it.
        """
        self.outbox = PrefectOutbox(name, str(uuid.uuid4()), resumed=resumed)
        self._threads = threads
        self._connection = connection
        self._work: queue.SimpleQueue[Callable[[], Any]] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._begun = self._entered = self._is_closed = False
        self._over = threading.Event()
        self._context: Any = None
        """Prefect's context, once the flow run has begun."""
        self._wanted = threading.Event()
        self._error: BaseException | None = None

        def ready() -> None:
            await_import()
            self._wanted.wait(LATER_S)

        @contextmanager
        def connect() -> Iterator[Any]:
            ready()
            with connection.client() as client:
                yield client

        run_beside(self._live, ready)
        self.outbox.start(connect, connection.unsent)

    @property
    def is_on_own_server(self) -> bool:
        """Whether its server is the home's own."""
        return self._connection.is_own

    def when_open(self, call: Callable[[str, str], None]) -> None:
        """Have `call` called with its id on the server and where its page is, now or once it is there."""

        def opened(flow_run: str) -> None:
            call(flow_run, f"{ui_address(self._connection.url)}/runs/flow-run/{flow_run}")

        self.outbox.when_open(opened)

    def carry_out(self, work: Callable[[], Any]) -> None:
        """Do something within the flow run, and return when that has ended; a state it returns is the run's.

        Raises what `work` raises. An interrupt of this thread does not end it: see `await_end`.
        """
        self._work.put(work)
        self._wanted.set()
        self.await_end()

    def await_end(self) -> None:
        """Return when what is carried out has ended. Raises as `carry_out` does."""
        while not self._over.wait(0.1):
            pass  # Short waits: Ctrl-C reaches the main thread between them.
        if self._error is not None:
            raise self._error

    def close(self, error: BaseException | None = None) -> str:
        """End it, and send what is left; `error` is what ended the run.

        If no fault of the server is known, the rest is sent beside: see `afterwards`. It is in a file
        meanwhile, for the next run to send if this process dies or the server takes too long.

        Returns a sentence about what the server was not sent; empty if there is nothing to say.
        """
        with self._lock:
            if self._is_closed:
                return ""
            self._is_closed = True
        self.outbox.let_go_of_run()
        self._wanted.set()
        is_interrupted = isinstance(error, INTERRUPTS)
        if is_interrupted or self.outbox.fault or self.outbox.lost:
            return self._keep(self._end(error, INTERRUPTED_S if is_interrupted else CLOSING_S))
        # As far as is known the server is there: no one has to wait for its last answers.
        try:
            kept = self.outbox.keep(self._connection.unsent, Message(STATE, _last(error)))
        except OSError:
            return self._keep(self._end(error, CLOSING_S))
        ended = threading.Event()

        def end() -> None:
            try:
                kept.release(sent=not self._end(error, CLOSING_S))
            finally:
                ended.set()

        afterwards.register(ended)
        run_beside(end)
        return ""

    def _end(self, error: BaseException | None, seconds: float) -> int:
        """End the flow, and wait for the last messages to be sent; how many are left."""
        if self._begun and not self._over.is_set():
            self._work.put(lambda: ending(error))
            if not self._over.wait(seconds):  # what is under way has not ended yet
                self.outbox.put(STATE, _last(error))
        elif not self._begun and not isinstance(error, INTERRUPTS):
            self.outbox.put(STATE, _last(error))
        left = self.outbox.close(seconds)
        stop_collecting(self.outbox)
        return left

    def _keep(self, left: int) -> str:
        """Keep what is left for the next run; what to say of it."""
        lost, fault, later = self.outbox.lost, self.outbox.fault, ""
        if left:
            try:
                self.outbox.keep(self._connection.unsent).release(sent=False)
                left, later = 0, " The rest is sent with the next run"
                later += ", or by orch ui." if self._connection.is_own else "."
            except OSError as exc:
                fault = f"{fault or 'it has not started yet'}, and the rest cannot be kept: {exc}"
        if left + lost or (later and fault):
            return f"Prefect's page does not show all of this run: {fault or 'its server is slow'}.{later}"
        return ""

    def _live(self, ready: Callable[[], None]) -> None:
        """The thread of the flow."""
        try:
            ready()
            self._run()
        except BaseException as exc:
            self._error = self._error or exc
        finally:
            self._over.set()

    def _run(self) -> None:
        from prefect import flow
        from prefect.context import SyncClientContext
        from prefect.flow_engine import run_flow
        from prefect.settings import (
            PREFECT_CLIENT_CSRF_SUPPORT_ENABLED,
            PREFECT_FLOWS_HEARTBEAT_FREQUENCY,
            temporary_settings,
        )
        from prefect.task_runners import ThreadPoolTaskRunner

        collect_from_prefect(self.outbox)
        runner: Any = ThreadPoolTaskRunner(max_workers=self._threads)
        # A sync flow waits up to a second at its end for the heartbeat thread.
        settings = {PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None, PREFECT_CLIENT_CSRF_SUPPORT_ENABLED: False}
        with (
            temporary_settings(settings),
            SyncClientContext(
                httpx_settings={"transport": LocalApi(self.outbox), "verify": unused_tls()}
            ) as clients,
        ):
            # Task runs ask for a client without settings. Each would make one that asks the server, in 25 ms.
            clients._httpx_settings = None
            made: Any = flow(
                name="orch",
                task_runner=runner,
                validate_parameters=False,
                persist_result=False,
                retries=0,
            )(self._body)
            with self._lock:
                if self._is_closed:
                    return
                self._begun = True
            state: Any = run_flow(made, return_type="state")
        if not self._entered:
            raise RunFailed(f"Prefect did not start the flow run: {state.message or state.name}.")

    def submit(self, task: Any, upstream: Iterable[UUID] = ()) -> Any:
        """Have a task run whose edges in Prefect's graph come from the task runs `upstream`; its future.

        Whoever calls this knows that what came before is done. Prefect, given futures, would wait until it
        has recorded their ends, fetch each result, and not run what follows one that has failed.
        """
        from prefect.client.schemas.objects import RunInput, TaskRunResult

        edges: set[RunInput] = {TaskRunResult(id=one) for one in upstream}
        # It adds them to the edges of what is waited for; so there has to be something that is waited for.
        nothing: Any = [None]
        # On a busy machine Prefect was seen to have lost its context in this thread; why is not known.
        with self._context.model_copy():
            return self._context.task_runner.submit(
                task, {}, wait_for=nothing, dependencies={"wait_for": edges}
            )

    def _body(self) -> Any:
        from prefect.context import FlowRunContext

        self._entered = True
        self._context = FlowRunContext.get()
        try:
            # Prefect takes a state that is returned for the flow run's own.
            return self._work.get()()
        except Exception as exc:
            # Prefect would write what is raised to disk, as a pickle.
            self._error = exc
            return ending(exc)
        finally:
            self._context = None


def ending(error: BaseException | None) -> Any:
    """The state of a flow run that has nothing to carry out; `error` is what ended the run before that."""
    from prefect import states

    name, message = _name_of_end(error)
    return getattr(states, name)(message=message) if error is not None else None


def _name_of_end(error: BaseException | None) -> tuple[str, str]:
    """The name of the last state of a flow run, and its message."""
    match error:
        case None:
            return "Completed", ""
        case ApprovalNeeded():
            return "Paused", error.message
        case Interrupted() | Cancelled() | KeyboardInterrupt():
            return "Cancelled", str(error) or "Interrupted."
    return "Failed", str(error) or type(error).__name__


def _last(error: BaseException | None) -> dict[str, Any]:
    """The last state of a flow run as the server takes it; Prefect need not be imported."""
    name, message = _name_of_end(error)
    return {"state": {"type": name.upper(), "name": name, "message": message or None}, "force": True}


# --- task runs


class Call:
    """A function without arguments for a task to call, and what it last returned or raised.

    Prefect is given neither: its results go through states, and a state can name a pickle to load.
    """

    # An object, because Prefect reads and hashes the source of a function for each task made of it.
    __slots__ = ("_function", "ended", "outcome")

    def __init__(self, function: Callable[[], Any]) -> None:
        self._function = function
        self.ended = False
        """Whether there is an outcome."""
        self.outcome: Any = None

    def __call__(self) -> None:
        try:
            self.outcome = self._function()
        except Exception as exc:
            self.outcome = exc
            raise
        finally:
            self.ended = True


def named_task(
    call: Call, name: str, *, retries: int = 0, backoff_s: float | None = None, **options: Any
) -> Any:
    """A Prefect task that makes a call; what the call comes to stays in this process.

    `backoff_s`: seconds before the first retry; each further one waits twice as long.
    """
    from prefect import task
    from prefect.cache_policies import NO_CACHE
    from prefect.tasks import exponential_backoff

    if backoff_s is not None:
        options |= {"retry_delay_seconds": exponential_backoff(backoff_s), "retry_jitter_factor": 0.5}
    made: Any = task(
        name=name,
        task_run_name=name,
        persist_result=False,
        cache_policy=NO_CACHE,
        retries=retries,
        **options,
    )
    return made(call)


def outcome_of(call: Call, future: Any) -> Any:
    """What a call returned or raised, when its task run has ended. Raises what kept Prefect from it."""
    future.wait()
    if not call.ended:
        return RunFailed(f"Prefect did not run it: {future.state.message or future.state.name}.")
    return call.outcome
