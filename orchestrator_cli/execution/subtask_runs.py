"""Subtasks as Prefect task runs: how they start, are tried again, and end.

What becomes of each is an event. `SubtaskRuns` holds only what this process runs now, for the flow's thread.
"""

import queue
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from orchestrator_cli import events
from orchestrator_cli.approvals.effects import EffectRefused
from orchestrator_cli.approvals.questions import question_before
from orchestrator_cli.durable.expressions import ExpressionFailed, holds
from orchestrator_cli.engine.artifacts import Artifacts
from orchestrator_cli.engine.flow_run import Call, named_task, outcome_of
from orchestrator_cli.errors import (
    ApprovalNeeded,
    OrchError,
    ProviderError,
    RecoverableError,
    RunStopped,
    concern_of,
)
from orchestrator_cli.execution import plan_changes
from orchestrator_cli.execution.map import MapRun, spread
from orchestrator_cli.execution.run import Run
from orchestrator_cli.execution.subtask import run_subtask
from orchestrator_cli.plan import Result, Subtask, resolve, role_has_room, whole_name
from orchestrator_cli.state import RunState
from orchestrator_cli.workspace import Conflict

FORGIVEN = "it failed, and the plan goes on without it"
CONFLICT_RETRIES = 3


@dataclass
class SubtaskTaskRun:
    """What Prefect runs for a subtask. It counts the attempts and remembers why the last one failed."""

    run: Run
    subtask: Subtask
    plan_version: int
    inputs: dict[str, Any]
    artifacts: Artifacts
    before: int
    """Attempts of earlier processes, whose numbers are not used again."""
    on_result: Callable[[Result], None]
    """Called as soon as there is a result: what waits for it need not wait for Prefect's record of it."""
    attempts: int = field(init=False)
    has_result: bool = False
    call: Call = field(init=False)
    """What its task run calls, once for each attempt."""
    _conflicts: int = 0
    _failure: str = ""

    def __post_init__(self) -> None:
        self.attempts = self.before
        self.call = Call(self._attempt)

    def _attempt(self) -> Result:
        self.attempts += 1
        if self.attempts > self.before + 1:
            # The first was announced when the subtask started.
            self.run.emit(
                events.SubtaskStarted(
                    subtask=self.subtask.id,
                    title=self.subtask.title,
                    attempt=self.attempts,
                    plan_version=self.plan_version,
                )
            )
        try:
            result = run_subtask(
                self.run,
                self.subtask,
                attempt=self.attempts,
                plan_version=self.plan_version,
                inputs=self.inputs,
                failure=self._failure,
            )
        except Exception as exc:
            self._failure = reason_of(exc)
            self._conflicts += isinstance(exc, Conflict)
            if self.is_retried(exc):
                self.run.emit(
                    events.SubtaskFailed(
                        subtask=self.subtask.id, attempt=self.attempts, reason=self._failure, final=False
                    )
                )
            raise
        self.artifacts.show_result(result, self.subtask.title)
        self.has_result = True
        self.on_result(result)
        return result

    def is_retried(self, exc: BaseException) -> bool:
        """Whether to try again: after a conflict in any case, else as often as the plan says."""
        if self.run.cancellation.reason is not None or is_hopeless(exc):
            return False
        if isinstance(exc, Conflict):
            return self._conflicts <= CONFLICT_RETRIES
        return self.attempts - self.before - self._conflicts <= self.subtask.retries


def task_of(work: SubtaskTaskRun, subtask: Subtask) -> Any:
    """The task of a subtask: named after it, tried again by Prefect as long as that is worth it."""

    def again(_task: Any, _run: Any, _state: Any) -> bool:
        return work.is_retried(work.call.outcome)

    return named_task(
        work.call,
        subtask.id,
        retries=subtask.retries + CONFLICT_RETRIES,
        retry_condition_fn=again,
        backoff_s=0.5,
    )


def is_hopeless(exc: BaseException) -> bool:
    """Whether another attempt would meet the same."""
    return isinstance(exc, EffectRefused) or concern_of(exc) in ("subtask", "run")


