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

    def add(path: str, value: Any) -> None:
        if value and isinstance(value, dict):
            for name, inner in value.items():
                add(f"{path}{separator}{name}" if path else name, inner)
        elif value and isinstance(value, list):
            for at, inner in enumerate(value):
                add(f"{path}{separator}{at}" if path else str(at), inner)
        else:
            if path in flat:
                raise ValueError(f"two values have the path {path!r}")
            flat[path] = value

    for name, value in data.items():
        add(name, value)
    return flat
