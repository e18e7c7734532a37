"""Tools of MCP servers as functions: their names, schemas and results. Pure.

A server's own words (names, descriptions, schemas, results) are untrusted: names become identifiers, the
rest is cut to a length, and prompts mark descriptions as data. Sizes are limited here, time by the caller.

Not covered: images, sound and links in a result; a note replaces them.
"""

import json
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeGuard

MAX_TOOLS = 100
MAX_NAME = 64
DESCRIPTION_CHARS = 2_000
SCHEMA_CHARS = 20_000
VALUE_CHARS = 1 << 20
TYPES = ("string", "boolean", "integer", "number", "array", "object", "null")


@dataclass(frozen=True)
class ServerTool:
    """A tool as its server lists it."""

    server: str
    tool: str
    """Its name on the server."""
    name: str
    """Its name in plans and for agents: `SERVER_TOOL`."""
    description: str
    inputs: Mapping[str, Any]
    """JSON Schema of its arguments."""

    @property
    def purpose(self) -> str:
        """The first paragraph of its description, on one line."""
        paragraph = re.split(r"\n\s*\n", self.description, maxsplit=1)[0]
        return " ".join(paragraph.split())[:400] or "(its server says nothing about it)"

    @property
    def signature(self) -> str:
        parameters = [
            f"{name}: {_type(given)}" + ("" if self._needed(name) else " | null = null")
            for name, given in self._properties.items()
        ]
        return f"{self.name}({', '.join(parameters)}) -> any"

    @property
    def arguments(self) -> dict[str, Any]:
        """JSON Schema of what a planned call may give: what the signature shows, and no more."""
        rows = {name: _type(given) for name, given in self._properties.items()}
        all_shown = bool(rows) and len(rows) == len(self.inputs["properties"])
        is_closed = all_shown and self.inputs.get("additionalProperties") in (None, False)
        return {
            "properties": {
                name: {} if kind == "any" else {"type": kind if self._needed(name) else [kind, "null"]}
                for name, kind in rows.items()
            },
            "required": [name for name in rows if self._needed(name)],
            "additionalProperties": not is_closed,
        }

    @property
    def schema(self) -> dict[str, Any]:
        """The schema that smolagents needs for a function."""
        properties = {name: self._input(name) for name in self._properties}
        return {
            "description": self.description or self.purpose,
            "parameters": {"properties": properties},
            "return": {"type": "any"},
        }

    @property
    def _properties(self) -> Mapping[str, Any]:
        found = self.inputs.get("properties")
        return {name: row for name, row in found.items() if name.isidentifier()} if _is_map(found) else {}

    def _needed(self, name: str) -> bool:
        required = self.inputs.get("required")
        return isinstance(required, list) and name in required

    def _input(self, name: str) -> dict[str, Any]:
        given = self._properties[name]
        said = given.get("description") if _is_map(given) else None
        choices = given.get("enum") if _is_map(given) else None
        about = str(said or name)[:DESCRIPTION_CHARS]
        if isinstance(choices, list):
            about = f"{about} One of {json.dumps(choices, ensure_ascii=False)[:400]}."
        row: dict[str, Any] = {"type": _type(given), "description": about}
        return row if self._needed(name) else row | {"nullable": True}


def server_tools(server: str, rows: Iterable[Any], allowed: Collection[str] | None) -> tuple[ServerTool, ...]:
    """The tools of a listing that the user allows, without malformed and excess ones."""
    found: dict[str, ServerTool] = {}
    for row in rows:
        tool = row.get("name") if _is_map(row) else None
        if not isinstance(tool, str) or (allowed is not None and tool not in allowed):
            continue
        name = f"{server}_{re.sub(r'[^A-Za-z0-9]+', '_', tool).strip('_')}"[:MAX_NAME]
        inputs = row.get("inputSchema")
        sound = _is_map(inputs) and len(json.dumps(inputs)) <= SCHEMA_CHARS
        about = str(row.get("description") or "")[:DESCRIPTION_CHARS]
        if name not in found and len(found) < MAX_TOOLS:
            found[name] = ServerTool(server, tool, name, about, inputs if sound else {})
    return tuple(found.values())


def value_of(result: Mapping[str, Any]) -> Any:
    """The JSON value of a result: its structured content, else its text, cut if it is long."""
    structured = result.get("structuredContent")
    if _is_map(structured):
        value = structured["result"] if set(structured) == {"result"} else structured
        if len(json.dumps(value)) <= VALUE_CHARS:
            return value
    return text_of(result)


def text_of(result: Mapping[str, Any]) -> str:
    """The text of a result, with a note for each part that is not text."""
    parts = result.get("content")
    text = "\n".join(_part(part) for part in parts if _is_map(part)) if isinstance(parts, list) else ""
    if len(text) > VALUE_CHARS:
        return f"{text[:VALUE_CHARS]}\n… (it gave more than {VALUE_CHARS:,} characters)"
    return text


def _part(part: Mapping[str, Any]) -> str:
    if part.get("type") == "text":
        return str(part.get("text", ""))
    inner = part.get("resource")
    if _is_map(inner) and isinstance(inner.get("text"), str):
        return str(inner["text"])
    return f"[{part.get('type', 'something')} {part.get('mimeType', '')}".rstrip() + ", left out]"


def _type(given: Any) -> str:
    kind = given.get("type") if _is_map(given) else None
    if isinstance(kind, list):
        kinds = [one for one in kind if one != "null"]
        kind = kinds[0] if len(kinds) == 1 else None
    return kind if kind in TYPES else "any"


def _is_map(value: Any) -> TypeGuard[Mapping[str, Any]]:
    return isinstance(value, Mapping)
