"""How a Python script is called that uses `typer`, `click` or `fire`, as its source says. Pure.

Not covered: commands that a loop or another module adds, and groups of typer within another one.
"""

import ast
from collections.abc import Iterator, Mapping

from pydantic import JsonValue

from orchestrator_cli.admin.scripts.calls import ScriptCall, ScriptParameter, input_name, list_of, schema_with
from orchestrator_cli.admin.scripts.python_values import (
    UNKNOWN,
    Enums,
    Function,
    calls_in,
    functions_in,
    json_value,
    keywords,
    last_name,
    owner_name,
    parameters_of,
    schema_of,
    text_of,
    type_of_default,
    value_of,
)

CONTEXTS = ("Context", "CallbackParam")
_TRUTH: dict[str, JsonValue] = {"enum": ["true", "false"]}
"""Of an option that takes a word for it, which is no flag."""


def library_calls(tree: ast.Module, imported: frozenset[str], enums: Enums) -> list[ScriptCall]:
    """The ways to call the script; none if it uses none of the libraries."""
    functions = functions_in(tree)
    if "typer" in imported and (found := list(_of_typer(tree, functions, enums))):
        return found
    if "click" in imported and (found := list(_of_click(tree, functions, enums))):
        return found
    if "fire" in imported:
        named = {
            last_name(call.args[0]) for call in calls_in(tree) if last_name(call) == "Fire" and call.args
        }
        return [
            ScriptCall(
                about=ast.get_docstring(one) or "",
                parameters=tuple(_of_function(one, enums, options_only=True)),
            )
            for one in functions
            if one.name in named
        ][:1]
    return []


def _decorated(function: Function, *names: str) -> ast.expr | None:
    """The decorator of one of these names."""
    return next((one for one in function.decorator_list if last_name(one) in names), None)


def _command_name(decorator: ast.expr, function: Function) -> str:
    given = ""
    if isinstance(decorator, ast.Call):
        given = text_of(decorator.args[0]) if decorator.args else text_of(keywords(decorator).get("name"))
    return given or function.name.replace("_", "-")


# --- typer


def _of_typer(tree: ast.Module, functions: list[Function], enums: Enums) -> Iterator[ScriptCall]:
    run = {last_name(call.args[0]) for call in calls_in(tree) if last_name(call) == "run" and call.args}
    commands = [(one, found) for one in functions if (found := _decorated(one, "command")) is not None]
    is_alone = len(commands) == 1 and not any(_decorated(one, "callback") for one in functions)
    for function in functions:
        if function.name in run:
            yield ScriptCall(
                about=ast.get_docstring(function) or "",
                parameters=tuple(_of_function(function, enums)),
                ends_options=True,
            )
    for function, decorator in commands:
        yield ScriptCall(
            about=ast.get_docstring(function) or "",
            words=() if is_alone else (_command_name(decorator, function),),
            parameters=tuple(_of_function(function, enums)),
            ends_options=True,
        )


def _of_function(
    function: Function, enums: Enums, *, options_only: bool = False
) -> Iterator[ScriptParameter]:
    """The parameters of a function that a library makes a command of."""
    for one, default in parameters_of(function):
        if last_name(one.annotation) not in CONTEXTS and one.arg not in ("self", "ctx"):
            yield _typed(one, default, enums, options_only=options_only)


def _typed(one: ast.arg, default: ast.expr | None, enums: Enums, *, options_only: bool) -> ScriptParameter:
    info = _info(one.annotation) or (default if last_name(default) in ("Option", "Argument") else None)
    given = keywords(info) if isinstance(info, ast.Call) else {}
    named = [text_of(arg) for arg in info.args] if isinstance(info, ast.Call) else []
    value = default
    if info is not None and info is default and isinstance(info, ast.Call):
        value = info.args[0] if info.args else given.get("default")
    is_required = value is None or value_of(value) is ...
    is_place = last_name(info) == "Argument" or (info is None and is_required and not options_only)
    about, plain = text_of(given.get("help")), json_value(value)
    schema = schema_of(one.annotation, enums) or ({} if one.annotation else type_of_default(plain))
    name = input_name(one.arg)
    if is_place:
        shown = schema_with(schema, about=about, default=plain)
        return ScriptParameter(name, shown, is_required=is_required)
    options = [text for text in named if text.startswith("-")]
    option = next((text for text in options if text.startswith("--")), (options or [""])[0])
    long = f"--{one.arg.replace('_', '-')}"
    if schema.get("type") == "boolean" and not option:
        option = f"{long}/--no{one.arg}" if options_only else f"{long}/--no-{long.removeprefix('--')}"
    return ScriptParameter(
        name,
        schema_with(schema, about=about, default=plain),
        option or long,
        is_required=is_required,
        is_spread="tuple[" in (ast.unparse(one.annotation).lower() if one.annotation else ""),
    )


