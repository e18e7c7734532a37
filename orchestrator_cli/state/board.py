"""Where a run stands: the plan, and what became of each subtask. One lock, no effects.

The flow's own thread moves subtasks along; the reviser's thread replaces the plan. Both ask
here, so a patch meets the state of the very moment at which it is applied.
"""

import threading
from collections.abc import Collection, Mapping

from orchestrator_cli.plan import NewTool, Patch, Plan, Result, State, Subtask, needs, ready, unstarted
from orchestrator_cli.planning.context import PlannerContext
from orchestrator_cli.planning.patching import apply, substituted
from orchestrator_cli.planning.repair import Repair
from orchestrator_cli.planning.reviser import Cause

FORGIVEN = "it failed, and the plan goes on without it"


class Board:
    def __init__(self, plan: Plan, planner_context: PlannerContext) -> None:
        self._lock = threading.RLock()
        self.planner_context = planner_context
        self.plan = plan
        self.earlier: list[Plan] = []
        """The versions that the plan had before, oldest first."""
        self.states: dict[str, State] = {}
        self.results: dict[str, Result] = {}
        self.instances: dict[str, Result] = {}
        """Results of instances of `for_each` subtasks that were done in an earlier process."""
        self.attempts: dict[str, int] = {}
        """Attempts that were begun in an earlier process."""
        self.causes: tuple[Cause, ...] = ()
        """What an earlier process left for the reviser."""
        self.goal_told = 0
        """The plan version of which the reviser was told that it missed the goal."""
        self.failures: dict[str, str] = {}
        """Why a subtask failed or was skipped."""
        self.answered: set[str] = set()
        """Failed subtasks that the reviser has changed the plan for."""
        self.stranded: set[str] = set()
        """Subtasks that were skipped because what they waited for failed."""
        self.missed = ""
        """In what the plan missed its goal though everything was done."""
        self.facts: tuple[str, ...] = ()
        """What is remembered of the user, for who writes the answer."""
        self.lessons: list[str] = []
        """The reasons of the patches, for those who plan the same again."""
        self.files: tuple[str, ...] | None = None
        """What was in the workspace when it was planned; None where that is not known, or where the
        prompt cannot be understood without what was said before."""

    def startable(self, held: frozenset[str]) -> list[Subtask]:
        """What may start now; `held` waits for a revision."""
        with self._lock:
            return ready(self.plan, self.states, held)

    def pending_needs(self) -> list[NewTool]:
        """The tools that pending subtasks name."""
        with self._lock:
            pending = tuple(unstarted(self.plan, self.states))
            return needs(self.plan.model_copy(update={"subtasks": pending}))

    def wanting(self, tool: str) -> list[Subtask]:
        """The pending subtasks that name a tool."""
        with self._lock:
            return [s for s in unstarted(self.plan, self.states) if tool in s.tools]

    def serve(self, wanted: str, serving: str, subtasks: Collection[str]) -> tuple[Plan, tuple[Repair, ...]]:
        """Have pending subtasks use another tool than the one they name; the plan, and what was changed."""
        with self._lock:
            pending = {s.id for s in unstarted(self.plan, self.states)}
            self.plan, told = substituted(self.plan, wanted, serving, pending & set(subtasks))
            return self.plan, told

    def wait(self, subtask: str) -> None:
        """It waits for a person."""
        self._move(subtask, "waiting")

    def wake(self, subtask: str) -> None:
        """What it waited for has come, or need not come any more."""
        with self._lock:
            if self.states.get(subtask) == "waiting":
                del self.states[subtask]

    @property
    def waiting(self) -> list[str]:
        """The subtasks that wait for a person."""
        with self._lock:
            return [name for name, state in self.states.items() if state == "waiting"]

    def start(self, subtask: str) -> None:
        self._move(subtask, "running")

    def finish(self, result: Result) -> bool:
        """Take a result; False where nobody waits for it any more."""
        with self._lock:
            if self.states.get(result.subtask) != "running":
                return False
            self.results[result.subtask] = result
            self._move(result.subtask, "done")
            return True

    def fail(self, subtask: str, reason: str) -> None:
        with self._lock:
            self.failures[subtask] = reason
            self._move(subtask, "failed")

    def skip(self, subtask: str, reason: str) -> None:
        with self._lock:
            self.failures[subtask] = reason
            self._move(subtask, "skipped")

    def strand(self) -> list[Subtask]:
        """Skip, and return, what is still pending when nothing can start any more."""
        with self._lock:
            found = unstarted(self.plan, self.states)
            for subtask in found:
                self.skip(subtask.id, f"what it waits for failed: {', '.join(subtask.depends_on)}")
                self.stranded.add(subtask.id)
            return found

    def preview(self, patch: Patch, *, may_go_back: bool = False) -> Plan:
        """What a patch would make of the plan now. Raises `PatchRefused`."""
        with self._lock:
            versions = () if may_go_back else (*self.earlier, self.plan)
            return apply(self.plan, patch, self.states, self.planner_context.catalogue, versions)

    def revise(self, patch: Patch, *, may_go_back: bool = False) -> Plan:
        """Apply a patch to the state of this moment. Raises `PatchRefused`.

        `may_go_back`: whether the pending part may become what it was in an earlier version.
        """
        with self._lock:
            plan = self.preview(patch, may_go_back=may_go_back)
            self.earlier.append(self.plan)
            self.plan = plan
            self.lessons.append(patch.reason)
            for subtask in self.waiting:
                # What it is asked about may have changed, or it may be gone.
                self.wake(subtask)
            return self.plan

    def snapshot(self) -> tuple[Plan, Mapping[str, State], Mapping[str, Result], Mapping[str, str]]:
        """Plan, states, results and failures, as they are together at one moment."""
        with self._lock:
            return self.plan, dict(self.states), dict(self.results), dict(self.failures)

    @property
    def revisions(self) -> int:
        return len(self.lessons)

    @property
    def met(self) -> bool:
        """Whether the plan was carried out: nothing stranded, and no failure that led to no change."""
        with self._lock:
            failed = {name for name, state in self.states.items() if state == "failed"}
            return not self.stranded and not self.missed and failed <= self.answered

    def _move(self, subtask: str, state: State) -> None:
        with self._lock:
            self.states[subtask] = state
