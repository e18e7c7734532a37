"""What somebody meant who gave a text where a schema asks for something else. Pure."""

import json

import jsonschema
from pydantic import JsonValue


def meant(given: JsonValue, schema: dict[str, JsonValue] | None) -> JsonValue:
    """The value as it was given; a text is read as JSON where only that fits the schema."""
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
