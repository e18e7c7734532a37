"""How long each subtask of a run took, which model did it, and the plan as memory keeps it."""

from collections.abc import Sequence
from typing import Any

from orchestrator_cli.events import Event, Spent, SubtaskFinished
from orchestrator_cli.plan import order, whole_name
from orchestrator_cli.state.board import Board


class Durations:
    """A view that shows nothing."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        """By subtask, and by instance; of the attempt that succeeded."""
        self.models: dict[str, set[str]] = {}
        """By subtask, those that have answered its agents."""

    def __call__(self, event: Event) -> None:
        if isinstance(event.data, SubtaskFinished):
            self.seconds[event.data.subtask] = event.data.seconds
        elif isinstance(event.data, Spent) and event.data.role == "agent" and not event.data.fault:
            self.models.setdefault(whole_name(event.data.subtask or ""), set()).add(event.data.model)

    def catch_up(self, found: Sequence[Event]) -> None:
        for event in found:
            self(event)

    def close(self) -> None:
        """Nothing is held."""


def shape_of(board: Board, known: Durations) -> list[dict[str, Any]]:
    """The subtasks, what became of each, and what it took.

    `cost` is None where it is not known, and `model` where none or several had a part in it.
    """
    plan, states, results, _ = board.snapshot()
    rows = []
    for name in order(plan):
        usage = results[name].usage if name in results else None
        cost = usage.cost if usage is not None and not usage.unpriced else None
        models = known.models.get(name, set())
        ended = {
            "state": states.get(name),
            "seconds": known.seconds.get(name),
            "cost": cost,
            "model": next(iter(models)) if len(models) == 1 else None,
        }
        rows.append(plan[name].model_dump(mode="json") | ended)
    return rows
