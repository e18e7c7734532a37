"""JSON Schemas that a model, a file or a server wrote, applied to values that others sent.

jsonschema alone fetches what a `$ref` names, files of this machine too, and quotes it in its errors; it lets
a `$schema` within a schema choose who reads that part; and a pattern, or references that branch, can keep it
busy for longer than any run lasts. Here a schema refers to nothing but its own parts, the keywords below
read all of it, and applying one takes a limited time.

Not covered: `unevaluatedProperties` together with `patternProperties`, which are refused.
"""

import functools
import itertools
import json
import math
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextvars import ContextVar
from typing import Any, NamedTuple

from pydantic import JsonValue

CHECK_S = 2.0
"""How long one value may be checked against one schema."""
PATTERN_CHARS = 1_000
PATTERN_REPEATS = 10_000
"""How long a pattern may be with its counted repetitions written out; compiling it takes no longer."""
UNEVALUATED = 1_000
"""How many items or keys `unevaluatedItems` and `unevaluatedProperties` compare, each with each."""
_COUNT = re.compile(r"(?:(\))\s*+)?\{(\d++)")
_RECURSES = re.compile(r"(?<!\\)(?:\\\\)*\(\?(?:R\)|[-+]?\d|&|P>)")
"""A call of the whole pattern or of a group, such as `(?R)` and `(?1)`, which takes memory without an end."""
_SPACED = re.compile(r"\(\?[a-zA-Z0-9]*x")

_until: ContextVar[float] = ContextVar("until")

Keyword = Callable[[Any, Any, Any, Mapping[str, Any]], Iterator[Any]]


class Misfit(NamedTuple):
    """One way in which a value does not fit a schema."""

    path: str
    """The keys and places that lead to it in the value, joined by dots; empty for the value itself."""
    message: str


class _TooLong(Exception):
    """Checking takes longer than it may."""


class _NoSchema(Exception):
    """A reference leads to what is no schema, such as a word of `required`."""


def schema_fault(schema: JsonValue) -> str:
    """Why `schema` cannot be used as a JSON Schema; empty if it can."""
    if reason := _refused(schema):
        return reason
    faults = _within_time(_metaschema(), schema, most=1)
    return f"it is not a JSON Schema: {faults[0].message}" if faults else ""


def misfits(schema: Mapping[str, JsonValue], value: JsonValue) -> list[Misfit]:
    """How a value does not fit a schema, in `CHECK_S` seconds; what cannot be checked does not fit."""
    # A plan of an earlier version can have a schema that is refused now.
    if reason := _refused(dict(schema)):
        return [Misfit("", f"it cannot be checked: {reason}")]
    return _within_time(schema, value)


def _within_time(schema: Mapping[str, Any], value: JsonValue, most: int | None = None) -> list[Misfit]:
    from referencing import Registry
    from referencing.exceptions import Unresolvable

    token = _until.set(time.monotonic() + CHECK_S)
    try:
        validator = _validator()(schema, registry=Registry())
        return [
            Misfit(".".join(map(str, fault.absolute_path)), fault.message)
            for fault in itertools.islice(validator.iter_errors(value), most)
        ]
    except _TooLong:
        return [Misfit("", f"it could not be checked within {CHECK_S:g} s")]
    except RecursionError:
        return [Misfit("", "it cannot be checked: the schema or the value is nested too deeply")]
    except (ArithmeticError, ValueError, MemoryError):
        return [Misfit("", "it cannot be checked: a number or a text is too large for that")]
    except _NoSchema:
        return [Misfit("", "it cannot be checked: a reference leads to what is no schema")]
    except Unresolvable as exc:
        return [Misfit("", f"it cannot be checked: the schema has no {exc.ref}")]
    finally:
        _until.reset(token)


def _metaschema() -> Mapping[str, Any]:
    import jsonschema

    return jsonschema.Draft202012Validator.META_SCHEMA


