"""At most so many calls of one model at once; who comes later waits, and Ctrl-C ends the waiting too."""

import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from orchestrator_cli.cancellation import Cancellation
from orchestrator_cli.models.model import Model, OnDelta, Reply, Request


class TurnTakingModel:
    """A model whose calls wait for their turn.

    Args:
        most: calls at once per model name; what is not named has no limit.
    """

    def __init__(self, model: Model, most: Mapping[str, int], cancellation: Cancellation) -> None:
        self._model = model
        self._most = most
        self._cancellation = cancellation
        self._under_way: Counter[str] = Counter()
        self._changed = threading.Condition()

    def complete(
        self, request: Request, on_delta: OnDelta | None = None, cancellation: Cancellation | None = None
    ) -> Reply:
        with self._turn(request.model or "", cancellation or self._cancellation):
            return self._model.complete(request, on_delta, cancellation)

    @contextmanager
    def _turn(self, name: str, cancellation: Cancellation) -> Iterator[None]:
        with self._changed:
            while self._under_way[name] >= self._most.get(name, self._under_way[name] + 1):
                cancellation.check()
                # Short waits, because the main thread takes Ctrl-C only between them on some systems.
                self._changed.wait(0.1)
            cancellation.check()
            self._under_way[name] += 1
        try:
            yield
        finally:
            with self._changed:
                self._under_way[name] -= 1
                self._changed.notify_all()
