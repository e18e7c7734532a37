"""The plan as one Prefect flow run: a task run per subtask, started the moment it may start.

The flow's thread alone decides what starts; subtasks, tools being built and the reviser are
task runs on its thread pool, all submitted from the flow's body. While the reviser thinks,
everything goes on that does not depend on what it was asked about. Retries and timeouts are
Prefect's (a retry is another run of the same task run, and an attempt of ours).

Subtasks that wait for a person take no place of those that can go on. Where nobody is there to
answer, the run stops when nothing else can be done, and its flow run is paused.
"""

import os
import queue
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from orchestrator_cli import events
from orchestrator_cli.errors import ApprovalNeeded, Interrupted, LimitReached, OrchError, RunFailed
from orchestrator_cli.execution.artifacts import Artifacts
from orchestrator_cli.execution.board import Board
from orchestrator_cli.execution.consent import check_consent
from orchestrator_cli.execution.context import RunContext
from orchestrator_cli.execution.desk import needed
from orchestrator_cli.execution.expressions import ExpressionFailed, holds
from orchestrator_cli.execution.fan import Fan, spread
from orchestrator_cli.execution.flow_run import begin
from orchestrator_cli.execution.people import question_before
from orchestrator_cli.execution.prefect_server import ui_address
from orchestrator_cli.execution.resuming import causes_for
from orchestrator_cli.execution.task_run import SubtaskWork, named_task, reason_of, subtask_task
from orchestrator_cli.execution.toolbox import ToolUnavailable
from orchestrator_cli.planning.answer import as_text
from orchestrator_cli.planning.plan import (
    NewTool,
    Patch,
    Plan,
    Result,
    Subtask,
    as_name,
    descendants,
    resolve,
    whole_name,
)
from orchestrator_cli.planning.reviser import Cause, Decision, Situation, revise


def run_graph(context: RunContext, board: Board, earlier: str = "") -> None:
    """Run the plan of `board` to its end, as one flow run; as the one named `earlier` where that is there.

    Raises `RunFailed` where the reviser or a subtask stops the run, `LimitReached`, `ApprovalNeeded`
    where only a person can bring it on and none is there (the flow run is then paused), and
    whatever ended the run from outside. Results and failures are on the board.
    """
    from prefect import flow, runtime
    from prefect.exceptions import PausedRun
    from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings
    from prefect.states import Paused
    from prefect.task_runners import ThreadPoolTaskRunner

    paused: list[ApprovalNeeded] = []

    def orch() -> Any:
        url = f"{ui_address(os.environ['PREFECT_API_URL'])}/runs/flow-run/{runtime.flow_run.id}"
        if str(runtime.flow_run.id) != earlier:
            context.emit(events.FlowStarted(flow_run=str(runtime.flow_run.id), url=url))
        try:
            with Artifacts(lambda text: context.emit(events.Noticed(message=text))) as artifacts:
                artifacts.show_plan(board.plan, "The plan")
                _Graph(context, board, artifacts, causes=causes_for(board, context.settings.revise)).run()
        except ApprovalNeeded as exc:
            # Prefect takes a state that is returned for the flow run's own.
            paused.append(exc)
            return Paused(message=exc.message)
        return None

    # One thread more than subtasks may run: the reviser must never wait for them.
    runner: Any = ThreadPoolTaskRunner(max_workers=context.settings.max_parallel + 1)
    # A sync flow waits up to a second at its end for the heartbeat thread.
    with temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
        named = flow(name="orch", flow_run_name=context.run, task_runner=runner, validate_parameters=False)
        with suppress(PausedRun):
            begin(named(orch), earlier)
    if paused:
        raise paused[0]


