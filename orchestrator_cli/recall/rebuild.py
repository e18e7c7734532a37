"""Rebuilds what memory lost from the journals of runs and the library of tools.

A journal holds how its run went, what was said in its session, and the user's vote; the library holds the
built tools. What is in memory already is kept as it is, and what the user has forgotten stays forgotten.

What is not covered: facts about the user, which are in no journal; the reusable form of a plan, because a
journal does not say which files the workspace had: rebuilt runs are examples and warnings for planners. A run
with a tool that is no longer known counts as one that has read what others wrote.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from memory import Memory, Record, Scope, record_id
from memory.learning import with_vote
from memory.records import TURN
from memory.sessions import USER, message_key, save_exchange
from memory.transfer import local_id
from memory.visibility import workspace_of
from orchestrator_cli.errors import LimitReached, ProviderError, RunTimedOut
from orchestrator_cli.journal.redaction import Redactor
from orchestrator_cli.planning.planner import PlannerContext, reads_outside
from orchestrator_cli.recall.run_memory import record_of
from orchestrator_cli.recall.scopes import workspace_scope
from orchestrator_cli.recall.sessions import exchange_of
from orchestrator_cli.recall.tool_index import add_missing_tools
from orchestrator_cli.state import RunState
from orchestrator_cli.tools.files import file_tools
from toolsmith.library import Library

_PASSING = (ProviderError.exit_code, LimitReached.exit_code, RunTimedOut.exit_code)


@dataclass(frozen=True)
class Rebuilt:
    """What was added to memory."""

    runs: int = 0
    messages: int = 0
    """Exchanges of sessions: a prompt and its answer."""
    tools: int = 0
    forgotten: int = 0
    """Runs and exchanges that the user has forgotten, and which therefore stay out."""


def rebuild(
    states: Iterable[RunState],
    memory: Memory,
    library: Library,
    forgotten: Collection[UUID],
    user: Scope,
) -> Rebuilt:
    """Add what the user's memory lacks; `states` are those of ended runs, oldest first.

    `forgotten` are ids as in a folder, see `local_id`. Raises `MemoryFault`.
    """
    offline = {*file_tools(Path()), *(tool.name for tool in library.list() if not tool.spec.network)}
    runs = messages = refused = 0
    for state in states:
        outcome = _outcome(state)
        if outcome is None:
            continue
        record = _run_record(state, outcome, offline, user)
        known = memory.get([record.id], user, at="ever")
        if local_id(record) in forgotten:
            refused += 1
        elif not known:
            memory.add([record])
            runs += 1
        elif not workspace_of(known[0]) and (place := workspace_of(record)):
            # Earlier versions did not say where a run had worked.
            memory.add([known[0].model_copy(update={"data": known[0].data | {"workspace": place}})])
        said = _add_exchange(state, memory, forgotten, user)
        messages += said is True
        refused += said is None
    tools = add_missing_tools(library, memory, user)
    return Rebuilt(runs, messages, len(tools.added), refused)


def _run_record(state: RunState, outcome: str, offline: Collection[str], user: Scope) -> Record:
    plans = (*state.earlier, state.plan)
    unknown = {tool for plan in plans for subtask in plan.subtasks for tool in subtask.tools} - {*offline}
    ended = state.latest or state.now
    record = record_of(
        state,
        outcome,
        state.finished.answer if state.finished else "",
        state.finished.seconds if state.finished else 0.0,
        user=user,
        reads_outside=bool(state.occasion)
        or reads_outside(plans, PlannerContext(roles=(), tools=()), unknown),
        files=None,
        masks=Redactor(),
        ended=ended,
    )
    vote = state.feedback
    return record if vote is None else with_vote(record, vote.vote, vote.why, state.now)


def _add_exchange(state: RunState, memory: Memory, forgotten: Collection[UUID], user: Scope) -> bool | None:
    """Whether the run's part of its session was added; None if the user has forgotten it."""
    session = state.conversation.session
    if not session or state.started is None or state.finished is None:
        return False
    place = Path(state.started.workspace)
    scope, key = workspace_scope(place, user.user), message_key(state.run, USER)
    if record_id(workspace_scope(place), TURN, key) in forgotten:
        return None
    if memory.get([record_id(scope, TURN, key)], scope, at="ever"):
        return False
    exchange = exchange_of(state, state.finished.answer, Redactor())
    time = state.latest or state.now
    save_exchange(memory, session, exchange.model_copy(update={"time": time}), scope)
    return True


def _outcome(state: RunState) -> str | None:
    """How memory names the end of a run, as if it ended now; None if it is not remembered."""
    if state.finished is None or not state.has_plan:
        return None
    match state.finished.outcome:
        case "completed":
            return "completed"
        case "failed":
            return "stopped" if state.finished.exit_code in _PASSING else "failed"
        case "cancelled":
            return "stopped"
    return None
