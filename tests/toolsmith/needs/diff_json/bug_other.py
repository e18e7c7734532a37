from typing import Any

from smolagents import tool


@tool
def diff_json(old: Any, new: Any) -> list[dict[str, Any]]:
    """List the differences of two JSON values, each with its place.

    Args:
        old: The value before.
        new: The value after.

    Returns:
        One object for each difference, with op, path and the values.
    """
    return list(_differences(old, new, ""))


def _differences(old: Any, new: Any, path: str):
    if isinstance(old, bool) is isinstance(new, bool) and old == new:
        return
    if isinstance(old, dict) and isinstance(new, dict):
        for name in sorted(old.keys() | new.keys()):
            place = f"{path}/{name.replace('~', '~0').replace('/', '~1')}"
            if name not in new:
                yield {"op": "removed", "path": place, "old": old[name]}
            elif name not in old:
                yield {"op": "added", "path": place, "new": new[name]}
            else:
                yield from _differences(old[name], new[name], place)
    elif isinstance(old, list) and isinstance(new, list):
        shared = min(len(old), len(new))
        for at in range(shared):
            yield from _differences(old[at], new[at], f"{path}/{at}")
        for at in range(shared, len(old)):
            yield {"op": "removed", "path": f"{path}/{at}", "old": old[at]}
        for at in range(shared, len(new)):
            yield {"op": "added", "path": f"{path}/{at}", "new": new[at]}
    else:
        yield {"op": "changed", "path": path, "old": old, "new": new}
