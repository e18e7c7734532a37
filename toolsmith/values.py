"""JSON values: their types, and the first difference of two. Pure.

Numbers are JSON's: `1` and `1.0` are the same, `True` is not a number. Two numbers are equal when they
differ by less than one part in 10⁹ (or 10⁻¹² near zero), because an expected value is written down rounded.
Whole numbers are compared exactly.

Not covered: order-free comparison of lists; a case that needs it says so in its `check`.
"""

import json
import math
import re
from collections.abc import Iterator
from typing import Any, Literal

from orchestrator_cli.durable.text import truncate

TypeName = Literal["string", "integer", "number", "boolean", "array", "object", "any"]
"""smolagents' names for the types of inputs and outputs, without those for images and sound."""

SURROGATE = re.compile("[\ud800-\udfff]")
"""Half of a pair, which is no text."""

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
    """Whether a JSON value has the declared type; an integer is a number too."""
    name = type_name(value)
    return wanted in ("any", name) or (wanted == "number" and name == "integer")


def not_json(value: object, place: str = "value") -> str | None:
    """The first part of a value that JSON cannot hold, as a sentence; None when all of it can be held."""
    match value:
        case dict():
            for key in value:
                if not isinstance(key, str):
                    return f"{place} has the key {key!r}, a {type(key).__name__}; JSON has only text keys"
        case list() | tuple():
            pass
        case None | bool() | int():
            return None
        case str():
            return (
                f"{place} holds half a surrogate pair, which is no text" if SURROGATE.search(value) else None
            )
        case float():
            return None if math.isfinite(value) else f"{place} is {value!r}, which JSON cannot hold"
        case _:
            return f"{place} is a {type(value).__name__}, which is not a JSON value"
    faults = (not_json(part, place + _at(key)) for key, part in _parts(value))
    return next((fault for fault in faults if fault), None)


def difference(expected: object, got: object, place: str = "value") -> str | None:
    """The first difference of two JSON values, as a short sentence that names the place; None when equal."""
    if isinstance(expected, list | tuple) and isinstance(got, list | tuple):
        if len(expected) != len(got):
            return f"{place}: expected {len(expected)} items, got {len(got)}: {short_json(got)}"
        return _first_difference(expected, got, place)
    if isinstance(expected, dict) and isinstance(got, dict):
        if lacking := [key for key in expected if key not in got]:
            return f"{place}: lacks the key {short_json(lacking[0])}; it has {short_json(list(got))}"
        if extra := [key for key in got if key not in expected]:
            return f"{place}: has the key {short_json(extra[0])}, which was not expected"
        return _first_difference(expected, got, place)
    return (
        None if _equal(expected, got) else f"{place}: expected {short_json(expected)}, got {short_json(got)}"
    )


def short_json(value: object) -> str:
    """A value as one short line of JSON (or of Python, when JSON cannot hold it)."""
    try:
        text = json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError):
        text = repr(value)
    return truncate(text, _SHOWN)


def _first_difference(expected: Any, got: Any, place: str) -> str | None:
    faults = (difference(part, got[key], place + _at(key)) for key, part in _parts(expected))
    return next((fault for fault in faults if fault), None)


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
        try:
            return math.isclose(expected, got, rel_tol=1e-9, abs_tol=1e-12)
        except OverflowError:  # the integer is too large for a float, so no float is near it
            return False
    return type(expected) is type(got) and expected == got
