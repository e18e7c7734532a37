"""Reading a specification from a model's reply, and writing the prompts."""

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from toolsmith.errors import ReplyFaulty
from toolsmith.reader import read_spec
from toolsmith.spec import Need, ToolSpec
from toolsmith.writer import write_code, write_spec

shared = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)


def faults_of(reply: str, need: Need) -> tuple[str, ...]:
    with pytest.raises(ReplyFaulty) as caught:
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
        'Perhaps {{"name": 1}}, with {{"inputs": {{}}}}?\n```json\n{json}\n```',
        "  ```json\n{json}\n",
    ],
)
def test_the_object_is_found_wherever_the_model_put_it(sample: Any, shape: str) -> None:
    assert read_spec(shape.format(json=json.dumps(sample.raw)), sample.need) == sample.spec


def test_a_case_that_expects_null_is_not_a_case_without_expectation(sample: Any) -> None:
    examples = [{"title": "null", "arguments": {"path": "a"}, "expected": None}]
    spec = read_spec(sample.spec_reply(examples=examples, output_type="any"), sample.need)
    assert spec.examples[0].outcome == "expected"
    assert ToolSpec.model_validate_json(spec.model_dump_json()) == spec
    assert ToolSpec.model_validate_json(spec.model_dump_json()).examples[0].outcome == "expected"


def test_prose_instead_of_json_is_named(sample: Any) -> None:
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
    field=st.sampled_from(["name", "inputs", "errors", "examples", "workspace", "output_type", "odd"]),
    value=json_values,
)
def test_any_value_in_any_field_is_a_specification_or_a_list_of_faults(
    sample: Any, field: str, value: Any
) -> None:
    try:
        spec = read_spec(json.dumps(sample.raw | {field: value}), sample.need)
    except ReplyFaulty as exc:
        assert all(isinstance(fault, str) and fault for fault in exc.faults)  # noqa: PT017
    else:
        assert ToolSpec.model_validate_json(spec.model_dump_json()) == spec


def test_all_faults_are_reported_with_their_fields(sample: Any) -> None:
    raw = sample.raw
    raw["name"] = "word_count"
    raw["workspace"] = "none"
    raw["output_type"] = "array"
    raw["inputs"]["top"]["default"] = "three"
    raw["errors"][0]["type"] = "FileMissing"
    raw["extra"] = 1
    raw["examples"].append({"title": "b", "check": "open('/etc/passwd')"})
    raw["examples"].append({"title": "c", "files": {"../a.txt": ""}, "check": "value"})
    raw["examples"].append({"title": "d", "error": "OSError", "expected": {}})
    faults_text = "\n".join(faults_of(json.dumps(raw), sample.need))
    for field in (
        "name:",
        "inputs.top:",
        "errors[0].type:",
        "extra:",
        "examples[1].check:",
        "examples[2].files",
        "examples[3]:",
    ):
        assert field in faults_text
    assert "examples[0].files: the workspace is 'none'" in faults_text
    assert "examples[0].expected: is object, but output_type is array" in faults_text


def test_rules_between_fields_are_checked_even_if_another_field_is_unsound(sample: Any) -> None:
    sample.raw["examples"][0]["arguments"] = {"path": 7, "file": "a.txt"}
    sample.raw["examples"].append({"title": "b", "check": "value"})
    sample.raw["examples"].append({"title": "c", "arguments": {"path": "a"}, "error": "KeyError"})
    del sample.raw["purpose"]
    faults_text = faults_of(json.dumps(sample.raw), sample.need)
    assert faults_text == (
        "purpose: is missing",
        "examples[0].arguments.path: 7 is integer, but the input is string",
        "examples[0].arguments.file: is no input; the inputs are path, top",
        "examples[1].arguments.path: is lacking, and the input has no default",
        "examples[2].error: 'KeyError' is not among errors (FileNotFoundError); declare it",
    )


@pytest.mark.parametrize(
    ("change", "faults_text"),
    [
        ({"check": "value"}, "has expected and check of expected, check and error"),
        ({"expected": [1]}, "is array, but output_type is object"),
        ({"files_after": {"a.txt": None}}, "the workspace is 'read'"),
        ({"files": {"a": "", "a/b": ""}}, "is a file and the folder of"),
        ({"files": {"/etc/passwd": ""}}, "must be relative"),
        ({"files": {"a/../../b": ""}}, "must be relative"),
        ({"files": {"a\u0000b": ""}}, "must be relative"),
        ({"arguments": {"path": None}}, "null is null, but the input is string"),
    ],
)
def test_a_fault_of_an_example_names_the_example(
    sample: Any, change: dict[str, Any], faults_text: str
) -> None:
    sample.raw["examples"][0] |= change
    faults = faults_of(json.dumps(sample.raw), sample.need)
    assert any(faults_text in fault and fault.startswith("examples") for fault in faults), faults


