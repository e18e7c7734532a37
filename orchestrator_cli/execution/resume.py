"""Resuming a run in another process: whether it can be, and what its journal does not say yet.

A subtask whose result was accepted without an event that it finished was killed around its commit. The
history of the workspace, which opening the workspace has brought to an end, says whether the commit
happened: then the subtask is finished, and only that is said; else it is pending, and is done again.
"""

from orchestrator_cli import events
from orchestrator_cli.approvals.broker import UserReply
from orchestrator_cli.approvals.questions import ACCEPT, AGAIN, STOP, changed_files_question
from orchestrator_cli.errors import ApprovalNeeded, Interrupted, UsageError
from orchestrator_cli.events import Fact
from orchestrator_cli.execution.plan_changes import causes_for
from orchestrator_cli.execution.run import Run
from orchestrator_cli.execution.subtask_runs import FORGIVEN
from orchestrator_cli.plan import descendants, whole_name
from orchestrator_cli.settings import Settings
from orchestrator_cli.state import RunState
from orchestrator_cli.state.run_state import OVER
from orchestrator_cli.workspace.changed import changed_files
from orchestrator_cli.workspace.file_state import file_changes
from orchestrator_cli.workspace.history import CommitHistory


def check_resumable(state: RunState) -> None:
    """Raise `UsageError` if a run cannot be resumed."""
    remedy = f"Begin a new one from its finished part: orch fork {state.run} --at SUBTASK"
    if state.started is None:
        raise UsageError(f"The journal of run {state.run or 'without a name'} has no beginning.")
    if state.undone:
        raise UsageError(f"Run {state.run} was undone since; its results are no longer there.", remedy)
    if state.finished is not None and state.finished.outcome == "cancelled":
        raise UsageError(f"Run {state.run} was cancelled.", remedy)


def is_over(state: RunState) -> bool:
    """Whether the run has come to its answer, so that nothing is left to be done."""
    end = state.finished
    return end is not None and bool(end.answer) and (end.outcome == "completed" or end.exit_code == 1)


def missing_facts(state: RunState, history: CommitHistory) -> list[Fact]:
    """What follows from the journal and is not in it. Raises `WorkspaceFault`."""
    failed = [name for name, one in state.states.items() if one == "failed"]
    plan = state.plan
    # What failed and is skipped by its plan, if the process was killed between the two.
    forgiven = [name for name in failed if name in plan.ids and plan[name].on_failure == "skip"]
    skipped = (events.SubtaskSkipped(subtask=name, reason=FORGIVEN) for name in forgiven)
    return [*_committed(state, history), *skipped]


def _committed(state: RunState, history: CommitHistory) -> list[Fact]:
    """Accepted subtasks whose commit happened."""
    if not state.accepted:
        return []
    records = {(r.author.subtask, r.author.attempt): r for r in history.records() if r.author.undo_to is None}
    facts: list[Fact] = []
    for name, accepted in state.accepted.items():
        record = records.get((name, accepted.result.attempt))
        if record is None:
            continue
        if not accepted.committed:
            changes = file_changes(record.changes)
            facts.append(events.FilesChanged(subtask=name, attempt=accepted.result.attempt, changes=changes))
        facts.append(events.SubtaskFinished(subtask=name, result=accepted.result, seconds=accepted.seconds))
    return facts


def recheck_files(run: Run, choice: str | None) -> None:
    """Before a run goes on: ask about files that finished subtasks made and that are gone or changed since.

    Subtasks that are done again take along all that depend on them, directly or not, because what those made
    may rest on the files. `choice`: the answer, if the command line gives it. Raises `ApprovalNeeded`, and
    `Interrupted` if the user stops.
    """
    state = run.state
    with run.workspace.tree() as tree:
        found = changed_files(run.history.records(), tree)
    changed = [one for one in found if one.author.subtask in {**state.results, **state.instances}]
    if not changed:
        return
    stops = sum(given.value == STOP for given in state.given.values())
    question = changed_files_question(changed, stops)
    if choice is not None:
        run.broker.preload(question.id, UserReply(decision="answered", text=choice))
    try:
        chosen = run.broker.ask(question, run.cancellation).value
    except ApprovalNeeded as exc:
        exc.message = f"{exc.message} {question.details}"
        exc.remedy = f"Say which with: orch resume {run.id} --changed {AGAIN}|{ACCEPT}"
        raise
    if chosen == STOP:
        raise Interrupted("Stopped, as you chose: files of the run are gone or changed.")
    if chosen == AGAIN:
        made_by = {one.author.subtask for one in changed}
        dependents = descendants(state.plan, {whole_name(name) for name in made_by})
        ended = [
            subtask.id for subtask in state.plan.subtasks if subtask.id in dependents & state.states.keys()
        ]
        reason = "; ".join(map(str, changed))
        run.emit(events.SubtasksReopened(subtasks=(*sorted(made_by), *ended), reason=reason))


def has_work(state: RunState, settings: Settings) -> bool:
    """Whether anything is left to be done before the answer; what a goal needs counts as work."""
    over = all(state.state_of(subtask.id) in OVER for subtask in state.plan.subtasks)
    return not over or state.plan.check is not None or bool(causes_for(state, settings))
