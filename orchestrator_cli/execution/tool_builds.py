"""The tools that a plan names and nobody has: built beside the subtasks, before their turn comes.

Where a tool of another name serves, the plan is made to name that one, and that is told with the whole plan,
so that another process goes on with it.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

from orchestrator_cli import events
from orchestrator_cli.errors import ApprovalNeeded
from orchestrator_cli.execution.context import RunContext
from orchestrator_cli.execution.flow_thread import FlowThread
from orchestrator_cli.execution.tool_registry import ToolUnavailable
from orchestrator_cli.plan import NewTool, Subtask
from orchestrator_cli.state.board import Board
from toolsmith.search import planned_faults


class MissingTools:
    """What is being built, what waits for a person, and what could not be had. For the flow's thread."""

    def __init__(self, context: RunContext, board: Board, thread: FlowThread) -> None:
        self._context = context
        self._board = board
        self._thread = thread
        self.building: set[str] = set()
        self.unanswered: set[str] = set()
        """Tools that are not built before a person has allowed what they ask for."""
        self._refused: dict[str, str] = {}

    def missing(self, subtask: Subtask) -> list[str]:
        """The tools that a subtask has to wait for."""
        return [name for name in subtask.tools if not self._context.toolbox.has(name)]

    def refusals(self, subtask: Subtask) -> list[str]:
        """Why tools of a subtask cannot be had."""
        return [self._refused[name] for name in self.missing(subtask) if name in self._refused]

    def build(self, has_room: Callable[[], bool]) -> None:
        """Have those built that pending subtasks name, as far as there is room."""
        for tool in self._board.pending_needs():
            known = self._context.toolbox.has(tool.name) or tool.name in self._refused
            if not known and self._context.toolbox.serving(tool.name) is not None:
                self._serve(tool.name)  # a patch names it once more
                continue
            if not known and tool.name not in self.building | self.unanswered and has_room():
                self._build(tool)

    def _build(self, tool: NewTool) -> None:
        self.building.add(tool.name)
        wanting = self._board.wanting(tool.name)
        calls = [s.inputs for s in wanting if s.kind == "tool"]
        context = "\n".join(f"{s.title}. {s.instruction}".strip() for s in wanting)

        def build() -> str:
            built = self._context.toolbox.ensure(tool, asked_by="plan", context=context, calls=calls)
            return f"{built.name} v{built.version}"

        self._thread.beside(build, f"toolsmith: {tool.name}", lambda outcome: self._ended(tool.name, outcome))

    def _ended(self, tool: str, outcome: Any) -> None:
        self.building.discard(tool)
        if isinstance(outcome, ToolUnavailable):
            self._refused[tool] = str(outcome)
        elif isinstance(outcome, ApprovalNeeded):
            self.unanswered.add(tool)
            answered = self._thread.later(partial(self.unanswered.discard, tool))
            self._context.broker.on_answer(outcome.approvals[0], answered)
        elif isinstance(outcome, BaseException):
            raise outcome
        else:
            self._serve(tool)

    def _serve(self, wanted: str) -> None:
        """Have the plan name the tool that serves, where it is another; calls that do not fit are refused."""
        serving = self._context.toolbox.serving(wanted)
        if serving is None:
            return
        faults = {
            s.id: planned_faults(serving.spec, s.inputs) if s.kind == "tool" else ()
            for s in self._board.wanting(wanted)
        }
        fitting = [name for name, found in faults.items() if not found]
        plan, told = self._board.serve(wanted, serving.name, fitting)
        if told:
            self._context.emit(events.PlanRepaired(repairs=tuple(map(str, told)), plan=plan))
        if unfit := [fault for found in faults.values() for fault in found]:
            signature, why = serving.spec.signature, "; ".join(unfit)
            self._refused[wanted] = f"{signature} serves as {wanted} and cannot be called as planned: {why}"
