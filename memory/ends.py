"""Until when a statement holds, if its words say so: "this week", "until Friday", "today". Pure.

    end = end_said("I am in Rome until Friday", now)     # the end of that day, in the time zone of `now`
    bare = without_end("I live in Rome this week.")       # "I live in Rome."

A day ends at midnight, a week with Sunday. "Until Friday" said on a Friday is today.

What is not covered: languages other than English; times of day; ends that depend on an event ("until the
release"); a beginning in the future.
"""

import re
from calendar import monthrange
from collections.abc import Callable
from datetime import date, datetime, timedelta

_DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_MONTHS = (
    *("january", "february", "march", "april", "may", "june", "july", "august", "september"),
    *("october", "november", "december"),
)
_NUMBERS = {"few": 3, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "ten": 10}
_PERIOD = r"day|week|month|year"
_END = re.compile(
    r"(?ix)(?:^|(?<=[\s,(]))(?:"
    r"(?:(?:un)?til|till|through|by)\s+(?:the\s+)?(?:"
    rf"(?P<weekday>{'|'.join(_DAYS)})"
    r"|(?P<iso>\d{4}-\d{2}-\d{2})"
    rf"|(?P<day>\d{{1,2}})(?:st|nd|rd|th)?\s+(?:of\s+)?(?P<month>{'|'.join(_MONTHS)})(?:\s+(?P<year>\d{{4}}))?"
    rf"|(?P<month2>{'|'.join(_MONTHS)})\s+(?P<day2>\d{{1,2}})(?:st|nd|rd|th)?(?:,?\s+(?P<year2>\d{{4}}))?"
    rf"|end\s+of\s+(?:the|this)\s+(?P<end>{_PERIOD})"
    r"|(?P<near>today|tonight|tomorrow)"
    r")"
    # Without "next" it may be about the past: "I have lived here for two years".
    rf"|for\s+(?:the\s+)?next\s+(?:(?P<count>\d{{1,3}}|{'|'.join(_NUMBERS)})\s+)?(?P<unit>{_PERIOD})s?"
    r"|(?:for\s+|during\s+)?(?:(?P<named>today|tonight|tomorrow)"
    r"|(?P<which>this|next)\s+(?P<period>week(?:end)?|month|year))"
    r")(?!\w)"
)
_GAPS = re.compile(r"\s+(?=[.,;!?])|^[\s,]+")


def end_said(text: str, now: datetime) -> datetime | None:
    """The end that the words name, later than `now`; None if they name none."""
    for match in _END.finditer(text):
        try:
            last = _last_day(match, now.date())
        except (ValueError, OverflowError):
            continue
        if last is not None and last >= now.date():
            midnight = datetime.combine(last + timedelta(days=1), datetime.min.time())
            return midnight.replace(tzinfo=now.tzinfo)
    return None


def without_end(text: str) -> str:
    """The text without the words that name an end."""
    return _GAPS.sub("", " ".join(_END.sub(" ", text).split()))


def _last_day(match: re.Match[str], today: date) -> date | None:
    if day := match["weekday"]:
        return today + timedelta(days=(_DAYS.index(day.casefold()) - today.weekday()) % 7)
    if match["iso"]:
        return date.fromisoformat(match["iso"])
    if month := match["month"] or match["month2"]:
        return _date(int(match["day"] or match["day2"]), month, match["year"] or match["year2"], today)
    if word := match["near"] or match["named"]:
        return today + timedelta(days=word.casefold() == "tomorrow")
    if unit := match["unit"]:
        count = (match["count"] or "1").casefold()
        return _later(today, int(count) if count.isdigit() else _NUMBERS[count], unit.casefold())
    period = (match["end"] or match["period"]).casefold()
    begin = _later(today, 1, period) if (match["which"] or "").casefold() == "next" else today
    return _LAST[period](begin)


def _date(day: int, month: str, year: str | None, today: date) -> date:
    found = date(int(year) if year else today.year, _MONTHS.index(month.casefold()) + 1, day)
    return found if year or found >= today else found.replace(year=today.year + 1)


def _later(today: date, count: int, unit: str) -> date:
    if unit == "month":
        years, month = divmod(today.month - 1 + count, 12)
        last = monthrange(today.year + years, month + 1)[1]
        return today.replace(year=today.year + years, month=month + 1, day=min(today.day, last))
    return today + timedelta(days=count * {"day": 1, "week": 7, "weekend": 7, "year": 365}[unit])


def _sunday(day: date) -> date:
    return day + timedelta(days=6 - day.weekday())


_LAST: dict[str, Callable[[date], date]] = {
    "day": lambda day: day,
    "week": _sunday,
    "weekend": _sunday,
    "month": lambda day: day.replace(day=monthrange(day.year, day.month)[1]),
    "year": lambda day: date(day.year, 12, 31),
}
