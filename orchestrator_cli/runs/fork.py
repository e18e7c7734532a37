"""A new run that shares the finished part of another: everything but a subtask and what depends on it.

The new run's journal begins with those facts of the other that still hold, so that going on with
it is going on with any run. It has limits and a record of its own, and an undo of it takes back
only what it did itself.

What is not covered: changes of the dropped part that lie outside the workspace.
"""

from collections.abc import Collection, Iterable, Sequence

from orchestrator_cli import __version__, events
from orchestrator_cli.errors import UsageError
from orchestrator_cli.events import Event, Fact
from orchestrator_cli.journal.journal import EventStream
from orchestrator_cli.journal.run_lock import held
from orchestrator_cli.plan import descendants, whole_name
from orchestrator_cli.runs.find import PastRun
from orchestrator_cli.runtime import new_run_id
from orchestrator_cli.state import RunState, fold
from orchestrator_cli.workspace.faults import WorkspaceFault
from orchestrator_cli.workspace.history import net
from orchestrator_cli.workspace.marks import Entry
from orchestrator_cli.workspace.record import Record
from orchestrator_cli.workspace.tree import Root
from orchestrator_cli.workspace.undo import entry_at


def fork_run(where: PastRun, at: str, remark: str = "") -> PastRun:
    """Begin a run that does `at` anew; `remark` is what the reviser is told first.

    Raises `UsageError` where there is no such subtask, where another process has the run, and
    where the workspace still holds what the dropped part has changed.
    """
    with held(where.folder):
        found = where.events()
        state = fold(found)
        if not state.has_plan or at not in state.plan.ids:
            known = ", ".join(s.id for s in state.plan.subtasks) if state.has_plan else "it has no plan yet"
            raise UsageError(f"Run {where.run} has no subtask {at}.", f"Its subtasks: {known}")
        records = _records(where)
        dropped = _dropped(state, at, records)
        _refuse_remains(where, standing(records), dropped)
        facts = list(shared(found, state, dropped))
    if remark:
        facts.append(events.Remarked(text=remark))
    made = PastRun(new_run_id(), where.home, where.root)
    stream = EventStream(made.run, made.journal, [])
    try:
        for fact in facts:
            stream.emit(fact)
    finally:
        stream.close()
    return made


WHOLE = (
    events.Recalled,
    events.PlanProposed,
    events.PlanApproved,
    events.PlanRevised,
    events.RevisionDeclined,
    events.Remarked,
    events.ToolReused,
)
"""Facts that hold for the new run as they are."""


def shared(found: Iterable[Event], state: RunState, dropped: Collection[str]) -> Iterable[Fact]:
    """The facts of a run that still hold where some of its subtasks are pending again."""
    left_out = {*dropped, *state.stranded}
    for event in found:
        match event.data:
            case events.RunStarted():
                yield event.data.model_copy(update={"forked_from": event.run, "version": __version__})
            case events.ToolBuilt(tool=tool, version=version, purpose=purpose, sha256=sha256):
                yield events.ToolReused(tool=tool, version=version, purpose=purpose, sha256=sha256)
            case events.PlanRepaired(plan=repaired) as fact if repaired is not None:
                yield fact
            case fact if isinstance(fact, WHOLE) or _is_of(fact, state, left_out):
                yield fact


def _is_of(fact: Fact, state: RunState, left_out: Collection[str]) -> bool:
    """Whether it is the end of a subtask that stays, or an answer that does."""
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


def standing(records: Sequence[Record]) -> list[Record]:
    """The commits that no undo has taken back, oldest first."""
    left: list[Record] = []
    for record in records:
        to = record.author.undo_to
        if to is None:
            left.append(record)
        else:
            last = max((n for n, one in enumerate(left) if one.author.subtask == to), default=-1)
            del left[last + 1 :]
    return left


def _records(where: PastRun) -> list[Record]:
    try:
        return where.history.records()
    except (WorkspaceFault, OSError) as exc:
        raise UsageError(f"What run {where.run} changed cannot be told: {exc}.") from exc


def _dropped(state: RunState, at: str, records: Sequence[Record]) -> frozenset[str]:
    """The subtask, those whose changes were undone, and all that depends on one of them."""
    commits = {whole_name(record.author.subtask) for record in records if record.author.undo_to is None}
    undone = commits - {whole_name(record.author.subtask) for record in standing(records)}
    roots = {at, *undone} & state.plan.ids
    return frozenset(roots) | descendants(state.plan, roots)


def _refuse_remains(where: PastRun, commits: Sequence[Record], dropped: Collection[str]) -> None:
    """Raise `UsageError` where a path is not as it was before the dropped part."""
    theirs = [record for record in commits if whole_name(record.author.subtask) in dropped]
    if not theirs:
        return
    with Root(where.root) as tree:
        paths = [c.path for c in net(theirs) if not _is(c.before, entry_at(tree, c.path))]
    if not paths:
        return
    before = [record.author.subtask for record in commits[: commits.index(theirs[0])]]
    to = f" --to {before[-1]}" if before else ""
    raise UsageError(
        f"The workspace still holds changes of the dropped part of run {where.run}: {', '.join(paths)}.",
        f"Take them back first: orch undo {where.run}{to}",
    )


def _is(entry: Entry | None, other: Entry | None) -> bool:
    return entry is other or (entry is not None and entry.same(other))
