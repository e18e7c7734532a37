"""Lengths of time as people write them: `30s`, `10m`, `2h`, `1d`, `1w`."""

import re

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_LENGTH = re.compile(r"(\d{1,9}(?:\.\d{1,6})?)\s*([smhdw]?)", re.ASCII)


def seconds_of(text: str) -> float:
    """The seconds; a number without a unit is seconds. Raises `ValueError`."""
    found = _LENGTH.fullmatch(text.strip())
    if not found:
        raise ValueError(f"{text} is not a length of time")
    return float(found[1]) * UNITS[found[2] or "s"]


def length_text(seconds: float) -> str:
    """In the largest unit that gives a whole number."""
    unit = next((name for name in reversed(UNITS) if seconds % UNITS[name] == 0), "s")
    return f"{seconds / UNITS[unit]:g}{unit}"
