"""Whether a result is good, where only words can tell: one cheap model call."""

import json
from collections.abc import Sequence
from typing import Any

from pydantic import ConfigDict, JsonValue, ValidationError

from orchestrator_cli.cancellation import Cancellation
from orchestrator_cli.models.model import Message, Model, Request
from orchestrator_cli.plan import Subtask, Value
from orchestrator_cli.planning.structured_output import Unusable, describe, json_object
from orchestrator_cli.prompts import render
from orchestrator_cli.usage import Usage

VALUE_CHARS = 12_000
TRIES = 2


class Verdict(Value):
    good: bool
    reason: str = ""
    usage: Usage = Usage()


class _Said(Value):
    model_config = ConfigDict(extra="ignore")

    good: bool
    reason: str = ""


def judge(
    subtask: Subtask,
    value: JsonValue,
    files: Sequence[str],
    *,
    model: Model,
    cancellation: Cancellation,
) -> Verdict:
    """Have a model hold a result against what makes it good; `files` are what the subtask wrote.

    A model that cannot be understood, once asked again, has not found it good. Raises what
    `Model.complete` raises.
    """
    messages, usage, faults = _messages(subtask, value, files), Usage(), [""]
    for _ in range(TRIES):
        request = Request(role="judge", subject=subtask.id, messages=tuple(messages))
        reply = model.complete(request, cancellation=cancellation)
        usage += reply.usage
        try:
            said = _read(reply.text)
        except Unusable as exc:
            faults = exc.faults
        else:
            return Verdict(good=said.good, reason=said.reason.strip(), usage=usage)
        messages = [
            *messages,
            {"role": "assistant", "content": reply.text},
            {"role": "user", "content": render("faults", what="verdict", faults=faults)},
        ]
    return Verdict(good=False, reason=f"the judge could not be understood: {faults[0]}", usage=usage)


def _read(text: str) -> _Said:
    rows: dict[str, Any] = json_object(text)
    try:
        return _Said.model_validate(rows)
    except ValidationError as exc:
        raise Unusable(describe(exc, rows)) from exc


def _messages(subtask: Subtask, value: JsonValue, files: Sequence[str]) -> list[Message]:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=1)
    shown = text if len(text) <= VALUE_CHARS else f"{text[:VALUE_CHARS]}\n… ({len(text)} characters in all)"
    request = render(
        "judge_request",
        title=subtask.title,
        instruction=subtask.instruction,
        criterion=subtask.judge,
        value=shown,
        files=files,
    )
    return [{"role": "system", "content": render("judge")}, {"role": "user", "content": request}]
