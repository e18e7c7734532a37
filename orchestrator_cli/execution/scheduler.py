"""The plan as one Prefect flow run: a task run per subtask, started the moment it may start.

The flow's thread alone decides what starts; subtasks, tools being built and the reviser are
task runs on its thread pool, all submitted from the flow's body. While the reviser thinks,
everything goes on that does not depend on what it was asked about. Retries are Prefect's: one is
another run of the same task run, and an attempt of ours.

Subtasks that wait for a person take no place of those that can go on. Where nobody is there to
answer, the run stops when nothing else can be done, and its flow run is paused.
"""

import os
import queue
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import InitVar, dataclass, field
from functools import partial
from typing import Any
from uuid import UUID

from orchestrator_cli import events
from orchestrator_cli.approvals.broker import approval_needed
from orchestrator_cli.approvals.questions import question_before
from orchestrator_cli.engine.artifacts import Artifacts
from orchestrator_cli.engine.flow_run import FlowRun
from orchestrator_cli.engine.server import ui_address
from orchestrator_cli.engine.task_run import Call, named_task, outcome_of, submit_after
from orchestrator_cli.errors import ApprovalNeeded, Interrupted, OrchError, RunFailed
from orchestrator_cli.execution.context import RunContext
from orchestrator_cli.execution.map import Fan, spread
from orchestrator_cli.execution.resume import causes_for
from orchestrator_cli.execution.revisions import Revisions
from orchestrator_cli.execution.task_run import SubtaskWork, reason_of, subtask_task
from orchestrator_cli.execution.tool_builds import MissingTools
from orchestrator_cli.plan import Result, Subtask, as_name, resolve, role_has_room, whole_name
from orchestrator_cli.planning.expressions import ExpressionFailed, holds
from orchestrator_cli.planning.reviser import Cause
from orchestrator_cli.state.board import FORGIVEN, Board
from orchestrator_cli.state.duplicate_code import cause_of


def run_graph(
    context: RunContext, board: Board, flow_run: FlowRun, artifacts: Artifacts, earlier: str = ""
) -> None:
    """Run the plan of `board` to its end within a flow run; `earlier` is the one that the run had before.

    Raises `RunFailed` where the reviser or a subtask stops the run, `LimitReached`, `ApprovalNeeded`
    where only a person can bring it on and none is there (the flow run is then paused), and
    whatever ended the run from outside. Results and failures are on the board.
    """
    paused: list[ApprovalNeeded] = []

    def work() -> Any:
        from prefect import runtime
        from prefect.states import Paused

        url = f"{ui_address(os.environ['PREFECT_API_URL'])}/runs/flow-run/{runtime.flow_run.id}"
        if str(runtime.flow_run.id) != earlier:
            context.emit(events.FlowStarted(flow_run=str(runtime.flow_run.id), url=url))
        artifacts.show_plan(board.plan, "The plan")
        try:
            _Graph(context, board, artifacts, causes_for(board, context.settings.revise)).run()
        except ApprovalNeeded as exc:
            paused.append(exc)
            return Paused(message=exc.message)
        return None

    try:
        flow_run.carry_out(work)
    except KeyboardInterrupt:
        context.cancellation.cancel(Interrupted("The run was interrupted."))
        with suppress(Exception):
            flow_run.await_end()
        raise
    if paused:
        raise paused[0]