def _info(annotation: ast.expr | None) -> ast.Call | None:
    """`typer.Option(…)` of an annotation."""
    if not isinstance(annotation, ast.Subscript) or last_name(annotation.value) != "Annotated":
        return None
    parts = annotation.slice.elts if isinstance(annotation.slice, ast.Tuple) else []
    return next(
        (p for p in parts if isinstance(p, ast.Call) and last_name(p) in ("Option", "Argument")), None
    )


# --- click


def _of_click(tree: ast.Module, functions: list[Function], enums: Enums) -> Iterator[ScriptCall]:
    groups: dict[str, tuple[str, ...]] = {}
    for function in functions:
        if (found := _decorated(function, "group")) is not None:
            owner = owner_name(found)
            groups[function.name] = (
                (*groups[owner], _command_name(found, function)) if owner in groups else ()
            )
    added = {
        last_name(call.args[0]): owner_name(call)
        for call in calls_in(tree)
        if last_name(call) == "add_command" and call.args
    }
    for function in functions:
        if (found := _decorated(function, "command")) is None:
            continue
        owner = added.get(function.name, owner_name(found))
        words = (*groups[owner], _command_name(found, function)) if owner in groups else ()
        yield ScriptCall(
            about=ast.get_docstring(function) or text_of(_given(found).get("help")),
            words=words,
            parameters=tuple(_decorators(function, enums)),
            ends_options=True,
        )


def _given(decorator: ast.expr) -> Mapping[str, ast.expr]:
    return keywords(decorator) if isinstance(decorator, ast.Call) else {}


def _decorators(function: Function, enums: Enums) -> Iterator[ScriptParameter]:
    for one in function.decorator_list:
        names = [text_of(arg) for arg in one.args] if isinstance(one, ast.Call) else []
        if not names or not all(names):
            continue
        given = _given(one)
        if last_name(one) == "argument":
            yield _place(names[0], given, enums)
        elif last_name(one) == "option" and value_of(given.get("hidden")) is not True:
            yield _option(names, given, enums)


def _place(name: str, given: Mapping[str, ast.expr], enums: Enums) -> ScriptParameter:
    nargs, default = value_of(given.get("nargs")), json_value(given.get("default"))
    schema = _click_schema(given, enums, default)
    required = value_of(given.get("required"))
    if isinstance(nargs, int) and nargs != 1:
        schema = list_of(schema) | ({"minItems": nargs, "maxItems": nargs} if nargs > 1 else {})
    is_required = required is True or (required is UNKNOWN and default is None and nargs != -1)
    return ScriptParameter(input_name(name), schema_with(schema, default=default), is_required=is_required)


def _option(names: list[str], given: Mapping[str, ast.expr], enums: Enums) -> ScriptParameter:
    options = [name for name in names if name.startswith("-")]
    option = next((name for name in options if name.startswith("--")), (options or [f"--{names[0]}"])[0])
    name = input_name(option.partition("/")[0])
    about, default = text_of(given.get("help")), json_value(given.get("default"))
    if "/" in option or value_of(given.get("is_flag")) is True or value_of(given.get("count")) is True:
        shown = default if isinstance(default, bool) else None
        return ScriptParameter(name, schema_with({"type": "boolean"}, about=about, default=shown), option)
    schema, nargs = _click_schema(given, enums, default), value_of(given.get("nargs"))
    is_spread = isinstance(nargs, int) and nargs > 1
    if is_spread:
        schema = list_of(schema) | {"minItems": nargs, "maxItems": nargs}
    elif value_of(given.get("multiple")) is True:
        schema = list_of(schema)
    return ScriptParameter(
        name,
        schema_with(schema, about=about, default=None if isinstance(default, bool) else default),
        option,
        is_required=value_of(given.get("required")) is True,
        is_spread=is_spread,
    )


def _click_schema(given: Mapping[str, ast.expr], enums: Enums, default: JsonValue) -> dict[str, JsonValue]:
    kind = given.get("type")
    match last_name(kind):
        case "Choice" if isinstance(kind, ast.Call) and kind.args:
            choices = json_value(kind.args[0])
            return {"enum": choices} if isinstance(choices, list) and choices else {"type": "string"}
        case "INT" | "IntRange":
            return {"type": "integer"}
        case "FLOAT" | "FloatRange":
            return {"type": "number"}
        case "BOOL":
            return dict(_TRUTH)
        case "int" | "float":
            return schema_of(kind, enums)
        case "bool":
            return dict(_TRUTH)
    inferred = type_of_default(default if kind is None and not isinstance(default, list) else None)
    return inferred if inferred["type"] != "boolean" else dict(_TRUTH)
