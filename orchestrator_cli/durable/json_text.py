"""Reads the JSON object in a model's reply. Pure.

The reply is text from outside: it is parsed, never evaluated, and read strictly: no NaN, no key twice, no
lone surrogates. An object that breaks off is an error; no part of it is taken for the whole.
"""

import json
import re
from collections.abc import Iterator
from typing import Any, NoReturn

_THOUGHTS = re.compile(r"\A\s*<think>.*?</think>", re.DOTALL)
_FENCE = re.compile(r"^[ \t]*(?P<marks>```+|~~~+)[ \t]*(?P<lang>[\w+-]*)[^\n]*\n", re.MULTILINE)
_CUT_WORD = re.compile(r"(t(ru?)?|f(a(ls?)?)?|n(ul?)?|-|\.|e[+-]?)?\Z", re.IGNORECASE)


def json_from_reply(text: str) -> dict[str, Any]:
    """The first JSON object of a reply: the whole of it, a fenced block, or one within prose.

    Raises `ValueError` with a message for the model, if there is none or it is malformed.
    """
    text = _THOUGHTS.sub("", text)
    problem: ValueError | None = None
    for candidate in _candidates(text):
        try:
            return _decode(candidate)
        except ValueError as exc:
            problem = problem or exc
    raise problem or ValueError("the reply holds no JSON object: reply with the object and nothing else")


def fenced_blocks(text: str) -> list[tuple[str, str, bool]]:
    """All fenced blocks as (language, body, whether it is closed)."""
    blocks, at = [], 0
    while opening := _FENCE.search(text, at):
        end = re.compile(rf"^[ \t]*{re.escape(opening['marks'])}[ \t]*$", re.MULTILINE)
        closing = end.search(text, opening.end())
        stop = closing.start() if closing else len(text)
        blocks.append((opening["lang"].lower(), text[opening.end() : stop], closing is not None))
        at = closing.end() if closing else len(text)
    return blocks


def _candidates(text: str) -> Iterator[str]:
    if text.lstrip().startswith("{"):
        yield text.lstrip()
        return
    blocks = [(lang, body.strip()) for lang, body, _ in fenced_blocks(text)]
    yield from (body for lang, body in blocks if lang == "json" and body.startswith("{"))
    yield from (body for lang, body in blocks if lang != "json" and body.startswith("{"))
    # Prose may have braces of its own, which do not decode.
    at = text.find("{")
    while at >= 0:
        try:
            json.JSONDecoder().raw_decode(text, at)
        except json.JSONDecodeError as exc:
            if not _is_cut(exc, text):
                at = text.find("{", at + 1)
                continue
        except RecursionError:
            pass
        yield text[at:]
        return


def _decode(text: str) -> dict[str, Any]:
    decoder = json.JSONDecoder(object_pairs_hook=_without_duplicates, parse_constant=refuse_constant)
    try:
        found, _ = decoder.raw_decode(text)
        json.dumps(found, ensure_ascii=False).encode()
    except json.JSONDecodeError as exc:
        hint = "; it seems cut: give a shorter one" if _is_cut(exc, text) else ""
        place = f"line {exc.lineno}, column {exc.colno}"
        raise ValueError(f"the reply is not valid JSON: {exc.msg} at {place}{hint}") from exc
    except RecursionError as exc:
        raise ValueError("the reply is not usable JSON: it is nested too deeply") from exc
    except ValueError as exc:
        raise ValueError(f"the reply is not usable JSON: {exc}") from exc
    made: dict[str, Any] = found  # the text begins with a brace
    return made


def _is_cut(exc: json.JSONDecodeError, text: str) -> bool:
    """Whether the end of the JSON is missing; it may break off within a word, a number or an escape."""
    rest = text[exc.pos :].rstrip()
    in_an_escape = exc.msg.startswith("Invalid \\u") and len(rest) < len("u1234")
    return exc.msg.startswith("Unterminated") or in_an_escape or _CUT_WORD.match(rest) is not None


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {twice!r} occurs twice in one object")
    return made


def refuse_constant(name: str) -> NoReturn:
    """For `json.loads(…, parse_constant=refuse_constant)`: NaN and Infinity are not JSON."""
    raise ValueError(f"{name} is not JSON")
