"""YAML that others may have written, read at a cost in proportion to its length."""

from typing import Any

import yaml

MAX_DEPTH = 100


def read_yaml(text: str) -> Any:
    """The value of a text. Raises `yaml.YAMLError`, also for aliases and for more than `MAX_DEPTH` levels.

    A few lines of aliases of aliases stand for more values than any memory holds, and the parser's time grows
    with the square of the depth.
    """
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        match event:
            case yaml.AliasEvent():
                raise yaml.YAMLError(f"it has an alias, *{event.anchor}; write the value again")
            case yaml.CollectionStartEvent():
                depth += 1
            case yaml.CollectionEndEvent():
                depth -= 1
        if depth > MAX_DEPTH:
            raise yaml.YAMLError(f"it is nested more than {MAX_DEPTH} levels deep")
    return yaml.safe_load(text)
