"""The sessions of a workspace: named, found again, and shown to a planner within a budget.

What is kept of a conversation is memory's (`memory.conversation`); here it is told which session is meant,
what a run says in it, and what of the conversation a run begins with.
"""

import uuid
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path

from memory import Memory, Scope, scrub
from memory.conversation import Exchange, Session, compact, is_name, sessions
from orchestrator_cli import events
from orchestrator_cli.errors import UsageError
from orchestrator_cli.plan import Plan


def scope_of(workspace: Path) -> Scope:
    """Of what belongs to a workspace in memory; what belongs to none is seen from there as well."""
    return Scope(project=str(workspace.resolve()))


def new_name() -> str:
    """Sorts by time, and is unlike any other."""
    return f"{datetime.now():%Y%m%d-%H%M%S}-{uuid.uuid4().hex[:4]}"


def check_name(name: str) -> str:
    """The name, where a session can be called that. Raises `UsageError`."""
    if not is_name(name):
        raise UsageError(
            f"A session cannot be called {name[:40]!r}.",
            "A name has letters, digits, `-`, `_` and `.`, at most 80, and no space.",
        )
    return name


def last(memory: Memory, scope: Scope) -> Session:
    """The newest session of this workspace. Raises `UsageError`, and what the store raises."""
    found = sessions(memory, scope)
    if not found:
        raise UsageError(
            f"No session of {scope.project} is remembered, so there is none to go on with.",
            'Begin one by its name: orch ask --session NAME "…", or open orch alone.',
        )
    return found[0]


def exchange_of(run: str, prompt: str, plan: Plan, answer: str, files: Iterable[str]) -> Exchange:
    """A run as its session keeps it, without what looks like a secret."""
    return Exchange(
        run=run,
        prompt=scrub(prompt),
        answer=scrub(answer),
        files=tuple(sorted(files)),
        plan=tuple(scrub(f"{task.id} ({task.kind}): {task.title}") for task in plan.subtasks),
        own=all(task.kind == "answer" for task in plan.subtasks),
    )


def conversation_of(name: str, exchanges: Sequence[Exchange], budget: int) -> events.Conversation:
    """What a run of the session begins with, in at most about `budget` tokens."""
    short = compact(exchanges, budget)
    return events.Conversation(
        session=name,
        earlier=short.earlier,
        turns=tuple(
            events.Turn(prompt=one.prompt, answer=one.answer, files=one.files, plan=one.plan)
            for one in short.exchanges
        ),
    )
