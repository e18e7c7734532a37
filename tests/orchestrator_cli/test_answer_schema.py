"""An answer that satisfies a JSON Schema: printed as JSON, or not at all."""

import json
from pathlib import Path
from typing import Any

import pytest
from command import Orch
from endpoint import Endpoint, call
from scripted_model import Cast, answered, caller, plan

SCHEMA = {
    "type": "object",
    "properties": {"geese": {"type": "integer", "minimum": 1}},
    "required": ["geese"],
    "additionalProperties": False,
}
SEVEN = json.dumps({"geese": 7})


@pytest.fixture
def schema(tmp_path: Path) -> str:
    path = tmp_path / "schema.json"
    path.write_text(json.dumps(SCHEMA))
    return str(path)


def counted(*after: str, **fields: Any) -> dict[str, Any]:
    return caller("count", after, **fields)


def gives(value: Any) -> dict[str, Any]:
    return call("final_answer", {"answer": value})


def test_a_value_that_fits_is_the_answer_without_a_model(orch: Orch, endpoint: Endpoint, schema: str) -> None:
    endpoint.reply = Cast(planner=[answered(SEVEN)], answer=[])
    done = orch("ask", "How many geese?", "--schema", schema)
    assert (done.code, done.out) == (0, f"{SEVEN}\n")
    assert json.dumps(SCHEMA, sort_keys=True) in endpoint.of("planner")[0].text


def test_the_last_subtask_gives_it_if_it_has_the_schema(orch: Orch, endpoint: Endpoint, schema: str) -> None:
    last = counted("look", result=SCHEMA)
    endpoint.reply = Cast(
        planner=[plan(caller("look"), last)],
        agents={"Do look": [gives("seen")], "Do count": [gives({"geese": 7})]},
        answer=[],
    )
    done = orch("ask", "How many geese?", "--schema", schema)
    assert (done.code, done.out) == (0, f"{SEVEN}\n")


@pytest.mark.parametrize("good", [SEVEN, f"Here:\n```json\n{SEVEN}\n```"])
def test_a_value_that_does_not_fit_goes_back_with_its_faults(
    orch: Orch, endpoint: Endpoint, schema: str, good: str
) -> None:
    endpoint.reply = Cast(
        planner=[plan(counted())],
        agents={"Do count": [gives("seven")]},
        answer=["Seven geese.", json.dumps({"geese": 0, "ducks": 1}), good],
    )
    done = orch("ask", "--json", "How many geese?", "--schema", schema)
    assert (done.code, done.envelope["value"], done.envelope["answer"]) == (0, {"geese": 7}, SEVEN)
    first, second, third = (one.text for one in endpoint.of("answer"))
    assert "seven" in first
    assert "not JSON" in second
    assert "minimum" in third
    assert "ducks" in third


def test_an_answer_that_never_fits_has_its_own_exit_code_and_can_be_asked_again(
    orch: Orch, endpoint: Endpoint, schema: str
) -> None:
    endpoint.reply = Cast(
        planner=[plan(counted())], agents={"Do count": [gives("seven")]}, answer=["no", "{}", "[]"]
    )
    done = orch("ask", "How many geese?", "--schema", schema)
    assert (done.code, done.out) == (7, "")
    assert orch.events("RunFinished")[0]["exit_code"] == 7
    endpoint.reply = Cast(answer=[SEVEN])
    again = orch("resume", "last")
    assert (again.code, again.out) == (0, f"{SEVEN}\n")


def test_work_that_failed_gives_no_data(orch: Orch, endpoint: Endpoint, schema: str) -> None:
    endpoint.reply = Cast(
        planner=[plan(counted(on_failure="abort"))],
        agents={"Do count": [call("give_up", {"reason": "no geese"})]},
        answer=[SEVEN],
    )
    done = orch("ask", "How many geese?", "--schema", schema)
    assert (done.code, done.out) == (1, "")


@pytest.mark.parametrize("text", ["{", "[]", '{"type": "goose"}', '{"$ref": "file:///etc/passwd"}', None])
def test_what_is_no_schema_is_refused_at_once(
    orch: Orch, endpoint: Endpoint, tmp_path: Path, text: str | None
) -> None:
    path = tmp_path / "wrong.json"
    if text is not None:
        path.write_text(text)
    done = orch("ask", "How many?", "--schema", str(path))
    assert (done.code, endpoint.arrived) == (2, 0)


