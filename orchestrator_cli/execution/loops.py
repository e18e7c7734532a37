"""Whether an agent goes in a circle: the same thing done three times, each time with the same outcome.

Counted are steps: a loop within one step that calls a tool with the same arguments again and again
is one. The same call with another outcome is progress. Not covered: circles of more than one thing,
which the limit of steps ends.
"""

import hashlib
from collections import Counter

SAME = 3


class Circles:
    """What one attempt has done so far."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._in_step: set[str] = set()
        self.found: str | None = None
        """What was done three times; None as long as nothing was."""

    def note(self, what: str, *parts: str) -> None:
        """Something was done: `what` says it in words, `parts` are all that makes it the same."""
        key = hashlib.sha256("\0".join((what, *parts)).encode("utf-8", "surrogatepass")).hexdigest()
        if key in self._in_step:
            return
        self._in_step.add(key)
        self._counts[key] += 1
        if self._counts[key] >= SAME and self.found is None:
            self.found = f"it {what} three times and got the same result"

    def end_step(self) -> None:
        self._in_step.clear()
