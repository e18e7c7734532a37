"""How much may set schedules off in an hour, so that neither a loop nor a flood has no end."""

import time
from collections import deque
from collections.abc import Callable

HOUR_S = 3600.0


class HourlyRate:
    """Counts what each schedule has had in the last hour. Not covered: what was before this process began."""

    def __init__(self, most: int, now: Callable[[], float] = time.monotonic) -> None:
        self._most = most
        self._now = now
        self._had: dict[str, deque[tuple[float, int]]] = {}

    def has_room(self, name: str, amount: int = 1) -> bool:
        """Whether so much may still be had."""
        had = self._had.setdefault(name, deque())
        while had and had[0][0] <= self._now() - HOUR_S:
            had.popleft()
        return sum(one for _, one in had) + amount <= self._most

    def takes(self, name: str, amount: int = 1) -> bool:
        """Count an amount, unless it would be more than there may be."""
        if not self.has_room(name, amount):
            return False
        self._had[name].append((self._now(), amount))
        return True
