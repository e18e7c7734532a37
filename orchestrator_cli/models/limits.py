"""The rules of what a run may spend: pure, looked at before every single try of a model call.

A call is admitted when its worst case fits: the prompt at its count of tokens and the longest reply
that it may give, on top of what was spent and of the worst cases of the calls under way. So calls at
once cannot pass a cap together. What does not fit now may fit when calls under way have ended, which
mostly cost a small part of their worst case: such a call waits. One that is alone and does not fit is
given less room to reply, and refused where that would be of no use.

Not covered: a provider that says more than `max_tokens` allows, or bills by other things than tokens
(a fee per request or search). That is counted when its reply says so, and ends the run a call later.
"""

import math
from dataclasses import dataclass, field

from orchestrator_cli.usage import Usage

REPLY_TOKENS = 16_384
"""The longest reply that is asked for under a cap: more would let few calls run at once."""
SHORTEST_REPLY = 256
"""With less room than this a reply is of no use."""


@dataclass(frozen=True)
class Caps:
    """None: not limited."""

    calls: int | None = None
    tokens: int | None = None
    cost: float | None = None

    @property
    def want_quotes(self) -> bool:
        return self.tokens is not None or self.cost is not None


@dataclass(frozen=True)
class Quote:
    """What a call can come to. The money is 0 where no price is known."""

    prompt_tokens: int
    """At most."""
    reply_tokens: int | None = None
    """The longest reply the model can give, where that is known; 0 where it says nothing."""
    prompt_cost: float = 0.0
    token_cost: float = 0.0
    """Of one token of the reply."""

    def worst(self, reply_tokens: int) -> "Worst":
        return Worst(self.prompt_tokens + reply_tokens, self.prompt_cost + reply_tokens * self.token_cost)


@dataclass(frozen=True)
class Worst:
    """The worst case of one call, or of several."""

    tokens: int = 0
    cost: float = 0.0


@dataclass(frozen=True)
class Books:
    """What was spent, and the worst case of every call under way."""

    used: Usage = field(default_factory=Usage)
    under_way: tuple[Worst, ...] = ()

    @property
    def calls(self) -> int:
        return self.used.calls + self.used.failed + len(self.under_way)

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
    worst: Worst = field(default_factory=Worst)
    reply_tokens: int | None = None
    """The longest reply to ask for; None: as long as the model likes."""
    squeezed: bool = False
    """There was not enough left for a reply of the usual length."""


@dataclass(frozen=True)
class Later:
    """It may fit when a call that is under way has ended."""


@dataclass(frozen=True)
class Refused:
    message: str
    setting: str
    """The setting whose cap was met."""
    enough: str
    """A value for it that lets the run go on for a while."""


def admit(caps: Caps, books: Books, quote: Quote | None) -> Admitted | Later | Refused:
    """Whether a call may be made now. `quote` may be None where neither tokens nor money are capped."""
    if caps.calls is not None and books.calls >= caps.calls:
        return _no_calls(caps.calls)
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
    """The longest reply that the cap on tokens leaves room for."""
    if caps.tokens is None:
        return math.inf
    return caps.tokens - books.tokens - sum(call.tokens for call in books.under_way) - quote.prompt_tokens


def _room_in_money(caps: Caps, books: Books, quote: Quote) -> float:
    """The longest reply that the cap on money leaves room for."""
    if caps.cost is None:
        return math.inf
    left = caps.cost - books.cost - sum(call.cost for call in books.under_way) - quote.prompt_cost
    if quote.token_cost == 0:
        return math.inf if left >= 0 else -1
    return math.floor(left / quote.token_cost)


def _no_calls(cap: int) -> Refused:
    return Refused(f"The run has made its {cap} model calls.", "max_calls", str(2 * cap))


def _no_tokens(cap: int, books: Books, worst: Worst) -> Refused:
    used = f"The run has used {books.tokens:,} of its {cap:,} tokens"
    message = f"{used}, and the next call needs up to {worst.tokens:,}."
    return Refused(
        message + _unsure(books), "max_tokens", str(max(2 * cap, books.tokens + 10 * worst.tokens))
    )


def _no_money(cap: float, books: Books, worst: Worst) -> Refused:
    spent = f"The run has spent {money(books.cost)} of its {money(cap)}"
    message = f"{spent}, and the next call may cost {money(worst.cost)}."
    enough = math.ceil(100 * max(2 * cap, books.cost + 10 * worst.cost)) / 100
    return Refused(message + _unsure(books), "max_cost", f"{enough:.2f}")


def _unsure(books: Books) -> str:
    if not books.used.unsure_tokens:
        return ""
    most = f"{books.used.unsure_tokens:,} tokens ({money(books.used.unsure_cost)})"
    return f" Of that, {most} are the most that calls can have used whose reply was late or cut."


def money(dollars: float) -> str:
    """With as many digits as say something."""
    if dollars == 0 or dollars >= 1:
        return f"${dollars:.2f}"
    return f"${dollars:.4f}" if dollars >= 0.001 else f"${dollars:.2g}"
