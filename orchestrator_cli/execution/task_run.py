"""What Prefect runs: a named task run without a cache, and a subtask with its attempts.

The limit of time is the attempt's own: Prefect's cannot end what runs in a thread, and would throw
into it at any line, in the middle of a commit too.
"""

from collections.abc import Callable, Iterable
from typing import Any
from uuid import UUID

from orchestrator_cli import events
from orchestrator_cli.errors import OrchError
from orchestrator_cli.execution.artifacts import Artifacts
from orchestrator_cli.execution.context import RunContext
from orchestrator_cli.execution.effects import EffectRefused
from orchestrator_cli.execution.subtask import run_subtask
from orchestrator_cli.execution.workspace import Conflict
from orchestrator_cli.planning.plan import Result, Subtask

CONFLICT_RETRIES = 3
HOPELESS = (OrchError, EffectRefused)
"""What another attempt would meet in the same way."""


class SubtaskWork:
    """What Prefect runs for a subtask; it counts its attempts and remembers why the last one failed."""

    def __init__(
        self,
        context: RunContext,
        subtask: Subtask,
        version: int,
        inputs: dict[str, Any],
        artifacts: Artifacts,
        before: int = 0,
        *,
        tell: Callable[[Result], None],
    ) -> None:
        """`before`: attempts that were begun in an earlier process; their numbers are not used again.

        `tell` hears of the result when it stands: what waits for it need not wait until Prefect has put
        down that its task run has ended.
        """
        self._context = context
        self._tell = tell
        self.told = False
        """Whether there is a result and it was told."""
        self._artifacts = artifacts
        self._subtask = subtask
        self._version = version
        self._inputs = inputs
        self.attempts = before
        self._before = before
        self._conflicts = 0
        self._failure = ""

    def __call__(self) -> Result:
        self.attempts += 1
        try:
            result = run_subtask(
                self._context,
                self._subtask,
                attempt=self.attempts,
                plan_version=self._version,
                inputs=self._inputs,
                failure=self._failure,
            )
        except Exception as exc:
            self._note(exc)
            raise
        self._artifacts.show_result(result, self._subtask.title)
        self.told = True
        self._tell(result)
        return result

    def _note(self, exc: Exception) -> None:
        self._failure = reason_of(exc)
        self._conflicts += isinstance(exc, Conflict)
        if self.again(exc):
            self._context.emit(
                events.SubtaskFailed(
                    subtask=self._subtask.id, attempt=self.attempts, reason=self._failure, final=False
                )
            )

    def again(self, exc: BaseException) -> bool:
        """Whether to try again: after a conflict in any case, else as often as the plan says."""
        if self._context.cancellation.reason is not None or isinstance(exc, HOPELESS):
            return False
        if isinstance(exc, Conflict):
            return self._conflicts <= CONFLICT_RETRIES
        return self.attempts - self._before - self._conflicts <= self._subtask.retries


def subtask_task(work: SubtaskWork, subtask: Subtask) -> Any:
    """The task of a subtask: named after it, tried again by Prefect as long as that is worth it."""
    from prefect.tasks import exponential_backoff

    def again(_task: Any, _run: Any, state: Any) -> bool:
        return work.again(state.result(raise_on_failure=False))

    return named_task(
        work.__call__,
        subtask.id,
        retries=subtask.retries + CONFLICT_RETRIES,
        retry_condition_fn=again,
        retry_delay_seconds=exponential_backoff(0.5),
        retry_jitter_factor=0.5,
    )


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


def reason_of(outcome: Any) -> str:
    """Why something failed, in the words of its error."""
    text = str(outcome).strip() or type(outcome).__name__
    known = isinstance(outcome, OrchError | Conflict | TimeoutError) or type(outcome).__module__.startswith(
        "orchestrator_cli"
    )
    return text if known else f"{type(outcome).__name__}: {text}"
