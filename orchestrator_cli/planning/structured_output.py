"""Asking a model for a JSON object until it gives one that can be used: its faults go back to it."""

import json
import re
from collections.abc import Callable
from typing import Any, TypeVar

from pydantic import ValidationError

from orchestrator_cli.errors import ReplyUnusable
from orchestrator_cli.models.model import Message, Model, Request
from orchestrator_cli.prompts import render

MAX_REPAIRS = 3
FENCE = re.compile(r"```(?:json)?\s*\n(.*?)\n?```", re.DOTALL)

T = TypeVar("T")


class Unusable(Exception):
    """A reply that has to be given again; `faults` says why, all at once."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("; ".join(faults))
        self.faults = faults


def ask_for_object(
    model: Model,
    role: str,
    messages: list[Message],
    *,
    what: str,
    use: Callable[[dict[str, Any]], T],
    refused: Callable[[int, list[str]], None],
) -> T:
    """Ask until `use` accepts the object in the reply, at most three times again.

    `use` raises `Unusable`; `refused` is told the round and the faults. Raises `ReplyUnusable`.
    """
    for round_ in range(1, MAX_REPAIRS + 2):
        reply = model.complete(Request(role=role, messages=tuple(messages)))
        try:
            return use(json_object(reply.text))
        except Unusable as exc:
            refused(round_, exc.faults)
            faults = exc.faults
        messages = [
            *messages,
            {"role": "assistant", "content": reply.text},
            {"role": "user", "content": render("faults", what=what, faults=faults)},
        ]
    listed = "\n".join(f"  - {fault}" for fault in faults[:8])
    raise ReplyUnusable(
        f"The {role} gave no usable {what} in {MAX_REPAIRS + 1} tries. Faults of the last one:\n{listed}",
        "Put the prompt another way, or name a more capable model with -m.",
    )


def json_object(text: str) -> dict[str, Any]:
    """The JSON object of a reply: the whole of it, a fenced block, or the first one in the text.

    Raises `Unusable` for prose, for JSON that is cut or broken (with the place), and for another value.
    """
    candidates = [text.strip(), *FENCE.findall(text)]
    if (start := text.find("{")) >= 0:
        candidates.append(text[start:])
    problem = "the reply holds no JSON object: reply with the object and nothing else"
    for candidate in candidates:
        if not candidate.startswith("{"):
            continue
        try:
            found, _ = json.JSONDecoder().raw_decode(candidate)
        except (ValueError, RecursionError) as exc:
            problem = f"the reply is no valid JSON: {exc}"
            continue
        if isinstance(found, dict):
            return found
    raise Unusable([problem])


def describe(exc: ValidationError, rows: dict[str, Any]) -> list[str]:
    """Pydantic's errors in the words of the reply: the subtask by its id, the field, the fault."""
    return [f"{_place(list(error['loc']), rows)}: {error['msg']}" for error in exc.errors(include_url=False)]


def _place(loc: list[Any], rows: dict[str, Any]) -> str:
    if len(loc) > 1 and isinstance(loc[1], int):
        items = rows.get(loc[0])
        item = items[loc[1]] if isinstance(items, list) else None
        name = (item.get("id") or item.get("name")) if isinstance(item, dict) else None
        loc = [loc[0], name or loc[1], *loc[2:]]
    return ".".join(map(str, loc)) or "the object"
