"""What a run may spend: checked before every model call, counted after it, for all roles together.

A cap on money counts only calls whose price is known; unpriced ones are counted apart and never
taken as free (`Usage.unpriced`). Not covered yet: the worst case of the call about to be made,
so a run can pass its cap by one call.
"""

import threading
from collections.abc import Callable

from orchestrator_cli.cancellation import Cancellation
from orchestrator_cli.errors import LimitReached
from orchestrator_cli.events import Spent
from orchestrator_cli.models.model import Model, OnDelta, Reply, Request
from orchestrator_cli.settings import Settings
from orchestrator_cli.usage import Usage


class MeteredModel:
    """A model that refuses a call once a limit of the run is reached, and says what each call cost."""

    def __init__(self, model: Model, settings: Settings, spent: Callable[[Spent], None]) -> None:
        self._model = model
        self._settings = settings
        self._spent = spent
        self._lock = threading.Lock()
        self._begun = 0
        self.total = Usage()

    def complete(
        self, request: Request, on_delta: OnDelta | None = None, cancellation: Cancellation | None = None
    ) -> Reply:
        with self._lock:
            self._refuse_beyond_limits()
            self._begun += 1
        reply = self._model.complete(request, on_delta, cancellation)
        with self._lock:
            self.total += reply.usage
            total = self.total
        self._spent(
            Spent(
                role=request.role,
                subtask=request.subject or None,
                model=reply.model,
                prompt_tokens=reply.usage.prompt_tokens,
                completion_tokens=reply.usage.completion_tokens,
                cost=None if reply.usage.unpriced else reply.usage.cost,
                seconds=reply.seconds,
                total=total,
            )
        )
        return reply

    def _refuse_beyond_limits(self) -> None:
        limits, used = self._settings, self.total
        tokens = used.prompt_tokens + used.completion_tokens
        if limits.max_calls is not None and self._begun >= limits.max_calls:
            raise LimitReached(f"The run has made its {limits.max_calls} model calls.", _more("--max-calls"))
        if limits.max_tokens is not None and tokens >= limits.max_tokens:
            raise LimitReached(
                f"The run has used {tokens} of its {limits.max_tokens} tokens.", _more("--max-tokens")
            )
        if limits.max_cost is not None and used.cost >= limits.max_cost:
            raise LimitReached(
                f"The run has spent ${used.cost:.4f} of its ${limits.max_cost:g}.", _more("--max-cost")
            )


def _more(flag: str) -> str:
    return f"Run it again with a higher {flag}."
