"""Faults of model calls: which pass, which last, which are configuration, and what their messages say."""

import re
from email.utils import formatdate
from pathlib import Path
from time import time
from typing import Any

import pytest
from endpoint import Endpoint, fault

from orchestrator_cli.cancellation import Cancellation
from orchestrator_cli.errors import ConfigError, ProviderError, RequestRefused
from orchestrator_cli.models.chain import RetryingModel
from orchestrator_cli.models.client import LiteLLMModel
from orchestrator_cli.models.discovery import find_model
from orchestrator_cli.models.model import ModelRequest, TransientError
from orchestrator_cli.models.sources import LiveModels
from orchestrator_cli.settings import Settings, load_settings

pytestmark = pytest.mark.filterwarnings("ignore")  # LiteLLM's own, in this process

OPENAI, CLAUDE = "openai/gpt-5-mini", "anthropic/claude-sonnet-4-6"


def body(status: int, error: dict[str, Any]) -> dict[str, Any]:
    return {"status": status, "body": {"type": "error", "error": error}}


NO_QUOTA = body(429, {"message": "You exceeded your current quota", "code": "insufficient_quota"})
NO_CREDIT = body(
    400, {"type": "invalid_request_error", "message": "Your credit balance is too low to access the API"}
)
OVERFLOW = fault(400, "This model's maximum context length is 8192 tokens; your messages have 9000")
NO_CHOICES = {"status": 200, "body": {"id": "1", "object": "chat.completion", "model": "m", "choices": []}}

PASSING, LASTING, REFUSED = TransientError, ProviderError, RequestRefused
FAULTS = {
    "429": (fault(429, "slow down"), PASSING, "slow down"),
    "500": (fault(500, "it broke"), PASSING, "it broke"),
    "500 in text": ({"status": 500, "body": "it broke"}, PASSING, "it broke"),
    "503": (fault(503, "it is busy"), PASSING, "it is busy"),
    "529": (fault(529, "it is overloaded"), PASSING, "it is overloaded"),
    "401": (fault(401, "no such key"), LASTING, "no such key"),
    "402": (fault(402, "pay first"), LASTING, "pay first"),
    "403": (fault(403, "not yours"), LASTING, "not yours"),
    "404": (fault(404, "not here"), LASTING, "not here"),
    "no quota": (NO_QUOTA, LASTING, "exceeded your current quota"),
    "no credit": (NO_CREDIT, LASTING, "credit balance is too low"),
    "400": (fault(400, "temperature must be below 2"), REFUSED, "temperature must be below 2"),
    "overflow": (OVERFLOW, REFUSED, "maximum context length"),
}
LIBRARY_WORDS = re.compile(
    r"litellm|\w(Error|Exception)\b|Traceback|Error code|\{|out of range", re.IGNORECASE
)


