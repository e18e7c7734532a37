"""Parsing what a model wrote: a JSON object, a block of Python, the syntax tree of a module. Pure.

The text comes from outside: it is parsed, never evaluated.

`ast.parse` reports doubtful syntax through `warnings`, which would print to the user's terminal. Here the
warnings come back as text. The filters of `warnings` belong to the whole process, hence the lock.
"""

import ast
import json
import re
import threading
import warnings
from collections.abc import Callable
from typing import Any, TypeVar

from orchestrator_cli.durable.json_text import fenced_blocks, json_from_reply
from toolsmith.errors import ReplyFaulty


def json_object(reply: str, *keys: str) -> dict[str, Any]:
    """The last JSON object of a reply that has one of the keys.

    Raises:
        ReplyFaulty: there is none, or it is cut or malformed.
    """
    try:
        return json_from_reply(reply, keys)
    except ValueError as exc:
        raise ReplyFaulty([str(exc)], reply) from exc


def challenge_object(reply: str) -> object | None:
    """The value of `challenge` in a ```json block beside the code; None if there is none."""
    for lang, body, _ in fenced_blocks(reply):
        if lang != "json":
            continue
        try:
            found = json.loads(body)
        except (ValueError, RecursionError):
            continue
        if isinstance(found, dict) and "challenge" in found:
            return found["challenge"] or {}
    return None


def python_block(reply: str, name: str) -> str:
    """The Python module of a reply: the last block that defines `name`, else the only block.

    A reply may think aloud in blocks before it settles, so the last definition counts.

    Raises:
        ReplyFaulty: there is no such block, or the last one is not closed.
    """
    blocks = [block for block in fenced_blocks(reply) if block[0] in ("python", "py", "python3", "")]
    defining = [block for block in blocks if re.search(rf"^def {re.escape(name)}\(", block[1], re.MULTILINE)]
    chosen = defining or blocks
    if not chosen:
        raise ReplyFaulty(["The reply has no ```python block; give the whole module in one."], reply)
    _, body, closed = chosen[-1]
    if not closed:
        raise ReplyFaulty(
            ["The ```python block is not closed, so the reply seems cut; give a shorter module."], reply
        )
    return body.strip("\n") + "\n"


# --- Python


_T = TypeVar("_T")
_LOCK = threading.Lock()


def parse_module(source: str) -> tuple[ast.Module, tuple[str, ...]]:
    """The tree of a module, and the parser's warnings."""
    return _quietly(lambda: ast.parse(source))


def parse_expression(text: str) -> tuple[ast.Expression, tuple[str, ...]]:
    """The tree of one expression, and the parser's warnings."""
    return _quietly(lambda: ast.parse(text.strip(), mode="eval"))


def _quietly(parse: Callable[[], _T]) -> tuple[_T, tuple[str, ...]]:
    with _LOCK, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            tree = parse()
        except (ValueError, RecursionError, MemoryError) as exc:
            raise SyntaxError(f"it cannot be parsed ({type(exc).__name__})") from exc
    return tree, tuple(f"line {warning.lineno}: {warning.message}" for warning in caught)
