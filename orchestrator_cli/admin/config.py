"""Every setting with its value and where that comes from; and the changes of the user's own file.

Keys are never shown: neither the values of settings that are called like one, nor what looks like a key or a
password within a text. Only the user's own file is changed, and only if it can be loaded afterwards.
"""

import difflib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, JsonValue

from memory.distiller import scrub_shapes
from orchestrator_cli.admin.own_settings import own_values, set_value, unset_value, with_value
from orchestrator_cli.config_file import config_values
from orchestrator_cli.errors import ConfigError, UsageError
from orchestrator_cli.mcp_settings import HIDDEN, is_key_name, shown_address
from orchestrator_cli.settings import Settings, SettingsLayer, check_user_values, variable_of

Name = tuple[str, ...]
"""The parts of a setting's name, such as `("models", "agent")`."""
OF_A_COMMAND = ("workspace",)
"""What belongs to one command, and so is in no file."""
_PART = re.compile(r'"([^"]+)"|([^".]+)')


@dataclass(frozen=True)
class SettingRow:
    """A setting as it is shown."""

    name: str
    value: JsonValue
    """Without keys."""
    origin: Literal["default", "flag", "environment", "workspace", "user"]
    source: str = ""
    """The file or the variable; empty for a default and a flag."""

    @property
    def words(self) -> str:
        """Where the value comes from, in words."""
        match self.origin:
            case "default":
                return "default"
            case "flag":
                return "flag"
            case "environment":
                return f"{self.source} in the environment"
        return self.source


def rows(settings: Settings, wanted: Name = ()) -> Iterator[SettingRow]:
    """A row for each setting below a name, and for each entry of a table."""
    dumped = settings.model_dump(mode="json")
    for name, value in _leaves(settings, dumped):
        if name[: len(wanted)] == wanted or wanted[: len(name)] == name:
            yield _row(settings, name, _shown(name[-1], value))


def written(name: Sequence[str]) -> str:
    """A name as it is typed: a part with a dot is between quotation marks."""
    return ".".join(f'"{part}"' if "." in part else part for part in name)


def parts_of(text: str) -> Name:
    """The parts of a name as it is typed, whether there is such a setting or not. Raises `UsageError`."""
    parts = tuple(match[1] or match[2] for match in _PART.finditer(text))
    if not parts or ".".join(parts) != text.replace('"', ""):
        raise _unknown(text, text)
    return parts


def parsed(text: str) -> Name:
    """The name of a setting. Raises `UsageError` if there is no such setting."""
    parts = parts_of(text)
    kind: Any = Settings
    for n, part in enumerate(parts):
        kind = _plain(kind)
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            if part not in kind.model_fields:
                raise _unknown(text, part, ".".join(parts[:n]), kind.model_fields)
            kind = kind.model_fields[part].annotation
        elif get_origin(kind) is dict:
            kind = get_args(kind)[1]
        else:
            raise UsageError(f"{written(parts[:n])} is no table.", f"Set it as a whole: {written(parts[:n])}")
    return parts


def get(settings: Settings, name: Name) -> JsonValue:
    """The effective value, without keys. Raises `UsageError` if a table has no such entry."""
    value: Any = settings.model_dump(mode="json")
    for part in name:
        if not isinstance(value, Mapping) or part not in value:
            raise UsageError(f"{written(name)} is not set.", "See what is: orch config list")
        value = value[part]
    return _shown(name[-1], value)


def set_own(place: Path, name: Name, text: str) -> JsonValue:
    """Set a value in the user's own file. Returns it as it is shown.

    The text is TOML or JSON; else it is the value itself, if the setting takes a text. Raises `ConfigError`
    with what is wrong with the value, and changes nothing then.
    """
    if name[0] in OF_A_COMMAND:
        raise UsageError(f"{name[0]} belongs to one command.", "Name the folder with -C.")
    before, fault = own_values(place), None
    for value in _readings(text):
        try:
            made = check_user_values(with_value(before, name, value), place)
        except ConfigError as exc:
            fault = fault or exc
            continue
        kept = _as_kept(value, made, name)
        set_value(place, name, kept, lambda values: check_user_values(values, place))
        return _shown(name[-1], kept)
    message = fault.message if fault else "It is neither TOML nor JSON."
    raise ConfigError(message, _remedy(name, is_set=_is_set(before, name))) from fault


def unset_own(place: Path, name: Name) -> None:
    """Remove a value from the user's own file. Raises `ConfigError`, and `UsageError` if it is not there."""
    unset_value(place, name, lambda values: check_user_values(values, place))


# --- reading values


