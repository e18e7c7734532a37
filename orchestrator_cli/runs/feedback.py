"""The user's feedback on a run: written to its journal and `fileLog.md`, then to memory.

Memory knows of an undo too. The journal comes first, so that a vote is not lost if memory fails; voting again
then updates memory. The last vote counts.

Not covered: a run without a memory record, such as an interrupted one; its vote is only written down.
"""

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Literal

from memory import MemoryFault, MemoryStore, Record, Scope, record_id, scrub
from memory.learning import as_undone, template_in, with_vote
from memory.records import RUN
from orchestrator_cli import events
from orchestrator_cli.errors import UsageError
from orchestrator_cli.journal.journal import EventStream, EventView, run_lock
from orchestrator_cli.runs.find import PastRun
from orchestrator_cli.state import fold

Vote = Literal["good", "bad"]
WHY_CHARS = 500


def give_feedback(
    where: PastRun,
    vote: Vote,
    why: str,
    *,
    memory: MemoryStore,
    user: Scope,
    views: Callable[[], Iterable[EventView]],
) -> str:
    """Record a vote on a run of `user`; returns the consequence, in a sentence. Raises `UsageError`."""
    reason = scrub(" ".join(why.split()))[:WHY_CHARS]
    with run_lock(where.folder):
        state = fold(where.events())
        if state.finished is None or state.finished.outcome == "planned":
            raise UsageError(
                f"Run {where.run} has not {'run' if state.finished else 'ended'}.",
                f"Resume it first: orch resume {where.run}; or end it: orch cancel {where.run}",
            )
        stream = EventStream(where.run, where.journal, views(), state=state)
        try:
            stream.emit(events.FeedbackGiven(vote=vote, why=reason))
        finally:
            stream.close()
    return _learn(where.run, vote, reason, memory, user)


def learn_undo(where: PastRun, memory: MemoryStore, user: Scope) -> None:
    """Have memory know that a run was undone, however often that is said. Raises `MemoryFault`."""
    _change(where.run, as_undone, memory, user)


def _change(
    run: str, change: Callable[[Record], Record], memory: MemoryStore, user: Scope
) -> Sequence[Record]:
    """The user's own records of a run, before the change."""
    with memory.opened() as turn:
        known = [r for r in turn.get([record_id(user, RUN, run)], user) if r.is_own]
        turn.add([change(record) for record in known])
    return known


def _learn(run: str, vote: Vote, why: str, memory: MemoryStore, user: Scope) -> str:
    now = datetime.now(UTC)
    try:
        known = _change(run, lambda record: with_vote(record, vote, why, now), memory, user)
    except MemoryFault as exc:
        return f"Run {run} is called {vote} in its journal, but memory could not be updated: {exc}"
    if not known:
        return f"Run {run} is called {vote} in its journal; memory has no record of it to learn from."
    what = "is a warning"
    if vote == "good":
        what = "may be used again" if any(template_in(record.data) for record in known) else "is an example"
    return f"Run {run} is called {vote}; for requests like it, its plan {what}."
