import re

from smolagents import tool

PART = re.compile(r"([0-9]+)([wdhms])", re.IGNORECASE)
SECONDS = {"w": 7 * 24 * 3600, "d": 24 * 3600, "h": 3600, "m": 60, "s": 1}


@tool
def parse_duration(text: str) -> int:
    """Turn a duration written as '1h 30m' or '2d' into whole seconds.

    Args:
        text: Numbers with the units w, d, h, m and s, from the largest to the smallest.

    Returns:
        The duration in seconds.
    """
    rest = text.replace(" ", "")
    if not rest:
        raise ValueError("the duration is blank")
    seconds = 0
    units = list(SECONDS)
    while rest:
        found = PART.match(rest)
        if not found:
            raise ValueError(f"{rest!r} does not begin with a number and one of w, d, h, m, s")
        unit = found[2].lower()
        if unit not in units:
            raise ValueError(f"the unit {unit!r} stands twice or out of order in {text!r}")
        units = units[units.index(unit) + 1 :]
        seconds += int(found[1]) * SECONDS[unit]
        rest = rest[found.end() :]
    return seconds
