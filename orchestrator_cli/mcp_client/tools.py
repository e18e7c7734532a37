"""Tools of MCP servers as functions: their names, schemas and results. Pure.

A server's own words (names, descriptions, schemas, results) are untrusted: names become identifiers, the
rest is cut to a length, and prompts mark descriptions as data. Sizes are limited here, time by the caller.

Not covered: images, sound and links in a result; a note replaces them.
"""

import json
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from orchestrator_cli.durable.foreign import foreign_line, marked
from orchestrator_cli.durable.names import identifiers
from orchestrator_cli.mcp_client.schemas import (
    RAW_CHARS,
    Inputs,
    SchemaBudget,
    SchemaUnusable,
    ToolParameter,
    is_map,
    outline,
    read_inputs,
    with_marks,
)
from toolsmith.names import AGENT_TOOLS

MAX_TOOLS = 100
DESCRIPTION_CHARS = 2_000
OUTLINE_CHARS = 800
"""How much a planner is shown of the schemas of one tool."""
VALUE_CHARS = 1 << 20
PART_CHARS = 1_000
"""Of each text that says what a part is that is left out."""
TOO_LARGE = "(too large to be kept)"


@dataclass(frozen=True)
class ServerTool:
    """A tool as its server lists it."""

    server: str
    tool: str
    """Its name on the server."""
    name: str
    """Its name in plans and for agents: an identifier, `SERVER_TOOL` as far as that is clear."""
    description: str
    inputs: Inputs

    @property
    def purpose(self) -> str:
        """The first paragraph of its description on one line, and an outline of what it takes."""
        paragraph = re.split(r"\n\s*\n", self.description, maxsplit=1)[0]
        text = " ".join(paragraph.split())[:400] or "(its server says nothing about it)"
        return f"{text} JSON Schemas: {shown}" if (shown := self._outline) else text

    @property
    def _outline(self) -> str:
        """The schemas of all parameters whose types do not say all, as deep as they fit."""
        rows = {one.name: one.schema for one in self.inputs.parameters if not one.is_plain and one.schema}
        if not rows:
            return ""
        texts = (
            _compact({name: outline(row, depth) for name, row in rows.items()}) for depth in (6, 3, 2, 1, 0)
        )
        return next((text for text in texts if len(text) <= OUTLINE_CHARS), "")

    @property
    def signature(self) -> str:
        parameters = [
            f"{one.name}: {_words(one)}" + ("" if one.is_required else " | null = null")
            for one in self.inputs.parameters
        ]
        return f"{self.name}({', '.join(parameters)}) -> any"

    @property
    def arguments(self) -> dict[str, Any]:
        """JSON Schema of what a planned call may give: what the signature shows, and no more."""
        return {
            "properties": {
                one.name: {"type": sorted({*one.kinds, *([] if one.is_required else ["null"])})}
                if one.kinds
                else {}
                for one in self.inputs.parameters
            },
            "required": [one.name for one in self.inputs.parameters if one.is_required],
            "additionalProperties": self.inputs.is_open,
        }

    @property
    def form(self) -> dict[str, Any]:
        """What smolagents needs for a function, with the server's words marked as untrusted.

        Beside the inputs is their `schema`, for calls that a model makes as such.
        """
        source = f"the MCP server {self.server}"
        parameters = self.inputs.parameters
        return {
            "description": marked(self.description or self.purpose, source),
            "parameters": {
                "properties": {one.name: _input(one, source) for one in parameters},
                "schema": {
                    "type": "object",
                    "properties": {one.name: _native(one, source) for one in parameters},
                    "required": [one.name for one in parameters if one.is_required],
                },
            },
            "return": {"type": "any"},
        }

    def own_arguments(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments under the server's names.

        Agents write null for what they could leave out, which servers mostly refuse.
        """
        known = {one.name: one for one in self.inputs.parameters}
        found: dict[str, Any] = {}
        for name, value in given.items():
            one = known.get(name)
            if value is None and one is not None and one.may_be_left_out:
                continue
            found[one.own if one else name] = value
        return found


def _words(one: ToolParameter) -> str:
    kinds = [kind for kind in one.kinds if kind != "null" or one.is_required or len(one.kinds) == 1]
    return " | ".join(kinds) or "any"


def _native(one: ToolParameter, source: str) -> dict[str, Any]:
    made = with_marks(one.schema, source)
    return made | {"description": marked(about, source)} if (about := _about(one)) else made


def _input(one: ToolParameter, source: str) -> dict[str, Any]:
    kinds = [*one.kinds, *(["integer"] if "number" in one.kinds and "integer" not in one.kinds else [])]
    about = _about(one) or one.name
    if not one.is_plain and one.schema:
        schema = {key: value for key, value in one.schema.items() if key != "description"}
        about = f"{about} JSON Schema: {_compact(schema)}"
    about = about if one.is_required else f"Optional. {about}"
    kind: Any = kinds if len(one.kinds) > 1 else one.kinds[0] if one.kinds else "any"
    row: dict[str, Any] = {"type": kind, "description": marked(about, source)}
    return row if one.is_required and "null" not in one.kinds else row | {"nullable": True}


def _about(one: ToolParameter) -> str:
    """What the server says of a parameter, with its own name if that is another."""
    said = str(one.schema.get("description", ""))
    named = f"Its server calls it {json.dumps(one.own, ensure_ascii=False)}." if one.own != one.name else ""
    return " ".join(filter(None, [said, named]))


def _compact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


@dataclass(frozen=True)
class ToolListing:
    """What a server lists."""

    tools: tuple[ServerTool, ...] = ()
    left_out: Mapping[str, str] = field(default_factory=dict)
    """Why others are not offered, by the name that they would have."""
    faults: tuple[str, ...] = ()
    """What the user should know of them; a line each."""


def kept_row(row: Any) -> Any:
    """What is kept of a listed tool."""
    if not is_map(row):
        return None
    about, schema = row.get("description"), row.get("inputSchema")
    made = {"name": row.get("name"), "inputSchema": schema}
    made |= {"description": about[:DESCRIPTION_CHARS]} if isinstance(about, str) else {}
    try:
        is_large = len(json.dumps(made)) > RAW_CHARS
    except RecursionError:
        is_large = True
    name = row.get("name")
    if not is_large:
        return made
    return {"name": name[:DESCRIPTION_CHARS] if isinstance(name, str) else None, "inputSchema": TOO_LARGE}


def read_listing(
    server: str, rows: Iterable[Any], allowed: Collection[str] | None, others: Collection[str] = ()
) -> ToolListing:
    """The tools of a listing that the user lets in; what is malformed hides only itself.

    Args:
        allowed: their own names; None for all.
        others: the names of all servers. One of them that begins a tool's name owns it.
    """
    listed: dict[str, Any] = {}
    nameless = 0
    for row in rows:
        own = row.get("name") if is_map(row) else None
        if isinstance(own, str) and own:
            listed.setdefault(own, row)
        else:
            nameless += 1
    prefix = f"{server}_"
    longer = tuple(f"{one}_" for one in others if one.startswith(prefix))
    names = identifiers(
        listed, prefix=prefix, word="tool", taken=lambda made: made in AGENT_TOOLS or made.startswith(longer)
    )
    tools: list[ServerTool] = []
    budget = SchemaBudget()
    left_out: dict[str, str] = {}
    faults = [f"{nameless} without a name"] if nameless else []
    for own, row in listed.items():
        name = names[own]
        try:
            inputs = read_inputs(row.get("inputSchema"), budget)
        except SchemaUnusable as exc:
            left_out[name] = f"the MCP server {server} lists it in a form that cannot be used"
            if allowed is None or own in allowed:
                faults.append(f"{foreign_line(own, 100)}: {foreign_line(exc, 300)}")
            continue
        if allowed is not None and own not in allowed:
            left_out[name] = f"the tools that are used of the MCP server {server} are others"
        elif len(tools) >= MAX_TOOLS:
            left_out[name] = f"the MCP server {server} lists more than {MAX_TOOLS} tools"
        else:
            about = row.get("description")
            text = about[:DESCRIPTION_CHARS] if isinstance(about, str) else ""
            tools.append(ServerTool(server, own, name, text, inputs))
    if len(tools) == MAX_TOOLS and (excess := sum("more than" in why for why in left_out.values())):
        faults.append(f"{excess} more than {MAX_TOOLS}: name those that you need in its setting tools")
    missing = (own for own in allowed or () if own not in listed)
    faults += [f"{foreign_line(own, 100)}: it lists no such tool" for own in missing]
    return ToolListing(tuple(tools), left_out, tuple(faults))


def value_of(result: Mapping[str, Any]) -> Any:
    """The JSON value of a result: its structured content, else its text, cut if it is long."""
    structured = result.get("structuredContent")
    if is_map(structured):
        value = structured["result"] if set(structured) == {"result"} else structured
        if len(json.dumps(value)) <= VALUE_CHARS:
            return value
    return text_of(result)


def text_of(result: Mapping[str, Any]) -> str:
    """The text of a result, with a note for each part that is not text."""
    parts = result.get("content")
    text = "\n".join(_part(part) for part in parts if is_map(part)) if isinstance(parts, list) else ""
    if len(text) > VALUE_CHARS:
        return f"{text[:VALUE_CHARS]}\n… (it gave more than {VALUE_CHARS:,} characters)"
    return text


def _part(part: Mapping[str, Any]) -> str:
    if part.get("type") == "text":
        return str(part.get("text", ""))
    inner = part.get("resource")
    if is_map(inner) and isinstance(inner.get("text"), str):
        return str(inner["text"])
    # What a link or a file that is not text is called, without its bytes.
    about = {**(inner if is_map(inner) else {}), **part}
    known = [about.get(key) for key in ("type", "title", "name", "uri", "mimeType", "description")]
    return f"[{' · '.join(one[:PART_CHARS] for one in known if isinstance(one, str) and one)}, left out]"