def _readings(text: str) -> Iterator[Any]:
    """What a text can mean, the likeliest first."""
    with suppress(ValueError, RecursionError):
        found = config_values(f"value = {text}")
        if found.keys() == {"value"}:
            yield found["value"]
    with suppress(ValueError, RecursionError):
        found = json.loads(text)
        if _has_null(found):
            raise UsageError("TOML has no null.", "Leave it out, or use the default with: orch config unset")
        yield found
    yield text


def _has_null(value: Any) -> bool:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return value is None or any(map(_has_null, inner))


def _as_kept(value: Any, made: Settings, name: Name) -> Any:
    """A text that stands for a number or for yes and no, as what it stands for."""
    here: Any = made
    for part in name:
        here = here[part] if isinstance(here, Mapping) else getattr(here, part)
    return here if isinstance(value, str) and isinstance(here, bool | int | float) else value


def _remedy(name: Name, *, is_set: bool) -> str:
    kind: Any = Settings
    for part in name:
        kind = _plain(kind)
        is_model = isinstance(kind, type) and issubclass(kind, BaseModel)
        kind = kind.model_fields[part].annotation if is_model else get_args(kind)[1]
    kind, said = _plain(kind), written(name)
    if get_origin(kind) is tuple:
        return f'Write a list, such as: orch config set {said} \'["a", "b"]\''
    if get_origin(kind) is dict or (isinstance(kind, type) and issubclass(kind, BaseModel)):
        return f"Write a table, such as: orch config set {said} '{{name = \"value\"}}'"
    if get_origin(kind) is Literal:
        return f"Say one of: {', '.join(map(str, get_args(kind)))}"
    return "Say another value" + (f", or use the default: orch config unset {said}" if is_set else ".")


def _is_set(values: Any, name: Name) -> bool:
    return not name or (name[0] in values and _is_set(values[name[0]], name[1:]))


def _plain(kind: Any) -> Any:
    """A type without its annotations and without None."""
    while True:
        if get_origin(kind) is Annotated:
            kind = get_args(kind)[0]
        elif get_origin(kind) in (Union, UnionType):
            kind = next(one for one in get_args(kind) if one is not type(None))
        else:
            return kind


def _unknown(
    text: str, part: str, above: str = "", known: Sequence[str] | Mapping[str, Any] = ()
) -> UsageError:
    near = difflib.get_close_matches(part, known or Settings.model_fields, n=1)
    hint = f"Did you mean {'.'.join(filter(None, (above, near[0])))}? " if near else ""
    return UsageError(f"There is no setting {text}.", f"{hint}See all with: orch config list --all")


# --- showing values


def _leaves(settings: Settings, dumped: Mapping[str, Any]) -> Iterator[tuple[Name, Any]]:
    for name, value in dumped.items():
        held = getattr(settings, name)
        if value and isinstance(held, BaseModel | Mapping):
            yield from (((name, key), inner) for key, inner in value.items())
        else:
            yield (name,), value


def _part(before: Any, part: Any) -> JsonValue:
    """A part of a list, which may be a command, without the value of an option that is called like a key."""
    option, sign, value = part.partition("=") if isinstance(part, str) else ("", "", "")
    if option.startswith("-") and sign:
        return f"{option}={_shown(option, value)}"
    follows = isinstance(before, str) and before.startswith("-") and "=" not in before
    return _shown(before if follows else "", part)


def _shown(name: str, value: Any) -> JsonValue:
    """A value without keys."""
    match value:
        case str():
            return HIDDEN if value and is_key_name(name) else scrub_shapes(shown_address(value))
        case list() | tuple():
            return [_part(before, part) for before, part in zip(("", *value), value, strict=False)]
        case dict():
            return {key: _shown(key, inner) for key, inner in value.items()}
    return value  # type: ignore[no-any-return]  # a number, or none


def _row(settings: Settings, name: Name, value: JsonValue) -> SettingRow:
    layer = next((one for one in settings.origin.layers if _has(one, name)), None)
    if layer is None:
        return SettingRow(written(name), value, "default")
    source = str(layer.file or "")
    if layer.kind == "environment":
        source = variable_of(name)
    elif name[0] == "mcp" and len(name) > 1:
        source = str(settings.origin.mcp_places.get(name[1], source))
    return SettingRow(written(name), value, layer.kind, source)


def _has(layer: SettingsLayer, name: Name) -> bool:
    values: Any = layer.values
    if name == ("workspace",):
        return False  # every command has one
    alias = Settings.model_fields[name[0]].validation_alias
    if isinstance(alias, str) and alias in values:
        return True
    for part in name:
        if not isinstance(values, Mapping | BaseModel):
            return True  # the whole table is given
        if isinstance(values, BaseModel) or part not in values:
            return False
        values = values[part]
    return True
