"""What programs execute of the content of a manifest, such as `package.json`. Pure.

Called in a process with limits (`subprocesses.limited`): parsers of TOML take time out of proportion to their
input, and values may be nested however deep.
"""

import json
import re
import tomllib
from pathlib import PurePosixPath

from orchestrator_cli.tools.file_names import FileRule

MAX_DEPTH = 100
"""Of values, which the caller compares and reads by recursion."""


def manifest_keys(text: str, rule: dict[str, str]) -> dict[str, object]:
    """What a rule, as a dict, finds in a manifest; the form follows from the rule's first name.

    Raises `ValueError` and `RecursionError` if it cannot be understood.
    """
    found = _parsed(text, PurePosixPath(rule["text"].split()[0]).suffix)
    keys = FileRule(**rule).executed_keys(found) if isinstance(found, dict) else {}  # type: ignore[arg-type]
    _check_depth(keys)
    # Dates of TOML become texts.
    plain: dict[str, object] = json.loads(json.dumps(keys, default=repr))
    return plain


def _parsed(text: str, suffix: str) -> object:
    if suffix == ".json":
        return json.loads(text, object_pairs_hook=_unique)
    return tomllib.loads(text) if suffix == ".toml" else _sections(text)


def _check_depth(value: object) -> None:
    level = [value]
    for _ in range(MAX_DEPTH):
        if not level:
            return
        level = [
            inner
            for one in level
            if isinstance(one, (dict, list))
            for inner in (one.values() if isinstance(one, dict) else one)
        ]
    raise ValueError(f"it is nested more than {MAX_DEPTH} levels deep")


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """An object of JSON. Raises `ValueError` if it has a key twice: readers take one or the other."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key is there twice")
    return found


def _sections(text: str) -> dict[str, dict[str, list[str]]]:
    """The lines of an INI file by their sections and keys; what is indented, by all that it may mean.

    Such a line belongs to the section and key before it that are not indented (as for iniconfig), or that are
    indented less (as for configparser), or begins its own. All combinations count.
    """
    found: dict[str, dict[str, list[str]]] = {}
    flat, nested, own = ("", ""), ("", ""), ("", "")
    outer = 0
    """How far the line is indented that began `nested`."""
    for line in text.splitlines():  # at form feeds and the like too, as iniconfig does
        bare, indent = line.strip(), len(line) - len(line.lstrip())
        if begun := _begun(bare):
            own = _entered(own, begun)
            if not indent:
                flat = _entered(flat, begun)
            if not nested[1] or indent <= outer:
                nested, outer = _entered(nested, begun), indent
        for section in {flat[0], nested[0], own[0]}:
            for key in {flat[1], nested[1], own[1]}:
                found.setdefault(section, {}).setdefault(key, []).append(bare)
    return found


def _begun(line: str) -> tuple[str | None, str] | None:
    """The section that a line begins, or no section and a key."""
    if line.startswith("["):
        return line[1:].partition("]")[0].strip(), ""
    key = None if line.startswith(("#", ";")) else re.match(r"([^=:]+)[=:]", line)
    return (None, key[1].strip().lower()) if key else None


def _entered(place: tuple[str, str], begun: tuple[str | None, str]) -> tuple[str, str]:
    return place[0] if begun[0] is None else begun[0], begun[1]
