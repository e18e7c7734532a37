"""Conditions and checks of a plan, evaluated by simpleeval and never by `eval`."""

import copy
from collections.abc import Mapping
from typing import Any

import simpleeval

FUNCTIONS = {f.__name__: f for f in (len, str, int, float, abs, min, max, sum, any, all, sorted)}


class ExpressionFailed(Exception):
    """An expression could not be evaluated; the message says why."""


def holds(expression: str, names: Mapping[str, Any]) -> bool:
    """Whether an expression is true of these values. Raises `ExpressionFailed`."""
    # On copies: a method such as `append` would change the value that is judged.
    evaluator = simpleeval.EvalWithCompoundTypes(names=copy.deepcopy(dict(names)), functions=FUNCTIONS)
    try:
        return bool(evaluator.eval(expression.strip()))
    except Exception as exc:  # simpleeval lets through whatever the values raise
        raise ExpressionFailed(f"{type(exc).__name__}: {exc}") from exc
