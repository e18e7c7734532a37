"""The answer of a run as data: a JSON value that satisfies the schema that the user gave.

Not covered: whether the value is true. A schema that cannot be checked in time is not satisfied.
"""

import json
from collections.abc import Mapping

from pydantic import JsonValue

from orchestrator_cli.durable.json_text import fenced_blocks, refuse_constant
from orchestrator_cli.errors import AnswerMisfit, UsageError
from orchestrator_cli.json_schema import misfits, schema_fault
from orchestrator_cli.models.endings import reply_fault
from orchestrator_cli.models.model import Message, Model, ModelRequest
from orchestrator_cli.plan import Plan, Result
from orchestrator_cli.planning.structured_output import Unusable, coerce_to_schema, with_faults

TRIES = 3
MOST_FAULTS = 8
SCHEMA_CHARS = 60_000
"""The longest schema; models are shown it."""

Schema = Mapping[str, JsonValue]


def check_schema(schema: JsonValue) -> None:
    """Raise `UsageError` for what cannot be the schema of an answer."""
    if not isinstance(schema, dict):
        raise UsageError("The schema of the answer is not an object.", "Write a JSON Schema.")
    if len(json.dumps(schema)) > SCHEMA_CHARS:
        raise UsageError(
            f"The schema of the answer has more than {SCHEMA_CHARS:,} characters.", "Shorten it."
        )
    if fault := schema_fault(schema):
        raise UsageError(f"The schema of the answer cannot be used: {fault}", "Correct it.")


def value_of_plan(plan: Plan, results: Mapping[str, Result], schema: Schema) -> tuple[JsonValue] | None:
    """The value of the subtask that gives the answer as it is to be; None if a model has to write it.

    That is the only subtask, or the last one if its author gave it this schema.
    """
    needed = {name for subtask in plan.subtasks for name in subtask.depends_on}
    last = [subtask for subtask in plan.subtasks if subtask.id not in needed]
    if len(last) != 1 or last[0].id not in results:
        return None
    if len(plan.subtasks) > 1 and last[0].result != schema:
        return None
    value = coerce_to_schema(results[last[0].id].value, dict(schema))
    return None if misfits(schema, value) else (value,)


def ask_for_data(messages: list[Message], schema: Schema, model: Model) -> JsonValue:
    """Ask a model for the value, and again with the faults of what it gave.

    Raises `AnswerMisfit` with the faults of the last value, and what `Model.complete` raises.
    """
    faults: list[str] = []
    as_object = dict(schema) if schema.get("type") == "object" else None
    for _ in range(TRIES):
        reply = model.complete(ModelRequest(role="answer", messages=tuple(messages), reply_schema=as_object))
        try:
            if fault := reply_fault(reply):
                raise Unusable([fault])
            return _fitting(reply.text, schema)
        except Unusable as exc:
            faults = exc.faults
        messages = with_faults(messages, reply, "answer", faults)
    raise AnswerMisfit(
        f"The answer does not fit its schema after {TRIES} tries: {'; '.join(faults)}",
        "The results are complete. Ask again with orch resume, or name another model for the answer.",
    )


def _fitting(text: str, schema: Schema) -> JsonValue:
    """The value in a reply. Raises `Unusable`."""
    blocks = [body for language, body, closed in fenced_blocks(text) if closed and language in ("", "json")]
    faults = ["it is not JSON"]
    for candidate in (text, *blocks[-1:]):
        try:
            value: JsonValue = json.loads(candidate, parse_constant=refuse_constant)
        except (ValueError, RecursionError) as exc:
            faults = [f"it is not JSON: {exc}"]
            continue
        if not (found := misfits(schema, value)):
            return value
        faults = [f"{one.path or 'the value'}: {one.message[:300]}" for one in found[:MOST_FAULTS]]
    raise Unusable(faults)
