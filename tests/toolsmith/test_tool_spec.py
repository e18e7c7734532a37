"""Reading a specification from a model's reply, and writing the prompts."""

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from toolsmith import Need, ReplyFaulty, SpecFaulty, ToolSpec
from toolsmith.reader import read_spec
from toolsmith.writer import write_code, write_spec

shared = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)


def faults_of(reply: str, need: Need) -> tuple[str, ...]:
    with pytest.raises(SpecFaulty) as caught:
        read_spec(reply, need)
    assert caught.value.reply == reply
    return caught.value.faults


def test_a_reply_with_a_block_of_json_is_a_specification(sample: Any) -> None:
    spec = read_spec(sample.spec_reply(), sample.need)
    assert spec == sample.spec
    assert spec.signature == "count_words(path: string, top: integer = 3) -> object"


@pytest.mark.parametrize(
    "shape",
    [
        "{json}",
        "I use {{braces}} and {{'so': on}}. The object:\n{json}\nThat is all.",
        "```\n{json}\n```",
        "```python\nx = {{}}\n```\n```json\n{json}\n```",
        "~~~json\n{json}\n~~~",
        '<think>perhaps {{"name": 1}}?</think>\n```json\n{json}\n```',
        "  ```json\n{json}\n",
    ],
)
def test_the_object_is_found_wherever_the_model_put_it(sample: Any, shape: str) -> None:
    assert read_spec(shape.format(json=json.dumps(sample.raw)), sample.need) == sample.spec


def test_a_case_that_expects_null_is_not_a_case_without_expectation(sample: Any) -> None:
    cases = [{"title": "null", "arguments": {"path": "a"}, "expected": None}, *sample.raw["cases"][1:]]
    spec = read_spec(sample.spec_reply(cases=cases, output_type="any"), sample.need)
    assert spec.cases[0].outcome == "expected"
    assert ToolSpec.model_validate_json(spec.model_dump_json()) == spec
    assert ToolSpec.model_validate_json(spec.model_dump_json()).cases[0].outcome == "expected"


def test_prose_instead_of_json_is_told_as_that(sample: Any) -> None:
    (fault,) = faults_of("I would count the words of the file.", sample.need)
    assert "no JSON object" in fault


@shared
@example(cut=87, fenced=False)  # in the middle of a word
@given(cut=st.integers(1, 1_000), fenced=st.booleans())
def test_json_that_is_cut_anywhere_is_one_fault_about_the_json(sample: Any, cut: int, fenced: bool) -> None:
    text = json.dumps(sample.raw)
    reply = ("```json\n" if fenced else "Here: ") + text[: -(cut % (len(text) - 1)) - 1]
    (fault,) = faults_of(reply, sample.need)
    assert "JSON" in fault


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@shared
@given(
    field=st.sampled_from(["name", "inputs", "errors", "cases", "workspace", "output_type", "odd"]),
    value=json_values,
)
def test_any_value_in_any_field_is_a_specification_or_a_list_of_faults(
    sample: Any, field: str, value: Any
) -> None:
    try:
        spec = read_spec(json.dumps(sample.raw | {field: value}), sample.need)
    except SpecFaulty as exc:
        assert all(isinstance(fault, str) and fault for fault in exc.faults)  # noqa: PT017
    else:
        assert ToolSpec.model_validate_json(spec.model_dump_json()) == spec


@shared
@given(
    case=st.dictionaries(
        st.sampled_from(["title", "files", "arguments", "expected", "check", "error"]), json_values
    )
)
def test_any_case_is_sound_or_its_faults_are_told(sample: Any, case: dict[str, Any]) -> None:
    try:
        read_spec(json.dumps(sample.raw | {"cases": [*sample.raw["cases"], case]}), sample.need)
    except SpecFaulty as exc:
        assert exc.faults  # noqa: PT017


def test_all_faults_are_told_at_once_and_name_their_fields(sample: Any) -> None:
    raw = sample.raw
    raw["name"] = "word_count"
    raw["workspace"] = "none"
    raw["output_type"] = "array"
    raw["inputs"]["top"]["default"] = "three"
    raw["errors"][0]["type"] = "FileMissing"
    raw["extra"] = 1
    raw["cases"][0]["arguments"] = {"file": "a.txt"}
    raw["cases"][1]["check"] = "open('/etc/passwd')"
    raw["cases"][2]["files"] = {"../a.txt": ""}
    raw["cases"][3]["expected"] = {}
    told = "\n".join(faults_of(json.dumps(raw), sample.need))
    for field in (
        "name:",
        "inputs.top:",
        "errors[0].type:",
        "extra:",
        "cases[1].check:",
        "cases[2].files",
        "cases[3]:",
    ):
        assert field in told
    assert "cases[0].files: the workspace is 'none'" in told
    assert "cases[0].expected: is object, but output_type is array" in told


def test_rules_between_the_fields_are_told_even_when_another_field_is_unsound(sample: Any) -> None:
    sample.raw["cases"][0]["arguments"] = {"path": 7, "file": "a.txt"}
    sample.raw["cases"][1]["arguments"] = {}
    sample.raw["cases"][3]["error"] = "KeyError"
    del sample.raw["purpose"]
    told = faults_of(json.dumps(sample.raw), sample.need)
    assert told == (
        "purpose: Field required",
        "cases[0].arguments.path: 7 is integer, but the input is string",
        "cases[0].arguments.file: is no input; the inputs are path, top",
        "cases[1].arguments.path: is lacking, and the input has no default",
        "cases[3].error: 'KeyError' is not among errors (FileNotFoundError); declare it",
    )


