"""How much may set schedules off in an hour, so that neither a loop nor a flood has no end."""

import time
from collections import deque
from collections.abc import Callable, Mapping

HOUR_S = 3600.0
EVENT, FILES, PAGE, OWN = "event", "files", "page", ""
"""What sets a schedule off besides its times: an event, files, the page of Prefect's server or who else may
write to it, and this home by itself (a command, or the end of another run)."""
AT_THE_SERVER: Mapping[str, int] = {EVENT: 30, PAGE: 30}
AT_HOME: Mapping[str, int] = {FILES: 30, OWN: 600}
"""How often an hour. Runs may cause more events and changes, and two schedules may follow each other."""


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


class SourceRates:
    """How often each source may set each schedule off. A source that is not named has no limit here."""

    def __init__(self, most: Mapping[str, int]) -> None:
        self._rates = {source: HourlyRate(count) for source, count in most.items()}

    def has_room(self, name: str, source: str) -> bool:
        return source not in self._rates or self._rates[source].has_room(name)

    def takes(self, name: str, source: str) -> bool:
        """Count one, unless it would be too many."""
        return source not in self._rates or self._rates[source].takes(name)
