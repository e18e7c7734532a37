"""How a Python script is called, as its source says: Prefect flows, libraries for command lines, `sys.argv`.

Nothing of the file is imported or run. Not covered: what a file computes, such as arguments added in a loop.
"""

import ast
from collections.abc import Iterator
from typing import NamedTuple

from pydantic import JsonValue

from orchestrator_cli.admin.scripts.argparse_calls import argparse_calls
from orchestrator_cli.admin.scripts.calls import ScriptCall, ScriptParameter, input_name, list_of, schema_with
from orchestrator_cli.admin.scripts.click_calls import library_calls
from orchestrator_cli.admin.scripts.python_values import (
    Enums,
    Function,
    calls_in,
    enums_in,
    functions_in,
    json_value,
    keywords,
    last_name,
    may_be_none,
    parameters_of,
    schema_of,
    text_of,
)
from orchestrator_cli.durable.python_text import parse_module

_ACTS = (ast.Expr, ast.For, ast.While, ast.With, ast.AsyncFor, ast.AsyncWith, ast.Delete, ast.Assert)


class PythonFile(NamedTuple):
    """What a file says of itself."""

    about: str
    """The docstring of the module."""
    only_defines: bool
    """Whether it does nothing if it is run, but import, assign and define."""
    calls: list[ScriptCall]
    """The ways to call it, one at least."""


def read_python(source: str) -> PythonFile:
    """Read a file of Python. Raises `SyntaxError`."""
    tree, _ = parse_module(source)
    about = ast.get_docstring(tree) or ""
    calls = _calls(tree, about)
    only_defines = not any(map(_acts, tree.body)) and not any(call.flow for call in calls)
    return PythonFile(about, only_defines, calls)


def _calls(tree: ast.Module, about: str) -> list[ScriptCall]:
    enums, imported = enums_in(tree), _imported(tree)
    if "prefect" in imported and (flows := list(_flows(tree, enums))):
        return flows
    found = library_calls(tree, imported, enums) or argparse_calls(tree, enums)
    return found or [ScriptCall(about=about, parameters=tuple(_from_argv(tree, enums)))]


def _acts(node: ast.stmt) -> bool:
    if isinstance(node, ast.Expr):
        return not isinstance(node.value, ast.Constant)
    if isinstance(node, ast.If):
        test = ast.unparse(node.test)
        return "TYPE_CHECKING" not in test
    return isinstance(node, _ACTS)


def _imported(tree: ast.Module) -> frozenset[str]:
    names = set[str]()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.partition(".")[0])
    return frozenset(names)


# --- Prefect flows


def _flows(tree: ast.Module, enums: Enums) -> Iterator[ScriptCall]:
    """The flows of a file, without those that another flow of it calls."""
    flows = {
        one.name: (one, mark)
        for one in functions_in(tree)
        for mark in one.decorator_list
        if last_name(mark) == "flow"
    }
    called = {
        last_name(call)
        for name, (function, _) in flows.items()
        for call in calls_in(function)
        if last_name(call) != name
    }
    for name, (function, mark) in flows.items():
        if name not in called:
            about = text_of(keywords(mark).get("description")) if isinstance(mark, ast.Call) else ""
            yield ScriptCall(
                about=about or ast.get_docstring(function) or "",
                parameters=tuple(_parameters(function, enums)),
                flow=name,
            )


def _parameters(function: Function, enums: Enums) -> Iterator[ScriptParameter]:
    """The parameters of a function that is called with them."""
    for one, default in parameters_of(function):
        schema = schema_of(one.annotation, enums)
        if may_be_none(one.annotation) and "type" in schema:
            schema["type"] = [schema["type"], "null"]
        yield ScriptParameter(
            one.arg, schema_with(schema, default=json_value(default)), is_required=default is None
        )


# --- sys.argv


def _from_argv(tree: ast.Module, enums: Enums) -> Iterator[ScriptParameter]:
    """What a script takes from `sys.argv` by its place, up to the first place that it does not take."""
    found: dict[int, ScriptParameter] = {}
    functions = {one.name: one for one in functions_in(tree)}
    for node in ast.walk(tree):
        for target, value in _uses(node, functions):
            if (place := _place_of(value)) is not None:
                number, is_rest = place
                name = input_name(target.arg if isinstance(target, ast.arg) else last_name(target))
                annotation = target.annotation if isinstance(target, ast.arg) else None
                schema = schema_of(annotation, enums) or _converted(value)
                found.setdefault(
                    number,
                    ScriptParameter(
                        name or f"argument_{number}",
                        schema_with(list_of(schema) if is_rest else schema, default=_otherwise(value)),
                        is_required=not is_rest and not isinstance(value, ast.IfExp),
                    ),
                )
    for number in range(1, len(found) + 1):
        if number not in found:
            return
        yield found[number]
        if found[number].schema.get("type") == "array":
            return


def _uses(
    node: ast.AST, functions: dict[str, Function]
) -> Iterator[tuple[ast.arg | ast.expr | None, ast.expr]]:
    """Values with what they are given to: a variable, or a parameter of a function of the file."""
    match node:
        case ast.Assign(targets=[ast.Tuple(elts=[*names])], value=value) if _place_of(value) is not None:
            for number, name in enumerate(names, start=(_place_of(value) or (1, True))[0]):
                text = f"sys.argv[{number}]"
                yield name, ast.parse(text, mode="eval").body
        case ast.Assign(targets=[target], value=value):
            yield target, value
        case ast.AnnAssign(target=ast.Name(id=name), annotation=annotation, value=ast.expr() as value):
            yield ast.arg(arg=name, annotation=annotation), value
        case ast.For(target=target, iter=value):
            yield target, value
        case ast.Call(args=[ast.Starred(value=value)]) if last_name(node) in functions:
            given = functions[last_name(node)].args.args
            for number, one in enumerate(given, start=(_place_of(value) or (0, False))[0]):
                if number:
                    yield one, ast.parse(f"sys.argv[{number}]", mode="eval").body
        case ast.Call(args=[*values]) if last_name(node) in functions:
            yield from zip(functions[last_name(node)].args.args, values, strict=False)


def _place_of(node: ast.expr | None) -> tuple[int, bool] | None:
    """The place that an expression takes, and whether it takes all from there on."""
    match node:
        case ast.Subscript(value=argv, slice=at) if ast.unparse(argv) in ("sys.argv", "argv"):
            match at:
                case ast.Constant(value=int(number)) if number > 0:
                    return number, False
                case ast.Slice(lower=ast.Constant(value=int(number)), upper=None) if number > 0:
                    return number, True
        case ast.IfExp(body=body, orelse=other):
            return _place_of(body) or _place_of(other)
        case ast.Call(args=[inner, *_]) if last_name(node) in ("int", "float", "Path", "str", "list"):
            return _place_of(inner)
    return None


def _converted(node: ast.expr) -> dict[str, JsonValue]:
    kind = next((last_name(call) for call in calls_in(node) if last_name(call) in ("int", "float")), "str")
    return schema_of(ast.Name(id=kind), {})


def _otherwise(node: ast.expr) -> JsonValue:
    """What a script takes if the place is empty."""
    if not isinstance(node, ast.IfExp):
        return None
    return json_value(node.orelse if _place_of(node.body) else node.body)
