"""What a run may spend, in whole runs: every limit ends one with exit code 5, and the way to go on."""

import re
from itertools import pairwise
from typing import Any

import pytest
from command import Orch
from endpoint import Endpoint, fault
from scripted_model import MODELS, Cast, answered, code, coder, plan

PRICED = "openai/gpt-4o-mini"
"""A model whose price LiteLLM knows, asked at the test's endpoint."""
ALL_PRICED = dict.fromkeys(MODELS, PRICED)

# The first agent's reply is 5,000 tokens long: $0.003.
TWO = plan(coder("one"), coder("two", ["one"]))
LONG = " ".join(map(str, range(10_000, 13_333)))
AGENTS = {
    "Do one": [code(f"open('one.txt', 'w').write('kept')\nfinal_answer(1)\n# {LONG}")],
    "Do two": [code("final_answer(2)")],
}


class Priced(Cast):
    """A cast whose roles all ask for one model: the request says who asks."""

    def __call__(self, request: dict[str, Any], n: int) -> Any:
        text = str(request["messages"])
        title = next((t for t in self._agents if f"{t}\\n\\n" in text), None)
        role = "agent" if title else "planner" if n == 1 else "answer"
        return super().__call__({**request, "model": role}, n)


@pytest.mark.parametrize(
    ("flag", "cap", "said"),
    [
        ("--max-calls", "2", "The run has made its 2 model calls."),
        (
            "--max-tokens",
            "9000",
            r"The run has used [\d,]+ of its 9,000 tokens, and the next call needs up to",
        ),
    ],
)
def test_a_limit_ends_the_run_with_exit_code_5_and_the_command_that_goes_on(
    orch: Orch, endpoint: Endpoint, flag: str, cap: str, said: str
) -> None:
    endpoint.reply = Cast(planner=[TWO], agents=AGENTS)
    done = orch("ask", flag, cap, "Do both.")
    assert done.code == 5
    assert re.search(said, done.error)
    assert f"orch resume {orch.journal().parent.name} {flag} " in done.error
    assert orch.remains() == []
    finished = orch.events("RunFinished")[0]
    assert (finished["outcome"], finished["exit_code"]) == ("failed", 5)
    assert orch.files() == ["one.txt"]
    used = finished["usage"]
    assert used["calls"] == 2
    assert used["prompt_tokens"] + used["completion_tokens"] <= 9000


def test_the_command_that_is_named_goes_on_and_what_was_used_counts(orch: Orch, endpoint: Endpoint) -> None:
    endpoint.reply = Cast(planner=[TWO], agents=AGENTS)
    done = orch("ask", "--max-calls", "2", "Do both.")
    command = re.search(r"orch (resume \S+ --max-calls) (\d+)", done.error)
    assert command is not None
    assert orch(*command[1].split(), "3").code == 5
    done = orch(*command[1].split(), command[2])
    assert (done.code, done.out) == (0, "All is done.\n")
    assert orch.events("RunFinished")[-1]["usage"]["calls"] == 4
    assert len(endpoint.of("planner")) == len([e for e in endpoint.of("agent") if "Do one" in e.text]) == 1


def test_a_limit_on_money_is_kept_to_and_named(orch: Orch, endpoint: Endpoint) -> None:
    endpoint.reply = Priced(planner=[TWO], agents=AGENTS)
    done = orch("ask", "--max-cost", "0.0038", "Do both.", **ALL_PRICED)
    assert done.code == 5
    assert re.search(r"has spent \$0\.\d+ of its \$0\.0038, and the next call may cost \$0\.\d+", done.error)
    assert re.search(r"orch resume \S+ --max-cost 0\.\d\d", done.error)
    usage = orch.events("RunFinished")[0]["usage"]
    assert 0 < usage["cost"] <= 0.0038
    assert usage["unpriced"] == 0
    assert all(e.request["max_tokens"] >= 256 for e in endpoint.exchanges)


