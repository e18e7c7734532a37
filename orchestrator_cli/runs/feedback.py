"""What the user says of a run after its end: told in its journal and in `fileLog.md`, then learned.

The journal comes first: what memory could not take is not lost, and saying it again learns it. Said twice,
the last word counts. What is not covered: a run that was never remembered, such as an interrupted one; the
vote is written down, and there is nothing that could learn from it.
"""

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Literal

from memory import MemoryFault, MemoryStore, Scope, record_id, scrub
from memory.learning import template_in, with_vote
from memory.records import RUN
from orchestrator_cli import events
from orchestrator_cli.errors import UsageError
from orchestrator_cli.journal.journal import EventStream, View
from orchestrator_cli.journal.run_lock import held
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
    views: Callable[[], Iterable[View]],
) -> str:
    """Say how a run was; gives what came of it, in a sentence. Raises `UsageError`."""
    said = scrub(" ".join(why.split()))[:WHY_CHARS]
    with held(where.folder):
        state = fold(where.events())
        if state.finished is None:
            raise UsageError(
                f"Run {where.run} has not come to its end.",
                f"Go on with it first: orch resume {where.run}; or end it: orch cancel {where.run}",
            )
        stream = EventStream(where.run, where.journal, views(), state=state)
        try:
            stream.emit(events.FeedbackGiven(vote=vote, why=said))
        finally:
            stream.close()
    return _learn(where.run, vote, said, memory)


def _learn(run: str, vote: Vote, why: str, memory: MemoryStore) -> str:
    scope = Scope()
    try:
        with memory.opened() as turn:
            known = turn.get([record_id(scope, RUN, run)], scope)
            turn.add([with_vote(record, vote, why, datetime.now(UTC)) for record in known])
    except MemoryFault as exc:
        return f"Run {run} is called {vote} in its journal, but memory could not take it: {exc}"
    if not known:
        return f"Run {run} is called {vote} in its journal; it was not remembered, so nothing follows."
    what = "is a warning"
    if vote == "good":
        what = "may be used again" if any(template_in(record.data) for record in known) else "is an example"
    return f"Run {run} is called {vote}; for requests like it, its plan {what}."
