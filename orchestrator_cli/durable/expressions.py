"""Expressions that a model wrote over JSON values: conditions and checks. Never `eval`.

simpleeval walks the syntax tree of what `expression_faults` accepts: short lists of operators, functions and
methods, and no power, repetition, formatting, lambda or f-string. An attribute reads a key of an object, so
no expression reaches an attribute of Python's. Each step, each value that is read as a whole and each value
that is made costs work before it is done, and an expression has `WORK` of it, about three seconds; a text
that would become longer than `MADE_CHARS` is not made.

Not covered: a result of one operation may be several times as large as its text before it is paid for.
"""

import ast
import functools
import operator
import sys
from collections.abc import Callable, Collection, Mapping
from typing import Any

import simpleeval

from orchestrator_cli.durable.python_text import parse_expression

MAX_CHARS = 2_000
MADE_CHARS = 1_000_000
WORK = 2_000_000_000
"""What one expression may cost, in steps of about a nanosecond."""
_NODE = 2_000
_ITEM = 20
_MADE_BYTE = 30
"""Makes memory the dearest, so that `WORK` pays for about 60 MB."""
_BITS = 10_000


class ExpressionFailed(Exception):
    """An expression could not be evaluated; the text says why."""


def expression_faults(text: str, names: Collection[str]) -> tuple[str, ...]:
    """All reasons why an expression over these names cannot be evaluated; empty if there is none."""
    try:
        tree = _parsed(text)
    except ExpressionFailed as exc:
        return (str(exc),)
    faults = [fault for node in ast.walk(tree) if (fault := _node_fault(node))]
    if unknown := sorted(_free_names(tree) - {*names} - _FUNCTIONS.keys()):
        faults.append(f"reads {', '.join(unknown)}; it can read {', '.join(sorted(names)) or 'nothing'}")
    return tuple(dict.fromkeys(faults))


def names_in(text: str) -> frozenset[str]:
    """The free names of an expression, also those of functions. Raises `ExpressionFailed`."""
    return _free_names(_parsed(text))


def holds(text: str, names: Mapping[str, Any]) -> bool:
    """Whether an expression is true for these values, which are JSON. Raises `ExpressionFailed`."""
    if faults := expression_faults(text, names):
        raise ExpressionFailed("; ".join(faults))
    try:
        return bool(_Evaluator(names).eval(text, previously_parsed=_parsed(text).body))
    except ExpressionFailed:
        raise
    except Exception as exc:
        # simpleeval lets the errors of the values themselves through, so any type can come out.
        raise ExpressionFailed(f"{type(exc).__name__}: {exc}") from exc


def _parsed(text: str) -> ast.Expression:
    if len(text) > MAX_CHARS:
        raise ExpressionFailed(f"is no expression: it is longer than {MAX_CHARS:,} characters")
    try:
        tree, doubts = parse_expression(text)
    except SyntaxError as exc:
        raise ExpressionFailed(f"is no expression: {exc.msg}") from exc
    if doubts:
        raise ExpressionFailed(f"is doubtful Python: {'; '.join(doubts)}")
    return tree


def _free_names(tree: ast.Expression) -> frozenset[str]:
    names = [node for node in ast.walk(tree) if isinstance(node, ast.Name)]
    own = {node.id for node in names if isinstance(node.ctx, ast.Store)}
    return frozenset(node.id for node in names) - own


def _node_fault(node: ast.AST) -> str | None:
    match node:
        case ast.Call(func=ast.Name(id=name)) if name not in _FUNCTIONS:
            return f"calls {name}(); only {', '.join(FUNCTION_NAMES)} can be called"
        case ast.Call(func=ast.Attribute(attr=name)) if name not in METHOD_NAMES:
            return f"calls .{name}(); only the methods {', '.join(METHOD_NAMES)} can be called"
        case ast.Call(func=func) if not isinstance(func, ast.Name | ast.Attribute):
            return "calls something that is neither a function nor a method"
        case ast.Attribute(attr=name) if name.startswith("_"):
            return f"uses .{name}, which is no key of an object"
        case ast.operator() | ast.unaryop() | ast.cmpop() if type(node) not in _OPERATORS:
            return f"uses the operator {type(node).__name__}, which expressions do not have"
    if not isinstance(node, _ALLOWED):
        return f"uses {type(node).__name__}, which expressions do not have"
    return None


