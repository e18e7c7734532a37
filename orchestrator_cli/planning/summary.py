"""A value in one line, for people and for those who plan."""

import json

from pydantic import JsonValue

from orchestrator_cli.durable.text import truncate

SUMMARY_CHARS = 300


def summarise(value: JsonValue) -> str:
    """A value in one short line: its own summary where it has one, else what a person would say of it."""
    if isinstance(value, dict) and isinstance(value.get("summary"), str):
        value = value["summary"]
    return truncate(" ".join(_said(value).split()), SUMMARY_CHARS)


def _said(value: JsonValue) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key}: {_label(item)}" for key, item in value.items()) or "{}"
    if isinstance(value, list):
        labels = ", ".join(_label(item) for item in value)
        return f"{len(value)} item{'' if len(value) == 1 else 's'}: {labels}" if value else "[]"
    return _label(value)


def _label(value: JsonValue) -> str:
    """What stands for a value inside a line: a text, a number, the first text of an object, a count."""
    if isinstance(value, dict):
        return next((item for item in value.values() if isinstance(item, str)), f"{len(value)} keys")
    if isinstance(value, list):
        return f"{len(value)} item{'' if len(value) == 1 else 's'}"
    return value if isinstance(value, str) else json.dumps(value)
