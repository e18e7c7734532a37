"""What a run may spend, counted over all its calls."""

import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator_cli.errors import LimitReached, ProviderError
from orchestrator_cli.events import Spent
from orchestrator_cli.models.budget import MeteredModel
from orchestrator_cli.models.model import Reply, Request
from orchestrator_cli.settings import Settings
from orchestrator_cli.usage import Usage

ASK = Request(role="agent", subject="one", messages=())
EACH = Usage(calls=1, prompt_tokens=10, completion_tokens=5, cost=0.25)


class Fixed:
    """A model whose every call costs the same."""

    def __init__(self, usage: Usage = EACH, fault: Exception | None = None) -> None:
        self.usage, self.fault = usage, fault

    def complete(self, request: Request, on_delta: object = None, cancellation: object = None) -> Reply:
        if self.fault is not None:
            raise self.fault
        return Reply(text="x", model="m", usage=self.usage)


def metered(model: Any = None, **limits: Any) -> tuple[MeteredModel, list[Spent]]:
    spent: list[Spent] = []
    settings = Settings.model_construct(
        **({"max_calls": None, "max_tokens": None, "max_cost": None} | limits)
    )
    return MeteredModel(model or Fixed(), settings, spent.append), spent


@pytest.mark.parametrize(
    ("limit", "calls"), [({"max_calls": 3}, 3), ({"max_tokens": 40}, 3), ({"max_cost": 0.5}, 2)]
)
def test_the_call_after_the_limit_is_refused(limit: dict[str, Any], calls: int) -> None:
    model, spent = metered(**limit)
    for _ in range(calls):
        model.complete(ASK)
    with pytest.raises(LimitReached, match=r"of its|has made its"):
        model.complete(ASK)
    assert len(spent) == model.total.calls == calls


def test_a_call_that_failed_counts_as_a_call_and_costs_nothing() -> None:
    model, spent = metered(Fixed(fault=ProviderError("gone")), max_calls=1)
    with pytest.raises(ProviderError):
        model.complete(ASK)
    with pytest.raises(LimitReached):
        model.complete(ASK)
    assert (spent, model.total) == ([], Usage())


def test_parallel_calls_never_pass_the_limit() -> None:
    model, spent = metered(max_calls=10)
    refused = []

    def ask() -> None:
        try:
            model.complete(ASK)
        except LimitReached as exc:
            refused.append(exc)

    threads = [threading.Thread(target=ask) for _ in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(spent), len(refused)) == (10, 30)


def test_an_unpriced_call_has_no_cost_rather_than_none() -> None:
    model, spent = metered(Fixed(Usage(calls=1, unpriced=1)))
    model.complete(ASK)
    assert spent[0].cost is None
    assert (spent[0].role, spent[0].subtask) == ("agent", "one")


@given(st.lists(st.builds(Usage, calls=st.integers(0, 9), cost=st.integers(0, 9).map(float)), max_size=6))
def test_usage_adds_up_in_any_order(parts: list[Usage]) -> None:
    assert sum(parts, Usage()) == sum(reversed(parts), Usage())
