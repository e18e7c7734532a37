"""When the reviser is asked, what it is told, and what its decision does to the run.

What came up waits here until the reviser is free; meanwhile nothing starts that depends on it.
"""

from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from orchestrator_cli import events
from orchestrator_cli.approvals.questions import check_patch_approval, question_before
from orchestrator_cli.engine.artifacts import Artifacts
from orchestrator_cli.errors import ApprovalNeeded, LimitReached, RunFailed
from orchestrator_cli.execution.context import RunContext
from orchestrator_cli.execution.flow_thread import FlowThread
from orchestrator_cli.plan import Patch, Plan, descendants, unstarted
from orchestrator_cli.planning.answer import as_text
from orchestrator_cli.planning.reviser import Cause, Revision, Situation, revise
from orchestrator_cli.planning.routing import route_patch
from orchestrator_cli.state.board import Board
from orchestrator_cli.state.duplicate_code import HINT


class Revisions:
    """For the flow's thread; the reviser itself thinks in another."""

    def __init__(
        self,
        context: RunContext,
        board: Board,
        artifacts: Artifacts,
        thread: FlowThread,
        causes: Iterable[Cause],
    ) -> None:
        self._context = context
        self._board = board
        self._artifacts = artifacts
        self._thread = thread
        self.causes = list(causes)
        """What waits for the reviser."""
        self.asked: list[Cause] = []
        """What the reviser is thinking about."""
        self.unapproved = ""
        """The question whether the plan may be changed, where nobody is there to answer it."""

    def cause(self, subtask: str, what: Any, text: str) -> None:
        """Something came up that the reviser has to be told."""
        self.causes.append(Cause(subtask=subtask, what=what, text=text))

    def held(self) -> frozenset[str]:
        """What waits for the reviser: the descendants of what it was asked about, or all there is."""
        causes = (*self.causes, *self.asked)
        if any(not cause.subtask for cause in causes):
            return self._board.plan.ids
        return descendants(self._board.plan, [cause.subtask for cause in causes])

    def ask(self) -> None:
        """Put to the reviser what came up, unless it is thinking. Raises `LimitReached`."""
        if self.asked or self.unapproved or not self.causes:
            return
        limit = self._context.settings.max_revisions
        if self._board.revisions >= limit:
            raise LimitReached(
                f"The plan was revised {limit} times and still {self.causes[0]}.",
                "Allow more with ORCH_MAX_REVISIONS, or put the prompt another way.",
            )
        self.asked, self.causes = self.causes, []
        situation = self._situation()
        self._thread.beside(lambda: self._revise(situation), "reviser", self._revised)

    def drop_hints(self) -> None:
        """A hint is no reason to end a run, nor to ask where nothing is left that could follow it.

        To be done before anything is started: what a dropped hint concerns must not be held.
        """
        plan, states, *_ = self._board.snapshot()
        if self._board.revisions >= self._context.settings.max_revisions or not unstarted(plan, states):
            self.causes = [cause for cause in self.causes if cause.what != HINT]

    def _situation(self) -> Situation:
        plan, states, results, failures = self._board.snapshot()
        return Situation(
            prompt=self._context.prompt,
            plan=plan,
            states=states,
            outcomes=dict(failures) | {name: as_text(result.value) for name, result in results.items()},
            causes=tuple(self.asked),
            lessons=tuple(self._board.lessons),
        )

    def _revise(self, situation: Situation) -> Revision:
        cause = "; ".join(map(str, situation.causes))
        # A person may change their mind; a reviser that does so goes in circles.
        asked_for = any(item.what == "the user said" for item in situation.causes)

        failed = {name for name, state in situation.states.items() if state == "failed"}

        def apply(patch: Patch) -> Plan:
            patch = route_patch(patch, situation.plan, self._context.routing_evidence(), failed)
            self._board.preview(patch, may_go_back=asked_for)
            check_patch_approval(patch, broker=self._context.broker, cancellation=self._context.cancellation)
            plan = self._board.revise(patch, may_go_back=asked_for)
            self._context.emit(events.PlanRevised(plan=plan, patch=patch, cause=cause))
            return plan

        toolbox = self._context.toolbox
        planner_context = self._context.planner_context.model_copy(
            update={"tools": toolbox.cards((*toolbox.made, *toolbox.reused))}
        )
        decision = revise(
            situation,
            planner_context=planner_context,
            model=self._context.model,
            apply=apply,
            emit=self._context.emit,
        )
        if decision.plan is not None:
            self._artifacts.show_plan(decision.plan, decision.reason)
        return decision

    def _revised(self, decision: Any) -> None:
        causes, self.asked = self.asked, []
        if isinstance(decision, ApprovalNeeded):
            self._wait(causes, decision.approvals[0])
            return
        if not isinstance(decision, Revision):
            raise decision
        cause = "; ".join(map(str, causes))
        if decision.decision == "stop":
            raise RunFailed(f"The goal cannot be reached: {decision.reason}", f"What led to it: {cause}")
        if decision.decision == "keep":
            self._context.emit(events.RevisionDeclined(reason=decision.reason, cause=cause))
            return
        self._board.answered.update(item.subtask for item in causes if item.subtask and item.what != HINT)
        self._forget_questions()

    def _wait(self, causes: list[Cause], approval: str) -> None:
        """Ask again when the person has answered: a patch is made for one state of the run."""
        self.causes[:0] = causes
        self.unapproved = approval

        def answered() -> None:
            self.unapproved = ""

        self._context.broker.on_answer(approval, self._thread.later(answered))

    def _forget_questions(self) -> None:
        """After a revision: withdraw what nobody waits for any more."""
        wanted = set()
        for subtask in self._board.plan.subtasks:
            with suppress(KeyError):
                question = question_before(subtask, self._board.results)
                wanted.add(question.id if question is not None else "")
        for question in self._context.broker.open:
            if question.what in ("question", "subtask") and question.id not in wanted:
                self._context.broker.withdraw(question)