class _Evaluator(simpleeval.EvalWithCompoundTypes):  # type: ignore[misc]
    """Evaluates one expression, and pays for all of it."""

    def __init__(self, names: Mapping[str, Any]) -> None:
        operators = {kind: functools.partial(self._operated, one) for kind, one in _OPERATORS.items()}
        super().__init__(operators=operators, functions={}, names=dict(names))
        self.functions = {name: functools.partial(self._applied, one) for name, one in _FUNCTIONS.items()}
        self._left = WORK
        self._weights: dict[int, tuple[Any, int]] = {}

    def _check_disallowed_items(self, item: Any) -> None:
        """Nothing to look for: all values are JSON, or made of it."""

    def _eval(self, node: ast.AST) -> Any:
        self._pay(_NODE)
        found = super()._eval(node)
        if isinstance(node, ast.Call | ast.BinOp | ast.Subscript) and isinstance(found, str | list):
            self._pay(_MADE_BYTE * sys.getsizeof(found))
        return found

    def _eval_attribute(self, node: ast.Attribute) -> Any:
        found = self._eval(node.value)
        if isinstance(found, dict) and node.attr in found:
            return found[node.attr]
        raise ExpressionFailed(f"there is no key {node.attr!r}")

    def _eval_call(self, node: ast.Call) -> Any:
        if isinstance(node.func, ast.Attribute):
            call = functools.partial(self._method, node.func.attr, self._eval(node.func.value))
        else:
            call = self.functions[node.func.id]  # type: ignore[attr-defined]
        keywords = dict(self._eval(one) for one in node.keywords)
        return call(*(self._eval(one) for one in node.args), **keywords)

    def _method(self, name: str, value: Any, *others: Any, **keywords: Any) -> Any:
        if not isinstance(value, str | list | dict | tuple):
            raise ExpressionFailed(f"a {type(value).__name__} has no .{name}()")
        times = _SPLIT_COST if "split" in name else 1
        if name in _CROSS:
            times = max((len(one) for one in others if isinstance(one, str)), default=1)
        self._pay(len(value) * times + sum(map(self._weight, (value, *others))))
        if made := _MADE.get(name):
            return made(value, *others, **keywords)
        return getattr(value, name)(*others, **keywords)

    def _operated(self, operate: Callable[..., Any], *values: Any) -> Any:
        self._pay(sum(map(self._weight, values)))
        return operate(*values)

    def _applied(self, function: Callable[..., Any], *values: Any, **keywords: Any) -> Any:
        if function is not len:
            weight = sum(map(self._weight, values))
            self._pay(weight)
            if function is str and weight > MADE_CHARS:
                raise ExpressionFailed(f"makes a text of more than {MADE_CHARS:,} characters")
        if function is set:
            self._pay(_ITEM * sum(map(_may_share_hash, (*values, ())[0])) ** 2)
        return function(*values, **keywords)

    def _weight(self, value: Any) -> int:
        """What reading all of a value costs. Values do not change, so each is measured once."""
        if isinstance(value, str):
            return _ITEM + len(value)
        if isinstance(value, int):
            return _ITEM + value.bit_length()
        if not isinstance(value, Collection):
            return _ITEM
        if id(value) not in self._weights:
            parts = [*value, *value.values()] if isinstance(value, dict) else value
            self._weights[id(value)] = value, _ITEM + sum(map(self._weight, parts))
        return self._weights[id(value)][1]

    def _pay(self, work: int) -> None:
        self._left -= work
        if self._left < 0:
            raise ExpressionFailed("it takes too long, or too much memory")


