"""The sessions of a workspace: their names, a run as an exchange, and the conversation a run starts with.

Conversations are stored by `memory.sessions`.
"""

import uuid
from collections.abc import Sequence
from datetime import datetime

from memory import Memory, Scope, scrub
from memory.sessions import Exchange, SessionSummary, compact, is_session_name, list_sessions
from orchestrator_cli.errors import UsageError
from orchestrator_cli.journal.redaction import Redactor
from orchestrator_cli.state import RunState
from orchestrator_cli.values import Conversation, Turn


def new_session_name() -> str:
    """A unique name that sorts by time."""
    return f"{datetime.now():%Y%m%d-%H%M%S}-{uuid.uuid4().hex[:4]}"


def check_session_name(name: str) -> str:
    """Return the name if it is valid. Raises `UsageError` otherwise."""
    if not is_session_name(name):
        raise UsageError(
            f"A session cannot be called {name[:40]!r}.",
            "A name has at most 80 characters: letters, digits, `-`, `_` and `.`, without spaces.",
        )
    return name


def latest_session(memory: Memory, scope: Scope) -> SessionSummary:
    """The most recently used session of this workspace. Raises `UsageError`, and what the store raises."""
    found = list_sessions(memory, scope)
    if not found:
        raise UsageError(
            f"No session of {scope.project} is remembered, so there is none to continue.",
            'Start one by its name: orch ask --session NAME "…", or start orch without a command.',
        )
    return found[0]


def exchange_of(state: RunState, answer: str, masks: Redactor) -> Exchange:
    """A run that has a plan as an exchange of its session, without anything that looks like a secret.

    What the user said while it ran belongs to the prompt.
    """
    plan = masks(state.plan)
    return Exchange(
        run=state.run,
        prompt=scrub(masks(state.said)),
        answer=scrub(masks(answer)),
        files=tuple(sorted(state.files)),
        plan=tuple(scrub(f"{task.id} ({task.kind}): {task.title}") for task in plan.subtasks),
        own=all(task.kind == "answer" for task in plan.subtasks),
    )


def conversation_of(name: str, exchanges: Sequence[Exchange], budget: int) -> Conversation:
    """The conversation that a run of the session starts with, in about `budget` tokens."""
    short = compact(exchanges, budget)
    return Conversation(
        session=name,
        earlier=short.earlier,
        turns=tuple(
            Turn(prompt=one.prompt, answer=one.answer, files=one.files, plan=one.plan)
            for one in short.exchanges
        ),
    )
