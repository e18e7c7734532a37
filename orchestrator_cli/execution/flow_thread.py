"""What the flow's own thread offers to those who decide things in it."""

from collections.abc import Callable
from typing import Any, Protocol

from orchestrator_cli.events import ApprovalGiven


class FlowThread(Protocol):
    def beside(self, work: Callable[[], Any], name: str, ended: Callable[[Any], None]) -> None:
        """Do something that is no subtask as a task run; `ended` hears in this thread what came of it."""

    def later(self, act: Callable[[], None]) -> Callable[[ApprovalGiven], None]:
        """What hears an answer in any thread, and has `act` done in this one."""
