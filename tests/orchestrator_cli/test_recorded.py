"""Recorded replies: played back only to the very request that they answered."""

import json
from pathlib import Path

import pytest

from orchestrator_cli.errors import RunFailed
from orchestrator_cli.models.model import Completion, ModelRequest, ToolCall
from orchestrator_cli.models.sources import RecordedModel, Recording, RecordingModel
from orchestrator_cli.values import Usage


def request(text: str, role: str = "agent", subject: str = "one") -> ModelRequest:
    return ModelRequest(role=role, subject=subject, messages=({"role": "user", "content": text},))


class Counting:
    """A model that says how often it was asked."""

    def __init__(self) -> None:
        self.asked = 0

    def complete(
        self, request: ModelRequest, on_delta: object = None, cancellation: object = None
    ) -> Completion:
        self.asked += 1
        calls = (ToolCall(id="c", name="look", arguments='{"n": 1}'),) if self.asked == 2 else ()
        return Completion(
            text=f"reply {self.asked}\nto you", tool_calls=calls, model="m", usage=Usage(calls=1)
        )


@pytest.fixture
def recording(tmp_path: Path) -> Recording:
    """Two requests about `one` and one about `two`, written to a file and read again."""
    made = Recording()
    model = RecordingModel(Counting(), made)
    for asked in (request("first"), request("second"), request("first", subject="two")):
        model.complete(asked)
    made.write(tmp_path / "recording.json")
    return Recording.read(tmp_path / "recording.json")


def test_subjects_may_ask_in_any_order_and_each_gets_its_own_replies(recording: Recording) -> None:
    model = RecordedModel(recording)
    assert model.complete(request("first", subject="two")).text == "reply 3\nto you"
    assert model.complete(request("first")).text == "reply 1\nto you"
    second = model.complete(request("second"))
    assert (second.text, second.tool_calls[0].arguments) == ("reply 2\nto you", '{"n": 1}')
    assert second.usage.unpriced == 1


def test_a_reply_is_streamed_in_pieces_that_make_the_whole(recording: Recording) -> None:
    pieces: list[str] = []
    assert RecordedModel(recording).complete(request("first"), pieces.append).text == "".join(pieces)


def test_another_request_fails_loudly_with_the_first_line_that_differs(recording: Recording) -> None:
    with pytest.raises(RunFailed, match=r"agent:one#1: message 1 was 'first' and is 'other'") as raised:
        RecordedModel(recording).complete(request("other"))
    assert "Make a new recording" in raised.value.remedy


def test_a_request_that_was_not_recorded_fails_loudly(recording: Recording) -> None:
    with pytest.raises(RunFailed, match="no reply to planner#1"):
        RecordedModel(recording).complete(request("first", role="planner", subject=""))


def test_known_replies_are_reused_for_a_changed_prompt(recording: Recording) -> None:
    made, model = Recording(), Counting()
    again = RecordingModel(model, made, known=recording)
    assert again.complete(request("reworded")).text == "reply 1\nto you"
    assert model.asked == 0
    assert again.complete(request("new", subject="three")).text == "reply 1\nto you"
    assert model.asked == 1
    assert set(made.exchanges) == {"agent:one#1", "agent:three#1"}


def test_messages_that_are_no_longer_used_are_not_written(recording: Recording, tmp_path: Path) -> None:
    del recording.exchanges["agent:one#2"]
    recording.write(tmp_path / "less.json")
    assert len(json.loads((tmp_path / "less.json").read_text())["messages"]) == 1


@pytest.mark.parametrize("text", ["", "{}", "[]", "no"])
def test_a_file_that_is_no_recording_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "broken.json"
    path.write_text(text)
    with pytest.raises(RunFailed, match=r"broken\.json is not a recording"):
        Recording.read(path)
