"""Parsing Python that a model wrote, without running it and without a word on the user's screen.

`ast.parse` warns of doubtful syntax through `warnings`, which would print a model's slips. Here they come
back as text. The filters of `warnings` belong to the whole process, hence the lock."""

import ast
import threading
import warnings
from typing import Literal

_LOCK = threading.Lock()


def parse(source: str, mode: Literal["exec", "eval"] = "exec") -> tuple[ast.AST, tuple[str, ...]]:
    """The tree of a source, and the parser's warnings as `line N: …`.

    Raises:
        SyntaxError: it is not Python, or is nested too deeply to be read.
    """
    with _LOCK, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            tree = ast.parse(source, mode=mode)
        except (ValueError, RecursionError, MemoryError) as exc:
            raise SyntaxError(f"it cannot be parsed ({type(exc).__name__})") from exc
    return tree, tuple(f"line {warning.lineno}: {warning.message}" for warning in caught)
