import re
from datetime import datetime, timedelta
from itertools import groupby

from smolagents import tool

FORM = "%H:%M"


def parse(text: object) -> datetime:
    """A time of an arbitrary day."""
    if not isinstance(text, str) or not re.fullmatch("[0-9]{2}:[0-9]{2}", text):
        raise ValueError(f"{text!r} is not of the form HH:MM")
    return datetime.strptime(text, FORM)


@tool
def free_slots(
    busy: list, minutes: int = 30, day_start: str = "09:00", day_end: str = "17:00"
) -> list[list[str]]:
    """Find free times between meetings.

    Args:
        busy: The meetings, pairs of times.
        minutes: The least length of a free time.
        day_start: Begin of the day.
        day_end: End of the day.

    Returns:
        Pairs of times.
    """
    first, last = parse(day_start), parse(day_end)
    if first >= last or minutes < 1:
        raise ValueError("the day needs a length, and minutes must be at least 1")
    taken = set()
    for meeting in busy:
        if not isinstance(meeting, list) or len(meeting) != 2:
            raise ValueError(f"not a pair: {meeting!r}")
        begin, end = map(parse, meeting)
        if begin >= end:
            raise ValueError(f"{meeting!r} has no length")
        taken.update(range(_minute(begin), _minute(end)))
    free = [minute for minute in range(_minute(first), _minute(last)) if minute not in taken]
    slots = []
    # Minutes in a row have the same distance to their place in the list.
    for _, run in groupby(enumerate(free), key=lambda pair: pair[1] - pair[0]):
        members = [minute for _, minute in run]
        if len(members) >= minutes:
            slots.append([_text(members[0]), _text(members[-1] + 1)])
    return slots


def _minute(time: datetime) -> int:
    return time.hour * 60 + time.minute


def _text(minute: int) -> str:
    return (datetime(2000, 1, 1) + timedelta(minutes=minute)).strftime(FORM)
