import re
from datetime import date as Date
from datetime import timedelta

from smolagents import tool

LIMIT = 10_000
SATURDAY = 5


@tool
def add_working_days(date: str, days: int, holidays: list[str] | None = None) -> str:
    """The date that lies a number of working days after or before another.

    Args:
        date: The date to count from, YYYY-MM-DD.
        days: How many working days onwards, or backwards when negative.
        holidays: Dates that are no working days.

    Returns:
        The date, YYYY-MM-DD.
    """
    day = _parsed(date)
    free = {_parsed(holiday) for holiday in holidays or []}
    if abs(days) > LIMIT:
        raise ValueError(f"days is {days}, but must be -{LIMIT} to {LIMIT}")
    step = timedelta(days=-1 if days < 0 else 1)
    left = abs(days)
    try:
        if left == 0:
            while day.weekday() >= SATURDAY:
                day += step
        while left:
            day += step
            left -= _works(day, free)
    except OverflowError as error:
        raise ValueError("the result lies outside the years 1 to 9999") from error
    return day.isoformat()


def _parsed(text: str) -> Date:
    if not isinstance(text, str) or not re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", text):
        raise ValueError(f"{text!r} is not of the form YYYY-MM-DD")
    return Date.fromisoformat(text)


def _works(day: Date, free: set[Date]) -> bool:
    return day.weekday() < SATURDAY and day not in free