def _refused(schema: JsonValue) -> str:
    """Why a schema is not even read; empty if it is."""
    try:
        keywords = set(_keywords(schema))
        if keywords >= {"unevaluatedProperties", "patternProperties"}:
            return "unevaluatedProperties cannot be used with patternProperties"
        return next(_parts_refused(schema), "")
    except RecursionError:
        return "it is not a usable JSON Schema: it is nested too deeply"


def _keywords(schema: JsonValue) -> Iterator[str]:
    if isinstance(schema, dict):
        yield from schema
    for part in _parts(schema):
        yield from _keywords(part)


def _parts(schema: JsonValue) -> Iterable[JsonValue]:
    if isinstance(schema, dict):
        return schema.values()
    return schema if isinstance(schema, list) else ()


def _parts_refused(schema: JsonValue) -> Iterator[str]:
    if isinstance(schema, dict):
        yield from _keywords_refused(schema)
    for part in _parts(schema):
        if isinstance(part, dict) and isinstance(dialect := part.get("$schema"), str):
            yield f"$schema {dialect!r} is within the schema: only the whole can have one"
        yield from _parts_refused(part)


def _keywords_refused(schema: dict[str, JsonValue]) -> Iterator[str]:
    for key in ("$ref", "$dynamicRef"):
        if isinstance(ref := schema.get(key), str) and not ref.startswith("#"):
            yield f"{key} {ref!r} leads out of the schema: begin it with #, and define what it names in $defs"
    named = schema.get("patternProperties")
    for pattern in (schema.get("pattern"), *(named if isinstance(named, dict) else ())):
        if isinstance(pattern, str) and (fault := _pattern_fault(pattern)):
            yield fault


def _pattern_fault(pattern: str) -> str:
    import regex  # type: ignore[import-untyped]

    if len(pattern) > PATTERN_CHARS:
        return f"a pattern is longer than {PATTERN_CHARS:,} characters"
    if _RECURSES.search(pattern):
        return f"the pattern {pattern!r} refers to itself or a part of it, which JSON Schema does not have"
    if _repeats(pattern) > PATTERN_REPEATS:
        return f"the pattern {pattern!r} repeats a part more than {PATTERN_REPEATS:,} times"
    try:
        regex.compile(pattern)
    except (regex.error, ArithmeticError, ValueError, MemoryError) as exc:
        return f"the pattern {pattern!r} is no regular expression: {exc}"
    return ""


def _repeats(pattern: str) -> int:
    """How often its counted repetitions, which are compiled as copies, repeat one part at most."""
    counts = [(bool(group), min(int(count), PATTERN_REPEATS + 1)) for group, count in _COUNT.findall(pattern)]
    # With spaces and comments, what a count follows is not seen.
    of_groups = [count for group, count in counts if (group or _SPACED.search(pattern)) and count]
    return math.prod(of_groups) * max((count for group, count in counts if not group), default=1)


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
        "unevaluatedItems": functools.partial(_few, known["unevaluatedItems"]),
        "unevaluatedProperties": functools.partial(_few, known["unevaluatedProperties"]),
    }
    built: Any = made.extend(
        jsonschema.Draft202012Validator,
        {name: _timed(own.get(name, keyword)) for name, keyword in known.items()},
    )
    built.evolve = _evolve
    return built


def _evolve(validator: Any, **changes: Any) -> Any:
    """A validator of a part, with the same keywords: jsonschema would take those of the part's `$schema`."""
    _seconds_left()
    kept = {"schema": validator.schema, "registry": validator._registry, "_resolver": validator._resolver}
    made = kept | changes
    if not isinstance(made["schema"], dict | bool):
        raise _NoSchema
    return type(validator)(**made)


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


def _few(known: Keyword, validator: Any, part: Any, value: Any, schema: Mapping[str, Any]) -> Iterator[Any]:
    if isinstance(value, list | dict) and len(value) > UNEVALUATED:
        raise _TooLong
    yield from known(validator, part, value, schema) or ()


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
