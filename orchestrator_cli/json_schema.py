"""JSON Schemas that a model, a file or a server wrote, applied to values that others sent.

jsonschema alone fetches what a `$ref` names, files of this machine too, and quotes it in its errors; and a
pattern, or references that branch, can keep it busy for longer than any run lasts. Here a schema refers to
nothing but its own parts, and applying one takes a limited time.

Not covered: `unevaluatedProperties` beside `patternProperties`, which `schema_fault` refuses.
"""

import functools
import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from typing import Any, NamedTuple

from pydantic import JsonValue

CHECK_S = 2.0
"""How long one value may be checked against one schema."""
PATTERN_CHARS = 1_000

_until: ContextVar[float] = ContextVar("until")

Keyword = Callable[[Any, Any, Any, Mapping[str, Any]], Iterator[Any]]


class Misfit(NamedTuple):
    """One way in which a value does not fit a schema."""

    path: str
    """The keys and places that lead to it in the value, joined by dots; empty for the value itself."""
    message: str


class _TooLong(Exception):
    """Checking takes longer than it may."""


def schema_fault(schema: JsonValue) -> str:
    """Why `schema` cannot be used as a JSON Schema; empty if it can."""
    import jsonschema

    try:
        if reason := next(_parts_refused(schema), ""):
            return reason
        jsonschema.Draft202012Validator.check_schema(schema)  # type: ignore[arg-type]
    except jsonschema.SchemaError as exc:
        return f"it is not a JSON Schema: {exc.message}"
    except RecursionError:
        return "it is not a usable JSON Schema: it is nested too deeply"
    return ""


def misfits(schema: Mapping[str, JsonValue], value: JsonValue) -> list[Misfit]:
    """How a value does not fit a schema, in `CHECK_S` seconds; what cannot be checked does not fit."""
    from referencing import Registry
    from referencing.exceptions import Unresolvable

    token = _until.set(time.monotonic() + CHECK_S)
    try:
        validator = _validator()(schema, registry=Registry())
        return [
            Misfit(".".join(map(str, fault.absolute_path)), fault.message)
            for fault in validator.iter_errors(value)
        ]
    except _TooLong:
        return [Misfit("", f"it could not be checked within {CHECK_S:g} s")]
    except RecursionError:
        return [Misfit("", "it cannot be checked: the schema or the value is nested too deeply")]
    except Unresolvable as exc:
        return [Misfit("", f"it cannot be checked: the schema has no {exc.ref}")]
    finally:
        _until.reset(token)


def _parts_refused(schema: JsonValue) -> Iterator[str]:
    parts = schema if isinstance(schema, list) else ()
    if isinstance(schema, dict):
        yield from _keywords_refused(schema)
        parts = list(schema.values())
    for part in parts:
        yield from _parts_refused(part)


def _keywords_refused(schema: dict[str, JsonValue]) -> Iterator[str]:
    for key in ("$ref", "$dynamicRef"):
        if isinstance(ref := schema.get(key), str) and not ref.startswith("#"):
            yield f"{key} {ref!r} leads out of the schema: begin it with #, and define what it names in $defs"
    named = schema.get("patternProperties")
    if "unevaluatedProperties" in schema and named:
        yield "unevaluatedProperties cannot be used with patternProperties"
    for pattern in (schema.get("pattern"), *(named if isinstance(named, dict) else ())):
        if isinstance(pattern, str) and (fault := _pattern_fault(pattern)):
            yield fault


def _pattern_fault(pattern: str) -> str:
    import regex  # type: ignore[import-untyped]

    if len(pattern) > PATTERN_CHARS:
        return f"a pattern is longer than {PATTERN_CHARS:,} characters"
    try:
        regex.compile(pattern)
    except regex.error as exc:
        return f"the pattern {pattern!r} is no regular expression: {exc}"
    return ""


@functools.cache
def _validator() -> Any:
    import jsonschema

    made: Any = jsonschema.validators
    known: Mapping[str, Any] = jsonschema.Draft202012Validator.VALIDATORS
    own: Mapping[str, Keyword] = {
        "pattern": _pattern,
        "patternProperties": _pattern_properties,
        "additionalProperties": functools.partial(_additional, known["additionalProperties"]),
        "uniqueItems": _unique,
    }
    return made.extend(
        jsonschema.Draft202012Validator,
        {name: _timed(own.get(name, keyword)) for name, keyword in known.items()},
    )


def _timed(keyword: Keyword) -> Keyword:
    @functools.wraps(keyword)
    def timed(validator: Any, part: Any, value: Any, schema: Mapping[str, Any]) -> Iterator[Any]:
        _seconds_left()
        return keyword(validator, part, value, schema) or iter(())

    return timed


def _seconds_left() -> float:
    left = _until.get() - time.monotonic()
    if left <= 0:
        raise _TooLong
    return left


def _matches(pattern: str, text: str) -> bool:
    import regex

    try:
        return regex.search(pattern, text, timeout=_seconds_left()) is not None
    except TimeoutError as exc:
        raise _TooLong from exc


def _fault(message: str) -> Any:
    import jsonschema

    return jsonschema.ValidationError(message)


def _pattern(validator: Any, pattern: str, value: Any, _: Mapping[str, Any]) -> Iterator[Any]:
    if validator.is_type(value, "string") and not _matches(pattern, value):
        yield _fault(f"{value!r} does not match {pattern!r}")


def _pattern_properties(
    validator: Any, named: Mapping[str, Any], value: Any, _: Mapping[str, Any]
) -> Iterator[Any]:
    if not validator.is_type(value, "object"):
        return
    for pattern, part in named.items():
        for key, item in value.items():
            if _matches(pattern, key):
                yield from validator.descend(item, part, path=key, schema_path=pattern)


def _additional(
    known: Keyword, validator: Any, part: Any, value: Any, schema: Mapping[str, Any]
) -> Iterator[Any]:
    patterns = schema.get("patternProperties")
    if not patterns or not validator.is_type(value, "object"):
        yield from known(validator, part, value, schema) or ()
        return
    declared = schema.get("properties", {})
    others = [key for key in value if key not in declared and not any(_matches(one, key) for one in patterns)]
    if part is False and others:
        yield _fault(f"Additional properties are not allowed: {', '.join(map(repr, others))}")
    elif isinstance(part, Mapping):
        for key in others:
            yield from validator.descend(value[key], part, path=key)


def _unique(validator: Any, wanted: Any, value: Any, _: Mapping[str, Any]) -> Iterator[Any]:
    # jsonschema compares each item with each other if they cannot be sorted.
    if not wanted or not validator.is_type(value, "array"):
        return
    if len({json.dumps(_even(item), sort_keys=True) for item in value}) < len(value):
        yield _fault(f"{value!r} has non-unique elements")


def _even(value: Any) -> Any:
    """The value with whole numbers as integers, because 1.0 is 1 in JSON Schema."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, list):
        return [_even(item) for item in value]
    return {key: _even(item) for key, item in value.items()} if isinstance(value, dict) else value
