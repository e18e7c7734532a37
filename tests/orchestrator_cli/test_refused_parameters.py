"""A model that refuses a parameter is asked once more without it, and from then on."""

from typing import Any

import pytest
from endpoint import Endpoint, texts_of

from orchestrator_cli.cancellation import Cancellation
from orchestrator_cli.errors import RequestRefused
from orchestrator_cli.models.client import LiteLLMModel
from orchestrator_cli.models.model import ModelRequest
from orchestrator_cli.models.parameters import refused_parameter

pytestmark = pytest.mark.filterwarnings("ignore")  # LiteLLM's own, in this process

EVERY = ("stream", "stream_options", "max_tokens", "temperature", "top_p", "reasoning_effort")
EVERY = (*EVERY, "response_format", "system", "tools")
WORDS = [
    ("Your organization must be verified to stream this model.", "stream"),
    ("Unknown parameter: 'stream_options'.", "stream_options"),
    ("[{'loc': ('body', 'stream_options'), 'msg': 'Extra inputs are not permitted'}]", "stream_options"),
    (
        "Unsupported parameter: 'max_tokens' is not supported with this model. "
        "Use 'max_completion_tokens' instead.",
        "max_tokens",
    ),
    (
        "Unsupported value: 'temperature' does not support 0.2 with this model. "
        "Only the default (1) value is supported.",
        "temperature",
    ),
    ("`temperature` may only be set to 1 when thinking is enabled.", "temperature"),
    ("`temperature` and `top_p` cannot both be specified for this model.", "temperature"),
    ("top_p is deprecated for this model", "top_p"),
    ("Unrecognized request argument supplied: reasoning_effort", "reasoning_effort"),
    ("This model does not support thinking", "reasoning_effort"),
    ("Invalid parameter: 'response_format' of type 'json_schema' is not supported", "response_format"),
    ("JSON schema conversion failed: unrecognized schema", "response_format"),
    ("output_format.schema: 'additionalProperties' must be explicitly set to false", "response_format"),
    ("System role not supported", "system"),
    ("Developer instruction is not enabled for models/gemma-3-27b-it", "system"),
    ("Unsupported value: 'messages[0].role' does not support 'system' with this model.", "system"),
    ("Unsupported parameter: 'messages'", None),
    ("The streamer stopped; its systems are maximal.", None),
    ("You said stop, and I heard it.", None),
    ("", None),
]


@pytest.mark.parametrize(("words", "name"), WORDS)
def test_the_parameter_is_read_from_the_words(words: str, name: str | None) -> None:
    assert refused_parameter(EVERY, "", words) == name
    assert refused_parameter((), "", words) is None


def test_the_providers_own_field_comes_first() -> None:
    assert refused_parameter(EVERY, "stream", "Try another temperature, which must be 1.") == "stream"


def has(request: dict[str, Any], parameter: str) -> bool:
    if parameter == "system":
        return any(row["role"] == "system" for row in request["messages"])
    return bool(request.get(parameter))


@pytest.mark.parametrize("status", [400, 422])
@pytest.mark.parametrize("parameter", ["stream", "stream_options", "max_tokens", "system"])
def test_a_refused_parameter_is_left_out_from_then_on(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch, parameter: str, status: int
) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", endpoint.url)
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    error = {"message": f"Unsupported parameter: '{parameter}' is not supported", "param": parameter}
    endpoint.reply = lambda request, _n: (
        {"status": status, "body": {"error": error}} if has(request, parameter) else "here"
    )
    notices: list[str] = []
    model = LiteLLMModel(Cancellation(), timeout=120, notice=notices.append)
    rows = ({"role": "system", "content": "Be short."}, {"role": "user", "content": "Say it."})
    request = ModelRequest(role="agent", model="openai/mine", messages=rows, max_tokens=100)
    heard: list[str] = []
    for _ in range(2):
        assert model.complete(request, heard.append).text == "here"
    assert heard == ["here", "here"]
    sent = [exchange.request for exchange in endpoint.exchanges]
    assert [has(row, parameter) for row in sent] == [True, False, False]
    assert "Be short." in texts_of(sent[-1])
    assert "Say it." in texts_of(sent[-1])
    assert [row.get("max_tokens") or row.get("max_completion_tokens") for row in sent] == [100] * 3
    assert len(notices) == 1
    assert "openai/mine" in notices[0]


def test_a_refusal_that_leaving_out_does_not_mend_ends(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", endpoint.url)
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    error = {"message": "Unsupported parameter: 'max_tokens' is not supported"}
    endpoint.reply = lambda _request, _n: {"status": 400, "body": {"error": error}}
    request = ModelRequest(
        role="agent", model="openai/mine", messages=({"role": "user", "content": "?"},), max_tokens=100
    )
    with pytest.raises(RequestRefused):
        LiteLLMModel(Cancellation(), timeout=120).complete(request)
    assert len(endpoint.exchanges) == 2
