"""Notices about faults of memory in one run."""

from collections.abc import Callable
from dataclasses import dataclass, field

from memory import MemoryAway


@dataclass(frozen=True)
class FaultNotices:
    """Says what memory could not do; that its server cannot be used, it says once."""

    notice: Callable[[str], None]
    _said: set[type[Exception]] = field(default_factory=set)

    def __call__(self, what: str, fault: Exception) -> None:
        """`what` is a clause, such as "The run could not be remembered"."""
        if isinstance(fault, MemoryAway):
            if MemoryAway in self._said:
                return
            self._said.add(MemoryAway)
        self.notice(f"{what}: {fault}")
