"""The rules that a tool's module obeys before it is ever run. Pure: the code is parsed, never imported.

`check` returns all breaches at once, each with its line and the remedy, because they go back to the model.
The rules for what a module may contain are in `rules`, those for answers that were made for the cases in
`overfitting_rules`. The rules here are about its shape: one function with the parameters of the
specification, in order and with the same defaults, annotated and documented as smolagents' `@tool` requires.

Not covered: what shows only when the code runs, which the trial finds, and code that evades these rules,
which the sandbox confines.
"""

import ast
import inspect
import json
import re
from collections.abc import Collection, Iterator

from toolsmith.built import FunctionSignature
from toolsmith.parsing import parse_module
from toolsmith.proof.cases import Suite
from toolsmith.proof.overfitting_rules import overfitting_faults
from toolsmith.proof.rules import Fault, module_faults
from toolsmith.spec import Input, ToolSpec

_TYPES = {
    "str": "string",
    "int": "integer",
    "float": "number",
    "bool": "boolean",
    "list": "array",
    "List": "array",
    "tuple": "array",
    "dict": "object",
    "Dict": "object",
    "None": "null",
}


def check(
    source: str, spec: ToolSpec, modules: Collection[str] = (), suite: Suite | None = None
) -> tuple[str, ...]:
    """All breaches of the rules, in the order of lines, as `line N: what; remedy`; empty when all is well.

    `modules` are the names that the packages of the specification can be imported by. With the `suite` that
    the module will be tried on, answers that were made for it are among the breaches.
    """
    try:
        tree, doubts = parse_module(source)
    except SyntaxError as exc:
        return (f"line {exc.lineno or 1}: is not Python: {exc.msg}; return one whole module",)
    prose = _prose(spec)
    faults = {*module_faults(tree, spec, prose, modules), *_tool_faults(tree, spec), *_undocumented(tree)}
    if suite is not None:
        faults |= {*overfitting_faults(tree, spec, suite, prose)}
    return (
        *(f"{doubt}; mend it" for doubt in doubts),
        *(f"line {line}: {told}" for line, told in sorted(faults)),
    )


def _prose(spec: ToolSpec) -> str:
    """All words of a specification, in lower case."""
    texts = [spec.purpose, spec.output_description, *(error.when for error in spec.errors)]
    for name, given in spec.inputs.items():
        texts += [name, given.description, json.dumps(given.default, ensure_ascii=False)]
    return "\n".join(texts).lower()


def functions(source: str) -> tuple[FunctionSignature, ...]:
    """Every function and every method, with signature and first paragraph, in the order of the source.

    Raises:
        SyntaxError: the source is not Python.
    """
    tree, _ = parse_module(source)
    found = []
    for name, node in _functions(tree):
        result = f" -> {ast.unparse(node.returns)}" if node.returns else ""
        paragraph = re.split(r"\n\s*\n", ast.get_docstring(node) or "", maxsplit=1)[0]
        signature = f"{name}({ast.unparse(node.args)}){result}"
        found.append(FunctionSignature(name=name, signature=signature, doc=" ".join(paragraph.split())))
    return tuple(found)


def _functions(tree: ast.AST) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    for node in getattr(tree, "body", []):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name, node
        elif isinstance(node, ast.ClassDef):
            yield from ((f"{node.name}.{name}", method) for name, method in _functions(node))


def _undocumented(tree: ast.Module) -> Iterator[Fault]:
    for name, node in _functions(tree):
        if not ast.get_docstring(node) and not any(part.startswith("_") for part in name.split(".")):
            yield node.lineno, f"{name} has no docstring; say what it does, or start its name with _"


def _tool_faults(tree: ast.Module, spec: ToolSpec) -> Iterator[Fault]:
    named = [node for node in tree.body if getattr(node, "name", None) == spec.name]
    found = [node for node in named if isinstance(node, ast.FunctionDef)]
    if len(named) != 1 or len(found) != 1:
        yield 1, f"there must be exactly one function {spec.name} at the top level; there are {len(found)}"
    for node in found:
        yield from _decorator_faults(tree, node)
        yield from _parameter_faults(node, spec)
        yield from _docstring_faults(node, spec)


