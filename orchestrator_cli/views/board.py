"""What is known of a run at this moment, as a frozen value: pure functions from event to event.

Times are seconds of a monotonic clock at which an event arrived, not the event's own time, so
that a run that is played back later counts as it is seen.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import singledispatch

from orchestrator_cli import events
from orchestrator_cli.events import Event
from orchestrator_cli.plan import NOT_STARTED, Plan, State, Subtask, whole_name
from orchestrator_cli.usage import Usage
from orchestrator_cli.views.text import clean, one_line


@dataclass(frozen=True)
class Row:
    """One subtask. `doing` is cleaned to one line."""

    id: str
    label: str = ""
    """Its role, or its kind where it has none."""
    state: State = "pending"
    doing: str = ""
    since: float | None = None
    seconds: float | None = None
    """How long it took, once it is over."""
    items: int | None = None
    """Of a `for_each` subtask: how many items it is done for."""
    over: frozenset[str] = frozenset()
    """Its instances that have come to an end."""
    approval: str = ""
    """The question that it waits for."""


@dataclass(frozen=True)
class Board:
    run: str = ""
    workspace: str = ""
    url: str = ""
    """Where Prefect shows the run."""
    since: float | None = None
    phase: str = ""
    plan: Plan | None = None
    rows: Mapping[str, Row] = field(default_factory=dict)
    tools: Mapping[str, str] = field(default_factory=dict)
    """What happens to each tool that is being built."""
    usage: Usage = field(default_factory=Usage)
    now: float = 0.0
    """When the last event arrived."""

    @property
    def states(self) -> dict[str, State]:
        return {row.id: row.state for row in self.rows.values()}


def after(board: Board, event: Event, now: float = 0.0) -> Board:
    """The board once the event is known. `RunStarted` begins a new one."""
    fact = event.data
    if isinstance(fact, events.RunStarted):
        phase = "recalling and planning"
        return Board(run=event.run, workspace=fact.workspace, since=now, phase=phase, now=now)
    board = replace(board, now=now)
    if isinstance(fact, events.RunResumed):
        return _resumed(board)
    if fact.kind in _PHASES:
        return replace(board, phase=_PHASES[fact.kind])
    return _after(fact, board)


_PHASES = {
    "Recalled": "planning",
    "RunPaused": "waiting for you",
    "AnswerDelta": "writing the answer",
}


def _resumed(board: Board) -> Board:
    """What the earlier process had under way is pending again."""
    rows = {
        name: row if row.state in ("done", "failed", "skipped") else replace(row, state="pending", since=None)
        for name, row in board.rows.items()
    }
    return replace(board, rows=rows, tools={}, phase="going on", since=board.now)


@singledispatch
def _after(fact: events.Fact, board: Board) -> Board:  # noqa: ARG001 - what changes nothing
    return board


# --- the plan


@_after.register
def _plan_proposed(fact: events.PlanProposed, board: Board) -> Board:
    return _with_plan(board, fact.plan)


@_after.register
def _plan_approved(fact: events.PlanApproved, board: Board) -> Board:
    return _with_plan(board, fact.plan)


@_after.register
def _plan_repaired(fact: events.PlanRepaired, board: Board) -> Board:
    return board if fact.plan is None else _with_plan(board, fact.plan)


@_after.register
def _plan_revised(fact: events.PlanRevised, board: Board) -> Board:
    return _with_plan(board, fact.plan)


def _with_plan(board: Board, plan: Plan) -> Board:
    rows = {}
    for subtask in plan.subtasks:
        old = board.rows.get(subtask.id)
        rows[subtask.id] = old if old is not None and old.state not in NOT_STARTED else _pending(subtask)
    return replace(board, plan=plan, rows=rows, phase="running")


def _pending(subtask: Subtask) -> Row:
    waits = "waits for " + ", ".join(one_line(d, 40) for d in subtask.depends_on)
    label = one_line(subtask.role or subtask.kind, 24)
    return Row(subtask.id, label, doing=waits if subtask.depends_on else "")


@_after.register
def _flow_started(fact: events.FlowStarted, board: Board) -> Board:
    return replace(board, url=fact.url)


@_after.register
def _spent(fact: events.Spent, board: Board) -> Board:
    return replace(board, usage=fact.total)


@_after.register
def _run_finished(fact: events.RunFinished, board: Board) -> Board:
    return replace(board, usage=fact.usage, phase=fact.outcome, tools={})


# --- subtasks


def _row(board: Board, subtask: str, state: State, doing: str) -> Board:
    """The board with a row moved on; what an instance does stands in the row of the whole."""
    whole = whole_name(subtask)
    if whole != subtask:
        return _instance_row(board, whole, subtask.removeprefix(whole), doing)
    old = board.rows.get(subtask, Row(subtask))
    new = replace(old, state=state, doing=one_line(doing, 200), approval="")
    return replace(board, rows={**board.rows, subtask: new})


def _instance_row(board: Board, whole: str, place: str, doing: str) -> Board:
    row = board.rows.get(whole, Row(whole, state="running"))
    count = f"{len(row.over)} of {row.items}" if row.items is not None else f"{len(row.over)}"
    told = one_line(f"{count} done · {place} {doing}", 200)
    return replace(board, rows={**board.rows, whole: replace(row, doing=told)})


def _over(board: Board, subtask: str, state: State, doing: str, seconds: float | None) -> Board:
    whole = whole_name(subtask)
    if whole != subtask:
        row = board.rows.get(whole, Row(whole, state="running"))
        counted = replace(row, over=row.over | {subtask} if state not in NOT_STARTED else row.over)
        return _row(replace(board, rows={**board.rows, whole: counted}), subtask, state, doing)
    board = _row(board, subtask, state, doing)
    row = replace(board.rows[subtask], seconds=seconds, since=None)
    return replace(board, rows={**board.rows, subtask: row})


@_after.register
def _subtask_started(fact: events.SubtaskStarted, board: Board) -> Board:
    again = f"attempt {fact.attempt}: " if fact.attempt > 1 else ""
    board = _row(board, fact.subtask, "running", again + fact.title)
    if whole_name(fact.subtask) != fact.subtask:
        return board
    row = replace(board.rows[fact.subtask], since=board.now, seconds=None, items=fact.items)
    return replace(board, rows={**board.rows, fact.subtask: row})


@_after.register
def _subtask_waiting(fact: events.SubtaskWaiting, board: Board) -> Board:
    board = _over(board, fact.subtask, "waiting", f"waits for you ({fact.approval})", None)
    row = board.rows.get(fact.subtask)
    if row is None:
        return board
    return replace(board, rows={**board.rows, fact.subtask: replace(row, approval=fact.approval)})


@_after.register
def _approval_given(fact: events.ApprovalGiven, board: Board) -> Board:
    rows = {
        name: replace(row, state="pending", doing="", approval="") if row.approval == fact.id else row
        for name, row in board.rows.items()
    }
    return replace(board, rows=rows)


@_after.register
def _agent_stepped(fact: events.AgentStepped, board: Board) -> Board:
    return _row(board, fact.subtask, "running", fact.thought) if fact.thought.strip() else board


@_after.register
def _code_ran(fact: events.CodeRan, board: Board) -> Board:
    lines = [line for line in clean(fact.code).split("\n") if line.strip()]
    verb = "ran" if fact.error is None else "failed at"
    return _row(board, fact.subtask, "running", f"{verb} {lines[-1].strip() if lines else 'no code'}")


@_after.register
def _tool_called(fact: events.ToolCalled, board: Board) -> Board:
    sign = "→" if fact.ok else "failed:"
    return _row(board, fact.subtask, "running", f"{fact.tool} {sign} {fact.outcome}")


@_after.register
def _subtask_finished(fact: events.SubtaskFinished, board: Board) -> Board:
    return _over(board, fact.subtask, "done", fact.result.summary, fact.seconds)


@_after.register
def _subtask_failed(fact: events.SubtaskFailed, board: Board) -> Board:
    row = board.rows.get(fact.subtask)
    seconds = board.now - row.since if row is not None and row.since is not None else None
    state: State = "failed" if fact.final else "pending"
    return _over(board, fact.subtask, state, fact.reason, seconds)


@_after.register
def _subtask_skipped(fact: events.SubtaskSkipped, board: Board) -> Board:
    return _over(board, fact.subtask, "skipped", fact.reason, None)


# --- tools


def _tool(board: Board, tool: str, doing: str | None) -> Board:
    others = {name: what for name, what in board.tools.items() if name != tool}
    return replace(board, tools=others if doing is None else {**others, tool: one_line(doing, 200)})


@_after.register
def _tool_needed(fact: events.ToolNeeded, board: Board) -> Board:
    return _tool(board, fact.tool, f"writing: {fact.purpose}")


@_after.register
def _tool_tried(fact: events.ToolTried, board: Board) -> Board:
    doing = "passed its trial" if fact.passed else f"failed round {fact.round}, writing again"
    return _tool(board, fact.tool, doing)


@_after.register
def _tool_built(fact: events.ToolBuilt, board: Board) -> Board:
    return _tool(board, fact.tool, None)


@_after.register
def _tool_reused(fact: events.ToolReused, board: Board) -> Board:
    return _tool(board, fact.tool, None)


@_after.register
def _tool_refused(fact: events.ToolRefused, board: Board) -> Board:
    return _tool(board, fact.tool, None)
