"""The input form of Prefect's page for a question of a run, and the answer that it brings: pure functions.

Prefect has a keyset in the state of a paused flow run: the names under which the server keeps a JSON Schema,
a description and, once someone has pressed Resume, what they filled in. The server checks that against the
schema, but whoever may write to the server can also put there anything else. So it is read as JSON from a
stranger: it is checked again here, and again by the run, as an answer from another terminal is.
"""

import json
import uuid
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from pydantic import JsonValue, StrictBool, StrictStr, ValidationError

from orchestrator_cli.approvals.broker import UserReply, check_reply, question_of
from orchestrator_cli.durable.lengths import length_text
from orchestrator_cli.errors import UsageError
from orchestrator_cli.events import ApprovalAsked
from orchestrator_cli.plan import FrozenModel

PREFIX = "orch-"
RESPONSE = "-response"
MAX_CHARS = 1 << 20


class PageAnswer(NamedTuple):
    """What someone filled in."""

    key: str
    """Its name on the server."""
    text: str


class _Filled(FrozenModel):
    answer: StrictStr = ""
    because: StrictStr = ""
    refuse: StrictBool = False


def may_be_answered(asked: ApprovalAsked, *, is_own: bool) -> bool:
    """Whether an answer of Prefect's page counts; `is_own`: the server is the home's own, with a password.

    Others may write to any other server, so no permission comes from there, only words for the plan.
    """
    return is_own or (asked.what == "question" and bool(asked.subject))


def prefix_of(asked: ApprovalAsked) -> str:
    """What the keys of all forms for a question begin with."""
    return f"{PREFIX}{asked.id}-"


def keyset_of(asked: ApprovalAsked) -> dict[str, str]:
    """The names for a new form."""
    base = f"{prefix_of(asked)}{uuid.uuid4().hex[:8]}"
    return {name: f"{base}-{name}" for name in ("description", "response", "schema")}


def state_details(keyset: Mapping[str, str]) -> dict[str, Any]:
    """Of a paused state with a form."""
    key = keyset["response"].removesuffix(RESPONSE)
    return {"pause_key": key, "pause_reschedule": False, "run_input_keyset": dict(keyset)}


def schema_of(asked: ApprovalAsked) -> dict[str, JsonValue]:
    """The fields of the form."""
    answer: dict[str, JsonValue] = {"title": "Answer", "type": "string"}
    fields: dict[str, JsonValue] = {"answer": answer}
    if asked.what != "question":
        answer["enum"] = ["yes", "no"]
        fields["because"] = {"title": "Because", "type": "string", "default": ""}
    else:
        wanted = asked.result or {}
        listed = [True, False] if wanted.get("type") == "boolean" else wanted.get("enum")
        if isinstance(listed, list):
            answer["enum"] = [one if isinstance(one, str) else _as_json(one) for one in listed]
        fields["refuse"] = {"title": "Refuse to answer", "type": "boolean", "default": False}
    required: list[JsonValue] = ["answer"] if asked.what != "question" else []
    return {
        "title": "Question",
        "type": "object",
        "properties": fields,
        "required": required,
        "additionalProperties": False,
    }


def description_of(asked: ApprovalAsked, fault: str = "") -> str:
    """What is shown above the fields. Indented, it is plain text for a page that reads Markdown.

    `fault`: why the answer before could not be used.
    """
    parts = [fault, asked.question, asked.details]
    if asked.what == "question" and asked.result is not None and "enum" not in asked.result:
        parts.append(f"The answer has to fit: {_as_json(asked.result)}")
    if asked.deadline is not None:
        until = f"{asked.deadline.until.astimezone():%Y-%m-%d %H:%M %Z}"
        parts.append(f"It waits {length_text(asked.deadline.within_s)}, until {until}.")
    lines = "\n\n".join(filter(None, parts)).split("\n")
    return "\n".join(f"    {line}" for line in lines)


def answers_of(rows: Any, asked: ApprovalAsked) -> list[PageAnswer]:
    """What was filled in for a question, newest first, of what the server has under its prefix."""
    found = []
    for row in rows if isinstance(rows, list) else ():
        if isinstance(row, dict) and isinstance(row.get("value"), str) and isinstance(row.get("key"), str):
            key: str = row["key"]
            if key.startswith(prefix_of(asked)) and key.endswith(RESPONSE):
                found.append((str(row.get("created", "")), PageAnswer(key, row["value"])))
    return [answer for _, answer in sorted(found, reverse=True)]


def reply_of_form(asked: ApprovalAsked, answer: PageAnswer) -> UserReply:
    """The answer as from a terminal. Raises `UsageError` if it does not fit the question."""
    if len(answer.text) > MAX_CHARS:
        raise UsageError("The answer is too long.")
    try:
        filled = _Filled.model_validate_json(answer.text)
    except ValidationError as exc:
        raise UsageError("The answer is not that of the form.") from exc
    if asked.what != "question":
        if filled.answer not in ("yes", "no"):
            raise UsageError("Answer yes or no.")
        decision = "yes" if filled.answer == "yes" else "no"
        reply = UserReply.model_validate({"decision": decision, "remark": filled.because})
    elif filled.refuse:
        reply = UserReply(decision="no", remark=filled.because)
    elif not filled.answer.strip():
        raise UsageError("There is no answer.")
    else:
        reply = UserReply(decision="answered", text=filled.answer)
    check_reply(question_of(asked), reply)
    return reply


def first_usable(asked: ApprovalAsked, answers: Iterable[PageAnswer]) -> tuple[UserReply | None, str]:
    """The newest answer that fits; otherwise why the newest does not, empty if there is none."""
    fault = ""
    for answer in answers:
        try:
            return reply_of_form(asked, answer), ""
        except UsageError as exc:
            fault = fault or str(exc).replace("\n", " ")
    return None, fault


def _as_json(value: JsonValue) -> str:
    return json.dumps(value, ensure_ascii=False)
