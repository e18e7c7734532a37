"""The flow run of a run, begun beside the planner, and its task runs.

To begin a flow run takes Prefect as long as a dozen subtasks. So it is begun in a thread of its own as soon
as the server answers, and waits there for what it is to carry out. If no graph is needed it ends as
completed, if no plan could be made as failed.

A run that goes on in another process is the same flow run, so that all of it is in one place. What the
process that died had under way is still running on Prefect's server; it is marked as crashed.
"""

import os
import queue
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any
from uuid import UUID

from orchestrator_cli.cancellation import run_beside
from orchestrator_cli.engine.server import ui_address
from orchestrator_cli.errors import ApprovalNeeded, Cancelled, Interrupted, RunFailed

GONE = "The process that ran it has ended; orch went on with the run in another one."
CLOSING_S = 5.0
"""The longest that the end of a run waits for Prefect to put down that nothing was carried out."""


class FlowRun:
    """One flow run. Leaving it ends it, where it was begun and has carried nothing out."""

    def __init__(self, name: str, await_server: Callable[[], None], *, threads: int, resumed: bool) -> None:
        """Begin it beside.

        Args:
            name: its name.
            await_server: returns when Prefect can be imported and its server answers; raises why not.
            threads: how many task runs go on at once.
            resumed: whether an earlier process may have begun it.
        """
        self._name = name
        self._await_server = await_server
        self._threads = threads
        self._resumed = resumed
        self._work: queue.SimpleQueue[Callable[[], Any]] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._begun = self._entered = self._left = False
        self._over = threading.Event()
        self._error: BaseException | None = None
        run_beside(self._live)

    def carry_out(self, work: Callable[[], Any]) -> None:
        """Do something within the flow run, and return when that has ended; a state it returns is the run's.

        Raises what `work` raises, or why there is no flow run. An interrupt of this thread leaves it going:
        see `await_end`.
        """
        self._work.put(work)
        self.await_end()

    def await_end(self) -> None:
        """Return when what is carried out has ended. Raises as `carry_out` does."""
        while not self._over.wait(0.1):
            pass  # Short waits: Ctrl-C reaches the main thread between them.
        if self._error is not None:
            raise self._error

    def __enter__(self) -> "FlowRun":
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        with self._lock:
            self._left = True
        if self._begun and not self._over.is_set():
            self._work.put(lambda: ending(error))
            self._over.wait(CLOSING_S)

    def _live(self) -> None:
        """The thread of the flow."""
        try:
            self._await_server()
            self._run()
        except BaseException as exc:
            self._error = self._error or exc
        finally:
            self._over.set()

    def _run(self) -> None:
        from prefect import flow
        from prefect.flow_engine import run_flow
        from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings
        from prefect.task_runners import ThreadPoolTaskRunner

        runner: Any = ThreadPoolTaskRunner(max_workers=self._threads)
        # A sync flow waits up to a second at its end for the heartbeat thread.
        with temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
            made: Any = flow(
                name="orch",
                flow_run_name=self._name,
                task_runner=runner,
                validate_parameters=False,
                persist_result=False,
                retries=0,
            )(self._body)
            with self._lock:
                if self._left:
                    return
                self._begun = True
            found = made_ready(self._name) if self._resumed else None
            # The result would be that of the state that the server answers with, which can name a pickle.
            state: Any = run_flow(made, flow_run=found, return_type="state")
        if not self._entered:
            said = f"{state.name}, {state.message}" if state.message else state.name
            raise RunFailed(f"The Prefect server did not let the flow run begin: {said}.", "Start it again.")

    def _body(self) -> Any:
        if self._entered:
            raise _EnteredAgain("The flow run ended before, and runs once.")
        self._entered = True
        try:
            # Prefect takes a state that is returned for the flow run's own.
            return self._work.get()()
        except Exception as exc:
            # Prefect would write what is raised to disk, as a pickle, and might run the body again.
            self._error = exc
            return ending(exc)


def current_flow_run() -> tuple[str, str]:
    """The id of the flow run that this is called in, and where Prefect shows it."""
    from prefect import runtime

    name = str(runtime.flow_run.id)
    return name, f"{ui_address(os.environ['PREFECT_API_URL'])}/runs/flow-run/{name}"


class _EnteredAgain(BaseException):
    """The server would have the flow run go on although it has ended. Prefect would catch an exception."""


def ending(error: BaseException | None) -> Any:
    """The state of a flow run that has nothing to carry out; `error` is what ended the run before that."""
    from prefect.states import Cancelled as CancelledState
    from prefect.states import Failed, Paused

    match error:
        case None:
            return None
        case ApprovalNeeded():
            return Paused(message=error.message)
        case Interrupted() | Cancelled() | KeyboardInterrupt():
            return CancelledState(message=str(error) or "Interrupted.")
    return Failed(message=str(error) or type(error).__name__)


def made_ready(name: str) -> Any:
    """The flow run of this name, ready to run once more; None where the server has none."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import FlowRunFilter, TaskRunFilter
    from prefect.exceptions import ObjectNotFound
    from prefect.states import Crashed, Pending

    with get_client(sync_client=True) as client, suppress(ObjectNotFound):
        found = client.read_flow_runs(
            flow_run_filter=FlowRunFilter.model_validate({"name": {"any_": [name]}}), limit=1
        )
        if not found:
            return None
        flow_run: UUID = found[0].id
        # Forced, because the server begins neither a run that is running nor one that has ended.
        client.set_flow_run_state(flow_run, Pending(message="Resumed."), force=True)
        running = client.read_task_runs(
            flow_run_filter=FlowRunFilter.model_validate({"id": {"any_": [str(flow_run)]}}),
            task_run_filter=TaskRunFilter.model_validate(
                {"state": {"type": {"any_": ["RUNNING", "PENDING", "SCHEDULED"]}}}
            ),
        )
        for task_run in running:
            client.set_task_run_state(task_run.id, Crashed(message=GONE), force=True)
        return client.read_flow_run(flow_run)
    return None


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


def submit_after(task: Any, upstream: Iterable[UUID]) -> Any:
    """Have a task run whose edges in Prefect's graph come from the task runs `upstream`; its future.

    Whoever calls this knows that what came before is done. Prefect, given futures, would wait until it has
    recorded their ends, fetch each result, and not run what follows one that has failed.
    """
    from prefect.client.schemas.objects import RunInput, TaskRunResult
    from prefect.context import FlowRunContext

    here = FlowRunContext.get()
    assert here is not None
    edges: set[RunInput] = {TaskRunResult(id=one) for one in upstream}
    # It adds them to the edges of what is waited for; so there has to be something that is waited for.
    nothing: Any = [None]
    return here.task_runner.submit(task, {}, wait_for=nothing, dependencies={"wait_for": edges})
