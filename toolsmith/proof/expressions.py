"""The `check` of a case: a boolean expression over `value`, `files` and `arguments`, never `eval`.

`value` is what the tool returned, `files` the workspace afterwards (relative path → text), `arguments` what
it was called with. The expression is read by simpleeval with a short list of operators, functions and
methods, so that neither a model's expression nor a tool's value can reach the host's objects or fill its
memory: no power, no string formatting, no lambda, no f-string, at most 1,000 characters.

Not covered: time. An expression over a huge value can be slow; the sandbox bounds the size of values.
"""

import ast
import operator
from collections.abc import Callable, Mapping
from typing import Any

from toolsmith.parsing import parse_expression

NAMES = ("value", "files", "arguments")
_MAX_CHARS = 1_000
_MAX_LENGTH = 10_000


class CheckFailed(Exception):
    """An expression could not be evaluated on the given values; the text says why."""


def expression_faults(text: str) -> tuple[str, ...]:
    """All reasons why an expression cannot be a check; empty when it can."""
    try:
        tree = _parsed(text)
    except CheckFailed as exc:
        return (str(exc),)
    bound = set(NAMES)
    bound |= {
        node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    }
    faults = [fault for node in ast.walk(tree) if (fault := _node_fault(node, bound))]
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    if not used & {"value", "files"}:
        faults.append("looks at neither value nor files, so it proves nothing")
    return tuple(dict.fromkeys(faults))


def holds(text: str, value: object, files: Mapping[str, str], arguments: Mapping[str, object]) -> bool:
    """Whether the expression is true of a call.

    Raises:
        CheckFailed: the expression has faults, or cannot be evaluated on these values.
    """
    if faults := expression_faults(text):
        raise CheckFailed("; ".join(faults))
    evaluator = _evaluator({"value": value, "files": dict(files), "arguments": dict(arguments)})
    try:
        return bool(evaluator.eval(text, previously_parsed=_parsed(text).body))
    except CheckFailed:
        raise
    except Exception as exc:
        # simpleeval lets the operators' and methods' own errors through, so any type can come out.
        raise CheckFailed(f"{type(exc).__name__}: {exc}") from exc


def _parsed(text: str) -> ast.Expression:
    if len(text) > _MAX_CHARS:
        raise CheckFailed(f"is longer than {_MAX_CHARS} characters")
    try:
        tree, doubts = parse_expression(text)
    except SyntaxError as exc:
        raise CheckFailed(f"is not one Python expression: {exc.msg}") from exc
    if doubts:
        raise CheckFailed(f"is doubtful Python: {'; '.join(doubts)}")
    return tree


def _node_fault(node: ast.AST, bound: set[str]) -> str | None:
    match node:
        case ast.Call(func=ast.Name(id=name)) if name not in _FUNCTIONS:
            return f"calls {name}(); only {', '.join(FUNCTION_NAMES)} can be called"
        case ast.Call(func=func) if not isinstance(func, ast.Name | ast.Attribute):
            return "calls something that is neither a function nor a method"
        case ast.Attribute(attr=attr) if attr not in METHOD_NAMES:
            return f"uses .{attr}; only {', '.join(METHOD_NAMES)} can be used"
        case ast.Name(id=name) if name not in bound and name not in _FUNCTIONS:
            return f"names {name}; only {', '.join(NAMES)} exist"
        case ast.operator() | ast.unaryop() | ast.cmpop() if type(node) not in _OPERATORS:
            return f"uses the operator {type(node).__name__}, which checks do not have"
    return None if isinstance(node, _ALLOWED) else f"uses {type(node).__name__}, which checks do not have"


def _evaluator(names: dict[str, Any]) -> Any:
    from simpleeval import EvalWithCompoundTypes

    # A set allowed per type: simpleeval looks a value's exact type up, so a subclass has no methods at all.
    allowed = {kind: set(METHOD_NAMES) for kind in (str, dict, list)}
    evaluator = EvalWithCompoundTypes(
        operators=_OPERATORS, functions=dict(_FUNCTIONS), names=names, allowed_attrs=allowed
    )
    evaluator.functions = dict(_FUNCTIONS)
    evaluator.ATTR_INDEX_FALLBACK = False
    return evaluator


def _bounded_add(left: Any, right: Any) -> Any:
    if hasattr(left, "__len__") and hasattr(right, "__len__") and len(left) + len(right) > _MAX_LENGTH:
        raise CheckFailed(f"adds up more than {_MAX_LENGTH} characters or items")
    return left + right


def _numeric(operate: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """An operator for numbers alone: `*` and `%` on text can make gigabytes of it."""

    def apply(left: Any, right: Any) -> Any:
        if not (isinstance(left, int | float) and isinstance(right, int | float)):
            raise CheckFailed("multiplies or divides something that is not a number")
        return operate(left, right)

    return apply


_OPERATORS: dict[type[ast.AST], Callable[..., Any]] = {
    ast.Add: _bounded_add,
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
    function.__name__: function
    for function in (len, abs, min, max, sum, round, sorted, all, any, set, list, int, float)
}
FUNCTION_NAMES = tuple(_FUNCTIONS)
_METHODS = """
    count endswith find get index isdigit items keys lower split splitlines startswith strip upper values
"""
METHOD_NAMES = tuple(_METHODS.split())
_SYNTAX = """
    Expression expr_context operator unaryop cmpop boolop Name Constant UnaryOp BinOp BoolOp Compare IfExp
    Call keyword Subscript Slice Attribute List Tuple Dict Set ListComp GeneratorExp DictComp comprehension
"""
_ALLOWED = tuple(getattr(ast, name) for name in _SYNTAX.split())
