"""The rules that a tool's module obeys before it is ever run. Pure: the code is parsed, never imported.

`check` returns all breaches at once, each with its line and the remedy, because they go back to the model.
The rules for what a module may contain are in `rules`. The rules here are about its shape: one function with
the parameters of the specification, in order and with the same defaults, annotated and documented as
smolagents' `@tool` requires.

And about answers that were made for the cases. Refused are literals that are the inputs of cases: compared
with a parameter, or the keys of a table whose values are what the cases expect; and a fixed hash that
something is compared with. What the specification mentions itself, short words, small numbers, and large
tables of which a few entries happen to be cases are allowed.

Not covered: what shows only when the code runs, which the trial finds; code that evades these rules, which
the sandbox confines; and answers that are hidden better, say in arithmetic. The writer of the code sees the
outcome of a case only after failing it, and never sees the generated inputs of properties.
"""

import ast
import inspect
import json
import re
from collections.abc import Collection, Iterable, Iterator
from typing import Any

from orchestrator_cli.durable.python_text import parse_module
from orchestrator_cli.durable.text import truncate
from toolsmith.bounds import TEXT_CHARS, function_faults, source_fault
from toolsmith.built import FunctionSignature
from toolsmith.proof.cases import Suite
from toolsmith.proof.rules import Fault, module_faults
from toolsmith.spec import Input, ToolSpec

_HASH = re.compile(r"[0-9a-f]{32}|[0-9a-f]{40}|[0-9a-f]{64}", re.IGNORECASE)
_WORD = re.compile(r"[^\W\d_]+")
_LONG_TEXT = 12
_SHORTEST_TEXT = 4
_SMALLEST_NUMBER = 100


def overfitting_faults(tree: ast.Module, spec: ToolSpec, suite: Suite, prose: str) -> Iterator[Fault]:
    """All such literals, in no particular order; `prose` is the specification's text in lower case."""
    known = _KnownCases(spec, suite, prose)
    parameters = {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
    for node in ast.walk(tree):
        for value in _suspects(node, parameters, known):
            reason = "is the input of a case; follow the specification instead of answering known inputs"
            yield getattr(node, "lineno", 1), f"{_json(value)[:60]} {reason}"
        if isinstance(node, ast.Compare):
            for value in map(_literal, [node.left, *node.comparators]):
                if isinstance(value, str) and _HASH.fullmatch(value) and value.lower() not in prose:
                    yield (
                        node.lineno,
                        "something is compared with a fixed hash; say in plain code what is meant",
                    )


class _KnownCases:
    """What a module could have copied from the cases, without what the specification mentions itself."""

    def __init__(self, spec: ToolSpec, suite: Suite, prose: str) -> None:
        cases = suite.of(spec)
        self.prose = prose
        # Arguments and expected values, as JSON.
        self.answers = {(_json(v), _json(case.expected)) for case in cases for v in case.arguments.values()}
        self.inputs = {argument for argument, _ in self.answers}
        # Texts in arguments, files and outcomes that are too long to occur by accident.
        self.long_texts = {
            text
            for text in _texts([[case.arguments, case.expected, case.files] for case in cases])
            if len(text) >= _LONG_TEXT and not _WORD.fullmatch(text) and text.lower() not in prose
        }

    def has_input(self, value: object) -> bool:
        """Whether a literal is an argument of a case, and too particular to occur by accident."""
        if isinstance(value, str):
            text = value.strip().lower()
            particular = len(text) >= _SHORTEST_TEXT and text not in self.prose
        elif isinstance(value, int | float) and not isinstance(value, bool):
            particular = abs(value) >= _SMALLEST_NUMBER and value % 10 != 0 and str(value) not in self.prose
        else:
            particular = isinstance(value, list | tuple | dict) and len(value) > 1
        return particular and _json(value) in self.inputs

    def has_text(self, value: object) -> bool:
        return isinstance(value, str) and value in self.long_texts


def _suspects(node: ast.AST, parameters: set[str], known: _KnownCases) -> Iterator[object]:
    match node:
        case ast.Compare(left=left, ops=ops, comparators=others):
            if any(isinstance(op, ast.Eq | ast.NotEq | ast.In | ast.NotIn) for op in ops):
                compared = any(_variable(part) in parameters for part in [left, *others])
                for value in _flat([left, *others]):
                    if known.has_text(value) or (compared and known.has_input(value)):
                        yield value
        case ast.Match(subject=subject, cases=cases) if _variable(subject) in parameters:
            parts = (part for case in cases for part in ast.walk(case.pattern))
            yield from filter(known.has_input, _flat(p.value for p in parts if isinstance(p, ast.MatchValue)))
        case ast.Call(func=ast.Attribute(attr="startswith" | "endswith"), args=[first, *_]):
            yield from filter(known.has_text, [_literal(first)])
        case ast.Dict(keys=keys, values=values):
            pairs = [(_literal(key), _literal(value)) for key, value in zip(keys, values, strict=True) if key]
            answers = [k for k, v in pairs if (_json(k), _json(v)) in known.answers and known.has_input(k)]
            yield from [key for key, _ in pairs if known.has_text(key)] or _mostly(answers, pairs)
        case ast.Set(elts=elements) | ast.List(elts=elements) | ast.Tuple(elts=elements):
            yield from _mostly([*filter(known.has_input, map(_literal, elements))], elements)


def _mostly(found: list[object], of: list[Any]) -> list[object]:
    """What was found, if it is at least two and half of all."""
    return found if len(found) > 1 and 2 * len(found) >= len(of) else []


def _flat(parts: Iterable[ast.expr]) -> Iterator[object]:
    for part in parts:
        yield _literal(part)
        if isinstance(part, ast.Tuple | ast.List | ast.Set):
            yield from map(_literal, part.elts)


def _literal(node: ast.expr) -> Any:
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return ...


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list | tuple):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _texts(part)


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True, default=repr)