@dataclass
class _Graph:
    """The loop of the flow's own thread, and what it has under way."""

    context: RunContext
    board: Board
    artifacts: Artifacts
    causes: InitVar[list[Cause]]
    """What the reviser has to be told from the beginning."""
    done: "queue.SimpleQueue[Callable[[], None]]" = field(default_factory=queue.SimpleQueue)
    """What has to be done in the flow's thread when something under way has ended."""
    task_runs: dict[str, list[UUID]] = field(default_factory=dict)
    """Prefect's task runs per subtask, for the edges of its graph."""
    under_way: set[str] = field(default_factory=set)
    """The subtasks and instances that run."""
    fans: dict[str, Fan] = field(default_factory=dict)
    """Per subtask with `for_each` that has started, its instances."""
    tools: MissingTools = field(init=False)
    revisions: Revisions = field(init=False)

    def __post_init__(self, causes: list[Cause]) -> None:
        self.tools = MissingTools(self.context, self.board, self)
        self.revisions = Revisions(self.context, self.board, self.artifacts, self, causes)

    def run(self) -> None:
        try:
            for subtask in self.board.plan.subtasks:
                self._stop_where_the_plan_says(subtask)
            while self._start_what_may():
                self._take_one()
        except BaseException as exc:
            # Everything under way waits through the cancellation, so the pool can end.
            reason = exc if isinstance(exc, OrchError) else Interrupted("The run was interrupted.")
            self.context.cancellation.cancel(reason)
            raise

    def _start_what_may(self) -> bool:
        """Start everything that can; False where nothing is under way and nothing is left."""
        self._hear()
        self.revisions.drop_hints()
        self.tools.build(self._has_room)
        self._ask_people()
        while self._start_one():
            pass
        self.revisions.ask()
        if self._is_busy():
            return True
        if self._waits_for_people():
            return self._may_be_answered()
        self._judge_goal()
        if self._hear() or self.revisions.causes:
            return self._start_what_may()
        for subtask in self.board.strand():
            reason = self.board.failures[subtask.id]
            self.context.emit(events.SubtaskSkipped(subtask=subtask.id, reason=reason))
        return False

    def _take_one(self) -> None:
        """Wait until something ends or somebody says something, and deal with it."""
        while True:
            self.context.cancellation.check()
            if self._hear() or self._is_deserted():
                return
            with suppress(queue.Empty):
                # Short waits: Ctrl-C reaches the main thread between them.
                self.done.get(timeout=0.1)()
                break
        # What ended at the same time belongs to the same picture, before the reviser is shown it.
        while not self.done.empty():
            self.done.get()()

    def beside(self, work: Callable[[], Any], name: str, ended: Callable[[Any], None]) -> None:
        """As `FlowThread` says."""
        call = Call(work)
        future = named_task(call, name).submit()
        future.add_done_callback(lambda done: self.done.put(lambda: ended(outcome_of(call, done))))

    def later(self, act: Callable[[], None]) -> Callable[[events.ApprovalGiven], None]:
        """As `FlowThread` says."""
        return lambda _: self.done.put(act)

    def _has_room(self) -> bool:
        return len(self.under_way) + len(self.tools.building) < self.context.settings.max_parallel

    def _is_busy(self) -> bool:
        return bool(self.under_way or self.tools.building or self.revisions.asked)

    # --- people

    def _ask_people(self) -> None:
        """Put the questions that subtasks wait for, before it is their turn to start."""
        for subtask in self.board.startable(self.revisions.held()):
            try:
                question = question_before(subtask, self.board.results)
            except KeyError:
                continue  # its inputs cannot be had: that is told when it starts
            if question is None or not self._wanted(subtask):
                continue
            wake = partial(self.board.wake, subtask.id)
            if self.context.broker.request(question, self.later(wake)) is None:
                self._waits(subtask.id, question.id)

    def _waits(self, subtask: str, approval: str) -> None:
        self.board.wait(subtask)
        self.context.emit(events.SubtaskWaiting(subtask=subtask, approval=approval))

    def _waits_for_people(self) -> bool:
        blocked = any(fan.blocked for fan in self.fans.values())
        return bool(self.board.waiting or self.tools.unanswered or self.revisions.unapproved or blocked)

    def _is_deserted(self) -> bool:
        """Whether only a person could bring the run on, and the person has gone."""
        alone = not (self._is_busy() or self.context.broker.attended)
        return alone and self._waits_for_people() and self.done.empty()

    def _may_be_answered(self) -> bool:
        """True while somebody is there who can answer. Raises `ApprovalNeeded` where nobody is."""
        broker = self.context.broker
        if broker.attended or not broker.open:
            return True
        raise approval_needed(broker.open)

    def _hear(self) -> bool:
        """Whether somebody said something, or a tool would save work; the reviser is told."""
        said = self.context.broker.take_remarks()
        for text in said:
            self.revisions.cause("", "the user said", text)
        repeated = self.context.repeats.take() if self.context.settings.revise != "never" else []
        self.revisions.causes += map(cause_of, repeated)
        return bool(said or repeated)

    # --- subtasks

    def _start_one(self) -> bool:
        if not self._has_room():
            return False
        for fan in self.fans.values():
            if (place := fan.next()) is not None and self._role_is_free(fan.subtask):
                instance = fan.start(place)
                self._submit(instance, dict(instance.inputs))
                return True
        for subtask in self.board.startable(self.revisions.held()):
            if refused := self.tools.refusals(subtask):
                self._failed(subtask, attempt=0, reason="; ".join(refused))
                return True
            if self.tools.missing(subtask) or not self._role_is_free(subtask):
                continue
            if self._wanted(subtask) and self._allowed(subtask):
                self._begin(subtask)
            return True
        return False

    def _role_is_free(self, subtask: Subtask) -> bool:
        """Whether its role has a place, where the settings give that role only so many."""
        limits = self.context.settings.max_parallel_roles
        if subtask.role not in limits:
            return True
        plan = self.board.plan
        running = Counter(
            plan[whole].role for name in self.under_way if (whole := whole_name(name)) in plan.ids
        )
        return role_has_room(subtask, running, limits)

    def _wanted(self, subtask: Subtask) -> bool:
        """Evaluate the condition of a subtask; where it is false, or cannot be told, it does not run."""
        if subtask.when is None:
            return True
        try:
            if holds(subtask.when, self._outcomes(subtask.depends_on)):
                return True
        except ExpressionFailed as exc:
            self._failed(subtask, attempt=0, reason=f"its condition {subtask.when!r} cannot be told: {exc}")
            return False
        reason = f"its condition is not met: {subtask.when}"
        self.board.skip(subtask.id, reason)
        self.context.emit(events.SubtaskSkipped(subtask=subtask.id, reason=reason))
        return False

    def _outcomes(self, names: Iterable[str]) -> dict[str, Any]:
        """What an expression reads of some subtasks; None for one without a result."""
        results = self.board.results
        return {
            as_name(name): results[name].model_dump(mode="json") if name in results else None
            for name in names
        }

    def _allowed(self, subtask: Subtask) -> bool:
        """Whether a person who was asked has said yes; where it was no, the subtask has failed."""
        try:
            question = question_before(subtask, self.board.results)
        except KeyError:
            return True
        given = self.context.broker.request(question) if question is not None else None
        if given is None or given.decision != "no":
            return True
        self._failed(subtask, attempt=0, reason=f"the user did not allow it{given.reason}")
        return False

    def _begin(self, subtask: Subtask) -> None:
        try:
            if subtask.for_each is not None:
                self._spread(subtask)
                return
            inputs = resolve(subtask.inputs, self.board.results)
        except KeyError as exc:
            self._failed(subtask, attempt=0, reason=f"there is no {exc.args[0]} in the result it refers to")
            return
        except ValueError as exc:
            self._failed(subtask, attempt=0, reason=str(exc))
            return
        self.board.start(subtask.id)
        self._submit(subtask, inputs)  # type: ignore[arg-type]  # an object stays one

    def _spread(self, subtask: Subtask) -> None:
        """Begin a subtask that is done for each item of a list. Raises `KeyError` and `ValueError`."""
        version = self.board.plan.version
        fan = spread(subtask, version, self.board.results, self.board.instances)
        self.board.start(subtask.id)
        self.context.emit(
            events.SubtaskStarted(
                subtask=subtask.id,
                title=subtask.title,
                attempt=1,
                plan_version=version,
                items=len(fan.instances),
            )
        )
        self.fans[subtask.id] = fan
        self._gather(fan)

    def _submit(self, subtask: Subtask, inputs: dict[str, Any]) -> None:
        self.under_way.add(subtask.id)
        version = self.board.plan.version
        before = self.board.attempts.get(subtask.id, 0)

        def tell(result: Result) -> None:
            self.done.put(lambda: self._ended(subtask, work, result))

        work = SubtaskWork(self.context, subtask, version, inputs, self.artifacts, before, tell=tell)
        upstream = [one for name in subtask.depends_on for one in self.task_runs.get(name, ())]
        future = submit_after(subtask_task(work, subtask), upstream)
        self.task_runs.setdefault(whole_name(subtask.id), []).append(future.task_run_id)
        future.add_done_callback(lambda ended: self.done.put(lambda: self._over(subtask, work, ended)))

    def _over(self, subtask: Subtask, work: SubtaskWork, future: Any) -> None:
        """Prefect is through with a task run: where it has told no result, it has failed."""
        if not work.told:
            self._ended(subtask, work, outcome_of(work.call, future))

    def _ended(self, subtask: Subtask, work: SubtaskWork, outcome: Any) -> None:
        self.under_way.discard(subtask.id)
        if isinstance(outcome, ApprovalNeeded):
            self._blocked(subtask, outcome.approvals[0])
        elif isinstance(outcome, OrchError) and not isinstance(outcome, RunFailed):
            raise outcome
        elif fan := self.fans.get(whole_name(subtask.id)):
            self._instance_ended(fan, subtask, outcome, work.attempts)
        elif isinstance(outcome, Result):
            self._finished(subtask, outcome)
        else:
            self._failed(subtask, attempt=work.attempts, reason=reason_of(outcome))

    def _blocked(self, subtask: Subtask, approval: str) -> None:
        """An attempt came to something that a person has to allow; it is made again when that is answered."""
        fan = self.fans.get(whole_name(subtask.id))
        if fan is None:
            self._waits(subtask.id, approval)
            self.context.broker.on_answer(approval, self.later(partial(self.board.wake, subtask.id)))
            return
        place = fan.instances.index(subtask)
        fan.blocked.add(place)
        self.context.emit(events.SubtaskWaiting(subtask=subtask.id, approval=approval))
        self.context.broker.on_answer(approval, self.later(partial(fan.wake, place)))

    def _instance_ended(self, fan: Fan, instance: Subtask, outcome: Any, attempt: int) -> None:
        place = fan.instances.index(instance)
        if isinstance(outcome, Result):
            fan.results[place] = outcome
        else:
            fan.failures[place] = reason_of(outcome)
            self.context.emit(
                events.SubtaskFailed(
                    subtask=instance.id, attempt=attempt, reason=fan.failures[place], final=True
                )
            )
        self._gather(fan)

    def _gather(self, fan: Fan) -> None:
        """Finish a `for_each` subtask when nothing more of it is to come."""
        if not fan.over(sum(whole_name(name) == fan.subtask.id for name in self.under_way)):
            return
        del self.fans[fan.subtask.id]
        if reason := fan.failure():
            self._failed(fan.subtask, attempt=1, reason=reason)
            return
        result = fan.gathered()
        self.context.emit(events.SubtaskFinished(subtask=fan.subtask.id, result=result, seconds=fan.seconds))
        self._finished(fan.subtask, result)

    def _finished(self, subtask: Subtask, result: Result) -> None:
        if not self.board.finish(result):
            self.context.emit(events.LateResult(result=result))
            return
        revise_ = self.context.settings.revise
        if result.surprise and revise_ != "never":
            self.revisions.cause(subtask.id, "reported a surprise", result.surprise)
        elif revise_ == "always":
            self.revisions.cause(subtask.id, "finished", result.summary)

    def _failed(self, subtask: Subtask, *, attempt: int, reason: str) -> None:
        self.context.emit(
            events.SubtaskFailed(subtask=subtask.id, attempt=attempt, reason=reason, final=True)
        )
        if subtask.on_failure == "skip":
            self.board.skip(subtask.id, reason)
            self.context.emit(events.SubtaskSkipped(subtask=subtask.id, reason=FORGIVEN))
            return
        self.board.fail(subtask.id, reason)
        self._stop_where_the_plan_says(subtask)
        if self.context.settings.revise != "never":
            self.revisions.cause(subtask.id, "failed", reason)

    def _stop_where_the_plan_says(self, subtask: Subtask) -> None:
        """Raise `RunFailed` for a subtask that failed, where the plan goes no further then."""
        if subtask.on_failure == "abort" and self.board.states.get(subtask.id) == "failed":
            reason = self.board.failures[subtask.id]
            raise RunFailed(f"{subtask.id} failed: {reason}", "The plan says to stop there.")

    def _judge_goal(self) -> None:
        """Tell the reviser, once a version, where everything is done and the goal is missed all the same."""
        plan = self.board.plan
        if plan.check is None or self.board.failures:
            return
        try:
            missed = "" if holds(plan.check, self._outcomes(plan.ids)) else f"{plan.check} does not hold"
        except ExpressionFailed as exc:
            missed = f"{plan.check} cannot be told: {exc}"
        self.board.missed = missed
        if missed and self.board.goal_told < plan.version and self.context.settings.revise != "never":
            self.board.goal_told = plan.version
            self.revisions.cause("", "the goal is not met", missed)
