"""What a run may spend: checked before every try of a model call and counted after it, for all roles.

The rules are pure functions. A call is admitted if its worst case fits: its prompt and the longest reply it
may give, on top of what was spent and the worst cases of the calls under way. So concurrent calls cannot
exceed a limit together. A call that does not fit waits for those under way, which mostly cost a small part
of their worst case. If none is under way, it gets less room to reply, or is refused if too little is left.

A limit on cost counts only calls whose price is known; `Usage.unpriced` counts the others. A try that failed
or was stopped is a call; if the provider may bill it, its worst case stays counted as unsure.

Not covered: a provider that ignores `max_tokens`, or bills by other things than tokens (a fee per request
or search). That is counted with the reply, and ends the run one call later.
"""

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from orchestrator_cli.cancellation import Cancellation
from orchestrator_cli.durable.text import truncate
from orchestrator_cli.errors import LimitReached, OrchError, ProviderError, RecoverableError
from orchestrator_cli.events import Fact, ModelAsked, Noticed, Spent
from orchestrator_cli.models.model import (
    Completion,
    Embeddings,
    Model,
    ModelRequest,
    OnDelta,
)
from orchestrator_cli.settings import Settings
from orchestrator_cli.values import Usage

REPLY_TOKENS = 16_384
"""The longest reply under a limit, in tokens; more would let few calls run at once."""
REASONING_CHARS = 4_000
"""So much of a model's thoughts is kept for each call."""
SHORTEST_REPLY = 256
"""A shorter reply, in tokens, would be useless."""


@dataclass(frozen=True)
class Caps:
    """The limits of a run; None means not limited."""

    calls: int | None = None
    tokens: int | None = None
    cost: float | None = None

    @property
    def want_quotes(self) -> bool:
        return self.tokens is not None or self.cost is not None


@dataclass(frozen=True)
class Quote:
    """The most that a call can use. The costs, in dollars, are 0 if no price is known."""

    prompt_tokens: int
    reply_tokens: int | None = None
    """The longest reply of the model, None if unknown; 0 for an embedding."""
    prompt_cost: float = 0.0
    token_cost: float = 0.0
    """Per token of the reply."""

    def worst(self, reply_tokens: int) -> "WorstCase":
        return WorstCase(self.prompt_tokens + reply_tokens, self.prompt_cost + reply_tokens * self.token_cost)


@dataclass(frozen=True)
class WorstCase:
    """The most that one call can use."""

    tokens: int = 0
    cost: float = 0.0


@dataclass(frozen=True)
class Books:
    """What was spent, and the worst case of each call under way."""

    used: Usage = field(default_factory=Usage)
    under_way: tuple[WorstCase, ...] = ()

    @property
    def calls(self) -> int:
        return self.used.tries + len(self.under_way)

    @property
    def tokens(self) -> int:
        """Without the calls under way."""
        return self.used.prompt_tokens + self.used.completion_tokens + self.used.unsure_tokens

    @property
    def cost(self) -> float:
        """Without the calls under way."""
        return self.used.cost + self.used.unsure_cost


@dataclass(frozen=True)
class Admitted:
    worst: WorstCase = field(default_factory=WorstCase)
    reply_tokens: int | None = None
    """The longest reply to ask for; None leaves it to the model."""
    squeezed: bool = False
    """Whether too little was left for a reply of the usual length."""


@dataclass(frozen=True)
class Later:
    """The call may fit when one under way has ended."""


@dataclass(frozen=True)
class CallRefused:
    message: str
    setting: str
    """The setting whose limit was reached."""
    enough: str
    """A value for it that lets the run continue for a while."""


def admit(caps: Caps, books: Books, quote: Quote | None) -> Admitted | Later | CallRefused:
    """Whether a call may be made now. `quote` may be None if neither tokens nor cost are limited."""
    if caps.calls is not None and books.calls >= caps.calls:
        message = f"The run has made its {caps.calls} model calls."
        return CallRefused(message, "max_calls", str(2 * caps.calls))
    if quote is None or not caps.want_quotes:
        return Admitted()
    wanted = REPLY_TOKENS if quote.reply_tokens is None else min(REPLY_TOKENS, quote.reply_tokens)
    shortest = min(SHORTEST_REPLY, wanted)
    room = min(_room_in_tokens(caps, books, quote), _room_in_money(caps, books, quote))
    if room >= wanted:
        return Admitted(quote.worst(wanted), wanted)
    if books.under_way:
        return Later()
    if room >= shortest:
        return Admitted(quote.worst(int(room)), int(room), squeezed=True)
    if _room_in_tokens(caps, books, quote) < shortest:
        return _no_tokens(caps.tokens or 0, books, quote.worst(shortest))
    return _no_money(caps.cost or 0.0, books, quote.worst(shortest))


def _room_in_tokens(caps: Caps, books: Books, quote: Quote) -> float:
    """The longest reply, in tokens, that the limit on tokens allows."""
    if caps.tokens is None:
        return math.inf
    return caps.tokens - books.tokens - sum(call.tokens for call in books.under_way) - quote.prompt_tokens


def _room_in_money(caps: Caps, books: Books, quote: Quote) -> float:
    """The longest reply, in tokens, that the limit on cost allows."""
    if caps.cost is None:
        return math.inf
    left = caps.cost - books.cost - sum(call.cost for call in books.under_way) - quote.prompt_cost
    if quote.token_cost == 0:
        return math.inf if left >= 0 else -1
    return math.floor(left / quote.token_cost)


