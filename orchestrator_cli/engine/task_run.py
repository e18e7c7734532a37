"""A named task run without a cache, its outcome, and its edges in Prefect's graph."""

from collections.abc import Callable, Iterable
from typing import Any
from uuid import UUID

from orchestrator_cli.errors import RunFailed


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
