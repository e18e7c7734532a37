"""JSON values: which type they have, and where two of them differ. Pure.

Numbers are JSON's: `1` and `1.0` are the same, `True` is not a number. Two numbers are equal when they
differ by less than one part in 10⁹ (or 10⁻¹² near zero), because an expected value is written down rounded.
Whole numbers are compared exactly.

Not covered: order-free comparison of lists; a case that needs it says so in its `check`.
"""

import json
import math
from collections.abc import Iterator
from typing import Any, Literal

from orchestrator_cli.durable.text import truncate

TypeName = Literal["string", "integer", "number", "boolean", "array", "object", "any"]
"""smolagents' names for the types of inputs and outputs, without those for images and sound."""

_SHOWN = 120


def type_name(value: object) -> str:
    """The JSON type of a value, `null` for None; the Python type's own name when it is not a JSON value."""
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case int():
            return "integer"
        case float() if math.isfinite(value):
            return "number"
        case str():
            return "string"
        case list() | tuple():
            return "array"
        case dict():
            return "object"
    return repr(value) if isinstance(value, float) else type(value).__name__


def is_of_type(value: object, wanted: TypeName) -> bool:
    """Whether a JSON value may stand where `wanted` is declared; a whole number is a number too."""
    name = type_name(value)
    return wanted in ("any", name) or (wanted == "number" and name == "integer")


def not_json(value: object, where: str = "value") -> str | None:
    """The first part of a value that JSON cannot hold, as a sentence; None when all of it can be held."""
    match value:
        case dict():
            for key in value:
                if not isinstance(key, str):
                    return f"{where} has the key {key!r}, a {type(key).__name__}; JSON has only text keys"
        case list() | tuple():
            pass
        case None | bool() | int():
            return None
        case str():
            return None if _is_text(value) else f"{where} holds half a surrogate pair, which is no text"
        case float():
            return None if math.isfinite(value) else f"{where} is {value!r}, which JSON cannot hold"
        case _:
            return f"{where} is a {type(value).__name__}, which is not a JSON value"
    told = (not_json(part, where + _at(key)) for key, part in _parts(value))
    return next((fault for fault in told if fault), None)


def difference(expected: object, got: object, where: str = "value") -> str | None:
    """The first difference of two JSON values, as a short sentence that names the place; None when equal."""
    if isinstance(expected, list | tuple) and isinstance(got, list | tuple):
        if len(expected) != len(got):
            return f"{where}: expected {len(expected)} items, got {len(got)}: {shown(got)}"
        return _first_difference(expected, got, where)
    if isinstance(expected, dict) and isinstance(got, dict):
        if lacking := [key for key in expected if key not in got]:
            return f"{where}: lacks the key {shown(lacking[0])}; it has {shown(list(got))}"
        if extra := [key for key in got if key not in expected]:
            return f"{where}: has the key {shown(extra[0])}, which was not expected"
        return _first_difference(expected, got, where)
    return None if _equal(expected, got) else f"{where}: expected {shown(expected)}, got {shown(got)}"


def shown(value: object) -> str:
    """A value as one short line of JSON (or of Python, when JSON cannot hold it)."""
    try:
        text = json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError):
        text = repr(value)
    return truncate(text, _SHOWN)


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _first_difference(expected: Any, got: Any, where: str) -> str | None:
    told = (difference(part, got[key], where + _at(key)) for key, part in _parts(expected))
    return next((fault for fault in told if fault), None)


def _parts(value: Any) -> Iterator[tuple[Any, Any]]:
    return iter(value.items()) if isinstance(value, dict) else enumerate(value)


def _at(key: object) -> str:
    return f"[{json.dumps(key, ensure_ascii=False)}]"


def _equal(expected: object, got: object) -> bool:
    if isinstance(expected, bool) or isinstance(got, bool):
        return expected is got
    if isinstance(expected, int) and isinstance(got, int):
        return expected == got
    if isinstance(expected, int | float) and isinstance(got, int | float):
        return _close(expected, got)
    return type(expected) is type(got) and expected == got


def _close(expected: float, got: float) -> bool:
    try:
        return math.isclose(expected, got, rel_tol=1e-9, abs_tol=1e-12)
    except OverflowError:  # a whole number too large for a float is no neighbour of one
        return False
