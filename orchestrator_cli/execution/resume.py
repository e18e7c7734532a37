"""Going on with a run in another process: what its journal does not say yet, and its board as it was.

A subtask whose result was accepted and of which nobody has said that it is finished was killed
around its commit. The history of the workspace, which the opening of the workspace has brought
to an end, tells whether the commit happened: then the subtask is finished, and only that is
said; else it is pending, and is done again.
"""

from orchestrator_cli import events
from orchestrator_cli.errors import UsageError
from orchestrator_cli.events import Event, Fact
from orchestrator_cli.planning.context import PlannerContext
from orchestrator_cli.planning.reviser import Cause
from orchestrator_cli.state.board import FORGIVEN, Board
from orchestrator_cli.state.replay import Past, after
from orchestrator_cli.workspace.history import History
from orchestrator_cli.workspace.marks import file_changes


def check_resumable(past: Past) -> None:
    """Raise `UsageError` where a run cannot be gone on with."""
    remedy = f"Begin a new one from its finished part: orch fork {past.run} --at SUBTASK"
    if past.started is None:
        raise UsageError(f"The journal of run {past.run or 'without a name'} has no beginning.")
    if past.undone:
        raise UsageError(f"Run {past.run} was undone since; its results are no longer there.", remedy)
    if past.finished is not None and past.finished.outcome == "cancelled":
        raise UsageError(f"Run {past.run} was cancelled.", remedy)


def is_over(past: Past) -> bool:
    """Whether the run has come to its answer, so that nothing is left to be done.

    An answer that could not be written (exit 4 and the like) is not there.
    """
    end = past.finished
    return end is not None and bool(end.answer) and (end.outcome == "completed" or end.exit_code == 1)


def untold(past: Past, history: History) -> list[Fact]:
    """What follows from the journal and is not in it. Raises `WorkspaceFault`."""
    return [*_committed(past, history), *_forgiven(past)]


def _forgiven(past: Past) -> list[Fact]:
    """What failed and is skipped by its plan, where the process was killed between the two."""
    plan = past.plan
    failed = [name for name, state in past.moved.items() if state == "failed"]
    forgiven = [name for name in failed if plan and name in plan.ids and plan[name].on_failure == "skip"]
    return [events.SubtaskSkipped(subtask=name, reason=FORGIVEN) for name in forgiven]


def _committed(past: Past, history: History) -> list[Fact]:
    """Accepted subtasks whose commit happened."""
    if not past.accepted:
        return []
    records = {(r.author.subtask, r.author.attempt): r for r in history.records() if r.author.undo_to is None}
    facts: list[Fact] = []
    for name, accepted in past.accepted.items():
        record = records.get((name, accepted.result.attempt))
        if record is None:
            continue
        if not accepted.told:
            changes = file_changes(record.changes)
            facts.append(events.FilesChanged(subtask=name, attempt=accepted.result.attempt, changes=changes))
        facts.append(events.SubtaskFinished(subtask=name, result=accepted.result, seconds=accepted.seconds))
    return facts


def told(past: Past, facts: list[Fact]) -> Past:
    """The run once these are in its journal too."""
    for fact in facts:
        moment = past.latest or past.began
        assert moment is not None
        past = after(past, Event(run=past.run, seq=past.last + 1, time=moment, data=fact))
    return past


def board_of(past: Past, planner_context: PlannerContext) -> Board:
    """The board as it was; what was running or waiting is pending."""
    assert past.plan is not None
    board = Board(past.plan, planner_context)
    board.earlier = list(past.versions[:-1])
    board.states = past.states
    board.results = dict(past.results)
    board.instances = dict(past.instances)
    board.attempts = dict(past.attempts)
    board.failures = dict(past.failures)
    board.answered = set(past.answered)
    board.stranded = set(past.stranded)
    board.lessons = list(past.lessons)
    board.causes = past.causes
    board.goal_told = past.goal_told
    return board


def causes_for(board: Board, revise: str) -> list[Cause]:
    """What the earlier process left for the reviser, as far as it is asked at all."""
    wanted = {
        "never": ("the user said",),
        "auto": ("the user said", "failed", "reported a surprise", "wrote the same function"),
    }.get(revise)
    return [cause for cause in board.causes if wanted is None or cause.what in wanted]


def has_work(board: Board, revise: str) -> bool:
    """Whether anything is left to be done before the answer; what a goal needs counts as work."""
    over = all(subtask.id in board.states for subtask in board.plan.subtasks)
    return not over or board.plan.check is not None or bool(causes_for(board, revise))
