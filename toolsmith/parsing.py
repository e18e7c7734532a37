"""Parsing what a model wrote: a JSON object, a block of Python. Pure.

The text comes from outside: it is parsed, never evaluated.
"""

import json
import re
from typing import Any

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