def test_hidden_signs_are_escaped(orch: Orch, endpoint: Endpoint, tmp_path: Path) -> None:
    (tmp_path / "s.json").write_text('{"type": "string"}')
    endpoint.reply = Cast(planner=[answered("a\u202eb")])
    done = orch("ask", "What?", "--schema", str(tmp_path / "s.json"))
    assert done.out == '"a\\u202eb"\n'
    assert json.loads(done.out) == "a\u202eb"


# --- spoken

SPEAKS = {"ORCH_SPEECH_MODEL": "openai/tts-1", "ORCH_SPEECH_VOICE": "nova"}


def test_an_answer_is_spoken(orch: Orch, endpoint: Endpoint, tmp_path: Path) -> None:
    endpoint.speak = lambda _: b"sound"
    endpoint.reply = Cast(planner=[answered("Seven.")])
    file = tmp_path / "answer.mp3"
    done = orch("ask", "How many?", "--speak", str(file), "--max-cost", "1", "--allow-unpriced", **SPEAKS)
    assert (done.code, done.out, file.read_bytes()) == (0, "Seven.\n", b"sound"), done.err
    (asked,) = endpoint.speeches
    assert (asked["model"], asked["input"], asked["voice"]) == ("tts-1", "Seven.", "nova")
    assert asked["response_format"] == "mp3"
    assert [row["role"] for row in orch.events("Spent")] == ["planner", "speech"]


def test_an_answer_that_cannot_be_spoken_is_printed(orch: Orch, endpoint: Endpoint, tmp_path: Path) -> None:
    endpoint.reply = Cast(planner=[answered("Seven.")])
    done = orch("ask", "How many?", "--speak", str(tmp_path / "a.mp3"), **SPEAKS)
    assert (done.code, done.out) == (4, "Seven.\n")


def test_a_resumed_run_speaks(orch: Orch, endpoint: Endpoint, tmp_path: Path) -> None:
    endpoint.reply = Cast(planner=[answered("Seven.")])
    file, other = tmp_path / "a.mp3", orch.workspace / "b.mp3"
    assert orch("ask", "How many?", "--speak", str(file), **SPEAKS).code == 4
    endpoint.speak = lambda _: b"sound"
    done = orch("resume", "last", **SPEAKS)
    assert (done.code, done.out, file.read_bytes()) == (0, "Seven.\n", b"sound"), done.err
    assert [row["input"] for row in endpoint.speeches][-1] == "Seven."
    file.unlink()
    endpoint.reply = Cast(planner=[plan(counted())], agents={"Do count": [gives("Eight.")]})
    assert orch("ask", "Count", "--speak", "b.mp3", **SPEAKS).code == 0
    other.unlink()
    endpoint.reply = Cast(planner=[], agents={"Do count": [gives("Nine.")]})
    forked = orch("fork", "last", "--at", "count", **SPEAKS)
    assert (forked.code, forked.out, other.exists()) == (0, "Nine.\n", False), forked.err


def test_a_run_is_resumed_without_its_speech_model(orch: Orch, endpoint: Endpoint, tmp_path: Path) -> None:
    endpoint.reply = Cast(planner=[answered("Seven.")])
    assert orch("ask", "How many?", "--speak", str(tmp_path / "a.mp3"), **SPEAKS).code == 4
    done = orch("resume", "last")
    assert (done.code, done.out) == (3, "Seven.\n"), done.err


@pytest.mark.parametrize(
    ("name", "env", "code"), [("a.txt", SPEAKS, 2), ("none/a.mp3", SPEAKS, 2), ("a.mp3", {}, 3)]
)
def test_what_cannot_be_spoken_costs_nothing(
    orch: Orch, endpoint: Endpoint, tmp_path: Path, name: str, env: dict[str, str], code: int
) -> None:
    done = orch("ask", "How many?", "--speak", str(tmp_path / name), **env)
    assert (done.code, endpoint.arrived) == (code, 0)
