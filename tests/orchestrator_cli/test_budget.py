"""What a run may spend, counted over all its calls, those under way at their worst."""

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator_cli.cancellation import Cancellation
from orchestrator_cli.errors import Interrupted, LimitReached, ProviderError, RunTimedOut
from orchestrator_cli.events import Fact, ModelAsked, Noticed, Spent
from orchestrator_cli.execution.attempt import SubtaskTimedOut
from orchestrator_cli.models.budget import (
    REPLY_TOKENS,
    SHORTEST_REPLY,
    Admitted,
    Books,
    CallRefused,
    Caps,
    Later,
    MeteredModel,
    Quote,
    WorstCase,
    admit,
    call_event,
)
from orchestrator_cli.models.chain import RetryingModel, ThrottledModel
from orchestrator_cli.models.model import Completion, ModelRequest, TransientError
from orchestrator_cli.settings import Settings
from orchestrator_cli.values import Usage

ASK = ModelRequest(role="agent", subject="one", model="m", messages=())
EACH = Usage(calls=1, prompt_tokens=10, completion_tokens=490, cost=0.05)
QUOTE = Quote(prompt_tokens=10, reply_tokens=490, prompt_cost=0.001, token_cost=0.0001)
"""A call that costs 0.05 at its worst."""


class Fixed:
    """A model whose every call costs the same."""

    def __init__(self, usage: Usage = EACH, fault: BaseException | None = None) -> None:
        self.usage, self.fault = usage, fault
        self.asked: list[int | None] = []

    def complete(
        self, request: ModelRequest, on_delta: object = None, cancellation: object = None
    ) -> Completion:
        self.asked.append(request.max_tokens)
        if self.fault is not None:
            raise self.fault
        return Completion(text="x", model="m", usage=self.usage)


def metered(model: Any = None, quote: Quote = QUOTE, **options: Any) -> tuple[MeteredModel, list[Any]]:
    facts: list[Any] = []
    limits = {name: options.pop(name, None) for name in ("max_calls", "max_tokens", "max_cost")}
    settings = Settings.model_construct(**limits)

    def emit(fact: Fact) -> None:
        if not isinstance(fact, ModelAsked):
            facts.append(fact)

    return MeteredModel(model or Fixed(), settings, emit, quote=lambda _: quote, **options), facts


@pytest.mark.parametrize(
    ("limit", "calls"), [({"max_calls": 3}, 3), ({"max_tokens": 1700}, 3), ({"max_cost": 0.12}, 2)]
)
def test_a_call_whose_worst_case_passes_a_limit_is_refused(limit: dict[str, Any], calls: int) -> None:
    model, spent = metered(**limit)
    for _ in range(calls):
        model.complete(ASK)
    with pytest.raises(LimitReached, match=r"of its|has made its"):
        model.complete(ASK)
    assert len(spent) == model.total.calls == calls


def test_a_refusal_says_what_was_spent_and_the_command_that_goes_on() -> None:
    model, _ = metered(max_cost=0.06, run="20260101-1")
    model.complete(ASK)
    with pytest.raises(LimitReached) as raised:
        model.complete(ASK)
    assert raised.value.message == (
        "The run has spent $0.0500 of its $0.0600, and the next call may cost $0.0266."
    )
    assert raised.value.remedy == "Go on with a higher limit: orch resume 20260101-1 --max-cost 0.32"


def test_run_that_cannot_continue_names_the_variable() -> None:
    model, _ = metered(max_calls=1)
    model.complete(ASK)
    with pytest.raises(LimitReached, match=r"ORCH_MAX_CALLS=2"):
        model.complete(ASK)


def test_what_an_earlier_process_used_counts() -> None:
    model, spent = metered(max_calls=5, used=Usage(calls=3, failed=1, cost=2.0))
    model.complete(ASK)
    assert spent[0].total == Usage(calls=4, failed=1, prompt_tokens=10, completion_tokens=490, cost=2.05)
    with pytest.raises(LimitReached):
        model.complete(ASK)


def test_a_reply_is_given_less_room_when_less_is_left_and_a_reply_cut_by_that_is_noticed() -> None:
    inner = Fixed(Usage(calls=1, prompt_tokens=10, completion_tokens=300, cost=0.031))
    model, facts = metered(inner, max_cost=0.03105)
    model.complete(ASK)
    assert inner.asked == [300]
    assert facts[1] == Noticed(message="The run's limit left a reply of m no room; it is cut.")


def test_no_reply_is_limited_where_neither_tokens_nor_money_are() -> None:
    inner = Fixed()
    model, _ = metered(inner, max_calls=2)
    model.complete(ASK)
    assert inner.asked == [None]


def test_a_call_that_failed_counts_as_a_call_and_costs_nothing() -> None:
    model, facts = metered(Fixed(fault=ProviderError("gone")), max_calls=1, max_cost=1.0)
    with pytest.raises(ProviderError):
        model.complete(ASK)
    with pytest.raises(LimitReached):
        model.complete(ASK)
    assert model.total == Usage(failed=1)
    assert (facts[0].fault, facts[0].cost, facts[0].total.failed) == ("gone", 0.0, 1)


