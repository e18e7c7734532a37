"""What is wrong with the inputs of a planned call, by the JSON Schema of what is called. Pure.

The schema may be that of an MCP server, so only the names, types and required names of its first level are
read. References are not judged, because their values are not known yet.

Not covered: types of nested values, choices, patterns and combinations. The call itself finds those.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from pydantic import JsonValue

from toolsmith.values import short_json, type_name


def argument_faults(
    name: str,
    schema: Mapping[str, JsonValue],
    arguments: Mapping[str, JsonValue],
    is_reference: Callable[[str], bool],
) -> Iterator[str]:
    """Each lacking, unknown or mistyped argument of a call, with what `name` takes."""
    found = schema.get("properties")
    known: Mapping[str, Any] = found if isinstance(found, Mapping) else {}
    listed = schema.get("required")
    required = [one for one in listed if isinstance(one, str)] if isinstance(listed, list) else []
    takes = ", ".join(_shown(one, known[one], one in required) for one in known) or "nothing"
    for one in required:
        if one not in arguments:
            yield f"lacks {one!r}; {name} takes {takes}"
    for one, value in arguments.items():
        if one not in known:
            if schema.get("additionalProperties") is False:
                yield f"{one!r} is unknown; {name} takes {takes}"
        elif not (isinstance(value, str) and is_reference(value)) and not _fits(value, _types(known[one])):
            yield f"{one!r} is {short_json(value)}, {type_name(value)}; {name} takes {takes}"


def _shown(name: str, schema: Any, required: bool) -> str:
    kinds = " or ".join(sorted(_types(schema))) or "any"
    return f"{name} ({kinds}{'' if required else ', optional'})"


def _types(schema: Any) -> frozenset[str]:
    """The JSON types that a schema names; empty for any."""
    if not isinstance(schema, Mapping):
        return frozenset()
    kinds, choices = schema.get("type"), schema.get("anyOf")
    if isinstance(kinds, str | list):
        return frozenset([kinds] if isinstance(kinds, str) else filter(_is_text, kinds))
    if not isinstance(choices, list) or not all(isinstance(one, Mapping) for one in choices):
        return frozenset()
    each = [one.get("type") for one in choices]
    return frozenset(each) if all(map(_is_text, each)) else frozenset()


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _fits(value: JsonValue, kinds: frozenset[str]) -> bool:
    if isinstance(value, float) and value.is_integer() and "integer" in kinds:
        return True
    kind = type_name(value)
    return not kinds or kind in kinds or (kind == "integer" and "number" in kinds)
