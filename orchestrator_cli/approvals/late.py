"""What is said of an answer to a question that another answer has settled meanwhile. Pure."""

import json
from collections.abc import Iterable

from orchestrator_cli.approvals.broker import UserReply
from orchestrator_cli.durable.foreign import on_one_line
from orchestrator_cli.durable.text import truncate
from orchestrator_cli.errors import UsageError
from orchestrator_cli.events import ApprovalGiven, Noticed
from orchestrator_cli.values import ANSWERED_BY, AnsweredBy

CHARS = 200
"""Of an answer that is quoted."""


def too_late(
    given: ApprovalGiven, reply: UserReply, by: AnsweredBy = "user", subject: str = ""
) -> str | None:
    """That an answer was not used, because another counts; None if that one says the same.

    `subject`: of the question.
    """
    text = given.value if isinstance(given.value, str) else json.dumps(given.value, ensure_ascii=False)
    counts = UserReply(decision=given.decision, text="" if given.value is None else text, remark=given.remark)
    if _normal(counts) == _normal(reply):
        return None
    about = f" ({on_one_line(subject)})" if subject else ""
    return (
        f"An answer to question {given.id}{about} came too late and was not used: {_words(reply)}, "
        f"by {ANSWERED_BY[by]}. "
        f"It was answered before, by {ANSWERED_BY[given.by]}: {_words(counts)}"
    )


def check_was_used(facts: Iterable[object], id_: str, subject: str, reply: UserReply) -> None:
    """Raise `UsageError` if these facts of a run note that the user's answer to a question came too late."""
    found = list(facts)
    notices = {fact.message for fact in found if isinstance(fact, Noticed)}
    for fact in found:
        if isinstance(fact, ApprovalGiven) and fact.id == id_:
            late = too_late(fact, reply, subject=subject)
            if late is not None and late in notices:
                raise UsageError(late)


def _normal(reply: UserReply) -> UserReply:
    """The same for texts that are the same JSON."""
    try:
        text = json.dumps(json.loads(reply.text), ensure_ascii=False)
    except (ValueError, RecursionError):
        text = reply.text
    return reply.model_copy(update={"text": text})


def _words(reply: UserReply) -> str:
    said = reply.text if reply.decision == "answered" else reply.decision
    reason = f", because {_quoted(reply.remark)}" if reply.remark else ""
    edited = " to an edited plan" if reply.decision == "yes" and reply.text else ""
    return (_quoted(said) if reply.decision == "answered" else said) + edited + reason


def _quoted(text: str) -> str:
    return f"“{truncate(on_one_line(text), CHARS)}”"
