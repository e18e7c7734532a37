"""The part of JSON Schema from which a property's inputs are made: its faults, and values by hypothesis.

    {"type": "array", "items": {"type": "integer", "minimum": 0}, "maxItems": 5}

The part is small on purpose, and strict: a word that is not known is a fault, because a bound that is not
kept would have a right tool called with what nobody meant. Sizes without a bound are bounded here, so that
an example is short enough to be told.

Not covered: `$ref`, `allOf`, `not`, conditions, formats; patterns that look around or back. A pattern is
Python's and means the whole text.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from toolsmith.proof.generating import Strategy, strategies
from toolsmith.values import TypeName, is_of_type, shown, type_name

_MAX_ITEMS = 8
_MAX_CHARS = 20
_MOST = 200
_USUAL = "abcxyzABCXYZ0123456789 .,;:-_/\n"
"""Signs that a tool treats in some way more often than others."""
_MAX_DEPTH = 6
_LARGEST = 10**6
_WORDS: Mapping[str, tuple[str, ...]] = {
    "string": ("minLength", "maxLength", "pattern"),
    "integer": ("minimum", "maximum"),
    "number": ("minimum", "maximum"),
    "boolean": (),
    "null": (),
    "array": ("items", "minItems", "maxItems", "uniqueItems"),
    "object": ("properties", "required"),
}
TYPES = tuple(_WORDS)
_SIZES = ("minLength", "maxLength", "minItems", "maxItems")
_AROUND = re.compile(r"\(\?(?!:)|\\[1-9]")


def schema_faults(schema: object, where: str = "schema", depth: int = 0) -> Iterator[str]:
    """All reasons why no values can be made of a schema, each naming its place."""
    if not isinstance(schema, dict):
        yield f'{where}: is {type_name(schema)}; give an object such as {{"type": "string"}}'
    elif depth > _MAX_DEPTH:
        yield f"{where}: is nested too deeply"
    elif "anyOf" in schema:
        yield from _only(schema, ("anyOf",), where)
        yield from _choice_faults(schema["anyOf"], where, depth)
    elif "enum" in schema or "const" in schema:
        yield from _value_faults(schema, where)
    elif schema.get("type") not in TYPES:
        told = shown(schema.get("type"))
        yield f"{where}.type: is {told}; give one of {', '.join(TYPES)}, or use enum or anyOf"
    else:
        yield from _only(schema, ("type", *_WORDS[schema["type"]]), where)
        yield from _bound_faults(schema, where)
        yield from _part_faults(schema, where, depth)


def values_of(schema: Mapping[str, Any]) -> Strategy:
    """Values of a schema without faults."""
    st = strategies()

    if "anyOf" in schema:
        return st.one_of([values_of(part) for part in schema["anyOf"]])
    if "const" in schema:
        return st.just(schema["const"])
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    return _MAKERS[schema["type"]](schema)


def _texts(schema: Mapping[str, Any]) -> Strategy:
    st = strategies()

    least = schema.get("minLength", 0)
    most = schema.get("maxLength", max(_MAX_CHARS, least))
    if "pattern" in schema:
        made = st.from_regex(re.compile(schema["pattern"]), fullmatch=True)
        given = "maxLength" in schema
        return made.filter(lambda text: least <= len(text) <= (most if given else _MOST) and _is_text(text))
    letters = st.sampled_from(_USUAL) | st.characters(codec="ascii") | st.characters(codec="utf-8")
    return st.text(letters, min_size=least, max_size=most)


def _is_text(text: str) -> bool:
    return not any("\ud800" <= sign <= "\udfff" for sign in text)


def _integers(schema: Mapping[str, Any]) -> Strategy:
    st = strategies()

    least, most = _range(schema)
    return st.integers(least, most)


def _numbers(schema: Mapping[str, Any]) -> Strategy:
    st = strategies()

    least, most = _range(schema)
    return st.floats(least, most, allow_nan=False, allow_infinity=False, allow_subnormal=False)


def _range(schema: Mapping[str, Any]) -> tuple[Any, Any]:
    least, most = schema.get("minimum"), schema.get("maximum")
    if least is None:
        least = min(-_LARGEST, most if most is not None else 0)
    return least, most if most is not None else max(_LARGEST, least)


def _arrays(schema: Mapping[str, Any]) -> Strategy:
    st = strategies()

    least = schema.get("minItems", 0)
    most = schema.get("maxItems", max(_MAX_ITEMS, least))
    unique_by = (lambda item: json.dumps(item, sort_keys=True)) if schema.get("uniqueItems") else None
    return st.lists(values_of(schema["items"]), min_size=least, max_size=most, unique_by=unique_by)


def _objects(schema: Mapping[str, Any]) -> Strategy:
    st = strategies()

    required = schema.get("required", [])
    parts = {key: values_of(part) for key, part in schema.get("properties", {}).items()}
    always = {key: part for key, part in parts.items() if key in required}
    return st.fixed_dictionaries(
        always, optional={key: part for key, part in parts.items() if key not in always}
    )


def _simple(*values: object) -> Callable[[Mapping[str, Any]], Strategy]:
    def make(_: Mapping[str, Any]) -> Strategy:
        return strategies().sampled_from(values)

    return make


_MAKERS: Mapping[str, Callable[[Mapping[str, Any]], Strategy]] = {
    "string": _texts,
    "integer": _integers,
    "number": _numbers,
    "boolean": _simple(False, True),
    "null": _simple(None),
    "array": _arrays,
    "object": _objects,
}


def _only(schema: Mapping[str, Any], known: tuple[str, ...], where: str) -> Iterator[str]:
    for word in schema:
        if word not in known:
            yield f"{where}.{word}: is not understood here; known are {', '.join(known)}"


def _choice_faults(choices: object, where: str, depth: int) -> Iterator[str]:
    if not isinstance(choices, list) or not choices:
        yield f"{where}.anyOf: give a list of schemas"
        return
    for at, part in enumerate(choices):
        yield from schema_faults(part, f"{where}.anyOf[{at}]", depth + 1)


def _value_faults(schema: Mapping[str, Any], where: str) -> Iterator[str]:
    yield from _only(schema, ("enum", "const", "type"), where)
    values = schema.get("enum", [None])
    if not isinstance(values, list) or not values:
        yield f"{where}.enum: give a list of values"


def _bound_faults(schema: Mapping[str, Any], where: str) -> Iterator[str]:
    for word in _SIZES:
        if word in schema and not (is_of_type(schema[word], "integer") and 0 <= schema[word] <= _MOST):
            yield f"{where}.{word}: is {shown(schema[word])}; give a whole number from 0 to {_MOST}"
            return
    wanted: TypeName = "integer" if schema["type"] == "integer" else "number"
    for word in ("minimum", "maximum"):
        if word in schema and not (is_of_type(schema[word], wanted) and abs(schema[word]) <= 10**15):
            yield f"{where}.{word}: is {shown(schema[word])}; give {wanted} between -10¹⁵ and 10¹⁵"
            return
    for least, most in (("minimum", "maximum"), ("minLength", "maxLength"), ("minItems", "maxItems")):
        if least in schema and most in schema and schema[least] > schema[most]:
            yield f"{where}.{least}: is larger than {most}"


def _part_faults(schema: Mapping[str, Any], where: str, depth: int) -> Iterator[str]:
    if "pattern" in schema:
        yield from _pattern_faults(schema["pattern"], f"{where}.pattern")
    if schema["type"] == "array":
        yield from schema_faults(schema.get("items"), f"{where}.items", depth + 1)
        if not isinstance(schema.get("uniqueItems", False), bool):
            yield f"{where}.uniqueItems: give true or false"
    parts, required = schema.get("properties", {}), schema.get("required", [])
    if not isinstance(parts, dict) or not isinstance(required, list):
        yield f"{where}: properties must be an object of schemas, and required a list of their names"
        return
    for key, part in parts.items():
        yield from schema_faults(part, f"{where}.properties.{key}", depth + 1)
    if unknown := [str(key) for key in required if key not in parts]:
        yield f"{where}.required: {', '.join(unknown)} is not among properties"


def _pattern_faults(pattern: object, where: str) -> Iterator[str]:
    if not isinstance(pattern, str) or len(pattern) > _MOST:
        yield f"{where}: give a regular expression of at most {_MOST} characters"
    elif _AROUND.search(pattern):
        yield f"{where}: looks around, looks back or sets flags; use plain classes, groups and repeats"
    else:
        try:
            re.compile(pattern)
        except re.error as exc:
            yield f"{where}: is no regular expression of Python: {exc}"
