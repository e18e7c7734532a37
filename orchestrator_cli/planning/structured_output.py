"""A model's reply becomes a value that can be used; otherwise its faults go back to the model.

`ask_for_object` asks and repairs. `read_plan` turns rows that a model or a person wrote into a plan that
may run, or lists everything that is wrong with them. `coerce_to_schema` reads a text as JSON if only that
fits a schema.
"""

import json
from collections.abc import Callable, Collection, Mapping
from functools import cache
from typing import Any, TypeVar

from pydantic import BaseModel, JsonValue, ValidationError

from orchestrator_cli.durable.json_text import in_words_of_json, is_one_object, json_from_reply
from orchestrator_cli.durable.text import truncate
from orchestrator_cli.errors import RecoverableError, ReplyUnusable
from orchestrator_cli.json_schema import misfits
from orchestrator_cli.models.endings import reply_fault
from orchestrator_cli.models.model import Completion, Message, Model, ModelRequest
from orchestrator_cli.plan import Catalogue, Plan
from orchestrator_cli.planning.repair import Repair, repaired, reshaped
from orchestrator_cli.planning.validation import faults
from orchestrator_cli.prompts import render

MAX_REPAIRS = 3
CUT_CHARS = 1_000
"""So much of a reply that was cut is shown to its model."""
RUNTIME_FIELDS = frozenset({"version", "routes"})
"""Fields of a plan that the runtime sets, whatever its author wrote there."""
FIELDS_BY_KIND = frozenset({"instruction", "role", "tools", "process", "for_each"})
"""Fields that cannot be judged if the kind is unknown."""

T = TypeVar("T")


@cache
def schema_of(kind: type[BaseModel], *, without: frozenset[str] = frozenset()) -> dict[str, JsonValue]:
    """The JSON Schema of the object that a model writes for `kind`."""
    schema: dict[str, Any] = kind.model_json_schema()
    schema["properties"] = {name: row for name, row in schema["properties"].items() if name not in without}
    return schema


class Unusable(RecoverableError):
    """A reply that must be given again; `faults` lists every reason."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("; ".join(faults))
        self.faults = faults


def ask_for_object(
    model: Model,
    role: str,
    messages: list[Message],
    *,
    what: str,
    keys: Collection[str],
    schema: Mapping[str, JsonValue],
    use: Callable[[dict[str, Any]], T],
    refused: Callable[[int, list[str]], None],
    repaired: Callable[[str], None],
) -> T:
    """Ask until `use` accepts the object in the reply; ask again at most three times.

    Args:
        schema: the JSON Schema of the object.
        keys: one of these is in the object that is wanted.
        use: raises `Unusable`.
        refused: receives the round and the faults.
        repaired: receives what was wrong with the JSON of a reply that is used all the same.

    Raises `ReplyUnusable`.
    """
    for round_ in range(1, MAX_REPAIRS + 2):
        request = ModelRequest(role=role, messages=tuple(messages), reply_schema=dict(schema))
        reply = model.complete(request)
        try:
            return use(json_object(reply, keys, repaired))
        except Unusable as exc:
            refused(round_, exc.faults)
            faults = exc.faults
        messages = with_faults(messages, reply, what, faults)
    listed = "; ".join(faults[:8])
    raise ReplyUnusable(
        f"The {role} gave no usable {what} in {MAX_REPAIRS + 1} tries. Faults of the last one: {listed}",
        "Put the prompt another way, or name a more capable model with -m.",
    )


def with_faults(messages: list[Message], reply: Completion, what: str, faults: list[str]) -> list[Message]:
    """The messages that ask again, with the reply and what is wrong with it."""
    # Some providers refuse a message without text, and what repeats itself would be repeated.
    shown = truncate(reply.text, CUT_CHARS) if reply_fault(reply) else reply.text
    return [
        *messages,
        {"role": "assistant", "content": shown if shown.strip() else "(no text)"},
        {"role": "user", "content": render("faults", what=what, faults=faults)},
    ]


def json_object(reply: Completion, keys: Collection[str], repaired: Callable[[str], None]) -> dict[str, Any]:
    """The JSON object in a reply; see `ask_for_object`. Raises `Unusable`."""
    # A model that is held to JSON may go on with blanks after the object.
    if (fault := reply_fault(reply)) and not is_one_object(reply.text):
        raise Unusable([fault])
    try:
        return json_from_reply(reply.text, keys, repaired)
    except ValueError as exc:
        raise Unusable([str(exc)]) from exc


def describe(exc: ValidationError, rows: dict[str, Any]) -> list[str]:
    """Pydantic's errors in the terms of the reply: the subtask by its id, the field, the fault."""
    return [
        f"{_place(list(error['loc']), rows)}: {in_words_of_json(error)}"
        for error in exc.errors(include_url=False)
    ]


def _place(loc: list[Any], rows: dict[str, Any]) -> str:
    if len(loc) > 1 and isinstance(loc[1], int):
        items = rows.get(loc[0])
        item = items[loc[1]] if isinstance(items, list) else None
        name = (item.get("id") or item.get("name")) if isinstance(item, dict) else None
        loc = [loc[0], name or loc[1], *loc[2:]]
    return ".".join(map(str, loc)) or "the object"


def read_plan(rows: Mapping[str, Any], catalogue: Catalogue) -> tuple[Plan, tuple[Repair, ...]]:
    """The plan and the repairs made to it. Raises `Unusable` with every fault."""
    rows, shape = reshaped(rows, "subtasks")
    rows = {key: value for key, value in rows.items() if key not in RUNTIME_FIELDS}
    try:
        plan, repairs = repaired(Plan.model_validate(rows), catalogue)
    except ValidationError as exc:
        raise Unusable(describe(exc, rows) + _further_faults(rows, exc, catalogue)) from exc
    if found := faults(plan, catalogue):
        raise Unusable([str(fault) for fault in found])
    return plan, (*shape, *repairs)


def _further_faults(rows: dict[str, Any], exc: ValidationError, catalogue: Catalogue) -> list[str]:
    """The faults besides fields of a wrong type, so that the author can correct all at once."""
    places = [error["loc"] for error in exc.errors(include_url=False)]
    mistyped: dict[Any, set[str]] = {}
    for place in places:
        if len(place) > 2 and place[0] == "subtasks":
            mistyped.setdefault(place[1], set()).add(str(place[2]))
    if any(place[0] == "subtasks" and len(place) < 3 for place in places):
        return []  # others may refer to what is not a subtask at all
    subtasks, unjudged = [], set()
    for n, row in enumerate(rows.get("subtasks") or ()):
        bad = mistyped.get(n, set())
        if "id" in bad:
            return []
        stand_in = {"title": "", "kind": "answer"} if bad else {}
        subtasks.append(stand_in | {key: value for key, value in row.items() if key not in bad})
        unjudged |= {(row["id"], field) for field in (bad | FIELDS_BY_KIND if "kind" in bad else bad)}
    try:
        made = Plan.model_validate({"goal": "", "subtasks": subtasks})
    except ValidationError:
        return []
    found = faults(repaired(made, catalogue)[0], catalogue)
    return [str(fault) for fault in found if (fault.subtask, fault.field) not in unjudged]


def coerce_to_schema(given: JsonValue, schema: dict[str, JsonValue] | None) -> JsonValue:
    """The value as given; a text is parsed as JSON if it fits the schema only then."""
    if schema is None or not isinstance(given, str):
        return given
    if not misfits(schema, given):
        return given
    try:
        read: JsonValue = json.loads(given)
    except ValueError:
        return given
    return given if misfits(schema, read) else read
