import re

from smolagents import tool


@tool
def free_slots(
    busy: list[list[str]], minutes: int = 30, day_start: str = "09:00", day_end: str = "17:00"
) -> list[list[str]]:
    """Find the times of a day that are free between meetings and long enough.

    Args:
        busy: Meetings as [begin, end], each HH:MM, in any order.
        minutes: How long a free time must be at least.
        day_start: When the day begins, HH:MM.
        day_end: When the day ends, HH:MM.

    Returns:
        Free times as [begin, end], earliest first.
    """
    if minutes < 1:
        raise ValueError("minutes must be at least 1")
    start, end = _minutes(day_start), _minutes(day_end)
    if end <= start:
        raise ValueError(f"the day ends at {day_end}, not after {day_start}")
    meetings = sorted(_meeting(pair) for pair in busy)
    within = [(begin, finish) for begin, finish in meetings if start <= begin and finish <= end]
    free = []
    at = start
    for begin, finish in [*within, (end, end)]:
        if begin - at >= minutes:
            free.append([_clock(at), _clock(begin)])
        at = max(at, finish)
    return free


def _meeting(pair: list[str]) -> tuple[int, int]:
    if len(pair) != 2:
        raise ValueError(f"a meeting is a pair of times, not {pair!r}")
    begin, end = _minutes(pair[0]), _minutes(pair[1])
    if end <= begin:
        raise ValueError(f"the meeting {pair!r} does not end after it begins")
    return begin, end


def _minutes(clock: str) -> int:
    if not isinstance(clock, str) or not re.fullmatch(r"([01][0-9]|2[0-3]):[0-5][0-9]", clock):
        raise ValueError(f"{clock!r} is not a time HH:MM")
    return int(clock[:2]) * 60 + int(clock[3:])


def _clock(minutes: int) -> str:
    return f"{minutes // 60:02}:{minutes % 60:02}"
