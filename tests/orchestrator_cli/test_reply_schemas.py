"""Which requests ask for a JSON Schema, of which models, and that their schemas fit what is read."""

import json
from typing import Any

import jsonschema
import pytest
from endpoint import Endpoint
from scripted_model import coder

from memory.facts import FACTS_SCHEMA
from orchestrator_cli.cancellation import Cancellation
from orchestrator_cli.errors import OrchError
from orchestrator_cli.models.client import LiteLLMModel
from orchestrator_cli.models.model import Completion, ModelRequest
from orchestrator_cli.models.parameters import options_of
from orchestrator_cli.plan import Plan, Subtask
from orchestrator_cli.planning.checks import judge
from orchestrator_cli.planning.planner import RUNTIME_FIELDS, PlannerContext, make_plan
from orchestrator_cli.planning.structured_output import schema_of
from orchestrator_cli.values import Usage
from toolsmith.spec import Need
from toolsmith.writer import write_spec

pytestmark = pytest.mark.filterwarnings("ignore")  # LiteLLM's own, in this process

CLOSED: dict[str, Any] = {"type": "object", "properties": {"good": {"type": "boolean"}}}
OPEN: dict[str, Any] = {"type": "object", "properties": {"inputs": {"type": "object"}}}


@pytest.mark.parametrize(
    ("model", "closed", "free"),
    [
        ("openai/gpt-5-mini", True, True),
        ("openai/of-my-own", True, True),
        ("ollama_chat/qwen3", True, True),
        ("openai/gpt-3.5-turbo", False, False),
        ("anthropic/claude-sonnet-4-6", True, False),
        ("gemini/gemini-pro-latest", True, False),
        ("openrouter/auto", False, False),
        ("nowhere/none", False, False),
    ],
)
def test_a_schema_is_sent_to_models_that_keep_to_it(model: str, closed: bool, free: bool) -> None:
    for schema, sent in ((CLOSED, closed), (OPEN, free)):
        request = ModelRequest(role="planner", model=model, messages=(), reply_schema=schema)
        assert ("response_format" in options_of(request, stream=False)) is sent


def test_a_schema_that_is_refused_is_left_out(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", endpoint.url)
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    refusal = {"status": 400, "body": {"error": {"message": "This response_format type is unavailable now"}}}
    endpoint.reply = lambda request, _n: refusal if "response_format" in request else "{}"
    request = ModelRequest(
        role="judge",
        model="openai/mine",
        messages=({"role": "user", "content": "?"},),
        reply_schema=CLOSED,
    )
    assert LiteLLMModel(Cancellation(), timeout=120).complete(request).text == "{}"
    first = endpoint.exchanges[0].request["response_format"]
    assert first["json_schema"]["schema"] == CLOSED


class Listening:
    """A model that keeps the requests, and refuses each."""

    def __init__(self) -> None:
        self.asked: list[ModelRequest] = []

    def complete(self, request: ModelRequest, *_: object, **__: object) -> Completion:
        self.asked.append(request)
        return Completion(text="no object", model="m", usage=Usage())


def test_the_planner_and_the_judge_ask_with_their_schemas() -> None:
    model, nothing = Listening(), PlannerContext(roles=(), tools=())
    with pytest.raises(OrchError):
        make_plan("Do it.", runs=(), files=[], planner_context=nothing, model=model, emit=lambda _: None)
    subtask = Subtask(id="one", title="One", kind="agent", judge="It is good.")
    judge(subtask, "done", [], model=model, cancellation=Cancellation(), repaired=lambda _: None)
    schemas = {request.role: request.reply_schema or {} for request in model.asked}
    written = Plan.model_validate({"goal": "g", "subtasks": [coder("one", inputs={"n": [1, {"a": None}]})]})
    rows = written.model_dump(mode="json", exclude={"version", "routes"})
    jsonschema.validate(rows, schemas["planner"])
    assert not {"version", "routes"} & set(schemas["planner"]["properties"])  # type: ignore[arg-type]
    jsonschema.validate({"good": True, "reason": ""}, schemas["judge"])


def test_a_schema_is_sent_without_what_no_reply_needs() -> None:
    schema = schema_of(Plan, without=RUNTIME_FIELDS)
    request = ModelRequest(role="planner", model="openai/mine", messages=(), reply_schema=schema)
    sent = options_of(request, stream=False)["response_format"]["json_schema"]["schema"]
    assert set(schema["$defs"]) - set(sent["$defs"]) == {"Route"}  # type: ignore[arg-type]
    assert "title" in sent["$defs"]["Subtask"]["properties"]
    assert not any(text in json.dumps(sent) for text in ('"title": "', "subtask_fields"))
    for value, is_one in (({"goal": "g", "subtasks": [coder("one")]}, True), ({"goal": 1}, False)):
        assert jsonschema.Draft202012Validator(sent).is_valid(value) is is_one


def test_the_toolsmith_gives_the_schema_of_a_specification() -> None:
    asked: list[dict[str, Any] | None] = []

    def complete(_prompt: str, schema: dict[str, Any] | None = None, /) -> str:
        asked.append(schema)
        return "no object"

    with pytest.raises(Exception, match="JSON"):
        write_spec(Need(name="count", purpose="Counts."), complete)
    assert asked[0] is not None
    assert {"name", "purpose", "inputs"} <= set(asked[0]["properties"])


def test_the_schema_of_facts_fits_what_is_read() -> None:
    fact = {
        "subject": "user",
        "attribute": "units",
        "text": "Metric.",
        "quote": "metric",
        "nature": "profile",
    }
    jsonschema.validate({"facts": [fact]}, FACTS_SCHEMA)
