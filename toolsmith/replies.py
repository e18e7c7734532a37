"""Reading what was asked for out of a model's reply: one JSON object, one block of Python. Pure.

The reply is text from outside: it is parsed, never evaluated. JSON is read strictly: no NaN, no key twice,
no half of a surrogate pair, and an object that stops in the middle is a fault rather than its largest whole
part."""

import json
import re
from typing import Any, NoReturn

from toolsmith.errors import ReplyFaulty, SpecFaulty

_THOUGHTS = re.compile(r"\A\s*<think>.*?</think>", re.DOTALL)
_FENCE = re.compile(r"^[ \t]*(?P<marks>```+|~~~+)[ \t]*(?P<lang>[\w+-]*)[^\n]*\n", re.MULTILINE)


def json_object(reply: str) -> dict[str, Any]:
    """The first JSON object of a reply: in its ```json block, in one that begins with `{`, or in the text.

    Raises:
        SpecFaulty: there is none, or it is cut or malformed; the fault names line and column.
    """
    text = _THOUGHTS.sub("", reply)
    blocks = _blocks(text)
    fenced = [body for lang, body, _ in blocks if lang == "json"] or [
        body for _, body, _ in blocks if _opens(body)
    ]
    return _decoded(fenced[0].strip(), reply) if fenced else _decoded(_from_first_object(text, reply), reply)


def challenge_object(reply: str) -> object | None:
    """What stands under `challenge` in a ```json block beside the code; None when nothing does."""
    for lang, body, _ in _blocks(_THOUGHTS.sub("", reply)):
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
    text = _THOUGHTS.sub("", reply)
    blocks = [block for block in _blocks(text) if block[0] in ("python", "py", "python3", "")]
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


def _blocks(text: str) -> list[tuple[str, str, bool]]:
    """All fenced blocks as (language, body, whether it is closed)."""
    blocks, at = [], 0
    while opening := _FENCE.search(text, at):
        closing = re.compile(rf"^[ \t]*{re.escape(opening['marks'])}[ \t]*$", re.MULTILINE).search(
            text, opening.end()
        )
        end = closing.start() if closing else len(text)
        blocks.append((opening["lang"].lower(), text[opening.end() : end], closing is not None))
        at = closing.end() if closing else len(text)
    return blocks


def _opens(body: str) -> bool:
    return body.lstrip().startswith("{")


def _from_first_object(text: str, reply: str) -> str:
    """The text from its first object on; prose may have braces of its own, which do not decode."""
    decoder, at = json.JSONDecoder(), text.find("{")
    while at >= 0:
        try:
            decoder.raw_decode(text, at)
            return text[at:]
        except json.JSONDecodeError as exc:
            if _is_cut(exc, text):
                return text[at:]
        except RecursionError:
            return text[at:]
        at = text.find("{", at + 1)
    raise SpecFaulty(["The reply has no JSON object; give the specification in one ```json block."], reply)


def _is_cut(exc: json.JSONDecodeError, text: str) -> bool:
    """Whether JSON breaks because its end is missing; it may end in the middle of a word or an escape."""
    rest = text[exc.pos :].rstrip()
    in_a_word = any(word.startswith(rest) for word in ("true", "false", "null", "-", ".", "e"))
    in_an_escape = exc.msg.startswith("Invalid \\u") and len(rest) < len("u1234")
    return exc.msg.startswith("Unterminated") or in_a_word or in_an_escape


def _decoded(text: str, reply: str) -> dict[str, Any]:
    decoder = json.JSONDecoder(object_pairs_hook=_without_twins, parse_constant=_no_constant)
    try:
        found, _ = decoder.raw_decode(text)
        json.dumps(found, ensure_ascii=False).encode()
    except json.JSONDecodeError as exc:
        hint = "; the reply seems cut, so give a shorter one" if _is_cut(exc, text) else ""
        raise SpecFaulty(
            [f"The JSON breaks at line {exc.lineno}, column {exc.colno}: {exc.msg}{hint}."], reply
        ) from exc
    except (ValueError, RecursionError) as exc:
        reason = "it is nested too deeply" if isinstance(exc, RecursionError) else str(exc)
        raise SpecFaulty([f"The JSON cannot be used: {reason}."], reply) from exc
    if not isinstance(found, dict):
        raise SpecFaulty(["The ```json block has to hold one object."], reply)
    return found


def _without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(
            f"the key {next(key for key in keys if keys.count(key) > 1)!r} stands twice in one object"
        )
    return made


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
