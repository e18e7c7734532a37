import re
from datetime import date

from smolagents import tool

MONTHS = (
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
)
MONTH = "|".join([rf"{name}|{name[:3]}\b\.?" for name in MONTHS])
DAY = r"[0-9]{1,2}(?:st|nd|rd|th)?"
DATE = re.compile(
    rf"""(?<![^\W_])(?<!-)(?:
        (?P<iso>[0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}})
        | (?P<day1>{DAY})[ ]+(?:of[ ]+)?(?P<month1>{MONTH})[ ]+(?P<year1>[0-9]{{4}})
        | (?P<month2>{MONTH})[ ]+(?P<day2>{DAY}),?[ ]+(?P<year2>[0-9]{{4}})
    )(?![^\W_]|-)""",
    re.IGNORECASE | re.VERBOSE,
)


def month_number(word: str) -> int:
    """1 to 12, for a name or its first three letters."""
    return [name[:3] for name in MONTHS].index(word[:3].lower()) + 1


@tool
def find_dates(text: str) -> list[str]:
    """Find the calendar dates in an English text and give them in ISO form.

    Args:
        text: Any text.

    Returns:
        The dates as YYYY-MM-DD, each once.
    """
    dates: dict[str, None] = {}
    for found in DATE.finditer(text):
        if found["iso"]:
            year, month, day = map(int, found["iso"].split("-"))
        else:
            year = int(found["year1"] or found["year2"])
            month = month_number(found["month1"] or found["month2"])
            day = int(re.sub("[a-z]", "", found["day1"] or found["day2"], flags=re.IGNORECASE))
        try:
            dates[date(year, month, day).isoformat()] = None
        except ValueError:
            continue  # there is no such day
    return list(dates)
