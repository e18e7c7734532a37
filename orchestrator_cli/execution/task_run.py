"""What Prefect runs for a subtask: its attempts, one after the other.

The limit of time is the attempt's own: Prefect's cannot end what runs in a thread, and would throw
into it at any line, in the middle of a commit too.
"""

from collections.abc import Callable
from typing import Any

from orchestrator_cli import events
from orchestrator_cli.approvals.effects import EffectRefused
from orchestrator_cli.engine.artifacts import Artifacts
from orchestrator_cli.engine.task_run import Call, named_task
from orchestrator_cli.errors import OrchError, RecoverableError
from orchestrator_cli.execution.run import Run
from orchestrator_cli.execution.subtask import run_subtask
from orchestrator_cli.plan import Result, Subtask
from orchestrator_cli.workspace import Conflict

CONFLICT_RETRIES = 3
HOPELESS = (OrchError, EffectRefused)
"""What another attempt would meet in the same way."""


class SubtaskTaskRun:
    """What Prefect runs for a subtask; it counts its attempts and remembers why the last one failed."""

    def __init__(
        self,
        context: Run,
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
        self.call = Call(self._attempt)
        """What its task run calls, once for each attempt."""
        self._version = version
        self._inputs = inputs
        self.attempts = before
        self._before = before
        self._conflicts = 0
        self._failure = ""

    def _attempt(self) -> Result:
        self.attempts += 1
        if self.attempts > self._before + 1:
            # The scheduler has said so of the first.
            self._context.emit(
                events.SubtaskStarted(
                    subtask=self._subtask.id,
                    title=self._subtask.title,
                    attempt=self.attempts,
                    plan_version=self._version,
                )
            )
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


def task_of(work: SubtaskTaskRun, subtask: Subtask) -> Any:
    """The task of a subtask: named after it, tried again by Prefect as long as that is worth it."""

    def again(_task: Any, _run: Any, _state: Any) -> bool:
        return work.again(work.call.outcome)

    return named_task(
        work.call,
        subtask.id,
        retries=subtask.retries + CONFLICT_RETRIES,
        retry_condition_fn=again,
        backoff_s=0.5,
    )


def reason_of(outcome: Any) -> str:
    """Why something failed, in the words of its error."""
    text = str(outcome).strip() or type(outcome).__name__
    known = isinstance(outcome, OrchError | RecoverableError | TimeoutError)
    return text if known else f"{type(outcome).__name__}: {text}"
