"""What the user sets for a role's requests, what Claude is asked to keep, and how kept tokens are counted."""

from pathlib import Path
from typing import Any

import pytest
from endpoint import Endpoint

from orchestrator_cli.cancellation import Cancellation
from orchestrator_cli.errors import ConfigError
from orchestrator_cli.events import Fact, Noticed, Spent
from orchestrator_cli.model_settings import ModelParameters
from orchestrator_cli.models.chain import open_models
from orchestrator_cli.models.model import Completion, ModelRequest, OnDelta
from orchestrator_cli.models.parameters import options_of
from orchestrator_cli.models.pricing import quote
from orchestrator_cli.roles import parse_role
from orchestrator_cli.settings import Settings, load_settings
from orchestrator_cli.values import Usage
from orchestrator_cli.views.text import spent

pytestmark = pytest.mark.filterwarnings("ignore")  # LiteLLM's own, in this process

CLAUDE = "anthropic/claude-sonnet-4-6"
SET = {"temperature": 0.2, "top_p": 0.9, "reasoning_effort": "low", "max_tokens": 77, "preamble": "Be kind."}
ROWS = ({"role": "system", "content": "Rules."}, {"role": "user", "content": "Do it."})


def load(tmp_path: Path, **flags: object) -> Settings:
    (tmp_path / "workspace").mkdir(exist_ok=True)
    return load_settings({"home": tmp_path / "home", **flags}, tmp_path / "workspace")


def ask(
    settings: Settings,
    endpoint: Endpoint,
    monkeypatch: pytest.MonkeyPatch,
    model: str,
    on_delta: OnDelta | None = None,
    **fields: Any,
) -> tuple[Completion, list[Fact]]:
    monkeypatch.setenv("OPENAI_BASE_URL", endpoint.url)
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    facts: list[Fact] = []
    chain = open_models(settings, {"agent": model, "planner": model}, Cancellation(), facts.append)
    request = ModelRequest(**{"role": "planner", "messages": ROWS} | fields)
    return chain.model.complete(request, on_delta), facts


# --- what the user sets


def test_a_roles_parameters_are_sent(
    tmp_path: Path, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint.reply = lambda _request, _n: "here"
    settings = load(tmp_path, parameters={"planner": SET}, model_timeout=120)
    ask(settings, endpoint, monkeypatch, "openai/mine")
    ask(settings, endpoint, monkeypatch, "openai/mine", role="agent")
    planner, agent = (exchange.request for exchange in endpoint.exchanges)
    assert {name: planner.get(name) for name in SET if name != "preamble"} == {
        name: value for name, value in SET.items() if name != "preamble"
    }
    assert planner["messages"][0] == {"role": "system", "content": "Be kind.\n\nRules."}
    assert not SET.keys() & agent.keys()
    assert agent["messages"][0]["content"] == "Rules."


def test_a_role_file_overrides_the_settings_field_by_field(
    tmp_path: Path, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint.reply = lambda _request, _n: "here"
    head = "name: a\nwhen: b\nagent: tools\nparameters: {temperature: 0.7}"
    role = parse_role("a.md", f"---\n{head}\n---\nDo it.")
    settings = load(tmp_path, parameters={"agent": {"temperature": 0.1, "top_p": 0.5}}, model_timeout=120)
    ask(settings, endpoint, monkeypatch, "openai/mine", role="agent", parameters=role.parameters)
    sent = endpoint.exchanges[0].request
    assert (sent["temperature"], sent["top_p"]) == (0.7, 0.5)


@pytest.mark.parametrize("name", ["temperature", "top_p"])
def test_a_parameter_that_a_model_does_not_take_is_left_out_with_one_notice(
    tmp_path: Path, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    endpoint.reply = lambda _request, _n: "here"
    settings = load(tmp_path, parameters={"planner": {name: 0.3}}, model_timeout=120)
    _, facts = ask(settings, endpoint, monkeypatch, "openai/gpt-5-mini")
    assert name not in endpoint.exchanges[0].request
    notices = [fact.message for fact in facts if isinstance(fact, Noticed)]
    assert len(notices) == 1
    assert name in notices[0]


@pytest.mark.parametrize(
    "wrong", [{"planner": {"temperature": 9}}, {"nobody": {}}, {"planner": {"seed": 1}}], ids=str
)
def test_wrong_parameters_are_configuration(tmp_path: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        load(tmp_path, parameters=wrong)


def test_parameters_come_from_files_and_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load(tmp_path)
    monkeypatch.setenv("ORCH_PARAMETERS__JUDGE__TEMPERATURE", "0")
    assert load(tmp_path).parameters == {"judge": ModelParameters(temperature=0)}
    (tmp_path / "workspace" / "orch.toml").write_text("[parameters.planner]\npreamble = 'Obey.'")
    with pytest.raises(ConfigError, match=r"parameters\.planner"):  # a folder is asked about
        load(tmp_path)


# --- what is kept by the provider


@pytest.mark.parametrize(("role", "marked"), [("planner", [True, False]), ("agent", [True, True])])
def test_claude_is_asked_to_keep_what_comes_again(role: str, marked: list[bool]) -> None:
    def marks(model: str) -> list[bool]:
        options = options_of(ModelRequest(role=role, model=model, messages=ROWS), stream=False)
        return ["cache_control" in str(row) for row in options["messages"]]

    assert marks(CLAUDE) == marked
    assert marks("openai/gpt-5-mini") == [False, False]


@pytest.mark.parametrize("stream", [False, True])
def test_kept_tokens_are_counted_shown_and_cheaper(
    tmp_path: Path, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch, stream: bool
) -> None:
    def usage(cached: int) -> dict[str, Any]:
        details = {"prompt_tokens_details": {"cached_tokens": cached}}
        return {"prompt_tokens": 10_000, "completion_tokens": 2, "total_tokens": 10_002} | details

    endpoint.reply = lambda _request, _n: "here"
    paid = []
    for cached in (0, 9_000):
        monkeypatch.setattr("endpoint._usage", lambda *_, cached=cached: usage(cached))
        hear = (lambda _: None) if stream else None
        settings = load(tmp_path, model_timeout=120)
        reply, facts = ask(settings, endpoint, monkeypatch, "openai/gpt-5-mini", hear)
        assert reply.usage.cached_tokens == cached
        assert [fact.cached_tokens for fact in facts if isinstance(fact, Spent)] == [cached]
        paid.append(reply.usage.cost)
    assert paid[1] < paid[0] / 2
    assert "9,000" in spent(Usage(calls=1, prompt_tokens=10_000, cached_tokens=9_000))


def test_the_worst_case_has_what_claude_takes_for_keeping() -> None:
    request = ModelRequest(role="planner", model=CLAUDE, messages=ROWS, max_tokens=50)
    worst = quote(request)
    import litellm

    known = litellm.get_model_info(CLAUDE)
    assert worst.prompt_cost == pytest.approx(worst.prompt_tokens * known["cache_creation_input_token_cost"])
    assert worst.reply_tokens == 50
