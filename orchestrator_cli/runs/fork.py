"""A fork: a new run that shares the finished part of another, all but a subtask and its dependents.

The new run's journal begins with those facts of the other that still hold, so that it can be
resumed like any run. It has its own limits and record, and an undo of it reverts only its own changes.

Not covered: changes of the dropped part outside the workspace.
"""

from collections.abc import Collection, Iterable, Sequence

from orchestrator_cli import __version__, events
from orchestrator_cli.errors import UsageError, WorkspaceFault
from orchestrator_cli.events import Event, Fact
from orchestrator_cli.journal.journal import BlobMissing, EventStream, blobs_of, run_lock
from orchestrator_cli.plan import descendants, whole_name
from orchestrator_cli.runs.find import PastRun
from orchestrator_cli.runtime import new_run_id
from orchestrator_cli.state import RunState, fold
from orchestrator_cli.workspace.file_state import same_entry
from orchestrator_cli.workspace.history import CommitRecord, not_undone, squash
from orchestrator_cli.workspace.tree import Root
from orchestrator_cli.workspace.undo import entry_at


def fork_run(where: PastRun, at: str, remark: str = "") -> PastRun:
    """Start a run that repeats the subtask `at`; `remark` is passed to the reviser first.

    Raises `UsageError` if the subtask does not exist, another process has the run, or the
    workspace still contains changes of the dropped part.
    """
    with run_lock(where.folder):
        found = where.events()
        state = fold(found)
        if not state.has_plan or at not in state.plan.ids:
            known = ", ".join(s.id for s in state.plan.subtasks) if state.has_plan else "it has no plan yet"
            raise UsageError(f"Run {where.run} has no subtask {at}.", f"Its subtasks: {known}")
        try:
            records = where.history.records()
        except (WorkspaceFault, OSError) as exc:
            raise UsageError(f"The changes of run {where.run} cannot be read: {exc}.") from exc
        # The subtask, those whose changes were undone, and the dependents of both.
        commits = {whole_name(one.author.subtask) for one in records if one.author.undo_to is None}
        undone = commits - {whole_name(one.author.subtask) for one in not_undone(records)}
        roots = {at, *undone} & state.plan.ids
        dropped = roots | descendants(state.plan, roots)
        _refuse_remains(where, not_undone(records), dropped)
        facts = list(shared(found, state, dropped))
    if remark:
        facts.append(events.Remarked(text=remark))
    made = PastRun(new_run_id(), where.home, where.root, where.mark)
    stream = EventStream(made.run, made.journal, [])
    try:
        for one in state.attachments:
            stream.blobs.keep(blobs_of(where.journal).content(one.kept))
        for fact in facts:
            stream.emit(fact)
    except BlobMissing as exc:
        raise UsageError(
            f"Run {where.run} cannot be forked: {exc}.", "Start it again with its files."
        ) from exc
    finally:
        stream.close()
    return made


KEPT = (
    events.Recalled,
    events.Transcribed,
    events.PlanProposed,
    events.PlanApproved,
    events.PlanRevised,
    events.RevisionDeclined,
    events.Remarked,
    events.ToolReused,
)
"""Facts that hold for the new run unchanged."""


_OF_A_TOOL = ("tool", "version", "purpose", "sha256", "fingerprint")


def shared(found: Iterable[Event], state: RunState, dropped: Collection[str]) -> Iterable[Fact]:
    """The facts of a run that still hold if its `dropped` subtasks are pending again."""
    left_out = {*dropped, *state.stranded}
    for event in found:
        match event.data:
            case events.RunStarted():
                place = {"workspace": state.workspace, "mark": state.mark}
                # What the other run has spoken stays as it is.
                since = {"forked_from": event.run, "version": __version__, "speak": "", **place}
                yield event.data.model_copy(update=since)
            case events.ToolBuilt() as built:
                yield events.ToolReused(**{name: getattr(built, name) for name in _OF_A_TOOL})
            case events.PlanRepaired(plan=repaired) as fact if repaired is not None:
                yield fact
            case fact if isinstance(fact, KEPT) or _is_of(fact, state, left_out):
                yield fact


def _is_of(fact: Fact, state: RunState, left_out: Collection[str]) -> bool:
    """Whether it is the end of a subtask that is kept, or an answer for one."""
    match fact:
        case events.SubtaskFailed(final=False):
            return False
        case events.SubtaskFinished(subtask=name) | events.SubtaskFailed(subtask=name):
            return whole_name(name) not in left_out
        case events.SubtaskSkipped(subtask=name):
            return name not in left_out
        case events.ApprovalAsked(id=name) | events.ApprovalGiven(id=name):
            asked = state.asked.get(name)
            return asked is not None and name in state.given and whole_name(asked.subject) not in left_out
    return False


def _refuse_remains(where: PastRun, commits: Sequence[CommitRecord], dropped: Collection[str]) -> None:
    """Raise `UsageError` if a path is not as it was before the dropped part."""
    theirs = [record for record in commits if whole_name(record.author.subtask) in dropped]
    if not theirs:
        return
    with Root(where.root) as tree:
        paths = [c.path for c in squash(theirs) if not same_entry(c.before, entry_at(tree, c.path))]
    if not paths:
        return
    before = [record.author.subtask for record in commits[: commits.index(theirs[0])]]
    to = f" --to {before[-1]}" if before else ""
    raise UsageError(
        f"The workspace still contains changes of the dropped part of run {where.run}: {', '.join(paths)}.",
        f"Undo them first: orch undo {where.run}{to}",
    )
