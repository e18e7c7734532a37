"""The plan as one Prefect flow run: a task run per subtask, started the moment it may start.

The flow's thread alone decides what starts, from the run's state; subtasks, tool builds and the reviser are
task runs on its pool. While the reviser thinks, all continues that does not depend on what it was asked
about. Subtasks that wait for a person take no place of those that can run; if no one is there to answer, the
run stops when nothing else can be done, and its flow run is paused.
"""

import queue
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from orchestrator_cli import events
from orchestrator_cli.approvals.questions import question_before, withdraw_outdated
from orchestrator_cli.engine.artifacts import Artifacts
from orchestrator_cli.engine.flow_run import Call, named_task, outcome_of
from orchestrator_cli.errors import ApprovalNeeded, Interrupted, OrchError, ProviderError, concern_of
from orchestrator_cli.execution import plan_changes
from orchestrator_cli.execution.run import Run
from orchestrator_cli.execution.subtask_runs import SubtaskRuns
from orchestrator_cli.planning.planner import PlannerContext
from orchestrator_cli.planning.reviser import Cause, Revision
from orchestrator_cli.state import RunState

REVISER = "reviser"


@dataclass
class Scheduler:
    """The loop of the flow's thread, and what it has under way. Everything else is in the run's state."""

    run: Run
    context: PlannerContext
    artifacts: Artifacts
    done: "queue.SimpleQueue[Callable[[], None]]" = field(default_factory=queue.SimpleQueue)
    """What to do in this thread now that something under way has ended."""
    subtasks: SubtaskRuns = field(init=False)
    building: set[str] = field(default_factory=set)
    refused: dict[str, str] = field(default_factory=dict)
    """Why tools cannot be had."""
    lost_tools: set[str] = field(default_factory=set)
    """Those of them that a lost provider kept from being built."""
    blocked: dict[str, str] = field(default_factory=dict)
    """The approval that a tool, or the reviser's patch, waits for."""
    asked: tuple[Cause, ...] = ()
    """What the reviser is thinking about."""
    unheard: tuple[tuple[Cause, ...], ProviderError] | None = None
    """What it could not be asked about, and why. Everything that does not wait for it goes on."""

    def __post_init__(self) -> None:
        self.subtasks = SubtaskRuns(self.run, self.artifacts, self.done)

    def carry_out(self) -> None:
        """Run the plan to its end.

        Raises `RunStopped` if the reviser or a subtask stops it, `ProviderError` if nothing can go on without
        a reviser that cannot be asked, `LimitReached`, `ApprovalNeeded` if it needs a person and none is
        there, and whatever ended it from outside.
        """
        try:
            for subtask in self.state.plan.subtasks:
                self.subtasks.stop_if_aborted(subtask)
            while self._start_what_may():
                self._wait()
        except BaseException as exc:
            # Everything under way waits through the cancellation, so the pool can end.
            reason = exc if isinstance(exc, OrchError) else Interrupted("The run was interrupted.")
            self.run.cancellation.cancel(reason)
            raise

    @property
    def state(self) -> RunState:
        return self.run.state

    def _start_what_may(self) -> bool:
        """Start everything that can; False if nothing is under way and nothing is left."""
        self._build_tools()
        self._ask_people()
        while self._has_room() and self._start_one():
            pass
        self._ask_reviser()
        if not self._is_idle():
            return True
        if self._waits_for_people():
            self.run.broker.check_answerable()
            return True
        if self.unheard is not None:
            causes, error = self.unheard
            led = f"What led to it: {'; '.join(map(str, causes))}"
            raise type(error)(error.message, f"{error.remedy}\n{led}") from error
        if self._causes():  # someone said something in this very moment
            return self._start_what_may()
        for subtask in self.state.pending:
            reason = f"what it waits for failed: {', '.join(subtask.depends_on)}"
            self.run.emit(events.SubtaskSkipped(subtask=subtask.id, reason=reason))
        return False

    def _wait(self) -> None:
        """Wait until something ends or someone says something, and deal with it."""
        seen = self.state
        while True:
            self.run.cancellation.check()
            with suppress(queue.Empty):
                # Short waits: Ctrl-C reaches the main thread between them.
                self.done.get(timeout=0.05)()
                break
            if self.state.given is not seen.given or self.state.causes is not seen.causes:
                return
            if not self.run.broker.waits and self._is_idle() and self._waits_for_people():
                return
        # What ended at the same time belongs to the same picture, before the reviser is shown it.
        while not self.done.empty():
            self.done.get()()

    def _is_idle(self) -> bool:
        return not (self.subtasks.under_way or self.building or self.asked) and self.done.empty()

    def _beside(self, work: Callable[[], Any], name: str, ended: Callable[[Any], None]) -> None:
        """Do something that is not a subtask as a task run; `ended` gets its outcome in this thread."""
        call = Call(work)
        future = self.run.flow_run.submit(named_task(call, name))
        future.add_done_callback(lambda done: self.done.put(lambda: ended(outcome_of(call, done))))

    def _has_room(self) -> bool:
        return len(self.subtasks.under_way) + len(self.building) < self.run.settings.max_parallel

    def _waits_for_people(self) -> bool:
        return bool(self.state.waiting or self.state.waits(self.blocked))

    def _start_one(self) -> bool:
        if self.subtasks.start_instance():
            return True
        for subtask in self.state.startable(self._held()):
            missing = plan_changes.missing_tools(subtask, self.run.registry)
            if refusals := [self.refused[name] for name in missing if name in self.refused]:
                lost = not self.lost_tools.isdisjoint(missing)
                self.subtasks.failed(subtask, attempt=0, reason="; ".join(refusals), lost=lost)
                return True
            if not missing and self.subtasks.role_is_free(subtask):
                self.subtasks.start(subtask)
                return True
        return False

    def _ask_people(self) -> None:
        """Put the questions that subtasks wait for, before it is their turn to start."""
        for subtask in self.state.startable(self._held()):
            question = question_before(subtask, self.state.results)
            if question is None or not self.subtasks.is_wanted(subtask):
                continue
            if self.run.broker.request(question) is None:
                self.run.emit(events.SubtaskWaiting(subtask=subtask.id, approval=question.id))

    # --- tools

    def _build_tools(self) -> None:
        """Build what pending subtasks name, as far as there is room."""
        registry = self.run.registry
        for tool in plan_changes.wanted_tools(self.state):
            if tool.name in self.refused or registry.has(tool.name):  # a patch may name it again
                continue
            if refusal := plan_changes.let_serve(self.run, tool.name):
                self.refused[tool.name] = refusal
        left_out = {*self.building, *self.refused, *self.state.waits(self.blocked)}
        for tool in plan_changes.tools_to_build(self.state, registry, left_out):
            if self._has_room():
                self.building.add(tool.name)
                build = partial(plan_changes.build_planned, self.run, tool)
                self._beside(build, f"toolsmith: {tool.name}", partial(self._built, tool.name))

    def _built(self, tool: str, outcome: Any) -> None:
        self.building.discard(tool)
        if isinstance(outcome, ApprovalNeeded):
            self.blocked[tool] = outcome.approvals[0]
        elif refusal := plan_changes.refusal_of(self.run, tool, outcome):
            self.refused[tool] = refusal
            if concern_of(outcome) == "provider":
                self.lost_tools.add(tool)

    # --- the reviser

    def _causes(self) -> tuple[Cause, ...]:
        """What the reviser has to be asked about; a missed goal only once nothing else is left."""
        over = self._is_idle() and not self._waits_for_people() and not self.state.startable()
        return plan_changes.causes_for(self.state, self.run.settings, is_over=over)

    def _held(self) -> frozenset[str]:
        causes = plan_changes.causes_for(self.state, self.run.settings)
        return plan_changes.held_by((*causes, *self.asked), self.state.plan)

    def _ask_reviser(self) -> None:
        causes = self._causes()
        if self.unheard is not None and set(causes) <= set(self.unheard[0]):
            return
        if causes and not self.asked and REVISER not in self.state.waits(self.blocked):
            plan_changes.check_revisions(self.state, causes, self.run.settings)
            self.asked = causes
            ask = partial(plan_changes.ask_reviser, self.run, self.context, causes)
            self._beside(ask, REVISER, self._revised)

    def _revised(self, decision: Any) -> None:
        causes, self.asked = self.asked, ()
        if isinstance(decision, ApprovalNeeded):
            # Asked again with the answer: a patch is made for one state of the run.
            self.blocked[REVISER] = decision.approvals[0]
            return
        decision = plan_changes.keep_after(decision, causes) or decision
        if isinstance(decision, ProviderError):
            self.unheard = causes, decision
            return
        if not isinstance(decision, Revision):
            raise decision
        self.unheard = None
        if decision.plan is not None:
            self.artifacts.show_plan(decision.plan, decision.reason)
        plan_changes.settle(self.run, decision, causes)
        withdraw_outdated(self.run.broker, self.state.plan, self.state.results)
