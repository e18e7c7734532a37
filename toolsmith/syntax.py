"""Parsing Python that a model wrote, without running it and without a word on the user's screen.

`ast.parse` warns of doubtful syntax through `warnings`, which would print a model's slips. Here they come
back as text, as `line N: …`. The filters of `warnings` belong to the whole process, hence the lock.

Both functions raise SyntaxError for what is not Python, or is nested too deeply to be read.
"""

import ast
import threading
import warnings
from collections.abc import Callable
from typing import TypeVar

_T = TypeVar("_T")
_LOCK = threading.Lock()


def parse_module(source: str) -> tuple[ast.Module, tuple[str, ...]]:
    """The tree of a module, and the parser's doubts about it."""
    return _quietly(lambda: ast.parse(source))


def parse_expression(text: str) -> tuple[ast.Expression, tuple[str, ...]]:
    """The tree of one expression, and the parser's doubts about it."""
    return _quietly(lambda: ast.parse(text.strip(), mode="eval"))


def _quietly(parse: Callable[[], _T]) -> tuple[_T, tuple[str, ...]]:
    with _LOCK, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            tree = parse()
        except (ValueError, RecursionError, MemoryError) as exc:
            raise SyntaxError(f"it cannot be parsed ({type(exc).__name__})") from exc
    return tree, tuple(f"line {warning.lineno}: {warning.message}" for warning in caught)
