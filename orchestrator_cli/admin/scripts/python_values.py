"""Parts of a Python file as values: constants, names of functions, and annotations as JSON Schemas. Pure."""

import ast
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import JsonValue

from orchestrator_cli.admin.scripts.calls import list_of

PLAIN: dict[str, dict[str, JsonValue]] = {
    "str": {"type": "string"},
    "int": {"type": "integer"},
    "float": {"type": "number"},
    "bool": {"type": "boolean"},
    "Path": {"type": "string"},
    "date": {"type": "string", "format": "date"},
    "datetime": {"type": "string", "format": "date-time"},
    "dict": {"type": "object"},
    "Dict": {"type": "object"},
    "Mapping": {"type": "object"},
}
LISTS = ("list", "List", "tuple", "Tuple", "set", "Set", "Sequence", "Iterable")
Function = ast.FunctionDef | ast.AsyncFunctionDef
Enums = Mapping[str, list[JsonValue]]


class _Unknown:
    """No value: what the file computes."""


UNKNOWN: Any = _Unknown()


def value_of(node: ast.expr | None) -> Any:
    """The value of a literal; `UNKNOWN` for anything else."""
    if node is None:
        return UNKNOWN
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return UNKNOWN


def text_of(node: ast.expr | None) -> str:
    """The text of a literal; empty for anything else."""
    value = value_of(node)
    return value if isinstance(value, str) else ""


def json_value(node: ast.expr | None) -> JsonValue:
    """A literal's text, number, truth or list of these; None for anything else."""
    value = value_of(node)
    if isinstance(value, list | tuple):
        items = list(value)
        return items if all(isinstance(item, str | int | float | bool) for item in items) else None
    return value if isinstance(value, str | int | float | bool) else None


def last_name(node: ast.expr | None) -> str:
    """`option` of `click.option`, of `option` and of `click.option(…)`."""
    while isinstance(node, ast.Call):
        node = node.func
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


def owner_name(node: ast.expr) -> str:
    """`cli` of `cli.command` and of `cli.command(…)`."""
    while isinstance(node, ast.Call):
        node = node.func
    return last_name(node.value) if isinstance(node, ast.Attribute) else ""


def keywords(call: ast.Call) -> dict[str, ast.expr]:
    return {one.arg: one.value for one in call.keywords if one.arg}


def functions_in(tree: ast.Module) -> list[Function]:
    return [node for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


def parameters_of(function: Function) -> Iterator[tuple[ast.arg, ast.expr | None]]:
    """The parameters of a function, each with its default."""
    given = function.args
    places = [*given.posonlyargs, *given.args]
    defaults: list[ast.expr | None] = [*[None] * (len(places) - len(given.defaults)), *given.defaults]
    yield from zip(places, defaults, strict=True)
    yield from zip(given.kwonlyargs, given.kw_defaults, strict=True)


def calls_in(tree: ast.AST) -> Iterator[ast.Call]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.Call))


def enums_in(tree: ast.Module) -> Enums:
    """The values of the enumerations that a file defines."""
    return {
        node.name: [value for part in node.body if (value := _member(part)) is not None]
        for node in tree.body
        if isinstance(node, ast.ClassDef) and any("Enum" in last_name(base) for base in node.bases)
    }


def _member(node: ast.stmt) -> JsonValue:
    return json_value(node.value) if isinstance(node, ast.Assign) else None


def schema_of(node: ast.expr | None, enums: Enums) -> dict[str, JsonValue]:
    """The JSON Schema of what an annotation, or a `type=` of a library, allows; empty if unknown."""
    match node:
        case ast.Constant(value=str(text)):
            try:
                return schema_of(ast.parse(text, mode="eval").body, enums)
            except (SyntaxError, ValueError, RecursionError, MemoryError):
                return {}
        case ast.BinOp(op=ast.BitOr(), left=left, right=right):
            return _of_either((left, right), enums)
        case ast.Subscript(value=base, slice=inner):
            parts = inner.elts if isinstance(inner, ast.Tuple) else [inner]
            name = last_name(base)
            if name in ("Annotated", "Optional", "Required", "NotRequired"):
                return schema_of(parts[0], enums)
            if name == "Union":
                return _of_either(tuple(parts), enums)
            if name == "Literal":
                return {"enum": [value for part in parts if (value := json_value(part)) is not None]}
            if name in LISTS:
                return list_of(schema_of(parts[0], enums))
            return dict(PLAIN.get(name, {}))
    name = last_name(node)
    if name in enums:
        return {"enum": list(enums[name])}
    return list_of({}) if name in LISTS else dict(PLAIN.get(name, {}))


def _of_either(parts: tuple[ast.expr, ...], enums: Enums) -> dict[str, JsonValue]:
    some = [part for part in parts if not (isinstance(part, ast.Constant) and part.value is None)]
    return schema_of(some[0], enums) if len(some) == 1 else {}


def may_be_none(node: ast.expr | None) -> bool:
    """Whether an annotation allows None."""
    text = ast.unparse(node) if node is not None else ""
    return "None" in text or "Optional[" in text


def type_of_default(default: JsonValue) -> dict[str, JsonValue]:
    """The type of a default value, as libraries infer it."""
    if isinstance(default, bool):
        return {"type": "boolean"}
    if isinstance(default, int | float):
        return {"type": "integer" if isinstance(default, int) else "number"}
    return {"type": "string"}
