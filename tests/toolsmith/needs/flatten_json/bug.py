from typing import Any

from smolagents import tool


@tool
def flatten_json(data: dict[str, Any], separator: str = ".") -> dict[str, Any]:
    """Flatten a nested JSON object into one level, with paths as names.

    Args:
        data: The object.
        separator: What stands between the parts of a path.

    Returns:
        Path to value.
    """
    if not separator:
        raise ValueError("the separator is empty")
    flat: dict[str, Any] = {}

    def add(parts: list[str], value: Any) -> None:
        if value and isinstance(value, dict):
            for name, inner in value.items():
                add([*parts, name], inner)
        elif value and isinstance(value, list):
            for at, inner in enumerate(value):
                add([*parts, str(at)], inner)
        else:
            path = separator.join(parts)
            if flat.get(path):
                raise ValueError(f"two values have the path {path!r}")
            flat[path] = value

    for name, value in data.items():
        add([name], value)
    return flat
