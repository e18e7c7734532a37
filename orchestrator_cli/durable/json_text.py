"""Reads the JSON object in a model's reply. Pure.

The reply is text from outside: it is parsed, never evaluated, and read strictly: no NaN, no key twice, no
lone surrogates. Of several objects the last one counts that has a wanted key, since models draft first. An
object that breaks off is an error; no part of it is taken for the whole.

A small slip, such as a comma too many, is repaired with json-repair if the caller wants to hear of it. A
repair that would lose a word of the reply is not made.
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

_FENCE = re.compile(r"^[ \t]*+(?P<marks>```++|~~~++)[ \t]*+(?P<lang>[\w+-]*+)[^\n]*+\n", re.MULTILINE)
_CUT_WORD = re.compile(r"(t(ru?)?|f(a(ls?)?)?|n(ul?)?|-|\.|e[+-]?)?\Z", re.IGNORECASE)
_BEGINS_OBJECT = re.compile(r"""\{\s*(["'“}]|//|\w+\s*:|\Z)""")
_STRING_OR_BRACE = re.compile(r'"(?:\\.|[^"\\])*+(?P<end>")?|[{}]', re.DOTALL)
_BRACE = re.compile(r"[{}]")
_LEFT_OUT = re.compile(r"[\[{,:]\s*(\.\.\.|…)")
_COMMENT = re.compile(r"(^|[,\[{\s])//[^\n]*")
_ESCAPE = re.compile(r"\\u[0-9a-fA-F]{4}|\\.", re.DOTALL)
_REPAIRED_CHARS = 20_000
_REPAIRED_DEPTH = 60


def json_from_reply(
    text: str, keys: Collection[str] = (), on_repair: Callable[[str], None] | None = None
) -> dict[str, Any]:
    """The last JSON object of a reply that has one of the `keys`; without one, the last of all.

    `on_repair` receives what was wrong with an object that was repaired; without it, nothing is repaired.

    Raises `ValueError` with a message for the model, if there is none or it is malformed.
    """
    found = list(_objects(text))
    fitting = [one for one in found if one.fits(keys)] or found
    if not fitting:
        raise ValueError("the reply holds no JSON object: reply with the object and nothing else")
    last = fitting[-1]
    if isinstance(last.value, dict):
        return last.value
    if on_repair is not None and last.is_whole and (repaired := _repaired(last.text)) is not None:
        on_repair(str(last.value))
        return repaired
    raise last.value


def is_one_object(text: str) -> bool:
    """Whether a text is one JSON object and nothing else."""
    try:
        return isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False


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


@dataclass(frozen=True)
class _Found:
    text: str
    """From its brace to its end; all that follows if that is missing."""
    value: dict[str, Any] | ValueError
    """The object, or why it cannot be used."""
    is_whole: bool = False
    """Whether a malformed one has an end."""

    def fits(self, keys: Collection[str]) -> bool:
        if isinstance(self.value, dict):
            return not keys or not self.value.keys().isdisjoint(keys)
        return not keys or any(re.search(rf"\b{re.escape(key)}\b", self.text) for key in keys)


def _objects(text: str) -> Iterator[_Found]:
    """The objects of a text that are in no other, also malformed ones. Prose may have braces of its own."""
    at = text.find("{")
    while at >= 0:
        found = _object_at(text, at)
        if found is not None:
            yield found
        at = text.find("{", at + (len(found.text) if found else 1))


def _object_at(text: str, at: int) -> _Found | None:
    if not _BEGINS_OBJECT.match(text, at):
        return None
    try:
        _, end = json.JSONDecoder().raw_decode(text, at)
    except RecursionError:
        return _Found(text[at:], ValueError("the reply is not usable JSON: it is nested too deeply"))
    except json.JSONDecodeError as exc:
        is_cut = _is_cut(exc, text)
        end, is_whole = (len(text), False) if is_cut else _extent(text, at)
        hint = "" if is_whole else "; it seems cut: give a shorter one" if is_cut else "; its end is unclear"
        place = f"line {exc.lineno}, column {exc.colno}"
        problem = ValueError(f"the reply is not valid JSON: {exc.msg} at {place}{hint}")
        return _Found(text[at:end], problem, is_whole)
    return _Found(text[at:end], _decoded(text[at:end]))


def _decoded(text: str) -> dict[str, Any] | ValueError:
    decoder = json.JSONDecoder(object_pairs_hook=_without_duplicates, parse_constant=refuse_constant)
    try:
        found: dict[str, Any] = decoder.decode(text)
        json.dumps(found, ensure_ascii=False).encode()
    except ValueError as exc:
        return ValueError(f"the reply is not usable JSON: {exc}")
    return found


def _extent(text: str, at: int) -> tuple[int, bool]:
    """Where a malformed object ends, and whether that is certain."""
    depth = 0
    for token in _braces(text, at):
        depth += 1 if token[0] == "{" else -1
        if depth == 0:
            following = text.find("{", token.end())
            return token.end(), text.find("}", token.end(), following if following >= 0 else None) < 0
    # A quote within a string hides braces; then all of them have to match.
    end = text.rfind("}", at) + 1
    part = text[at:end]
    return end or len(text), bool(part) and part.count("{") == part.count("}") and '"' not in text[end:]


def _braces(text: str, at: int) -> Iterator[re.Match[str]]:
    """The braces outside of strings. A quote that nothing closes begins no string, nor does one after it."""
    for token in _STRING_OR_BRACE.finditer(text, at):
        if token[0] in ("{", "}"):
            yield token
        elif token["end"] is None:
            yield from _BRACE.finditer(text, token.start())
            return


def _repaired(text: str) -> dict[str, Any] | None:
    """The object that a malformed text means; None if that is not certain."""
    if len(text) > _REPAIRED_CHARS or _LEFT_OUT.search(text) or _depth(text) > _REPAIRED_DEPTH:
        return None
    import json_repair  # only for the replies that need it

    try:
        made = json_repair.repair_json(text, return_objects=True, skip_json_loads=True, strict=True)
        again = json.dumps(made, ensure_ascii=False)
        again.encode()
    except (ValueError, RecursionError):
        return None
    lost = _words(_COMMENT.sub(" ", text)) - _words(again)
    return made if isinstance(made, dict) and not lost else None


def _words(text: str) -> Counter[str]:
    return Counter(re.findall(r"\w+", _ESCAPE.sub(" ", text).lower().replace("none", "null")))


def _depth(text: str) -> int:
    depth = deepest = 0
    for sign in re.findall(r"[\[\]{}]", text):
        depth += 1 if sign in "[{" else -1
        deepest = max(deepest, depth)
    return deepest


def _is_cut(exc: json.JSONDecodeError, text: str) -> bool:
    """Whether the end of the JSON is missing; it may break off within a word, a number or an escape."""
    rest = text[exc.pos :].rstrip()
    in_an_escape = exc.msg.startswith("Invalid \\u") and len(rest) < len("u1234")
    return exc.msg.startswith("Unterminated") or in_an_escape or _CUT_WORD.match(rest) is not None


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        twice = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        raise ValueError(f"the key {twice!r} occurs twice in one object")
    return made


def refuse_constant(name: str) -> NoReturn:
    """For `json.loads(…, parse_constant=refuse_constant)`: NaN and Infinity are not JSON."""
    raise ValueError(f"{name} is not JSON")


_WORDS: Mapping[str, str] = {
    "missing": "is missing",
    "extra_forbidden": "is not a field that there is",
    "tuple_type": "must be a list",
    "list_type": "must be a list",
    "dict_type": "must be an object",
    "model_type": "must be an object",
    "model_attributes_type": "must be an object",
    "string_type": "must be text",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
}


def in_words_of_json(error: Mapping[str, Any]) -> str:
    """What one of pydantic's errors says, in the words of JSON."""
    if error["type"] == "literal_error":
        return f"must be {error['ctx']['expected']}"
    return _WORDS.get(error["type"], str(error["msg"]).removeprefix("Value error, "))
