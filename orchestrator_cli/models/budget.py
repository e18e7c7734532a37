"""What a run may spend: checked before every try of a model call and counted after it, for all roles.

`limits` holds the rules. A limit on cost counts only calls whose price is known; `Usage.unpriced` counts
the others. A failed try is a call; if its reply was late or cut, the provider may bill it, so its worst
case stays counted as unsure.
"""

import threading
import time
from collections.abc import Callable
from typing import TypeVar

from orchestrator_cli.cancellation import Cancellation
from orchestrator_cli.errors import LimitReached, OrchError, ProviderError
from orchestrator_cli.events import Fact, Noticed, Spent
from orchestrator_cli.models.limits import (
    Admitted,
    Books,
    CallRefused,
    Caps,
    Later,
    Quote,
    WorstCase,
    admit,
)
from orchestrator_cli.models.model import (
    Completion,
    Embeddings,
    Model,
    ModelRequest,
    OnDelta,
    TransientError,
)
from orchestrator_cli.settings import Settings
from orchestrator_cli.usage import Usage

Quoting = Callable[[ModelRequest], Quote]
Answer = TypeVar("Answer", Completion, Embeddings)


def rough_quote(request: ModelRequest) -> Quote:
    """Three characters a token and no price, for recorded replies."""
    return Quote(prompt_tokens=sum(len(str(message)) for message in request.messages) // 3 + 1)


class MeteredModel:
    """Refuses a call whose worst case exceeds a limit of the run, and emits what each try cost.

    Args:
        emit: receives every try as `Spent`.
        quote: the most that a call can use; needed only if tokens or cost are limited.
        used: the usage of earlier processes of the same run.
        run: the run's name, for the resume command in messages; empty if it cannot be resumed.
    """

    def __init__(
        self,
        model: Model,
        settings: Settings,
        emit: Callable[[Fact], None],
        *,
        quote: Quoting = rough_quote,
        used: Usage = Usage(),  # noqa: B008 - it is frozen
        run: str = "",
    ) -> None:
        self._model = model
        self._caps = Caps(settings.max_calls, settings.max_tokens, settings.max_cost)
        self._emit = emit
        self._quote = quote
        self._run = run
        self._used = used
        self._under_way: list[Admitted] = []
        self._changed = threading.Condition()

    @property
    def total(self) -> Usage:
        """The usage of the run, including its earlier processes."""
        return self._used

    def complete(
        self, request: ModelRequest, on_delta: OnDelta | None = None, cancellation: Cancellation | None = None
    ) -> Completion:
        admitted = self._admit(request, self._quote, cancellation)
        if admitted.reply_tokens is not None:
            request = request.model_copy(update={"max_tokens": admitted.reply_tokens})
        reply = self._call(request, admitted, lambda: self._model.complete(request, on_delta, cancellation))
        if admitted.squeezed and reply.usage.completion_tokens >= (admitted.reply_tokens or 0):
            self._emit(Noticed(message=f"The run's limit left a reply of {reply.model} no room; it is cut."))
        return reply

    def embed(self, request: ModelRequest, quote: Quoting, ask: Callable[[], Embeddings]) -> Embeddings:
        """An embedding call, admitted and counted like any other."""
        return self._call(request, self._admit(request, quote, None), ask)

    def _call(self, request: ModelRequest, admitted: Admitted, ask: Callable[[], Answer]) -> Answer:
        started = time.monotonic()
        try:
            answer = ask()
        except BaseException as exc:
            self._failed(request, admitted, exc, time.monotonic() - started)
            raise
        self._record(request, admitted, answer.usage, answer.seconds, model=answer.model)
        return answer

    def _admit(self, request: ModelRequest, quoting: Quoting, cancellation: Cancellation | None) -> Admitted:
        """Count the call's worst case as soon as it fits. Raises `LimitReached`."""
        quote = quoting(request) if self._caps.want_quotes else None
        with self._changed:
            while True:
                books = Books(self._used, tuple(call.worst for call in self._under_way))
                match admit(self._caps, books, quote):
                    case Admitted() as admitted:
                        self._under_way.append(admitted)
                        return admitted
                    case CallRefused() as refused:
                        raise LimitReached(refused.message, self._remedy(refused))
                    case Later():
                        # Short waits, because on some systems the main thread takes Ctrl-C only between them.
                        self._changed.wait(0.1)
                if cancellation is not None:
                    cancellation.check()

    def _failed(self, request: ModelRequest, admitted: Admitted, exc: BaseException, seconds: float) -> None:
        unsure = exc.unsure if isinstance(exc, TransientError) else not isinstance(exc, ProviderError)
        worst = admitted.worst if unsure else WorstCase()
        usage = Usage(failed=1, unsure_tokens=worst.tokens, unsure_cost=worst.cost)
        fault = exc.message if isinstance(exc, OrchError) else str(exc) or type(exc).__name__
        self._record(request, admitted, usage, seconds, model=request.model or "", fault=fault)

    def _record(
        self,
        request: ModelRequest,
        admitted: Admitted,
        usage: Usage,
        seconds: float,
        *,
        model: str,
        fault: str = "",
    ) -> None:
        """Remove a call from those under way, and emit its usage."""
        with self._changed:
            # By identity: two calls may have the same worst case.
            self._under_way = [call for call in self._under_way if call is not admitted]
            self._used += usage
            total = self._used
            self._changed.notify_all()
        self._emit(
            Spent(
                role=request.role,
                subtask=request.subject or None,
                model=model,
                prompt_tokens=usage.prompt_tokens,
                completion_tokens=usage.completion_tokens,
                cost=None if usage.unpriced else usage.cost,
                seconds=seconds,
                total=total,
                fault=fault or None,
            )
        )

    def _remedy(self, refused: CallRefused) -> str:
        if not self._run:
            return f"Allow more with ORCH_{refused.setting.upper()}={refused.enough}."
        flag = f"--{refused.setting.replace('_', '-')}"
        return f"Go on with a higher limit: orch resume {self._run} {flag} {refused.enough}"
