"""A named task run without a cache, and its edges in Prefect's graph."""

from collections.abc import Callable, Iterable
from typing import Any
from uuid import UUID


def named_task(function: Callable[[], Any], name: str, **options: Any) -> Any:
    """A Prefect task around a function without arguments; its result stays in this process."""
    from prefect import task
    from prefect.cache_policies import NO_CACHE

    made: Any = task(name=name, task_run_name=name, persist_result=False, cache_policy=NO_CACHE, **options)
    return made(_Nameless(function))


def submit_after(task: Any, upstream: Iterable[UUID]) -> Any:
    """Have a task run whose edges in Prefect's graph come from the task runs `upstream`; its future.

    Whoever calls this knows that what came before is done. Prefect, told of futures, would wait until it has
    put down their ends, fetch each result, and not run what follows one that has failed.
    """
    from prefect.client.schemas.objects import RunInput, TaskRunResult
    from prefect.context import FlowRunContext

    here = FlowRunContext.get()
    assert here is not None
    edges: set[RunInput] = {TaskRunResult(id=one) for one in upstream}
    # It adds them to the edges of what is waited for; so there has to be something that is waited for.
    nothing: Any = [None]
    return here.task_runner.submit(task, {}, wait_for=nothing, dependencies={"wait_for": edges})


class _Nameless:
    # Of a function, Prefect reads and hashes the source for each task that is made of it.

    __slots__ = ("_function",)

    def __init__(self, function: Callable[[], Any]) -> None:
        self._function = function

    def __call__(self) -> Any:
        return self._function()
