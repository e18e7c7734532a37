"""What a run may spend: checked before every try of a model call, counted after it, for all roles together.

The rules are in `limits`. A cap on money counts only calls whose price is known; unpriced ones are
counted apart and never taken as free (`Usage.unpriced`). A try that failed is a call; where its reply
was late or cut, the provider may bill what was said, so its worst case stays on the books as unsure.
"""

import threading
import time
from collections.abc import Callable
from typing import TypeVar

from orchestrator_cli.cancellation import Cancellation
from orchestrator_cli.errors import LimitReached, OrchError, ProviderError
from orchestrator_cli.events import Fact, Noticed, Spent
from orchestrator_cli.models.limits import Admitted, Books, Caps, Later, Quote, Refused, Worst, admit
from orchestrator_cli.models.model import Embedded, Model, OnDelta, PassingFault, Reply, Request
from orchestrator_cli.settings import Settings
from orchestrator_cli.usage import Usage

Quoting = Callable[[Request], Quote]
Answer = TypeVar("Answer", Reply, Embedded)


def rough_quote(request: Request) -> Quote:
    """Three characters a token and no price: for replies that are played back."""
    return Quote(prompt_tokens=sum(len(str(message)) for message in request.messages) // 3 + 1)


class MeteredModel:
    """A model that refuses a call whose worst case passes a limit of the run, and says what each cost.

    Args:
        emit: told of every try as `Spent`.
        quote: what a call can come to; asked only where tokens or money are capped.
        used: what an earlier process of the same run has used.
        run: the run's name, for the command that goes on with it; empty where nothing can.
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
        """What the run has used, its earlier processes included."""
        return self._used

    def complete(
        self, request: Request, on_delta: OnDelta | None = None, cancellation: Cancellation | None = None
    ) -> Reply:
        admitted = self._admit(request, self._quote, cancellation)
        if admitted.reply_tokens is not None:
            request = request.model_copy(update={"max_tokens": admitted.reply_tokens})
        reply = self._call(request, admitted, lambda: self._model.complete(request, on_delta, cancellation))
        if admitted.squeezed and reply.usage.completion_tokens >= (admitted.reply_tokens or 0):
            self._emit(Noticed(message=f"The run's limit left a reply of {reply.model} no room; it is cut."))
        return reply

    def embed(self, request: Request, quote: Quoting, ask: Callable[[], Embedded]) -> Embedded:
        """A call for vectors, admitted and counted like any other."""
        return self._call(request, self._admit(request, quote, None), ask)

    def _call(self, request: Request, admitted: Admitted, ask: Callable[[], Answer]) -> Answer:
        started = time.monotonic()
        try:
            answer = ask()
        except BaseException as exc:
            self._failed(request, admitted, exc, time.monotonic() - started)
            raise
        self._told(request, admitted, answer.usage, answer.seconds, model=answer.model)
        return answer

    def _admit(self, request: Request, quoting: Quoting, cancellation: Cancellation | None) -> Admitted:
        """Put the call's worst case on the books, as soon as it fits. Raises `LimitReached`."""
        quote = quoting(request) if self._caps.want_quotes else None
        with self._changed:
            while True:
                books = Books(self._used, tuple(call.worst for call in self._under_way))
                match admit(self._caps, books, quote):
                    case Admitted() as admitted:
                        self._under_way.append(admitted)
                        return admitted
                    case Refused() as refused:
                        raise LimitReached(refused.message, self._remedy(refused))
                    case Later():
                        # Short waits, because the main thread takes Ctrl-C only between them on some systems.
                        self._changed.wait(0.1)
                if cancellation is not None:
                    cancellation.check()

    def _failed(self, request: Request, admitted: Admitted, exc: BaseException, seconds: float) -> None:
        unsure = exc.unsure if isinstance(exc, PassingFault) else not isinstance(exc, ProviderError)
        worst = admitted.worst if unsure else Worst()
        usage = Usage(failed=1, unsure_tokens=worst.tokens, unsure_cost=worst.cost)
        fault = exc.message if isinstance(exc, OrchError) else str(exc) or type(exc).__name__
        self._told(request, admitted, usage, seconds, model=request.model or "", fault=fault)

    def _told(
        self,
        request: Request,
        admitted: Admitted,
        usage: Usage,
        seconds: float,
        *,
        model: str,
        fault: str = "",
    ) -> None:
        """Take a call off those under way, and say what it came to."""
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

    def _remedy(self, refused: Refused) -> str:
        if not self._run:
            return f"Allow more with ORCH_{refused.setting.upper()}={refused.enough}."
        flag = f"--{refused.setting.replace('_', '-')}"
        return f"Go on with a higher limit: orch resume {self._run} {flag} {refused.enough}"
