"""The part of JSON Schema from which a property's inputs are generated, by hypothesis.

    {"type": "array", "items": {"type": "integer", "minimum": 0}, "maxItems": 5}

The part is small and strict: an unknown keyword is a fault, because an ignored bound would call a right tool
with invalid values. Sizes without a bound get one here, so that examples stay short.

The same schema gives the same values in every process: there is no database of examples, and the constants
that hypothesis collects from loaded code are not drawn. No file is written. If something else has loaded
hypothesis, such as pytest, that decides place hypothesis keeps its files.

Not covered: `$ref`, `allOf`, `not`, conditions, formats; patterns that look around or back; values that a bug
needs by name, such as the word "null". A pattern is Python's and matches the whole text.
"""

import json
import os
import re
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

from toolsmith.values import SURROGATE, TypeName, is_of_type, short_json, type_name

Strategy = Any
"""One of hypothesis' strategies, whose types are known only once it is loaded."""
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


def schema_faults(schema: object, place: str = "schema", depth: int = 0) -> Iterator[str]:
    """All reasons why no values can be made of a schema, each naming its place."""
    if not isinstance(schema, dict):
        yield f'{place}: is {type_name(schema)}; give an object such as {{"type": "string"}}'
    elif depth > _MAX_DEPTH:
        yield f"{place}: is nested too deeply"
    elif "anyOf" in schema:
        yield from _only(schema, ("anyOf",), place)
        yield from _choice_faults(schema["anyOf"], place, depth)
    elif "enum" in schema or "const" in schema:
        yield from _only(schema, ("enum", "const", "type"), place)
        values = schema.get("enum", [None])
        if not isinstance(values, list) or not values:
            yield f"{place}.enum: give a list of values"
    elif schema.get("type") not in TYPES:
        given = short_json(schema.get("type"))
        yield f"{place}.type: is {given}; give one of {', '.join(TYPES)}, or use enum or anyOf"
    else:
        yield from _only(schema, ("type", *_WORDS[schema["type"]]), place)
        yield from _bound_faults(schema, place)
        yield from _part_faults(schema, place, depth)


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
        return made.filter(
            lambda text: least <= len(text) <= (most if given else _MOST) and not SURROGATE.search(text)
        )
    letters = st.sampled_from(_USUAL) | st.characters(codec="ascii") | st.characters(codec="utf-8")
    return st.text(letters, min_size=least, max_size=most)


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


_MAKERS: Mapping[str, Callable[[Mapping[str, Any]], Strategy]] = {
    "string": _texts,
    "integer": lambda schema: strategies().integers(*_range(schema)),
    "number": lambda schema: strategies().floats(
        *_range(schema), allow_nan=False, allow_infinity=False, allow_subnormal=False
    ),
    "boolean": lambda _: strategies().sampled_from((False, True)),
    "null": lambda _: strategies().none(),
    "array": _arrays,
    "object": _objects,
}


def _only(schema: Mapping[str, Any], known: tuple[str, ...], place: str) -> Iterator[str]:
    for word in schema:
        if word not in known:
            yield f"{place}.{word}: is not understood here; known are {', '.join(known)}"


def _choice_faults(choices: object, place: str, depth: int) -> Iterator[str]:
    if not isinstance(choices, list) or not choices:
        yield f"{place}.anyOf: give a list of schemas"
        return
    for at, part in enumerate(choices):
        yield from schema_faults(part, f"{place}.anyOf[{at}]", depth + 1)


def _bound_faults(schema: Mapping[str, Any], place: str) -> Iterator[str]:
    for word in _SIZES:
        if word in schema and not (is_of_type(schema[word], "integer") and 0 <= schema[word] <= _MOST):
            yield f"{place}.{word}: is {short_json(schema[word])}; give a whole number from 0 to {_MOST}"
            return
    wanted: TypeName = "integer" if schema["type"] == "integer" else "number"
    for word in ("minimum", "maximum"):
        if word in schema and not (is_of_type(schema[word], wanted) and abs(schema[word]) <= 10**15):
            yield f"{place}.{word}: is {short_json(schema[word])}; give {wanted} between -10¹⁵ and 10¹⁵"
            return
    for least, most in (("minimum", "maximum"), ("minLength", "maxLength"), ("minItems", "maxItems")):
        if least in schema and most in schema and schema[least] > schema[most]:
            yield f"{place}.{least}: is larger than {most}"