def _decorator_faults(tree: ast.Module, node: ast.FunctionDef) -> Iterator[Fault]:
    if [ast.unparse(decorator) for decorator in node.decorator_list] != ["tool"]:
        yield node.lineno, f"{node.name} must be decorated with @tool and nothing else"
    imported = (
        part for part in tree.body if isinstance(part, ast.ImportFrom) and part.module == "smolagents"
    )
    if not any(alias.name == "tool" and not alias.asname for part in imported for alias in part.names):
        yield 1, "tool is not imported; write: from smolagents import tool"


def _parameter_faults(node: ast.FunctionDef, spec: ToolSpec) -> Iterator[Fault]:
    given, line = node.args, node.lineno
    if given.vararg or given.kwarg or given.posonlyargs or given.kwonlyargs:
        yield line, f"{node.name} may only have plain parameters: no *, no /, no *args, no **kwargs"
    names = [parameter.arg for parameter in given.args]
    if names != list(spec.inputs):
        yield (
            line,
            f"the parameters must be ({', '.join(spec.inputs)}) in this order, not ({', '.join(names)})",
        )
    if node.returns is None:
        yield line, f"the result of {node.name} is not annotated; write -> and its type"
    first_default = len(given.args) - len(given.defaults)
    for at, parameter in enumerate(given.args):
        default = given.defaults[at - first_default] if at >= first_default else None
        if parameter.arg in spec.inputs:
            yield from _one_parameter_faults(parameter, default, spec.inputs[parameter.arg])


def _one_parameter_faults(parameter: ast.arg, default: ast.expr | None, declared: Input) -> Iterator[Fault]:
    name, line = parameter.arg, parameter.lineno
    if parameter.annotation is None:
        yield line, f"the parameter {name} is not annotated; its type is {declared.type}"
    elif not _annotation_fits(parameter.annotation, declared):
        told = ast.unparse(parameter.annotation)
        null = " or null" if declared.nullable else ""
        yield line, f"the parameter {name} is annotated {told}, but its type is {declared.type}{null}"
    if declared.required and default is not None:
        yield (
            line,
            f"the parameter {name} has a default, but the specification requires it; take the default away",
        )
    if not declared.required and not _is_literal(default, declared.default):
        yield (
            line,
            f"the parameter {name} must have the default {declared.default!r}, as in the specification",
        )


def _is_literal(default: ast.expr | None, wanted: object) -> bool:
    try:
        value = ast.literal_eval(default) if default is not None else ...
    except ValueError:
        return False
    return type(value) is type(wanted) and value == wanted


def _annotation_fits(annotation: ast.expr, declared: Input) -> bool:
    """Whether an annotation says what is declared; one that is not understood is left to the trial."""
    said = _json_types(annotation)
    if said is None or declared.type == "any":
        return True
    wanted = {declared.type, *(["null"] if declared.nullable else [])}
    return said - ({"integer"} if "number" in said else set()) == wanted


def _json_types(annotation: ast.expr) -> set[str] | None:
    match annotation:
        case ast.Constant(value=None):
            return {"null"}
        case ast.Name(id=name) if name in _TYPES:
            return {_TYPES[name]}
        case ast.Subscript(value=ast.Name(id="Optional"), slice=inner):
            return _union([inner], {"null"})
        case ast.Subscript(value=ast.Name(id="Union"), slice=ast.Tuple(elts=parts)):
            return _union(parts, set())
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            return _union([left, right], set())
        case ast.Subscript(value=ast.Name() as outer):
            return _json_types(outer)
    return None


def _union(parts: list[ast.expr], said: set[str]) -> set[str] | None:
    for part in parts:
        types = _json_types(part)
        if types is None:
            return None
        said = said | types
    return said


def _docstring_faults(node: ast.FunctionDef, spec: ToolSpec) -> Iterator[Fault]:
    doc = inspect.cleandoc(ast.get_docstring(node) or "")
    if not doc:
        return  # _undocumented has said so
    arguments = re.search(r"^Args:[ \t]*\n(?P<body>.*?)(?=^\S|\Z)", doc, re.DOTALL | re.MULTILINE)
    if spec.inputs and not arguments:
        yield node.lineno, f"the docstring of {node.name} has no section 'Args:'"
    elif doc.startswith("Args:"):
        yield node.lineno, f"the docstring of {node.name} must begin with what it does, before 'Args:'"
    for name in spec.inputs if arguments else ():
        if arguments and not re.search(rf"^[ \t]+{name}\b[^\n:]*:[ \t]*\S", arguments["body"], re.MULTILINE):
            yield node.lineno, f"the section 'Args:' of {node.name} lacks a line '{name}: description'"
