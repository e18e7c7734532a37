"""Parsing Python that a model wrote; it is never evaluated here. Pure.

`ast.parse` reports doubtful syntax through `warnings`, which would print to the user's terminal. Here the
warnings come back as text. The filters of `warnings` belong to the whole process, hence the lock.
"""

import ast
import threading
import warnings
from collections.abc import Callable
from typing import TypeVar

_T = TypeVar("_T")
_LOCK = threading.Lock()


def parse_module(source: str) -> tuple[ast.Module, tuple[str, ...]]:
    """The tree of a module, and the parser's warnings. Raises `SyntaxError`."""
    return _quietly(lambda: ast.parse(source))


def parse_expression(text: str) -> tuple[ast.Expression, tuple[str, ...]]:
    """The tree of one expression, and the parser's warnings. Raises `SyntaxError`."""
    return _quietly(lambda: ast.parse(text.strip(), mode="eval"))


def _quietly(parse: Callable[[], _T]) -> tuple[_T, tuple[str, ...]]:
    with _LOCK, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            tree = parse()
        except (ValueError, RecursionError, MemoryError) as exc:
            raise SyntaxError(f"it cannot be parsed ({type(exc).__name__})") from exc
    return tree, tuple(f"line {warning.lineno}: {warning.message}" for warning in caught)