@pytest.mark.parametrize(
    ("fault", "stopped"),
    [
        (TransientError("late", unsure=True), 0),
        (RuntimeError("odd"), 0),
        (Interrupted("Ctrl-C"), 1),
        (RunTimedOut("The run took too long."), 1),
        (SubtaskTimedOut("The attempt took too long."), 1),
        (KeyboardInterrupt(), 1),
    ],
)
def test_a_call_whose_reply_may_be_billed_stays_on_the_books_at_its_worst(
    fault: BaseException, stopped: int
) -> None:
    model, _ = metered(Fixed(fault=fault), max_cost=0.06)
    with pytest.raises(type(fault)):
        model.complete(ASK)
    assert model.total.cost == 0
    assert (model.total.failed, model.total.stopped) == (1 - stopped, stopped)
    assert model.total.unsure_cost == pytest.approx(0.05)
    with pytest.raises(LimitReached, match=r"500 tokens \(\$0\.0500\) are the most that calls can have used"):
        model.complete(ASK)


class Gated:
    """A model whose calls wait at a gate, and that knows how many wait there at once."""

    def __init__(self, usage: Usage = EACH) -> None:
        self.gate = threading.Event()
        self.most = 0
        self._now = 0
        self._usage = usage
        self._changed = threading.Condition()

    def complete(
        self, request: ModelRequest, on_delta: object = None, cancellation: object = None
    ) -> Completion:
        with self._changed:
            self._now += 1
            self.most = max(self.most, self._now)
            self._changed.notify_all()
        assert self.gate.wait(20)
        with self._changed:
            self._now -= 1
        return Completion(text="x", model="m", usage=self._usage)

    def await_calls(self, number: int) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: self._now >= number, 20)


def at_once(model: Any, number: int, cancellation: Cancellation | None = None) -> Iterator[list[Any]]:
    """Start calls at once; then, when asked again, what each came to."""
    outcomes: list[Any] = []

    def ask() -> None:
        try:
            outcomes.append(model.complete(ASK, None, cancellation))
        except Exception as exc:
            outcomes.append(exc)

    threads = [threading.Thread(target=ask) for _ in range(number)]
    for thread in threads:
        thread.start()
    yield outcomes
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()
    yield outcomes


def test_a_call_says_what_it_waits_for() -> None:
    facts: list[Fact] = []
    gated = Gated()
    settings = Settings.model_construct(max_calls=None, max_tokens=700, max_cost=None)
    calls = at_once(MeteredModel(gated, settings, facts.append, quote=lambda _: QUOTE), 2)
    next(calls)
    gated.await_calls(1)
    await_fact(facts, "room under the limit")
    gated.gate.set()
    next(calls)

    gated, waits = Gated(), list[Fact]()
    queue = ThrottledModel(
        gated, {"m": 1}, Cancellation(), lambda request, what: waits.append(call_event(request, what))
    )
    calls = at_once(queue, 2)
    next(calls)
    await_fact(waits, "its turn at m")
    gated.gate.set()
    next(calls)


def test_a_call_that_is_tried_again_says_that_it_waits() -> None:
    waits: list[tuple[str | None, str]] = []
    model = RetryingModel(
        Fixed(fault=TransientError("busy", retry_after=0.01)),
        {"agent": "m"},
        Cancellation(),
        retries=1,
        on_wait=lambda request, what: waits.append((request.model, what)),
    )
    with pytest.raises(TransientError):
        model.complete(ASK)
    assert waits == [("m", "its next try")]


def await_fact(facts: list[Fact], waits_for: str) -> None:
    until = time.monotonic() + 20
    while not any(isinstance(fact, ModelAsked) and fact.waits_for == waits_for for fact in facts):
        assert time.monotonic() < until
        time.sleep(0.005)


@pytest.mark.parametrize("limit", [{"max_calls": 10}, {"max_cost": 0.5001}, {"max_tokens": 5000}])
def test_calls_at_once_never_pass_a_limit_together(limit: dict[str, Any]) -> None:
    gated = Gated()
    model, _ = metered(gated, **limit)
    calls = at_once(model, 40)
    next(calls)
    gated.await_calls(10)
    gated.gate.set()
    outcomes = next(calls)
    assert gated.most == 10
    assert sum(isinstance(outcome, Completion) for outcome in outcomes) == 10
    assert all(isinstance(outcome, Completion | LimitReached) for outcome in outcomes)
    assert model.total.cost == pytest.approx(0.5)


def test_a_call_that_does_not_fit_now_waits_for_one_that_costs_less_than_its_worst_case() -> None:
    gated = Gated(Usage(calls=1, prompt_tokens=10, completion_tokens=90, cost=0.01))
    model, _ = metered(gated, max_cost=0.1)
    calls = at_once(model, 5)
    next(calls)
    gated.await_calls(2)
    gated.gate.set()
    assert all(isinstance(outcome, Completion) for outcome in next(calls))
    assert gated.most == 2
    assert model.total.cost == pytest.approx(0.05)


