"""YAML that others may have written, read at a cost in proportion to its length."""

import json
import re
from typing import Any

import yaml

MAX_DEPTH = 100
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""The one of libyaml is ten times as fast, and is not there in every build."""

_WITH_COLON = re.compile(r"^([A-Za-z][\w-]*):[ \t]+([A-Za-z][^\n]*: [^\n]*)$", re.MULTILINE)


def read_yaml(text: str) -> Any:
    """The value of a text. Raises `yaml.YAMLError`, also for aliases and for more than `MAX_DEPTH` levels.

    A few lines of aliases of aliases stand for more values than any memory holds, and the parser's time grows
    with the square of the depth.
    """
    depth = 0
    for event in yaml.parse(text, Loader=LOADER):
        match event:
            case yaml.AliasEvent():
                raise yaml.YAMLError(f"it has an alias, *{event.anchor}; write the value again")
            case yaml.CollectionStartEvent():
                depth += 1
            case yaml.CollectionEndEvent():
                depth -= 1
        if depth > MAX_DEPTH:
            raise yaml.YAMLError(f"it is nested more than {MAX_DEPTH} levels deep")
    return yaml.load(text, Loader=LOADER)


def read_front_matter(text: str) -> tuple[dict[str, Any], str]:
    """The values between two lines of `---` at the beginning of a text, and what is after them.

    A value in one line may hold a colon without quotes, as other readers allow. Raises `yaml.YAMLError`.
    """
    lines = text.replace("\r\n", "\n").split("\n")
    ends = (number for number, line in enumerate(lines) if number and line.rstrip() == "---")
    if lines[0].rstrip() != "---" or (end := next(ends, None)) is None:
        raise yaml.YAMLError("it does not begin with values between two lines of ---")
    head = "\n".join(lines[1:end])
    try:
        values = read_yaml(head)
    except yaml.YAMLError:
        if (quoted := _WITH_COLON.sub(_quoted, head)) == head:
            raise
        values = read_yaml(quoted)
    if not isinstance(values, dict):
        raise yaml.YAMLError("between its first lines of --- are no names with values")
    return values, "\n".join(lines[end + 1 :]).strip()


def _quoted(line: re.Match[str]) -> str:
    return f"{line[1]}: {json.dumps(line[2].rstrip(), ensure_ascii=False)}"
