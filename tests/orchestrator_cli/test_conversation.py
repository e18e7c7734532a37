"""Reading a JSON object out of what a model says."""

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator_cli.models.model import Completion
from orchestrator_cli.planning import structured_output
from orchestrator_cli.planning.structured_output import Unusable
from orchestrator_cli.values import Usage

VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda v: st.lists(v) | st.dictionaries(st.text(), v),
)


def json_object(text: str) -> dict[str, Any]:
    reply = Completion(text=text, model="m", usage=Usage())
    return structured_output.json_object(reply, (), lambda _: None)


OBJECTS = st.dictionaries(st.text(), VALUES, min_size=1)


@settings(max_examples=50)
@given(OBJECTS, st.sampled_from(["{}", "\n {} \n", "```json\n{}\n```", "```\n{}\n```", "Here:\n{}\nBye."]))
def test_an_object_is_found_however_it_is_wrapped(value: dict[str, Any], around: str) -> None:
    assert json_object(around.replace("{}", json.dumps(value))) == value


@settings(max_examples=50)
@given(OBJECTS, st.data())
def test_an_object_that_is_cut_is_unusable(value: dict[str, Any], data: st.DataObject) -> None:
    text = json.dumps(value)
    with pytest.raises(Unusable):
        json_object(text[: data.draw(st.integers(0, len(text) - 1))])


@given(st.text(st.characters(exclude_characters="{")))
def test_prose_is_unusable_and_never_a_crash(text: str) -> None:
    with pytest.raises(Unusable, match=r"no JSON object|empty"):
        json_object(text)


@given(st.text())
def test_no_text_is_a_crash(text: str) -> None:
    with contextlib.suppress(Unusable):
        assert isinstance(json_object(text), dict)


@pytest.mark.parametrize("text", ["[1, 2]", '"text"', "null", "[" * 100_000, '{"a":' * 100_000])
def test_other_values_and_bottomless_ones_are_unusable(text: str) -> None:
    with pytest.raises(Unusable):
        json_object(text)
