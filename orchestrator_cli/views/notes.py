"""The view of a run that is not shown, such as one that only draws a plan: what its user should know."""

from collections.abc import Callable

from orchestrator_cli.events import Event, Noticed
from orchestrator_cli.state import RunState
from orchestrator_cli.views.narration import narrate


class Notes:
    """Passes each `Noticed` to `say`, as a line."""

    def __init__(self, say: Callable[[list[str]], None]) -> None:
        self._say = say

    def __call__(self, event: Event, state: RunState) -> None:
        if isinstance(event.data, Noticed):
            self._say([str(line) for line in narrate(event, state)])

    def close(self) -> None:
        """Nothing is held open."""