@pytest.mark.parametrize("waits_for", ["money", "turn"])
def test_a_cancellation_ends_a_call_that_waits(waits_for: str) -> None:
    gated, cancellation = Gated(), Cancellation()
    if waits_for == "money":
        model: Any = metered(gated, max_cost=0.06)[0]
    else:
        model = ThrottledModel(gated, {"m": 1}, Cancellation())
    calls = at_once(model, 2, cancellation)
    outcomes = next(calls)
    gated.await_calls(1)
    cancellation.cancel(Interrupted("Ctrl-C"))
    deadline = threading.Event()
    while not outcomes:
        assert not deadline.wait(0.01)
    assert isinstance(outcomes[0], Interrupted)
    gated.gate.set()
    assert isinstance(next(calls)[1], Completion)


def test_no_more_calls_of_a_model_are_made_at_once_than_its_limit_allows() -> None:
    gated = Gated()
    calls = at_once(ThrottledModel(gated, {"m": 3, "other": 1}, Cancellation()), 9)
    next(calls)
    gated.await_calls(3)
    gated.gate.set()
    assert len(next(calls)) == 9
    assert gated.most == 3


def test_an_unpriced_call_has_no_cost_rather_than_none() -> None:
    model, spent = metered(Fixed(Usage(calls=1, unpriced=1)))
    model.complete(ASK)
    assert isinstance(spent[0], Spent)
    assert spent[0].cost is None
    assert (spent[0].role, spent[0].subtask) == ("agent", "one")


# --- the rules

money = st.integers(0, 2_000).map(lambda cents: cents / 100)
quotes = st.builds(
    Quote,
    prompt_tokens=st.integers(0, 200_000),
    reply_tokens=st.none() | st.integers(1, 200_000),
    prompt_cost=money,
    token_cost=st.sampled_from([0.0, 1e-7, 2e-6, 1.5e-5, 0.001]),
)
usages = st.builds(
    Usage,
    calls=st.integers(0, 9),
    failed=st.integers(0, 9),
    prompt_tokens=st.integers(0, 10**6),
    completion_tokens=st.integers(0, 10**6),
    unsure_tokens=st.integers(0, 10**5),
    cost=money,
    unsure_cost=money,
)
caps = st.builds(
    Caps,
    calls=st.none() | st.integers(1, 30),
    tokens=st.none() | st.integers(1, 10**6),
    cost=st.none() | money,
)
worsts = st.lists(st.builds(WorstCase, st.integers(0, 10**5), money), max_size=5).map(tuple)


@given(caps, st.builds(Books, usages, worsts), quotes)
def test_what_is_admitted_keeps_every_cap_even_at_its_worst(caps: Caps, books: Books, quote: Quote) -> None:
    verdict = admit(caps, books, quote)
    if isinstance(verdict, Admitted):
        calls = (*books.under_way, verdict.worst)
        assert caps.calls is None or books.calls + 1 <= caps.calls
        assert caps.tokens is None or books.tokens + sum(c.tokens for c in calls) <= caps.tokens
        assert caps.cost is None or books.cost + sum(c.cost for c in calls) <= caps.cost + 1e-9
        assert verdict.reply_tokens is None or 1 <= verdict.reply_tokens <= REPLY_TOKENS
    elif isinstance(verdict, CallRefused):
        assert getattr(caps, verdict.setting.removeprefix("max_")) is not None
        assert float(verdict.enough) > getattr(caps, verdict.setting.removeprefix("max_"))


@given(caps, st.builds(Books, usages, worsts), quotes)
def test_a_call_waits_only_for_calls_under_way(caps: Caps, books: Books, quote: Quote) -> None:
    if isinstance(admit(caps, books, quote), Later):
        assert books.under_way
        assert not isinstance(admit(caps, Books(books.used), quote), Later)


@given(quotes, st.lists(st.floats(0, 1), max_size=12), st.floats(0.01, 50))
def test_calls_that_cost_any_part_of_their_worst_case_never_add_up_to_more_than_the_cap(
    quote: Quote, parts: list[float], cap: float
) -> None:
    used = Usage()
    for part in parts:
        verdict = admit(Caps(cost=cap), Books(used), quote)
        if not isinstance(verdict, Admitted):
            break
        used += Usage(calls=1, cost=part * verdict.worst.cost)
    assert used.cost <= cap + 1e-9


def test_a_short_reply_is_refused_where_it_would_be_of_no_use() -> None:
    caps = Caps(tokens=1000)
    quote = Quote(prompt_tokens=1000 - SHORTEST_REPLY)
    assert admit(caps, Books(), quote) == Admitted(WorstCase(1000), SHORTEST_REPLY, squeezed=True)
    longer = Quote(prompt_tokens=1001 - SHORTEST_REPLY)
    assert isinstance(admit(caps, Books(), longer), CallRefused)


@given(st.lists(st.builds(Usage, calls=st.integers(0, 9), cost=st.integers(0, 9).map(float)), max_size=6))
def test_usage_adds_up_in_any_order(parts: list[Usage]) -> None:
    assert sum(parts, Usage()) == sum(reversed(parts), Usage())
