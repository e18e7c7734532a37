"""Evaluates the conditions and checks of a plan with simpleeval, never with `eval`."""

import copy
from collections.abc import Mapping
from typing import Any

import simpleeval

from orchestrator_cli.errors import RecoverableError
from orchestrator_cli.plan import FUNCTIONS


class ExpressionFailed(RecoverableError):
    """An expression could not be evaluated; the message says why."""


def holds(expression: str, names: Mapping[str, Any]) -> bool:
    """Whether an expression is true for these values. Raises `ExpressionFailed`."""
    # On copies, because a method such as `append` would change the value.
    evaluator = simpleeval.EvalWithCompoundTypes(names=copy.deepcopy(dict(names)), functions=FUNCTIONS)
    try:
        return bool(evaluator.eval(expression.strip()))
    except Exception as exc:  # simpleeval passes on whatever the values raise
        raise ExpressionFailed(f"{type(exc).__name__}: {exc}") from exc