@dataclass
class _Graph:
    """The loop of the flow's own thread, and what it has under way."""

    context: RunContext
    board: Board
    artifacts: Artifacts
    done: "queue.SimpleQueue[Callable[[], None]]" = field(default_factory=queue.SimpleQueue)
    """What has to be done in the flow's thread when something under way has ended."""
    futures: dict[str, list[Any]] = field(default_factory=dict)
    """Prefect's futures per subtask, for the edges of its graph."""
    under_way: set[str] = field(default_factory=set)
    """The subtasks and instances that run."""
    fans: dict[str, Fan] = field(default_factory=dict)
    """Per subtask with `for_each` that has started, its instances."""
    building: set[str] = field(default_factory=set)
    unanswered: set[str] = field(default_factory=set)
    """Tools that are not built before a person has allowed what they ask for."""
    unapproved: str = ""
    """The question whether the plan may be changed, where nobody is there to answer it."""
    refused: dict[str, str] = field(default_factory=dict)
    """Tools that could not be had, and why."""
    causes: list[Cause] = field(default_factory=list)
    """What waits for the reviser."""
    asked: list[Cause] = field(default_factory=list)
    """What the reviser is thinking about."""

    def run(self) -> None:
        try:
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
        self._build_tools()
        self._ask_people()
        while self._start_one():
            pass
        self._ask_reviser()
        if self.under_way or self.building or self.asked:
            return True
        if self._waits_for_people():
            return self._may_be_answered()
        self._judge_goal()
        if self._hear() or self.causes:
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

    # --- people

    def _ask_people(self) -> None:
        """Put the questions that subtasks wait for, before it is their turn to start."""
        for subtask in self.board.startable(self._held()):
            try:
                question = question_before(subtask, self.board.results)
            except KeyError:
                continue  # its inputs cannot be had: that is told when it starts
            if question is None or not self._wanted(subtask):
                continue
            wake = self._waking(subtask.id)
            if self.context.desk.post(question, wake) is None:
                self._waits(subtask.id, question.id)

    def _waits(self, subtask: str, approval: str) -> None:
        self.board.wait(subtask)
        self.context.emit(events.SubtaskWaiting(subtask=subtask, approval=approval))

    def _waking(self, subtask: str) -> Callable[[events.ApprovalGiven], None]:
        return lambda _: self.done.put(lambda: self.board.wake(subtask))

    def _waits_for_people(self) -> bool:
        blocked = any(fan.blocked for fan in self.fans.values())
        return bool(self.board.waiting or self.unanswered or self.unapproved or blocked)

    def _is_deserted(self) -> bool:
        """Whether only a person could bring the run on, and the person has gone."""
        busy = self.under_way or self.building or self.asked
        return not (busy or self.context.desk.attended) and self._waits_for_people() and self.done.empty()

    def _may_be_answered(self) -> bool:
        """True while somebody is there who can answer. Raises `ApprovalNeeded` where nobody is."""
        desk = self.context.desk
        if desk.attended or not desk.open:
            return True
        raise needed(desk.open)

    def _hear(self) -> bool:
        """Whether somebody said something; the reviser is told."""
        said = self.context.desk.take_remarks()
        for text in said:
            self._cause("", "the user said", text)
        return bool(said)

    def _forget_questions(self) -> None:
        """After a revision: withdraw what nobody waits for any more."""
        wanted = set()
        for subtask in self.board.plan.subtasks:
            with suppress(KeyError):
                question = question_before(subtask, self.board.results)
                wanted.add(question.id if question is not None else "")
        for question in self.context.desk.open:
            if question.what in ("question", "subtask") and question.id not in wanted:
                self.context.desk.withdraw(question)

    # --- subtasks

    def _start_one(self) -> bool:
        if len(self.under_way) + len(self.building) >= self.context.settings.max_parallel:
            return False
        for fan in self.fans.values():
            if (place := fan.next()) is not None:
                instance = fan.start(place)
                self._submit(instance, dict(instance.inputs))
                return True
        for subtask in self.board.startable(self._held()):
            missing = [name for name in subtask.tools if not self.context.toolbox.has(name)]
            refused = [self.refused[name] for name in missing if name in self.refused]
            if refused:
                self._failed(subtask, attempt=0, reason="; ".join(refused))
                return True
            if missing:
                continue
            if self._wanted(subtask) and self._allowed(subtask):
                self._begin(subtask)
            return True
        return False

    def _held(self) -> frozenset[str]:
        """What waits for the reviser: the descendants of what it was asked about, or all there is."""
        causes = (*self.causes, *self.asked)
        if any(not cause.subtask for cause in causes):
            return self.board.plan.ids
        return descendants(self.board.plan, [cause.subtask for cause in causes])

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
        given = self.context.desk.post(question) if question is not None else None
        if given is None or given.decision != "no":
            return True
        said = f": {given.remark}" if given.remark else ""
        self._failed(subtask, attempt=0, reason=f"the user did not allow it{said}")
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
        from prefect import allow_failure

        self.under_way.add(subtask.id)
        version = self.board.plan.version
        before = self.board.attempts.get(subtask.id, 0)
        work = SubtaskWork(self.context, subtask, version, inputs, self.artifacts, before)
        # Without allow_failure Prefect would not run what follows a subtask that was skipped when it failed.
        upstream = [allow_failure(one) for name in subtask.depends_on for one in self.futures.get(name, ())]
        future = subtask_task(work, subtask).submit(wait_for=upstream)
        self.futures.setdefault(whole_name(subtask.id), []).append(future)
        future.add_done_callback(lambda ended: self.done.put(lambda: self._ended(subtask, work, ended)))

    def _ended(self, subtask: Subtask, work: "SubtaskWork", future: Any) -> None:
        self.under_way.discard(subtask.id)
        outcome = future.result(raise_on_failure=False)
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
            self.context.desk.tell(approval, self._waking(subtask.id))
            return
        place = fan.instances.index(subtask)
        fan.blocked.add(place)
        self.context.emit(events.SubtaskWaiting(subtask=subtask.id, approval=approval))
        self.context.desk.tell(approval, lambda _: self.done.put(lambda: fan.wake(place)))

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
            self._cause(subtask.id, "reported a surprise", result.surprise)
        elif revise_ == "always":
            self._cause(subtask.id, "finished", result.summary)

    def _failed(self, subtask: Subtask, *, attempt: int, reason: str) -> None:
        self.context.emit(
            events.SubtaskFailed(subtask=subtask.id, attempt=attempt, reason=reason, final=True)
        )
        if subtask.on_failure == "skip":
            self.board.skip(subtask.id, reason)
            skipped = "it failed, and the plan goes on without it"
            self.context.emit(events.SubtaskSkipped(subtask=subtask.id, reason=skipped))
            return
        self.board.fail(subtask.id, reason)
        if subtask.on_failure == "abort":
            raise RunFailed(f"{subtask.id} failed: {reason}", "The plan says to stop there.")
        if self.context.settings.revise != "never":
            self._cause(subtask.id, "failed", reason)

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
            self._cause("", "the goal is not met", missed)

    # --- tools

    def _build_tools(self) -> None:
        """Have the tools built that pending subtasks name, before their turn comes."""
        for tool in self.board.pending_needs():
            busy = len(self.under_way) + len(self.building) >= self.context.settings.max_parallel
            known = self.context.toolbox.has(tool.name) or tool.name in self.refused
            if not (busy or known or tool.name in self.building | self.unanswered):
                self._build(tool)

    def _build(self, tool: NewTool) -> None:
        self.building.add(tool.name)
        wanting = self.board.wanting(tool.name)
        calls = [s.inputs for s in wanting if s.kind == "tool"]
        context = "\n".join(f"{s.title}. {s.instruction}".strip() for s in wanting)

        def build() -> str:
            built = self.context.toolbox.ensure(
                tool, asked_by="plan", context=context, arguments=calls[0] if calls else None
            )
            return f"{built.name} v{built.version}"

        def ended(future: Any) -> None:
            self.building.discard(tool.name)
            outcome = future.result(raise_on_failure=False)
            if isinstance(outcome, ToolUnavailable):
                self.refused[tool.name] = str(outcome)
            elif isinstance(outcome, ApprovalNeeded):
                self._tool_waits(tool.name, outcome.approvals[0])
            elif isinstance(outcome, BaseException):
                raise outcome

        future = named_task(build, f"toolsmith: {tool.name}").submit()
        future.add_done_callback(lambda done: self.done.put(lambda: ended(done)))

    def _tool_waits(self, tool: str, approval: str) -> None:
        self.unanswered.add(tool)
        self.context.desk.tell(approval, lambda _: self.done.put(lambda: self.unanswered.discard(tool)))

    # --- revisions

    def _cause(self, subtask: str, what: Any, text: str) -> None:
        self.causes.append(Cause(subtask=subtask, what=what, text=text))

    def _ask_reviser(self) -> None:
        if self.asked or self.unapproved or not self.causes:
            return
        limit = self.context.settings.max_revisions
        if self.board.revisions >= limit:
            raise LimitReached(
                f"The plan was revised {limit} times and still {self.causes[0]}.",
                "Allow more with ORCH_MAX_REVISIONS, or put the prompt another way.",
            )
        self.asked, self.causes = self.causes, []
        plan, states, results, failures = self.board.snapshot()
        outcomes = dict(failures) | {name: as_text(result.value) for name, result in results.items()}
        situation = Situation(
            prompt=self.context.prompt,
            plan=plan,
            states=states,
            outcomes=outcomes,
            causes=tuple(self.asked),
            lessons=tuple(self.board.lessons),
        )
        future = named_task(lambda: self._revise(situation), "reviser").submit()
        future.add_done_callback(lambda done: self.done.put(lambda: self._revised(done)))

    def _revise(self, situation: Situation) -> Decision:
        cause = "; ".join(map(str, situation.causes))
        # A person may change their mind; a reviser that does so goes in circles.
        asked_for = any(item.what == "the user said" for item in situation.causes)

        def apply(patch: Patch) -> Plan:
            self.board.preview(patch, may_go_back=asked_for)
            check_consent(patch, desk=self.context.desk, cancellation=self.context.cancellation)
            plan = self.board.revise(patch, may_go_back=asked_for)
            self.context.emit(events.PlanRevised(plan=plan, patch=patch, cause=cause))
            return plan

        toolbox = self.context.toolbox
        offer = self.context.offer.model_copy(
            update={"tools": toolbox.cards((*toolbox.made, *toolbox.reused))}
        )
        decision = revise(
            situation, offer=offer, model=self.context.model, apply=apply, emit=self.context.emit
        )
        if decision.plan is not None:
            self.artifacts.show_plan(decision.plan, decision.reason)
        return decision

    def _change_waits(self, causes: list[Cause], approval: str) -> None:
        """Ask the reviser again when the person has answered: a patch is made for one state of the run."""
        self.causes[:0] = causes
        self.unapproved = approval

        def answered() -> None:
            self.unapproved = ""

        self.context.desk.tell(approval, lambda _: self.done.put(answered))

    def _revised(self, future: Any) -> None:
        causes, self.asked = self.asked, []
        decision = future.result(raise_on_failure=False)
        if isinstance(decision, ApprovalNeeded):
            self._change_waits(causes, decision.approvals[0])
            return
        if not isinstance(decision, Decision):
            raise decision
        cause = "; ".join(map(str, causes))
        if decision.decision == "stop":
            raise RunFailed(f"The goal cannot be reached: {decision.reason}", f"What led to it: {cause}")
        if decision.decision == "keep":
            self.context.emit(events.RevisionDeclined(reason=decision.reason, cause=cause))
            return
        self.board.answered.update(item.subtask for item in causes if item.subtask)
        self._forget_questions()