@pytest.fixture
def served(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> Endpoint:
    for name, url in (("OPENAI", endpoint.url), ("ANTHROPIC", endpoint.url.removesuffix("/v1"))):
        monkeypatch.setenv(f"{name}_BASE_URL", url)
        monkeypatch.setenv(f"{name}_API_KEY", "test-key")
    return endpoint


def ask(model: str = OPENAI) -> ProviderError:
    request = ModelRequest(role="agent", model=model, messages=({"role": "user", "content": "Say it."},))
    with pytest.raises(ProviderError) as caught:
        LiteLLMModel(Cancellation(), timeout=120).complete(request)
    return caught.value


@pytest.mark.parametrize("model", [OPENAI, CLAUDE])
@pytest.mark.parametrize("kind", FAULTS)
def test_a_fault_is_sorted_and_worded_by_what_the_provider_says(
    served: Endpoint, kind: str, model: str
) -> None:
    reply, expected, words = FAULTS[kind]
    served.reply = lambda _request, _n: reply
    exc = ask(model)
    assert type(exc) is expected
    assert words in exc.message
    assert not LIBRARY_WORDS.search(exc.message), exc.message


def test_a_reply_that_is_none_is_named_so(served: Endpoint) -> None:
    served.reply = lambda _request, _n: NO_CHOICES
    exc = ask()
    assert isinstance(exc, TransientError)
    assert not LIBRARY_WORDS.search(exc.message), exc.message


@pytest.mark.parametrize("model", [OPENAI, CLAUDE])
@pytest.mark.parametrize("status", [429, 503, 529])
@pytest.mark.parametrize(
    ("asked", "seconds"),
    [
        ("7", (7, 7)),
        ("0.5", (0.5, 0.5)),
        ("900", (120, 120)),
        (formatdate(time() + 3600, usegmt=True), (120, 120)),
        (formatdate(time() - 3600, usegmt=True), (0, 0)),
        ("soon", None),
        ("nan", None),
    ],
    ids=["seconds", "half", "long", "a date", "a past date", "words", "nan"],
)
def test_the_pause_that_a_provider_asks_for_is_read(
    served: Endpoint, model: str, status: int, asked: str, seconds: tuple[float, float] | None
) -> None:
    served.reply = lambda _request, _n: fault(status, "later", retry_after=asked)
    exc = ask(model)
    assert isinstance(exc, TransientError)
    pause = exc.retry_after
    assert (seconds is None and pause is None) or (pause is not None and seconds[0] <= pause <= seconds[1])


@pytest.mark.parametrize("kind", ["402", "no quota", "no credit"])
def test_an_account_that_is_used_up_is_not_asked_again(served: Endpoint, kind: str) -> None:
    served.reply = lambda request, _n: FAULTS[kind][0] if "mini" in request["model"] else "here"
    once = LiteLLMModel(Cancellation(), timeout=120)
    model = RetryingModel(once, {"agent": OPENAI}, Cancellation(), fallbacks=["openai/other"])
    assert (
        model.complete(ModelRequest(role="agent", messages=({"role": "user", "content": "?"},))).text
        == "here"
    )
    assert [exchange.model for exchange in served.exchanges] == ["gpt-5-mini", "other"]


# --- what no server has seen


def load(tmp_path: Path, **flags: object) -> Settings:
    (tmp_path / "workspace").mkdir(exist_ok=True)
    return load_settings({"home": tmp_path / "home", **flags}, tmp_path / "workspace")


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("OPENAI_API_KEY", "sk-1\n"),
        ("OPENAI_API_KEY", "“sk-1”"),
        ("OPENAI_API_KEY", "sk-é"),
        ("OPENAI_API_KEY", "sk-1 "),
        ("OPENAI_API_KEY", ""),
        ("OPENAI_BASE_URL", "127.0.0.1:8080/v1"),
        ("OPENAI_BASE_URL", "localhost:8080/v1"),
        ("OPENAI_BASE_URL", "htp://127.0.0.1/v1"),
        ("OPENAI_BASE_URL", "http://"),
        ("OPENAI_BASE_URL", "http://[::1"),
        ("OPENAI_BASE_URL", "http://127.0.0.1:99999/v1"),
        ("OPENAI_BASE_URL", "http://exa mple/v1"),
        ("OPENAI_API_BASE", "127.0.0.1:8080/v1"),
    ],
)
def test_a_key_or_address_that_cannot_be_sent_is_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigError, match=variable) as caught:
        LiveModels().names(load(tmp_path, model=OPENAI))
    assert "sk-" not in caught.value.message


@pytest.mark.parametrize(
    ("model", "variable", "value"),
    [
        (CLAUDE, "ANTHROPIC_API_KEY", "“k”"),
        ("claude-sonnet-4-6", "ANTHROPIC_BASE_URL", "127.0.0.1"),
        ("gemini/gemini-pro-latest", "GOOGLE_API_KEY", "k\r\n"),
        ("ollama_chat/qwen3", "OLLAMA_API_BASE", "127.0.0.1:11434"),
        ("together_ai/some", "TOGETHER_AI_API_KEY", "k\n"),
    ],
)
def test_the_variables_of_every_provider_are_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str, variable: str, value: str
) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "k")
    monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigError, match=variable):
        LiveModels().names(load(tmp_path, model=model))


def test_an_address_without_a_scheme_is_not_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "k")
    monkeypatch.setenv("OPENAI_BASE_URL", "127.0.0.1:8080/v1")
    with pytest.raises(ConfigError, match="OPENAI_BASE_URL"):
        find_model()


@pytest.mark.parametrize(
    "name", ["", " ", "hand", "/gpt", "openai/", "nowhere/gpt", " openai/gpt", "openai/gpt\n"]
)
def test_a_name_that_no_provider_has_is_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    for flags in ({"model": name}, {"model": OPENAI, "fallbacks": (name,)}):
        with pytest.raises(ConfigError):
            LiveModels().names(load(tmp_path, **flags))


@pytest.mark.parametrize("name", ["gpt-5-mini", "openai/of-my-own", "ollama_chat/qwen3", "hosted_vllm/x"])
def test_names_that_a_provider_may_have_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    assert LiveModels().names(load(tmp_path, model=name))["agent"] == name


def test_a_fallback_replaces_a_key_that_is_not_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    assert LiveModels().names(load(tmp_path, model=CLAUDE, fallbacks=(OPENAI,)))["agent"] == CLAUDE
    with pytest.raises(ConfigError, match="ANTHROPIC_API_KEY"):
        LiveModels().names(load(tmp_path, model=CLAUDE))
