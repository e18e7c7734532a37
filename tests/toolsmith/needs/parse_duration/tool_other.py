import re

from smolagents import tool


@tool
def parse_duration(text: str) -> int:
    """Turn a duration written as '1h 30m' or '2d' into whole seconds.

    Args:
        text: One or more parts such as 2d, 4h or 30m, in the order of the units.

    Returns:
        The duration in seconds.
    """
    units = (("w", 604_800), ("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1))
    form = " *".join(f"(?:(?P<{unit}>[0-9]+){unit})?" for unit, _ in units)
    found = re.fullmatch(f" *{form} *", text.lower())
    if found is None or not any(found.groups()):
        raise ValueError(f"{text!r} is no duration such as '1h 30m'")
    return sum(int(found[unit] or 0) * seconds for unit, seconds in units)
