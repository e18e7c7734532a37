"""How a Python script is called that uses `argparse`, as its source says. Pure.

Each parser of `add_parser` that a variable holds is a call of its own. Not covered: arguments that a loop or
another module adds, and actions of the script's own, whose values are taken for texts.
"""

import ast
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from pydantic import JsonValue

from orchestrator_cli.admin.scripts.calls import ScriptCall, ScriptParameter, input_name, list_of, schema_with
from orchestrator_cli.admin.scripts.python_values import (
    UNKNOWN,
    Enums,
    calls_in,
    json_value,
    keywords,
    last_name,
    owner_name,
    schema_of,
    text_of,
    value_of,
)

FLAGS = ("store_true", "store_false", "store_const", "append_const", "count")
NO_INPUT = ("help", "version")
NAMED = {"REMAINDER": "...", "OPTIONAL": "?", "ZERO_OR_MORE": "*", "ONE_OR_MORE": "+"}
_DEFAULT_WORDS = re.compile(r"\s?[(\[]?default:? ?%\(default\)\w[)\]]?", re.IGNORECASE)


@dataclass
class _Parser:
    """A parser while its arguments are collected."""

    word: str = ""
    about: str = ""
    parameters: list[ScriptParameter] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def argparse_calls(tree: ast.Module, enums: Enums) -> list[ScriptCall]:
    """The ways to call the script; none if it has no parser."""
    variables = _variables(tree)
    calls = sorted(calls_in(tree), key=lambda call: (call.lineno, call.col_offset))
    made = [call for call in calls if last_name(call) == "ArgumentParser"]
    if not made:
        return []
    main = _Parser(
        about=next(filter(None, (text_of(keywords(call).get("description")) for call in made)), "")
    )
    if any({"prefix_chars", "fromfile_prefix_chars"} & keywords(call).keys() for call in made):
        note = "its options begin with other signs than -, or are read from files"
        return [ScriptCall(about=main.about, notes=(note,))]
    parsers, of_variable = [main], dict[str, _Parser]()
    for call in calls:
        owner, variable = owner_name(call), variables.get(id(call), "")
        match last_name(call):
            case "add_parser":
                given = keywords(call)
                about = text_of(given.get("help")) or text_of(given.get("description"))
                parsers.append(_Parser(text_of(call.args[0]) if call.args else "", about))
                of_variable[variable] = parsers[-1]
            case "add_argument_group" | "add_mutually_exclusive_group" if variable:
                of_variable[variable] = of_variable.get(owner, main)
            case "add_argument":
                _add(of_variable.get(owner, main), call, enums)
    return _as_calls(main, [one for one in parsers[1:] if one.word])


def _as_calls(main: _Parser, below: list[_Parser]) -> list[ScriptCall]:
    parameters, notes = tuple(main.parameters), tuple(dict.fromkeys(main.notes))
    if not below:
        return [ScriptCall(about=main.about, parameters=parameters, ends_options=True, notes=notes)]
    return [
        ScriptCall(
            about=one.about or main.about,
            words=(one.word,),
            common=parameters,
            parameters=tuple(one.parameters),
            ends_options=True,
            notes=tuple(dict.fromkeys((*notes, *one.notes))),
        )
        for one in below
    ]


def _variables(tree: ast.Module) -> Mapping[int, str]:
    """The variables that calls are assigned to, by the identity of the call."""
    return {
        id(node.value): last_name(node.targets[0])
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call)
    }


def _add(parser: _Parser, call: ast.Call, enums: Enums) -> None:
    names = [text_of(one) for one in call.args]
    if not names or not all(names) or any(one.arg is None for one in call.keywords):
        parser.notes.append("some of its arguments are computed")
        return
    given = keywords(call)
    action = text_of(given.get("action")) or last_name(given.get("action"))
    if action in NO_INPUT or text_of(given.get("help")) == "==SUPPRESS==" or _is_hidden(given.get("help")):
        return
    nargs = value_of(given.get("nargs"))
    nargs = NAMED.get(last_name(given.get("nargs")), None if nargs is UNKNOWN else nargs)
    if nargs in ("...", "A..."):
        parser.notes.append(f"{names[0]} takes whatever follows")
        return
    parser.parameters.append(_parameter(names, given, action, nargs, enums))


def _is_hidden(node: ast.expr | None) -> bool:
    return last_name(node) == "SUPPRESS"


def _parameter(
    names: list[str], given: Mapping[str, ast.expr], action: str, nargs: JsonValue, enums: Enums
) -> ScriptParameter:
    option = next((name for name in names if name.startswith("--")), names[0])
    is_option = option.startswith("-")
    about = _DEFAULT_WORDS.sub("", text_of(given.get("help"))).replace("%%", "%")
    default = json_value(given.get("default"))
    name = input_name(option if option.startswith("--") else text_of(given.get("dest")) or option)
    if action in FLAGS:
        return ScriptParameter(name, schema_with({"type": "boolean"}, about=about), option)
    if action == "BooleanOptionalAction":
        both = f"{option}/--no-{option.removeprefix('--')}"
        return ScriptParameter(name, schema_with({"type": "boolean"}, about=about, default=default), both)
    schema = _schema(given, enums)
    is_list = isinstance(nargs, int) or nargs in ("*", "+") or action in ("append", "extend")
    if is_list:
        schema = list_of(schema)
        if isinstance(nargs, int) and action not in ("append", "extend"):
            schema |= {"minItems": nargs, "maxItems": nargs}
        elif nargs == "+":
            schema |= {"minItems": 1}
    return ScriptParameter(
        name,
        schema_with(schema, about=about, default=default),
        option if is_option else "",
        is_required=value_of(given.get("required")) is True if is_option else nargs not in ("?", "*"),
        is_spread=is_option and is_list and nargs is not None,
    )


def _schema(given: Mapping[str, ast.expr], enums: Enums) -> dict[str, JsonValue]:
    choices = json_value(given.get("choices"))
    if isinstance(choices, list) and choices:
        return {"enum": choices}
    if last_name(given.get("choices")) in enums:
        return {"enum": list(enums[last_name(given["choices"])])}
    found = schema_of(given.get("type"), enums) if last_name(given.get("type")) in ("int", "float") else {}
    return found or {"type": "string"}
