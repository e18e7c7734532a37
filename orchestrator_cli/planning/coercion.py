"""Reads text as JSON if only that fits a schema. Pure."""

import json

import jsonschema
from pydantic import JsonValue


def coerce_to_schema(given: JsonValue, schema: dict[str, JsonValue] | None) -> JsonValue:
    """The value as given; a text is parsed as JSON if it fits the schema only then."""
    if schema is None or not isinstance(given, str):
        return given
    validator = jsonschema.Draft202012Validator(schema)
    if validator.is_valid(given):
        return given
    try:
        read: JsonValue = json.loads(given)
    except ValueError:
        return given
    return read if validator.is_valid(read) else given
