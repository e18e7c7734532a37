"""References that are written in another form than `$ID.value`, or within a text. Pure.

A reference is replaced only as a whole string, so any other form would be passed on as text. `as_reference`
gives the right form if there is exactly one; `form_fault` says what is wrong if there is none. A dollar sign
that names no subtask of the plan is text.
"""

import re
from collections.abc import Callable, Collection, Mapping

from pydantic import JsonValue

from orchestrator_cli.plan import ITEM, REFERENCE, RESERVED

MEANT = {"value": "value", "summary": "summary", "files": "files"} | dict.fromkeys(
    ("result", "results", "output", "outputs"), "value"
)
"""The parts of a result by what models call them."""

# No repetition gives anything back, so that a long text takes no longer than it is long.
_NAME = r"(?P<name>[A-Za-z][A-Za-z0-9_-]*+)"
_KEYS = r"""\[\s*+(?:-?\d++|'[A-Za-z0-9_-]++'|"[A-Za-z0-9_-]++")\s*+\]"""
_PATH = rf"(?P<path>(?:\.[A-Za-z0-9_-]++|{_KEYS})*+)"
_WHOLE = re.compile(rf"\A\s*+(?P<sign>\$?[{{][{{]?+\s*+\$?+|\$)\s*+{_NAME}{_PATH}\s*+[}}]{{0,2}}\s*+\Z")
_WITHIN = re.compile(rf"(?:\$[{{][{{]?+\s*+\$?+|[{{][{{]\s*+\$?+|\$){_NAME}{_PATH}")
_KEY = re.compile(r"[A-Za-z0-9_-]+")


def as_reference(text: str, ids: Collection[str], *, each: bool) -> str | None:
    """The reference that a whole string means; None if it is none, or is written well.

    Args:
        ids: of the plan's subtasks, in any spelling.
        each: whether the subtask has a `for_each`, so that `$item` and `$index` mean something.
    """
    match = _WHOLE.match(text)
    if match is None or REFERENCE.match(text) or (each and ITEM.match(text)):
        return None
    name, keys = match["name"], _KEY.findall(match["path"])
    if each and name in RESERVED:
        found = f"${'.'.join((name, *keys))}"
        return found if ITEM.match(found) else None
    if not keys or keys[0] not in MEANT or letters_of(name) not in map(letters_of, ids):
        return None
    found = f"${'.'.join((name, MEANT[keys[0]], *keys[1:]))}"
    return None if found == text else found


def form_fault(text: str, ids: Collection[str], *, each: bool) -> str:
    """What is wrong with how an input refers to a result; empty for a reference and for plain text."""
    if REFERENCE.match(text) or (each and ITEM.match(text)):
        return ""
    whole = _WHOLE.match(text)
    if whole is not None and whole["name"] in ids and whole["sign"] != "{":
        name, keys = whole["name"], _KEY.findall(whole["path"])
        inner = f", as in ${'.'.join((name, 'value', *keys))}" if keys else ""
        return f"{text!r} is no reference: write ${name}.value, ${name}.summary or ${name}.files{inner}"
    if found := reference_within(text, ids, each=each):
        return (
            f"{found!r} is within a text, where nothing is replaced: give the reference as a whole string, "
            "in an input of its own"
        )
    return ""


def reference_within(text: str, ids: Collection[str], *, each: bool) -> str:
    """The first reference within a text, as it is written there; empty if there is none."""
    for match in _WITHIN.finditer(text):
        keys = _KEY.findall(match["path"])
        is_item = each and match["name"] in RESERVED
        if is_item or (match["name"] in ids and keys and keys[0] in MEANT):
            return match.group()
    return ""


def letters_of(name: str) -> str:
    """A name without what its spellings differ in."""
    return re.sub(r"[\s_-]", "", name).lower()


def with_texts(value: JsonValue, change: Callable[[str], str]) -> JsonValue:
    """The JSON value with every text in it changed."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, Mapping):
        return {key: with_texts(item, change) for key, item in value.items()}
    if isinstance(value, list):
        return [with_texts(item, change) for item in value]
    return value
