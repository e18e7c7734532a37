"""Whether a result is good, by a criterion that no expression can state: one cheap model call judges it."""

import json
from collections.abc import Callable, Sequence
from typing import Any

from pydantic import ConfigDict, JsonValue, ValidationError

from orchestrator_cli.cancellation import Cancellation
from orchestrator_cli.models.model import Message, Model, ModelRequest
from orchestrator_cli.plan import FrozenModel, Subtask
from orchestrator_cli.planning.structured_output import (
    Unusable,
    describe,
    json_object,
    schema_of,
    with_faults,
)
from orchestrator_cli.prompts import render
from orchestrator_cli.values import Usage

VALUE_CHARS = 12_000
TRIES = 2


class QualityVerdict(FrozenModel):
    good: bool
    reason: str = ""
    usage: Usage = Usage()


class _JudgeReply(FrozenModel):
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
    repaired: Callable[[str], None],
) -> QualityVerdict:
    """Ask a model whether a result meets its criterion; `files` are those the subtask wrote.

    `repaired` receives what was wrong with the JSON of a reply that is used all the same.

    If no reply can be understood, after asking twice, the result is not good. Raises what
    `Model.complete` raises.
    """
    messages, usage, faults = _messages(subtask, value, files), Usage(), [""]
    for _ in range(TRIES):
        request = ModelRequest(
            role="judge",
            subject=subtask.id,
            messages=tuple(messages),
            reply_schema=schema_of(_JudgeReply),
        )
        reply = model.complete(request, cancellation=cancellation)
        usage += reply.usage
        try:
            verdict = _read(json_object(reply, ("good",), repaired))
        except Unusable as exc:
            faults = exc.faults
        else:
            return QualityVerdict(good=verdict.good, reason=verdict.reason.strip(), usage=usage)
        messages = with_faults(messages, reply, "verdict", faults)
    return QualityVerdict(good=False, reason=f"the judge could not be understood: {faults[0]}", usage=usage)


def _read(rows: dict[str, Any]) -> _JudgeReply:
    try:
        return _JudgeReply.model_validate(rows)
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
