"""What people and programs see of a run: every view is made from events and nothing else.

A view is called with each event in order and closed once at the end; the caller never calls
one view from two threads at the same time.
"""

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from orchestrator_cli.events import Event


class View(Protocol):
    def __call__(self, event: "Event") -> None: ...

    def close(self) -> None: ...