def test_subtasks_at_once_do_not_pass_a_limit_on_money_together(orch: Orch, endpoint: Endpoint) -> None:
    """Each call is within the limit while the others are under way; all of them at once are not."""
    names = [f"s{n}" for n in range(6)]
    slow = {"content": code("final_answer(1)"), "sleep": 0.3}
    endpoint.reply = Priced(
        planner=[plan(*(coder(name) for name in names))], agents={f"Do {n}": [slow] for n in names}
    )
    done = orch("ask", "--max-parallel", "6", "--max-cost", "0.03", "Do all.", **ALL_PRICED)
    assert done.code == 0, done.err
    _planner, *agents, _answer = sorted(endpoint.exchanges, key=lambda e: e.arrived)
    for one in agents:
        under_way = [e for e in agents if e.arrived <= one.arrived < e.answered]
        worst = sum(e.request["max_tokens"] * 0.6e-6 for e in under_way)
        assert worst <= 0.03
    assert len(agents) == 6


def test_a_call_may_be_tried_again_only_within_the_limit(orch: Orch, endpoint: Endpoint) -> None:
    endpoint.reply = lambda request, n: fault(429, "slow down", retry_after="0")
    done = orch("ask", "--max-calls", "2", "Hello?", ORCH_FALLBACKS='["openai/spare"]')
    assert (done.code, endpoint.arrived) == (5, 2)
    assert orch.events("RunFinished")[0]["usage"]["failed"] == 2
    assert "2 failed" in done.err


def test_calls_at_once_of_a_model_are_bounded(orch: Orch, endpoint: Endpoint) -> None:
    names = [f"s{n}" for n in range(4)]
    slow = {"content": code("final_answer(1)"), "sleep": 0.2}
    endpoint.reply = Cast(
        planner=[plan(*(coder(name) for name in names))], agents={f"Do {n}": [slow] for n in names}
    )
    done = orch("ask", "Do all.", ORCH_MAX_PARALLEL_MODELS='{"openai/agent": 1}')
    assert done.code == 0, done.err
    calls = endpoint.of("agent")
    ordered = sorted(calls, key=lambda e: e.arrived)
    assert all(a.answered <= b.arrived for a, b in pairwise(ordered))


# --- prices


def test_a_limit_on_money_is_refused_where_a_model_has_no_price(orch: Orch, endpoint: Endpoint) -> None:
    done = orch("ask", "--max-cost", "1", "Hello?", **ALL_PRICED | {"ORCH_MODELS__REVISER": "openai/mine"})
    assert (done.code, endpoint.arrived) == (3, 0)
    assert "no price is known of openai/mine." in done.error
    assert "--allow-unpriced" in done.error


@pytest.mark.parametrize("where", ["fallback", "role"])
def test_fallbacks_and_models_of_role_files_need_a_price_too(
    orch: Orch, endpoint: Endpoint, where: str
) -> None:
    env = dict(ALL_PRICED)
    if where == "fallback":
        env["ORCH_FALLBACKS"] = '["openai/mine"]'
    else:
        (orch.home / "roles").mkdir()
        text = "---\nname: poet\nwhen: writes verse.\nagent: tools\nmodel: openai/mine\n---\nRhyme."
        (orch.home / "roles" / "poet.md").write_text(text)
    done = orch("ask", "--max-cost", "1", "Hello?", **env)
    assert (done.code, endpoint.arrived) == (3, 0)
    assert "openai/mine" in done.error


def test_unpriced_models_may_be_allowed_and_are_said_to_be_unpriced(orch: Orch, endpoint: Endpoint) -> None:
    endpoint.reply = Cast(planner=[answered("hello"), answered("hello")])
    done = orch("ask", "--max-cost", "1", "--allow-unpriced", "Hello?")
    assert done.code == 0, done.err
    assert "unpriced" in done.err
    usage = orch("ask", "--json", "--max-cost", "1", "--allow-unpriced", "Hello?").envelope["usage"]
    assert (usage["unpriced"], usage["cost"]) == (1, 0.0)


def test_a_model_of_a_server_on_this_machine_costs_nothing(orch: Orch, endpoint: Endpoint) -> None:
    done = orch("ask", "--max-cost", "1", "Hello?", **dict.fromkeys(MODELS, "ollama_chat/qwen3"))
    assert done.code == 4
    assert "ollama_chat/qwen3 cannot be reached" in done.error