@pytest.mark.parametrize(
    ("at", "change", "told"),
    [
        (0, {"title": "the top"}, "the title 'the top' stands more than once"),
        (0, {"check": "value"}, "has expected and check of expected, check and error"),
        (0, {"expected": [1]}, "is array, but output_type is object"),
        (0, {"files_after": {"a.txt": None}}, "the workspace is 'read'"),
        (0, {"files": {"a": "", "a/b": ""}}, "is a file and the folder of"),
        (0, {"files": {"/etc/passwd": ""}}, "must be relative"),
        (0, {"files": {"a/../../b": ""}}, "must be relative"),
        (0, {"files": {"a\u0000b": ""}}, "must be relative"),
        (0, {"arguments": {"path": None}}, "null is null, but the input is string"),
        (1, {"check": "value == unknown"}, "names unknown"),
    ],
)
def test_a_fault_of_a_case_names_the_case(sample: Any, at: int, change: dict[str, Any], told: str) -> None:
    sample.raw["cases"][at] |= change
    faults = faults_of(json.dumps(sample.raw), sample.need)
    assert any(told in fault and fault.startswith("cases") for fault in faults), faults


def test_cases_are_three_at_least_and_one_is_about_an_error_or_an_edge(sample: Any) -> None:
    first, second, empty, _ = sample.raw["cases"]
    assert faults_of(sample.spec_reply(cases=[first, empty]), sample.need) == ("cases: has 2; give 3 to 20",)
    del empty["edge"]
    (fault,) = faults_of(sample.spec_reply(cases=[first, second, empty]), sample.need)
    assert "none is about an error or an edge" in fault


def test_what_the_plan_will_give_has_to_be_an_input(sample: Any) -> None:
    need = sample.need.model_copy(update={"arguments": {"path": "a.txt", "language": "en"}})
    (fault,) = faults_of(sample.spec_reply(), need)
    assert fault == "inputs: the plan will also give language; declare what it gives"


@pytest.mark.parametrize(
    "odd", ['{"a": 1, "a": 2}', '{"a": NaN}', '{"a": "\\ud800"}', "[" * 100_000, '{"a":' * 100_000]
)
def test_json_that_is_not_strict_is_told_and_never_guessed(sample: Any, odd: str) -> None:
    (fault,) = faults_of(f"```json\n{odd}\n```", sample.need)
    assert "JSON" in fault or "json" in fault


def test_a_need_without_a_usable_name_is_refused_at_once() -> None:
    with pytest.raises(ValidationError, match="rename the tool"):
        Need(name="日本", purpose="p")


def test_values_cannot_be_changed(sample: Any) -> None:
    with pytest.raises(ValidationError, match="frozen"):
        sample.spec.name = "other"


def test_the_faults_go_back_to_the_model_with_what_it_wrote(sample: Any, model: Callable[..., Any]) -> None:
    complete = model(sample.spec_reply())
    write_spec(sample.need, complete, ["cases: has 2"], previous='{"name": 1}')
    (prompt,) = complete.prompts
    assert "- cases: has 2\n" in prompt
    assert '> {"name": 1}\n' in prompt


def test_the_spec_prompt_has_what_a_reader_needs_and_no_more(sample: Any, model: Callable[..., Any]) -> None:
    complete = model(sample.spec_reply(), sample.spec_reply())
    write_spec(sample.need, complete)
    write_spec(sample.need, complete)
    first, second = complete.prompts
    assert first == second
    for part in (
        "`count_words`",
        "Count the words of a file.",
        '"path": "$write.value"',
        "files_after",
        "3 to 20",
    ):
        assert part in first
    assert "last attempt" not in first
    assert not re.search(r"/(home|root|tmp|usr)\b|20\d\d-\d\d", first)
    assert "{{" not in first
    assert "{%" not in first


def test_the_spec_prompts_own_example_is_a_specification(sample: Any, model: Callable[..., Any]) -> None:
    complete = model(sample.spec_reply())
    write_spec(sample.need, complete)
    example = complete.prompts[0].split("# Example")[1]
    assert read_spec(example, Need(name="count_lines", purpose="p")).name == "count_lines"


def test_the_code_call_sees_one_outcome_only(sample: Any, model: Callable[..., Any]) -> None:
    complete = model(sample.code_reply())
    assert write_code(sample.spec, complete) == sample.code
    (prompt,) = complete.prompts
    assert '"b": 2' in prompt
    assert "value['b'] == 2" not in prompt
    assert '"path": "sub/a.txt"' in prompt
    assert "last attempt" not in prompt


@pytest.mark.parametrize(
    ("reply", "told"),
    [
        ("I cannot do this.", "no ```python block"),
        ("```python\ndef count_words(path):\n    return", "not closed"),
        ("```json\n{}\n```", "no ```python block"),
    ],
)
def test_a_reply_without_a_whole_module_is_told(
    sample: Any, model: Callable[..., Any], reply: str, told: str
) -> None:
    with pytest.raises(ReplyFaulty, match=told):
        write_code(sample.spec, model(reply))


def test_the_last_block_that_defines_the_tool_counts(sample: Any, model: Callable[..., Any]) -> None:
    reply = (
        "```python\ndef count_words(a): ...\n```\nBetter:\n"
        + sample.code_reply()
        + "\n```python\nprint(1)\n```"
    )
    assert write_code(sample.spec, model(reply)) == sample.code
