"""Reading cases and properties from a model's reply, and the prompt that asks for them."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from toolsmith.errors import ReplyFaulty
from toolsmith.proof.cases import Suite
from toolsmith.proof.schemas import schema_faults
from toolsmith.reader import read_suite
from toolsmith.spec import ToolSpec
from toolsmith.writer import write_cases

shared = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
STABLE = {
    "title": "no more than asked for",
    "kind": "always",
    "inputs": {"top": {"type": "integer", "minimum": 0, "maximum": 5}},
    "arguments": {"path": "a.txt"},
    "files": {"a.txt": {"type": "string", "pattern": "([a-c] ){0,9}"}},
    "check": "len(value) <= arguments['top']",
}


def faults_of(reply: str, spec: ToolSpec, known: Suite | None = None) -> tuple[str, ...]:
    with pytest.raises(ReplyFaulty) as caught:
        read_suite(reply, spec, known)
    assert caught.value.reply == reply
    return caught.value.faults


def test_a_reply_with_a_block_of_json_is_a_suite(sample: Any) -> None:
    assert read_suite(sample.cases_reply(), sample.spec) == sample.suite
    suite = read_suite(sample.cases_reply(properties=[STABLE]), sample.spec)
    assert [held.title for held in suite.properties] == ["no more than asked for"]
    assert Suite.model_validate_json(suite.model_dump_json()) == suite


def test_prose_instead_of_json_is_named(sample: Any) -> None:
    (fault,) = faults_of("I would try an empty file.", sample.spec)
    assert "no JSON object" in fault


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
CASE_FIELDS = ["title", "files", "arguments", "expected", "check", "error"]
PROPERTY_FIELDS = [*STABLE, "of", "back"]


@shared
@given(
    case=st.dictionaries(st.sampled_from(CASE_FIELDS), json_values),
    changed=st.dictionaries(st.sampled_from(PROPERTY_FIELDS), json_values),
)
def test_any_case_or_property_is_sound_or_its_faults_are_reported(
    sample: Any, case: dict[str, Any], changed: dict[str, Any]
) -> None:
    cases = [*sample.raw_suite["cases"], case]
    try:
        suite = read_suite(json.dumps({"cases": cases, "properties": [STABLE | changed]}), sample.spec)
    except ReplyFaulty as exc:
        assert all(isinstance(fault, str) and fault for fault in exc.faults)  # noqa: PT017
    else:
        assert Suite.model_validate_json(suite.model_dump_json()) == suite


def test_all_faults_of_cases_and_properties_are_reported_at_once(sample: Any) -> None:
    cases = sample.raw_suite["cases"]
    cases[0]["arguments"] = {"path": 7, "file": "a.txt"}
    cases[1]["check"] = "value"
    cases[2]["error"] = "KeyError"
    wrong = STABLE | {
        "title": "b",
        "inputs": {"top": {"type": "string", "format": "date"}},
        "check": "unknown",
    }
    other = STABLE | {"title": "c", "inputs": {"bottom": {"type": "integer"}}, "of": "top"}
    message = faults_of(
        sample.cases_reply(properties=[wrong, other, STABLE | {"arguments": {}}]), sample.spec
    )
    assert message == (
        "cases[1]: has expected and check of expected, check and error; give exactly one",
        "properties[0].check: reads unknown; it can read arguments, files, value; "
        "looks at neither value nor files, so it proves nothing",
        "properties[1]: of: belongs to the other kinds",
        "cases[0].arguments.path: 7 is integer, but the input is string",
        "cases[0].arguments.file: is no input; the inputs are path, top",
        "cases[2].error: 'KeyError' is not among errors (FileNotFoundError); declare it",
        "properties[2].inputs.path: is lacking, and the input has no default",
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"title": "the top"}, "the title 'the top' is used"),
        ({"title": "counts"}, "'counts' is taken"),
        ({"check": "value"}, "has expected and check of expected, check and error"),
        ({"expected": [1]}, "is array, but output_type is object"),
        ({"files_after": {"a.txt": None}}, "the workspace is 'read'"),
        ({"arguments": {"path": None}}, "null is null, but the input is string"),
    ],
)
def test_a_fault_of_a_case_names_the_case(sample: Any, change: dict[str, Any], message: str) -> None:
    sample.raw_suite["cases"][1] |= change
    faults = faults_of(json.dumps(sample.raw_suite), sample.spec)
    assert any(message in fault and fault.startswith("cases") for fault in faults), faults


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"title": "the top"}, "'the top' is used more than once"),
        ({"inputs": {}, "files": {"a.txt": "x"}, "arguments": {"path": "a", "top": 1}}, "is a case"),
        ({"kind": "sometimes"}, "must be 'always'"),
        ({"kind": "idempotent"}, "check: belongs to always"),
        ({"kind": "idempotent", "check": None, "of": "path"}, "properties[0].of: 'path' is not among inputs"),
        ({"kind": "order_free", "check": None, "of": "top"}, "only if an array is generated"),
        ({"arguments": {"path": "a", "top": 2}}, "top is generated already"),
        ({"arguments": {"path": 2}}, "is not of the type string"),
        ({"inputs": {"top": {"type": "string"}}}, "generates what is not of the type integer"),
        ({"inputs": {"top": {"enum": [1, "two"]}}}, "generates what is not of the type integer"),
        ({"files": {"a.txt": {"type": "integer"}}}, "or the schema of a string"),
    ],
)
def test_a_fault_of_a_property_names_the_property(sample: Any, change: dict[str, Any], message: str) -> None:
    held = {name: value for name, value in (STABLE | change).items() if value is not None}
    faults = faults_of(sample.cases_reply(properties=[held]), sample.spec)
    assert any(message in fault and fault.startswith("properties") for fault in faults), faults


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        (7, "is integer; give an object"),
        ({}, "s.type: is null; give one of"),
        ({"type": "date"}, 's.type: is "date"; give one of'),
        ({"type": "string", "format": "date"}, "s.format: is not understood"),
        ({"type": "string", "minLength": -1}, "give a whole number from 0 to 200"),
        ({"type": "string", "minLength": 3, "maxLength": 2}, "s.minLength: is larger than maxLength"),
        ({"type": "integer", "minimum": 0.5}, "give integer between"),
        ({"type": "string", "pattern": "("}, "is no regular expression"),
        ({"type": "string", "pattern": "(?=a)a"}, "looks around"),
        ({"type": "array"}, "s.items: is null; give an object"),
        ({"type": "object", "required": ["a"]}, "s.required: a is not among properties"),
        ({"anyOf": []}, "s.anyOf: give a list of schemas"),
        ({"enum": []}, "s.enum: give a list of values"),
    ],
)
def test_schema_without_possible_values_is_reported(schema: Any, message: str) -> None:
    assert any(message in fault for fault in schema_faults(schema, "s")), list(schema_faults(schema, "s"))


def test_cases_are_three_at_least_and_one_is_about_an_error_or_an_edge(sample: Any) -> None:
    first, empty, lacking = sample.raw_suite["cases"]
    assert faults_of(sample.cases_reply(cases=[empty, lacking]), sample.spec) == (
        "cases: has 2; give 3 to 20",
    )
    del empty["edge"]
    plain = [first, empty, first | {"title": "again"}]
    spec = sample.spec.model_copy(update={"errors": ()})
    (fault,) = faults_of(sample.cases_reply(cases=plain), spec)
    assert "none is about an error or an edge" in fault


def test_every_declared_error_has_a_case(sample: Any) -> None:
    first, empty, _ = sample.raw_suite["cases"]
    (fault,) = faults_of(sample.cases_reply(cases=[first, empty, first | {"title": "again"}]), sample.spec)
    assert fault == "cases: none expects FileNotFoundError, which the specification declares; add one"


def test_a_tool_with_network_needs_no_case_for_a_connection_that_breaks_and_has_no_properties(
    sample: Any,
) -> None:
    errors = ({"type": "TimeoutError", "when": "no answer"}, *sample.raw["errors"])
    spec = ToolSpec.model_validate(sample.raw | {"errors": errors, "network": ["api.example.org"]})
    assert read_suite(sample.cases_reply(), spec) == sample.suite
    (fault,) = faults_of(sample.cases_reply(properties=[STABLE]), spec)
    assert "a tool with network has none" in fault


def test_further_cases_are_added_to_those_there_are(sample: Any) -> None:
    more = {"title": "two", "files": {"a.txt": "a a"}, "arguments": {"path": "a.txt"}, "expected": {"a": 2}}
    added = read_suite(json.dumps({"cases": [more]}), sample.spec, sample.suite)
    assert sample.suite.with_more(added).titles() == ("the top", "an empty file", "no file", "two")
    (fault,) = faults_of(json.dumps({"cases": [more | {"title": "no file"}]}), sample.spec, sample.suite)
    assert "'no file' is taken" in fault
    assert faults_of("{}", sample.spec, sample.suite) == (
        "cases: none is added; give cases or properties that are not there yet",
    )


def test_the_cases_call_sees_the_specification_and_no_code(sample: Any, model: Callable[..., Any]) -> None:
    complete = model(sample.cases_reply(), sample.cases_reply())
    write_cases(sample.spec, complete)
    write_cases(sample.spec, complete)
    first, second = complete.prompts
    assert first == second
    for part in (sample.spec.signature, sample.spec.output_description, '"title": "counts"', "3 to 20"):
        assert part in first
    assert "def " not in first
    assert "last attempt" not in first
    assert "What there is already" not in first
    assert "{{" not in first
    assert "{%" not in first


def test_the_faults_go_back_to_the_model_with_what_it_wrote(sample: Any, model: Callable[..., Any]) -> None:
    complete = model(sample.cases_reply())
    write_cases(sample.spec, complete, ["cases: has 2"], previous='{"cases": []}')
    (prompt,) = complete.prompts
    assert "- cases: has 2\n" in prompt
    assert '<untrusted source="your last attempt">\n{"cases": []}\n</untrusted>' in prompt


def test_the_cases_prompts_own_example_is_a_suite(sample: Any, model: Callable[..., Any]) -> None:
    complete = model(sample.cases_reply())
    write_cases(sample.spec, complete)
    spec = ToolSpec.model_validate(
        sample.raw
        | {
            "name": "count_lines",
            "inputs": {
                "path": {"type": "string", "description": "The file."},
                "skip_blank": {"type": "boolean", "description": "Leave blank lines out.", "default": False},
            },
            "output_type": "integer",
            "examples": [],
        }
    )
    suite = read_suite(complete.prompts[0].split("# Example\n")[1], spec)
    assert (len(suite.cases), len(suite.properties)) == (5, 1)
