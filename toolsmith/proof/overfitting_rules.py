"""Answers that were made for the cases, found as literals in a tool's module. Pure.

Refused are literals that are the inputs of cases: compared with a parameter, or the keys of a table whose
values are what the cases expect; and a fixed hash that something is compared with. What the specification
mentions itself, short words, small numbers, and large tables of which a few entries happen to be cases are
allowed.

Not covered: answers that are hidden better, say in arithmetic. The writer of the code sees the outcome of a
case only after failing it, and never sees the generated inputs of properties.
"""

import ast
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from toolsmith.proof.cases import Suite
from toolsmith.proof.rules import Fault
from toolsmith.spec import ToolSpec

_HASH = re.compile(r"[0-9a-f]{32}|[0-9a-f]{40}|[0-9a-f]{64}", re.IGNORECASE)
_WORD = re.compile(r"[^\W\d_]+")
_LONG_TEXT = 12
_SHORTEST_TEXT = 4
_SMALLEST_NUMBER = 100


def overfitting_faults(tree: ast.Module, spec: ToolSpec, suite: Suite, prose: str) -> Iterator[Fault]:
    """All such literals, in no particular order; `prose` is the specification's text in lower case."""
    known = _KnownCases.of(spec, suite, prose)
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


@dataclass(frozen=True)
class _KnownCases:
    """What a module could have copied from the cases, without what the specification mentions itself."""

    inputs: frozenset[str]
    """Whole arguments, as JSON."""
    long_texts: frozenset[str]
    """Texts in arguments, files and outcomes that are too long to occur by accident."""
    answers: frozenset[tuple[str, str]]
    """An argument and the expected value, as JSON."""
    prose: str

    @classmethod
    def of(cls, spec: ToolSpec, suite: Suite, prose: str) -> "_KnownCases":
        cases = suite.of(spec)
        texts = {text for case in cases for text in _texts([case.arguments, case.expected, case.files])}
        answers = {
            (_json(value), _json(case.expected)) for case in cases for value in case.arguments.values()
        }
        return cls(
            inputs=frozenset(argument for argument, _ in answers),
            long_texts=frozenset(
                text
                for text in texts
                if len(text) >= _LONG_TEXT and not _WORD.fullmatch(text) and text.lower() not in prose
            ),
            answers=frozenset(answers),
            prose=prose,
        )

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