def _variable(node: ast.expr) -> str | None:
    """The variable in `text`, `(text)`, `text.strip().lower()`; None of anything else."""
    while True:
        match node:
            case ast.Name(id=name):
                return name
            case ast.Call(func=ast.Attribute(value=inner), args=[]) | ast.NamedExpr(value=inner):
                node = inner
            case _:
                return None


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
    if too_long := source_fault(source):
        return (f"line 1: {too_long}",)
    try:
        tree, doubts = parse_module(source)
    except SyntaxError as exc:
        return (f"line {exc.lineno or 1}: is not Python: {exc.msg}; return one whole module",)
    prose = _prose(spec)
    faults = {*module_faults(tree, spec, prose, modules), *_tool_faults(tree, spec), *_undocumented(tree)}
    faults |= {*function_faults(list(_functions(tree)))}
    if suite is not None:
        faults |= {*overfitting_faults(tree, spec, suite, prose)}
    return (
        *(f"{doubt}; mend it" for doubt in doubts),
        *(f"line {line}: {fault}" for line, fault in sorted(faults)),
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
        ValueError: it, or a part of it, is too long.
    """
    if too_long := source_fault(source):
        raise ValueError(too_long)
    tree, _ = parse_module(source)
    if faults := list(function_faults(list(_functions(tree)))):
        raise ValueError(faults[0][1])
    found = []
    for name, node in _functions(tree):
        result = f" -> {ast.unparse(node.returns)}" if node.returns else ""
        paragraph = re.split(r"\n\s*\n", ast.get_docstring(node) or "", maxsplit=1)[0]
        signature = f"{name}({ast.unparse(node.args)}){result}"
        doc = truncate(" ".join(paragraph.split()), TEXT_CHARS)
        found.append(FunctionSignature(name=name, signature=signature, doc=doc))
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
        written = ast.unparse(parameter.annotation)
        null = " or null" if declared.nullable else ""
        yield line, f"the parameter {name} is annotated {written}, but its type is {declared.type}{null}"
    if declared.required and default is not None:
        yield (
            line,
            f"the parameter {name} has a default, but the specification requires it; take the default away",
        )
    value = _literal(default) if default is not None else ...
    if not declared.required and (type(value), value) != (type(declared.default), declared.default):
        yield (
            line,
            f"the parameter {name} must have the default {declared.default!r}, as in the specification",
        )


def _annotation_fits(annotation: ast.expr, declared: Input) -> bool:
    """Whether an annotation says what is declared; one that is not understood is left to the trial."""
    said = _json_types(annotation)
    if said is None or declared.type == "any":
        return True
    wanted = {declared.type, *(["null"] if declared.nullable else [])}
    return said - ({"integer"} if "number" in said else set()) == wanted


def _json_types(annotation: ast.expr) -> set[str] | None:
    parts: list[ast.expr]
    match annotation:
        case ast.Constant(value=None):
            return {"null"}
        case ast.Name(id=name) if name in _TYPES:
            return {_TYPES[name]}
        case ast.Subscript(value=ast.Name(id="Optional"), slice=inner):
            parts = [inner, ast.Constant(None)]
        case ast.Subscript(value=ast.Name(id="Union"), slice=ast.Tuple(elts=parts)):
            pass
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            parts = [left, right]
        case ast.Subscript(value=ast.Name() as outer):
            parts = [outer]
        case _:
            return None
    said = [_json_types(part) for part in parts]
    return None if None in said else {name for types in said for name in types or ()}


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