def _part_faults(schema: Mapping[str, Any], place: str, depth: int) -> Iterator[str]:
    if "pattern" in schema:
        yield from _pattern_faults(schema["pattern"], f"{place}.pattern")
    if schema["type"] == "array":
        yield from schema_faults(schema.get("items"), f"{place}.items", depth + 1)
        if not isinstance(schema.get("uniqueItems", False), bool):
            yield f"{place}.uniqueItems: give true or false"
    parts, required = schema.get("properties", {}), schema.get("required", [])
    if not isinstance(parts, dict) or not isinstance(required, list):
        yield f"{place}: properties must be an object of schemas, and required a list of their names"
        return
    for key, part in parts.items():
        yield from schema_faults(part, f"{place}.properties.{key}", depth + 1)
    if unknown := [str(key) for key in required if key not in parts]:
        yield f"{place}.required: {', '.join(unknown)} is not among properties"


def _pattern_faults(pattern: object, place: str) -> Iterator[str]:
    if not isinstance(pattern, str) or len(pattern) > _MOST:
        yield f"{place}: give a regular expression of at most {_MOST} characters"
    elif _AROUND.search(pattern):
        yield f"{place}: looks around, looks back or sets flags; use plain classes, groups and repeats"
    else:
        try:
            re.compile(pattern)
        except re.error as exc:
            yield f"{place}: is no regular expression of Python: {exc}"


# --- hypothesis


_T = TypeVar("_T")
_BACKEND = "toolsmith"
_LOADING = threading.Lock()
_ONE_AT_A_TIME = threading.Lock()  # hypothesis seeds the process's own generator while it works


class Fails(Exception):
    """What a judge raises on a value that it is to be shown smaller ones of."""


def strategies() -> Any:
    """hypothesis' module of that name, loaded with care."""
    _prepare()
    from hypothesis import strategies as module

    return module


def generate(strategy: Strategy, judge: Callable[[_T], None], most: int) -> None:
    """Show `judge` up to `most` values; once it raises Fails, smaller ones that may fail too."""
    _prepare()
    from hypothesis import HealthCheck, Phase, Verbosity, given, settings
    from hypothesis.errors import HypothesisException

    @settings(
        max_examples=most,
        backend=_BACKEND,
        derandomize=True,
        database=None,
        deadline=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
        verbosity=Verbosity.quiet,
        report_multiple_bugs=False,
        print_blob=False,
    )
    @given(strategy)
    def show(value: _T) -> None:
        judge(value)

    with _ONE_AT_A_TIME:
        try:
            show()
        except (Fails, HypothesisException):
            return  # the judge knows what failed; strategies that give nothing have shown it nothing


def _prepare() -> None:
    """Load hypothesis whole: its modules import each other, which two threads at once do not survive."""
    with _LOADING:
        if "hypothesis" not in sys.modules:
            from hypothesis.configuration import set_hypothesis_home_dir

            # A folder that cannot be made: hypothesis does without its files then.
            set_hypothesis_home_dir(os.path.join(os.devnull, "hypothesis"))  # noqa: PTH118
        import hypothesis.strategies  # noqa: F401
        from hypothesis.internal.conjecture.providers import AVAILABLE_PROVIDERS, HypothesisProvider

        class Provider(HypothesisProvider):
            """Draws no constants that depend on which modules are loaded."""

            def _maybe_draw_constant(self, *_: Any, **__: Any) -> None:
                return None

        AVAILABLE_PROVIDERS.setdefault(_BACKEND, Provider)
