"""Comparing JSON values, and checks as expressions."""

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator_cli.durable.expressions import ExpressionFailed, holds
from toolsmith.names import folded, identifier, name_fault
from toolsmith.spec import check_faults
from toolsmith.values import difference, is_of_type, not_json

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(json_values)
def test_a_value_that_went_through_json_does_not_differ(value: object) -> None:
    assert difference(value, json.loads(json.dumps(value))) is None


@given(json_values)
def test_every_json_value_can_be_held_by_json(value: object) -> None:
    assert not_json(value) is None
    assert is_of_type(value, "any")


@given(json_values, json_values)
def test_differing_values_are_described_in_one_line_from_both_sides(left: object, right: object) -> None:
    there, back = difference(left, right), difference(right, left)
    assert (there is None) == (back is None)
    assert there is None or (there.startswith("value") and "\n" not in there)


@pytest.mark.parametrize(
    ("expected", "got", "message"),
    [
        (0.3, 0.1 + 0.2, None),
        (1, 1.0, None),
        (10**400, 1.5, "value: expected 1000"),
        ([1, 2], (1, 2), None),
        (True, 1, "value: expected true, got 1"),
        (0, False, "value: expected 0, got false"),
        ({"a": [1, {"b": 2}]}, {"a": [1, {"b": 3}]}, 'value["a"][1]["b"]: expected 2, got 3'),
        ({"a": 1}, {}, 'value: lacks the key "a"; it has []'),
        ({}, {"b": 1}, 'value: has the key "b", which was not expected'),
        ([1], [1, 2], "value: expected 1 items, got 2: [1, 2]"),
    ],
)
def test_a_difference_names_its_place(expected: object, got: object, message: str | None) -> None:
    found = difference(expected, got)
    assert found == message or (message and found and found.startswith(message))


@pytest.mark.parametrize("value", [{1, 2}, b"x", {1: "a"}, [float("nan")], {"a": {"b": object()}}])
def test_what_json_cannot_hold_is_named(value: object) -> None:
    assert not_json(value)


@pytest.mark.parametrize(
    "check",
    [
        "value == {'a': 1, 'b': [2, 3]}",
        "len(value['b']) == 2 and sum(value['b']) == 5",
        "all(item > 1 for item in value['b'])",
        "files['out.txt'].splitlines()[0] == arguments['head']",
        "sorted(value.keys()) == ['a', 'b'] and 'gone.txt' not in files",
        "[key for key, item in value.items() if item == 1] == ['a']",
        "value['b'][0:1] == [2] if value['a'] else value is None",
    ],
)
def test_checks_say_what_cases_need(check: str) -> None:
    files = {"out.txt": "first\nsecond"}
    assert holds(check, {"value": {"a": 1, "b": [2, 3]}, "files": files, "arguments": {"head": "first"}})


@pytest.mark.parametrize(
    "check",
    [
        "().__class__.__bases__[0].__subclasses__() == value",
        "__import__('os').system('true') == value",
        "value.__class__",
        "open('x') == value",
        "value ** 99999999",
        "(lambda: value)()",
        "f'{value:99999999}'",
        "(value := 1)",
        "value; files",
        "value = 1",
        "[x for x in value",
        "-" * 2000 + "value",
        "(" * 400 + "value" + ")" * 400,
        "1 == 1",
        "'\\d' in value",
        "",
    ],
)
def test_an_expression_that_reaches_further_is_no_check(check: str) -> None:
    assert check_faults(check)


@pytest.mark.parametrize(
    "check", ["value * 99999999 == 'x'", "value + value == ''", "'%999999999d' % value == ''"]
)
def test_a_check_cannot_fill_the_hosts_memory(check: str) -> None:
    with pytest.raises(ExpressionFailed):
        holds(check, {"value": "x" * 900_000, "files": {}, "arguments": {}})


@given(st.text(max_size=60))
def test_no_text_escapes_as_another_error_than_a_failed_check(text: str) -> None:
    with contextlib.suppress(ExpressionFailed):
        assert holds(text, {"value": {"a": [1, "x"]}, "files": {"f": "t"}, "arguments": {}}) in (True, False)


@given(st.text(max_size=80) | st.text("aZ1_- ", max_size=80))
def test_a_tools_name_is_a_name_or_empty(name: str) -> None:
    made = identifier(name)
    assert not made or name_fault(made) is None
    assert identifier(made) == made


@pytest.mark.parametrize("name", ["Count-Words", "count words", "countWords", "COUNT_WORDS", "count__words "])
def test_ways_of_writing_a_name_are_one_name(name: str) -> None:
    assert folded(name) == folded("count_words") == "countwords"


def test_words_of_python_and_of_the_agent_become_names_of_tools() -> None:
    assert [identifier(name) for name in ("print", "class", "3d plot", "final_answer", "日本")] == [
        "tool_print",
        "tool_class",
        "tool_3d_plot",
        "tool_final_answer",
        "",
    ]