def reason_of(outcome: Any) -> str:
    """Why something failed, in the words of its error."""
    text = str(outcome).strip() or type(outcome).__name__
    known = isinstance(outcome, OrchError | RecoverableError | TimeoutError)
    return text if known else f"{type(outcome).__name__}: {text}"


@dataclass
class SubtaskRuns:
    """What runs now."""

    run: Run
    artifacts: Artifacts
    done: "queue.SimpleQueue[Callable[[], None]]"
    """Takes what has to be done in the flow's thread once one has ended."""
    under_way: set[str] = field(default_factory=set)
    """The subtasks and instances that run."""
    maps: dict[str, MapRun] = field(default_factory=dict)
    task_runs: dict[str, list[UUID]] = field(default_factory=dict)
    """Prefect's task runs per subtask, for the edges of its graph."""

    def start_instance(self) -> bool:
        """Start the next instance of a `for_each` subtask that may start; False if none may."""
        for one in self.maps.values():
            if self.role_is_free(one.subtask) and (instance := one.next(self.run.state)) is not None:
                self._submit(instance, dict(instance.inputs))
                return True
        return False

    def start(self, subtask: Subtask) -> None:
        """Start a subtask whose turn has come, unless its condition or the user's answer is against it."""
        if self.is_wanted(subtask) and self._is_allowed(subtask):
            self._begin(subtask)

    def role_is_free(self, subtask: Subtask) -> bool:
        """Whether its role has a place, if the settings give that role only so many."""
        limits, plan = self.run.settings.max_parallel_roles, self.run.state.plan
        if subtask.role not in limits:
            return True
        wholes = [whole_name(name) for name in self.under_way]
        return role_has_room(subtask, Counter(plan[one].role for one in wholes if one in plan.ids), limits)

    def is_wanted(self, subtask: Subtask) -> bool:
        """Evaluate the condition of a subtask; if it is false, or cannot be evaluated, it does not run."""
        if subtask.when is None:
            return True
        try:
            if holds(subtask.when, plan_changes.outcomes(self.run.state, subtask.depends_on)):
                return True
        except ExpressionFailed as exc:
            why = f"its condition {subtask.when!r} cannot be evaluated: {exc}"
            self.failed(subtask, attempt=0, reason=why)
            return False
        reason = f"its condition is not met: {subtask.when}"
        self.run.emit(events.SubtaskSkipped(subtask=subtask.id, reason=reason))
        return False

    def _is_allowed(self, subtask: Subtask) -> bool:
        """Whether the person who was asked has said yes; after a no the subtask has failed."""
        question = question_before(subtask, self.run.state.results)
        given = self.run.broker.request(question) if question is not None else None
        if given is None or given.decision != "no":
            return True
        self.failed(subtask, attempt=0, reason=f"the user did not allow it{given.reason}")
        return False

    def _begin(self, subtask: Subtask) -> None:
        try:
            if subtask.for_each is not None:
                self._spread(subtask)
            else:
                self._submit(subtask, resolve(subtask.inputs, self.run.state.results))  # type: ignore[arg-type]
        except KeyError as exc:
            self.failed(subtask, attempt=0, reason=f"there is no {exc.args[0]} in the result it refers to")
        except ValueError as exc:
            self.failed(subtask, attempt=0, reason=str(exc))

    def _spread(self, subtask: Subtask) -> None:
        """Begin a subtask that is done for each item of a list. Raises `KeyError` and `ValueError`."""
        state, most = self.run.state, self.run.settings.max_items
        one = spread(subtask, state.plan.version, state.results, max_items=most)
        if self._started(subtask, attempt=1, items=len(one.instances)):
            self.maps[subtask.id] = one
            self._gather(one)

    def _started(self, subtask: Subtask, *, attempt: int, items: int | None = None) -> bool:
        """Say that a subtask starts; False if a patch has changed or removed it in this very moment."""

        def choose(state: RunState) -> events.SubtaskStarted | None:
            if whole_name(subtask.id) == subtask.id and subtask not in state.pending:
                return None
            version = state.plan.version
            return events.SubtaskStarted(
                subtask=subtask.id, title=subtask.title, attempt=attempt, plan_version=version, items=items
            )

        return self.run.stream.decide(choose)

    def _submit(self, subtask: Subtask, inputs: dict[str, Any]) -> None:
        before = self.run.state.earlier_attempts.get(subtask.id, 0)
        version = self.run.state.plan.version
        if not self._started(subtask, attempt=before + 1):
            return
        self.under_way.add(subtask.id)

        def on_result(result: Result) -> None:
            self.done.put(lambda: self._ended(subtask, work, result))

        work = SubtaskTaskRun(self.run, subtask, version, inputs, self.artifacts, before, on_result)
        upstream = [one for name in subtask.depends_on for one in self.task_runs.get(name, ())]
        future = self.run.flow_run.submit(task_of(work, subtask), upstream)
        self.task_runs.setdefault(whole_name(subtask.id), []).append(future.task_run_id)

        def over(future: Any) -> None:
            # Prefect is through with it: without a result, it has failed.
            if not work.has_result:
                self._ended(subtask, work, outcome_of(work.call, future))

        future.add_done_callback(lambda ended: self.done.put(lambda: over(ended)))

    def _ended(self, subtask: Subtask, work: SubtaskTaskRun, outcome: Any) -> None:
        self.under_way.discard(subtask.id)
        one = self.maps.get(whole_name(subtask.id))
        if isinstance(outcome, ApprovalNeeded):
            # The attempt is made again once the person has answered.
            self.run.emit(events.SubtaskWaiting(subtask=subtask.id, approval=outcome.approvals[0]))
            if one is not None:
                one.blocked.append(subtask)
        elif concern_of(outcome) == "run":
            raise outcome
        elif one is not None:
            if not isinstance(outcome, Result):
                lost = concern_of(outcome) == "provider"
                self._say_failed(subtask, work.attempts, reason_of(outcome), lost)
            self._gather(one)
        elif not isinstance(outcome, Result):
            lost = concern_of(outcome) == "provider"
            self.failed(subtask, attempt=work.attempts, reason=reason_of(outcome), lost=lost)
        elif self.run.state.results.get(subtask.id) != outcome:
            self.run.emit(events.LateResult(result=outcome))

    def _gather(self, one: MapRun) -> None:
        """Finish a `for_each` subtask when nothing more of it is to come."""
        if not one.is_over(self.run.state, self.under_way):
            return
        del self.maps[one.subtask.id]
        outcome = one.outcome(self.run.state)
        if isinstance(outcome, str):
            failed = {one.instances[place].id for place in one.failures(self.run.state)}
            self.failed(one.subtask, attempt=1, reason=outcome, lost=bool(failed & self.run.state.lost))
            return
        seconds = time.monotonic() - one.since
        self.run.emit(events.SubtaskFinished(subtask=one.subtask.id, result=outcome, seconds=seconds))

    def _say_failed(self, subtask: Subtask, attempt: int, reason: str, lost: bool) -> None:
        fact = events.SubtaskFailed(
            subtask=subtask.id, attempt=attempt, reason=reason, final=True, provider_lost=lost
        )
        self.run.emit(fact)

    def failed(self, subtask: Subtask, *, attempt: int, reason: str, lost: bool = False) -> None:
        """End a subtask for good, as its plan says. `lost`: only because a provider could not be asked."""
        self._say_failed(subtask, attempt, reason, lost)
        if subtask.on_failure == "skip":
            self.run.emit(events.SubtaskSkipped(subtask=subtask.id, reason=FORGIVEN))
        self.stop_if_aborted(subtask)

    def stop_if_aborted(self, subtask: Subtask) -> None:
        """Raise `RunStopped` for a subtask that failed, if the plan goes no further then.

        If it failed for a lost provider, that is a `ProviderError`.
        """
        state = self.run.state
        if subtask.on_failure == "abort" and state.state_of(subtask.id) == "failed":
            kind = ProviderError if subtask.id in state.lost else RunStopped
            raise kind(f"{subtask.id} failed: {state.failures[subtask.id]}", "The plan says to stop there.")
