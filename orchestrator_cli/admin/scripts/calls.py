"""One way to call a script: its parameters, as the JSON Schema of inputs and as arguments. Pure."""

import re
from dataclasses import dataclass, field

from pydantic import JsonValue

from orchestrator_cli.durable.foreign import on_one_line
from orchestrator_cli.durable.text import truncate

HELP_CHARS = 160
WHEN_CHARS = 200
_SENTENCE_END = re.compile(r"(?<=[.!?])\s")
_NO_WORDS = re.compile(
    r"(?:usage|synopsis|copyright|\(c\)|©|spdx|licen[cs]e|this (?:program|file|script|library) is free)",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class ScriptParameter:
    """One parameter of a script, which becomes an input of the process."""

    name: str
    schema: dict[str, JsonValue]
    option: str = ""
    """Such as `--day`, or `--on/--off`; empty for a positional one."""
    is_required: bool = False
    is_spread: bool = False
    """Whether several values follow one option."""

    @property
    def template(self) -> str:
        """As in `arguments` of a process."""
        if not self.option:
            return f"{{{self.name}}}"
        is_short = not self.option.startswith("--") and self.schema.get("type") != "boolean"
        return f"{self.option}{' ' if self.is_spread or is_short else '='}{{{self.name}}}"


@dataclass(frozen=True)
class ScriptCall:
    """One way to call a script, or one flow in it."""

    about: str = ""
    """What it does, in its own words."""
    words: tuple[str, ...] = ()
    """The subcommand."""
    common: tuple[ScriptParameter, ...] = ()
    """The options before the subcommand."""
    parameters: tuple[ScriptParameter, ...] = ()
    ends_options: bool = False
    """Whether `--` ends its options."""
    flow: str = ""
    """The function, if it is a Prefect flow."""
    notes: tuple[str, ...] = field(default=())
    """What of its parameters is not offered, and why."""

    @property
    def all_parameters(self) -> tuple[ScriptParameter, ...]:
        """Those that have a name of their own; of a name, the first counts."""
        found: dict[str, ScriptParameter] = {}
        for one in (*self.common, *self.parameters):
            found.setdefault(one.name, one)
        found.pop("", None)
        return tuple(found.values())

    @property
    def arguments(self) -> tuple[str, ...]:
        """The templates of its arguments."""
        known = {id(one) for one in self.all_parameters}
        common = [one for one in self.common if id(one) in known]
        own = [one for one in self.parameters if id(one) in known]
        options = sorted((one for one in own if one.option), key=lambda one: one.is_spread)
        places = [one.template for one in own if not one.option]
        return (
            *(one.template for one in common),
            *self.words,
            *(one.template for one in options),
            *(["--"] if places and self.ends_options else []),
            *places,
        )

    @property
    def inputs(self) -> dict[str, JsonValue]:
        """The JSON Schema of its inputs."""
        parameters = self.all_parameters
        required: list[JsonValue] = [one.name for one in parameters if one.is_required]
        return {
            "type": "object",
            "properties": {one.name: one.schema for one in parameters},
            **({"required": required} if required else {}),
            "additionalProperties": False,
        }


def input_name(text: str) -> str:
    """The name of an input for the name of an option or a place; empty if nothing of it is a name."""
    name = re.sub(r"\W+", "_", text, flags=re.ASCII).strip("_").lower()
    return f"n{name}" if name[:1].isdigit() else name


def schema_with(
    schema: dict[str, JsonValue], *, about: str = "", default: JsonValue = None
) -> dict[str, JsonValue]:
    """The schema with a description and a default, if they say something."""
    said = truncate(on_one_line(" ".join(about.split())), HELP_CHARS)
    return {
        **schema,
        **({"description": said} if said else {}),
        **({"default": default} if default not in (None, "", []) else {}),
    }


def list_of(schema: dict[str, JsonValue]) -> dict[str, JsonValue]:
    return {"type": "array", **({"items": schema} if schema else {})}


def first_sentence(text: str | None) -> str:
    """The first sentence of a description, on one line, without what is said of its licence and its usage."""
    for paragraph in re.split(r"\n[ \t#*=-]{0,200}\n", (text or "").strip()):
        words = " ".join(paragraph.strip(" #*-=\n").split())
        if words and not _NO_WORDS.match(words):
            return truncate(on_one_line(_SENTENCE_END.split(words, maxsplit=1)[0]).rstrip(".: "), WHEN_CHARS)
    return ""
