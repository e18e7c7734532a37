"""Whether a reply that arrives has begun to repeat itself, as models do that do not stop. Pure.

Honest replies repeat themselves too: rulers, tables, rows of equal numbers, boilerplate. So the same text
must come again and again for 2,000 characters, at least six times, without a single difference; or the same
line of words thirty times.

Not covered: repetition with a difference, such as a list that counts on. The longest reply ends that.
"""

import re

STRETCH_CHARS = 2_000
TIMES = 6
LONGEST_PERIOD = 1_500
LINES = 30
_PROBE_CHARS = 40
_STEP_CHARS = 200
"""A reply is looked at again after so many more characters."""
_WORDS = re.compile(r"(?<![^\W\d_])[^\W\d_]{2,}+\W++[^\W\d_]{2,}+\W++[^\W\d_]{2,}+")


class RepetitionWatch:
    """Reads one reply as it arrives, or one part of it."""

    def __init__(self) -> None:
        self._tail = ""
        self._unseen = 0

    def feed(self, piece: str) -> bool:
        """Whether the reply repeats itself by now."""
        self._tail = (self._tail + piece)[-(TIMES * LONGEST_PERIOD + _STEP_CHARS) :]
        self._unseen += len(piece)
        if self._unseen < _STEP_CHARS:
            return False
        self._unseen = 0
        return is_repetitive(self._tail)


def is_repetitive(text: str) -> bool:
    """Whether a text ends in the same, over and over."""
    return _is_periodic(text) or _repeats_a_line(text)


def _is_periodic(text: str) -> bool:
    if len(text) < STRETCH_CHARS:
        return False
    probe, at = text[-_PROBE_CHARS:], len(text) - _PROBE_CHARS
    lowest = len(text) - _PROBE_CHARS - LONGEST_PERIOD
    while (at := text.rfind(probe, max(0, lowest), at + _PROBE_CHARS - 1)) >= 0:
        period = len(text) - _PROBE_CHARS - at
        stretch = max(STRETCH_CHARS, TIMES * period)
        if stretch <= len(text) and text[-stretch + period :] == text[-stretch:-period]:
            return True
    return False


def _repeats_a_line(text: str) -> bool:
    lines = [line.strip() for line in text.split("\n")[-LINES - 1 : -1] if line.strip()]
    return len(lines) == LINES and len(set(lines)) == 1 and _WORDS.search(lines[0]) is not None