def test_a_new_specification_has_one_to_three_examples(sample: Any) -> None:
    assert faults_of(sample.spec_reply(examples=[]), sample.need) == ("examples: has none; give 1 to 3",)
    four = [sample.raw["examples"][0] | {"title": str(number)} for number in range(4)]
    assert faults_of(sample.spec_reply(examples=four), sample.need) == ("examples: has 4; give 1 to 3",)


def test_an_error_that_means_any_failure_is_no_contract(sample: Any) -> None:
    errors = [{"type": "FileNotFoundError", "when": "no file"}, {"type": "Exception", "when": "it fails"}]
    (fault,) = faults_of(sample.spec_reply(errors=errors), sample.need)
    assert fault == "errors[1].type: Exception means any failure; name a more exact one"


def test_what_the_plan_will_give_has_to_be_an_input(sample: Any) -> None:
    calls = ({"path": "a.txt"}, {"path": "b.txt", "language": "en"}, {"path": "a.txt"})
    need = sample.need.model_copy(update={"calls": calls})
    (fault,) = faults_of(sample.spec_reply(), need)
    assert fault == "inputs: the plan will also give language; declare what it gives"


def test_who_specifies_a_tool_reads_each_planned_call_once(sample: Any) -> None:
    calls = ({"path": "a.txt"}, {"path": "b.txt"}, {"path": "a.txt"})
    asked: list[str] = []

    def complete(prompt: str, _schema: object = None, /) -> str:
        asked.append(prompt)
        return str(sample.spec_reply())

    write_spec(sample.need.model_copy(update={"calls": calls}), complete)
    needed = asked[0].partition("# What is needed")[2]
    assert (needed.count('"a.txt"'), needed.count('"b.txt"')) == (1, 1)


def test_a_need_of_an_earlier_version_has_one_call() -> None:
    old = {"name": "count", "purpose": "Counts.", "context": ""}
    assert Need.model_validate(old | {"arguments": {"n": 1}}).calls == ({"n": 1},)
    assert Need.model_validate(old | {"arguments": None}).calls == ()


@pytest.mark.parametrize(
    "odd", ['{"a": 1, "a": 2}', '{"a": NaN}', '{"a": "\\ud800"}', "[" * 100_000, '{"a":' * 100_000]
)
def test_lax_json_is_reported_and_never_guessed(sample: Any, odd: str) -> None:
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
    write_spec(sample.need, complete, ["examples: has none"], previous='{"name": 1}')
    (prompt,) = complete.prompts
    assert "- examples: has none\n" in prompt
    assert '<untrusted source="your last attempt">\n{"name": 1}\n</untrusted>' in prompt


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
        "1 to 3",
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


def test_the_code_call_sees_the_examples_whole_and_of_the_cases_the_calls(
    sample: Any, model: Callable[..., Any]
) -> None:
    complete = model(sample.code_reply())
    assert write_code(sample.spec, sample.suite, complete).source == sample.code
    (prompt,) = complete.prompts
    assert '"b": 2' in prompt
    assert "value['b'] == 2" not in prompt
    assert '"path": "sub/a.txt"' in prompt
    assert "last attempt" not in prompt


@pytest.mark.parametrize(
    ("reply", "faults_text"),
    [
        ("I cannot do this.", "no ```python block"),
        ("```python\ndef count_words(path):\n    return", "not closed"),
        ("```json\n{}\n```", "no ```python block"),
    ],
)
def test_reply_without_a_whole_module_is_reported(
    sample: Any, model: Callable[..., Any], reply: str, faults_text: str
) -> None:
    with pytest.raises(ReplyFaulty, match=faults_text):
        write_code(sample.spec, sample.suite, model(reply))


def test_the_last_block_that_defines_the_tool_counts(sample: Any, model: Callable[..., Any]) -> None:
    reply = (
        "```python\ndef count_words(a): ...\n```\nBetter:\n"
        + sample.code_reply()
        + "\n```python\nprint(1)\n```"
    )
    assert write_code(sample.spec, sample.suite, model(reply)).source == sample.code