def _no_tokens(cap: int, books: Books, worst: WorstCase) -> CallRefused:
    used = f"The run has used {books.tokens:,} of its {cap:,} tokens"
    message = f"{used}, and the next call needs up to {worst.tokens:,}."
    return CallRefused(
        message + _unsure(books), "max_tokens", str(max(2 * cap, books.tokens + 10 * worst.tokens))
    )


def _no_money(cap: float, books: Books, worst: WorstCase) -> CallRefused:
    spent = f"The run has spent {money(books.cost)} of its {money(cap)}"
    message = f"{spent}, and the next call may cost {money(worst.cost)}."
    enough = math.ceil(100 * max(2 * cap, books.cost + 10 * worst.cost)) / 100
    return CallRefused(message + _unsure(books), "max_cost", f"{enough:.2f}")


def _unsure(books: Books) -> str:
    if not books.used.unsure_tokens:
        return ""
    most = f"{books.used.unsure_tokens:,} tokens ({money(books.used.unsure_cost)})"
    return f" Of that, {most} are the most that calls can have used whose reply was late or cut."


def money(dollars: float) -> str:
    """Dollars with as many digits as are significant."""
    if dollars == 0 or dollars >= 1:
        return f"${dollars:.2f}"
    return f"${dollars:.4f}" if dollars >= 0.001 else f"${dollars:.2g}"


Quoting = Callable[[ModelRequest], Quote]
Answer = TypeVar("Answer", Completion, Embeddings)


def rough_quote(request: ModelRequest) -> Quote:
    """Three characters a token and no price, for recorded replies."""
    return Quote(prompt_tokens=sum(len(str(message)) for message in request.messages) // 3 + 1)


def call_event(request: ModelRequest, waits_for: str = "") -> ModelAsked:
    """That a call is made, or waits for something before it is."""
    subtask = request.subject or None
    return ModelAsked(role=request.role, subtask=subtask, model=request.model or "", waits_for=waits_for)


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
        self._set_by = settings.set_by
        self._caps = Caps(settings.max_calls, settings.max_tokens, settings.max_cost)
        self._emit = emit
        self._quote = quote
        self._run = run
        self._used = used
        self._under_way: list[Admitted] = []
        self._changed = threading.Condition()

    @property
    def _books(self) -> Books:
        with self._changed:
            return Books(self._used, tuple(call.worst for call in self._under_way))

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

    def count(self, request: ModelRequest, quote: Quoting, ask: Callable[[], Answer]) -> Answer:
        """A call of another kind, such as an embedding, admitted and counted like any other."""
        return self._call(request, self._admit(request, quote, None), ask)

    def _call(self, request: ModelRequest, admitted: Admitted, ask: Callable[[], Answer]) -> Answer:
        self._emit(call_event(request))
        started = time.monotonic()
        try:
            answer = ask()
        except BaseException as exc:
            self._failed(request, admitted, exc, time.monotonic() - started)
            raise
        reasoning = answer.reasoning if isinstance(answer, Completion) else ""
        self._record(request, admitted, answer.usage, answer.seconds, model=answer.model, reasoning=reasoning)
        return answer

    def _admit(self, request: ModelRequest, quoting: Quoting, cancellation: Cancellation | None) -> Admitted:
        """Count the call's worst case as soon as it fits. Raises `LimitReached`."""
        quote = quoting(request) if self._caps.want_quotes else None
        if isinstance(admit(self._caps, self._books, quote), Later):
            self._emit(call_event(request, "room under the limit"))
        with self._changed:
            while True:
                match admit(self._caps, self._books, quote):
                    case Admitted() as admitted:
                        self._under_way.append(admitted)
                        return admitted
                    case CallRefused() as refused:
                        whose = self._set_by(refused.setting)
                        raise LimitReached(f"{refused.message}{whose}", self._remedy(refused))
                    case Later():
                        # Short waits, because on some systems the main thread takes Ctrl-C only between them.
                        self._changed.wait(0.1)
                if cancellation is not None:
                    cancellation.check()

    def _failed(self, request: ModelRequest, admitted: Admitted, exc: BaseException, seconds: float) -> None:
        unsure = exc.unsure if isinstance(exc, ProviderError) else True
        worst = admitted.worst if unsure else WorstCase()
        # What ends the work from outside says nothing about the provider.
        stopped = isinstance(exc, KeyboardInterrupt | OrchError | TimeoutError | RecoverableError)
        stopped = stopped and not isinstance(exc, ProviderError)
        usage = Usage(
            failed=int(not stopped),
            stopped=int(stopped),
            unsure_tokens=worst.tokens,
            unsure_cost=worst.cost,
        )
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
        reasoning: str = "",
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
                cached_tokens=usage.cached_tokens,
                cost=None if usage.unpriced else usage.cost,
                seconds=seconds,
                total=total,
                fault=fault or None,
                stopped=bool(usage.stopped),
                reasoning=truncate(reasoning, REASONING_CHARS) or None,
            )
        )

    def _remedy(self, refused: CallRefused) -> str:
        if not self._run:
            return f"Allow more with ORCH_{refused.setting.upper()}={refused.enough}."
        flag = f"--{refused.setting.replace('_', '-')}"
        return f"Go on with a higher limit: orch resume {self._run} {flag} {refused.enough}"