def _may_share_hash(value: Any) -> bool:
    """Whether many such values can be chosen with one hash, so that a set compares each with each."""
    if isinstance(value, int):
        return abs(value) >= sys.hash_info.modulus
    return not isinstance(value, str | float)


def _added(left: Any, right: Any) -> Any:
    if hasattr(left, "__len__") and hasattr(right, "__len__"):
        _bound(len(left) + len(right))
    return left + right


def _joined(separator: str, texts: Any) -> str:
    found = list(texts)
    _bound(sum(map(len, found)) + len(separator) * len(found))
    return separator.join(found)


def _replaced(text: str, old: str, new: str, count: int = -1) -> str:
    _bound(len(text) + text.count(old) * (len(new) - len(old)))
    return text.replace(old, new, count)


def _bound(length: int) -> None:
    if length > MADE_CHARS:
        raise ExpressionFailed(f"makes a text or a list longer than {MADE_CHARS:,}")


def _numeric(operate: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """An operator for numbers alone: `*` and `%` on text can make gigabytes of it."""

    def apply(left: Any, right: Any) -> Any:
        for one in (left, right):
            if not isinstance(one, int | float):
                raise ExpressionFailed("multiplies or divides something that is not a number")
            if isinstance(one, int) and one.bit_length() > _BITS:
                raise ExpressionFailed("calculates with a number that is too large")
        return operate(left, right)

    return apply


def _total(numbers: Any, start: Any = 0) -> Any:
    """`sum` of numbers alone: a sum of lists copies each as often as there are lists."""
    found = [start, *numbers]
    if not all(isinstance(one, int | float) for one in found):
        raise ExpressionFailed("sums up something that is not a number")
    return sum(found)


def _rounded(number: Any, digits: int | None = None) -> Any:
    if digits is not None and abs(digits) > sys.float_info.max_10_exp:
        raise ExpressionFailed("rounds to too many digits")
    return round(number, digits)


_OPERATORS: dict[type[ast.AST], Callable[..., Any]] = {
    ast.Add: _added,
    ast.Sub: operator.sub,
    ast.Mult: _numeric(operator.mul),
    ast.Div: _numeric(operator.truediv),
    ast.FloorDiv: _numeric(operator.floordiv),
    ast.Mod: _numeric(operator.mod),
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.In: lambda item, container: item in container,
    ast.NotIn: lambda item, container: item not in container,
    ast.Is: operator.is_,
    ast.IsNot: operator.is_not,
    ast.Not: operator.not_,
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
}
_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "len": len,
    "str": str,
    "int": int,
    "float": float,
    "abs": abs,
    "round": _rounded,
    "min": min,
    "max": max,
    "sum": _total,
    "any": any,
    "all": all,
    "sorted": sorted,
    "list": list,
    "set": set,
}
FUNCTION_NAMES = tuple(_FUNCTIONS)
_METHODS = """
    capitalize casefold count endswith find get index isalnum isalpha isdigit islower isnumeric isspace
    isupper items join keys lower lstrip partition removeprefix removesuffix replace rfind rpartition
    rsplit rstrip split splitlines startswith strip title upper values
"""
METHOD_NAMES = tuple(_METHODS.split())
_MADE: dict[str, Callable[..., Any]] = {"join": _joined, "replace": _replaced}
_CROSS = {"strip", "lstrip", "rstrip", "rfind", "rpartition", "rsplit"}
"""They look for each character of one text in another."""
_SPLIT_COST = 50
_SYNTAX = """
    Expression expr_context operator unaryop cmpop boolop Name Constant UnaryOp BinOp BoolOp Compare IfExp
    Call keyword Subscript Slice Attribute List Tuple Dict Set ListComp GeneratorExp DictComp comprehension
"""
_ALLOWED = tuple(getattr(ast, name) for name in _SYNTAX.split())
