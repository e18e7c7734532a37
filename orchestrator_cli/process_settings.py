"""Programs and Prefect flows of the user's as settings, and how inputs become arguments of a program. Pure.

A template of `arguments` is a text that stays as it is, or one of these, for an input `NAME`:

    {NAME}              the value
    --option={NAME}     `--option=VALUE`
    --option {NAME}     `--option` and the value as the next argument
    --on/--off={NAME}   for true or false, `--on` or `--off`

An input that is missing or null gives no argument. True gives the option alone, and false nothing or `--off`.
A list gives `VALUE` or `--option=VALUE` for each item, and `--option VALUE VALUE …` with a blank.

A value never becomes an option: an argument of its own that begins with `-` is refused, unless it comes after
the argument `--`, which ends the options of most programs.

Not covered: programs whose options begin with another sign, or that read options from a file (`@FILE`).
"""

import json
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_validator

from orchestrator_cli.durable.encodings import is_utf8
from orchestrator_cli.json_schema import schema_fault

MOST_BYTES = 120_000
"""Of all arguments that inputs make. The kernel takes 128 KiB in one argument."""
_TEMPLATE = re.compile(r"(?:(?P<option>-[^\s{}=]{1,80})(?P<sign>[= ]))?\{(?P<name>[^{}\s]{1,80})\}")


class Process(BaseModel):
    """A program or a Prefect flow of the user's, which plans may run: `[processes.NAME]` in orch.toml."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    when: str
    """What it does and when to use it; the planner reads this."""
    command: tuple[str, ...] = ()
    """The program and its arguments; no shell reads them."""
    arguments: tuple[str, ...] | None = None
    """More arguments, made from the inputs, such as `["--day={day}", "{target}"]`; see below."""
    flow: str | None = None
    """Instead of a command, a Prefect flow: `path/to/file.py:function`."""
    inputs: dict[str, JsonValue] | None = None
    """JSON Schema of its input: an object, on standard input, as `arguments` or as the flow's parameters."""
    result: dict[str, JsonValue] | None = None
    """JSON Schema of its value."""
    effects: bool = True
    """Whether it does something outside the workspace that must not happen twice by accident."""
    timeout_s: float | None = Field(default=None, gt=0, le=86_400)
    """Seconds for one attempt, whatever the plan says."""

    @model_validator(mode="after")
    def _is_one_thing(self) -> "Process":
        if bool(self.command) == bool(self.flow):
            raise ValueError("give it either a command or a flow")
        if self.flow is not None and not re.fullmatch(r".+\.py:[A-Za-z_]\w*", self.flow):
            raise ValueError(f"{self.flow!r} is not a flow: write path/to/file.py:function")
        for schema in (self.inputs, self.result):
            if schema is not None:
                check_schema(schema)
        if self.arguments is not None:
            if self.flow is not None:
                raise ValueError("arguments are for a command; a flow gets its inputs as parameters")
            _check_templates(self.arguments, self.inputs)
        return self

    @property
    def shown_command(self) -> str:
        """The command with the templates of its arguments, as a line of a shell."""
        return shlex.join((*self.command, *(self.arguments or ())))


def check_schema(schema: dict[str, JsonValue]) -> None:
    """Raise `ValueError` if `schema` is not a JSON Schema."""
    if fault := schema_fault(schema):
        raise ValueError(fault)


class _Template(NamedTuple):
    """How one input becomes arguments."""

    option: str
    """Empty for the value alone."""
    off: str
    """The option that says false."""
    is_apart: bool
    """Whether values are arguments of their own."""
    name: str


def _parsed(text: str) -> _Template | None:
    """The template; None for a text that stays as it is. Raises `ValueError`."""
    found = _TEMPLATE.fullmatch(text)
    if found is None:
        if "{" in text or "}" in text:
            raise ValueError(f"{text!r} is no argument: write {{NAME}} or --option={{NAME}}")
        return None
    option, slash, off = (found["option"] or "").partition("/-")
    off = slash[1:] + off
    return _Template(option, off, found["sign"] != "=", found["name"])


def _check_templates(arguments: Sequence[str], inputs: Mapping[str, JsonValue] | None) -> None:
    """Raise `ValueError` if a template is malformed, or if templates and the schema name other inputs."""
    named = [template.name for text in arguments if (template := _parsed(text)) is not None]
    if twice := sorted({name for name in named if named.count(name) > 1}):
        raise ValueError(f"arguments name the input {twice[0]!r} twice")
    properties = (inputs or {}).get("properties")
    if isinstance(properties, dict) and (odd := sorted(properties.keys() ^ set(named))):
        raise ValueError(f"the input {odd[0]!r} has to be in both arguments and the properties of inputs")


def arguments_of(arguments: Sequence[str], inputs: Mapping[str, JsonValue]) -> tuple[str, ...]:
    """The arguments that the inputs make. Raises `ValueError` that names the input."""
    templates = [_parsed(text) or text for text in arguments]
    named = {template.name for template in templates if isinstance(template, _Template)}
    if unknown := sorted(inputs.keys() - named):
        raise ValueError(f"it has no argument for the input {unknown[0]}")
    made, is_after = list[str](), False
    for template in templates:
        if isinstance(template, str):
            made.append(template)
            is_after = is_after or template == "--"
            continue
        value = inputs.get(template.name)
        for part in _filled(template, value):
            if "\0" in part or not is_utf8(part):
                raise ValueError(f"the input {template.name} holds a character that no argument can hold")
            made.append(part)
        if template.is_apart and not is_after and not isinstance(value, bool):
            for text in _texts(value):
                if text.startswith("-"):
                    raise ValueError(f"the input {template.name} begins with -, as an option does")
    if (size := sum(len(part.encode()) for part in made)) > MOST_BYTES:
        raise ValueError(f"its arguments have {size:,} bytes; at most {MOST_BYTES:,} can be passed on")
    return tuple(made)


def _filled(template: _Template, value: JsonValue) -> Iterator[str]:
    if isinstance(value, bool) and template.option:
        yield from filter(None, [template.option if value else template.off])
        return
    if template.off and value is not None:
        raise ValueError(f"the input {template.name} is neither true nor false")
    texts = _texts(value)
    if not template.is_apart:
        yield from (f"{template.option}={text}" for text in texts)
    elif texts:
        yield from filter(None, [template.option])
        yield from texts


def _texts(value: JsonValue) -> list[str]:
    """A text as it is, anything else as JSON; for a list, those of its items."""
    items = value if isinstance(value, list) else [] if value is None else [value]
    return [item if isinstance(item, str) else json.dumps(item) for item in items]
