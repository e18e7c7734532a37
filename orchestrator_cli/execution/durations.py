"""How long each finished subtask of a run took, and the plan as memory keeps it."""

from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator_cli.events import Event, SubtaskFinished
from orchestrator_cli.execution.board import Board
from orchestrator_cli.planning.plan import order


class Durations:
    """A view that shows nothing."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        """By subtask, and by instance; of the attempt that succeeded."""

    def __call__(self, event: Event) -> None:
        if isinstance(event.data, SubtaskFinished):
            self.seconds[event.data.subtask] = event.data.seconds

    def catch_up(self, found: Sequence[Event]) -> None:
        for event in found:
            self(event)

    def close(self) -> None:
        """Nothing is held."""


def shape_of(board: Board, seconds: Mapping[str, float]) -> list[dict[str, Any]]:
    """The subtasks, what became of each, and what it took; `cost` is None where it is not known."""
    plan, states, results, _ = board.snapshot()
    rows = []
    for name in order(plan):
        usage = results[name].usage if name in results else None
        cost = usage.cost if usage is not None and not usage.unpriced else None
        ended = {"state": states.get(name), "seconds": seconds.get(name), "cost": cost}
        rows.append(plan[name].model_dump(mode="json") | ended)
    return rows
