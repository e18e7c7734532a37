"""What every call of a tool has to keep to, whatever a case demands; and what faults go unnoticed."""

from typing import Any

from toolsmith.proof.calls import TrialSandboxes
from toolsmith.proof.cases import Suite
from toolsmith.proof.mutants import gaps, try_mutants
from toolsmith.proof.trial import sandboxes_for, try_tool
from toolsmith.sandbox import Limits, choose_backend
from toolsmith.spec import ToolSpec


def spec_of(**changes: Any) -> ToolSpec:
    raw = {
        "name": "f",
        "purpose": "Do it.",
        "inputs": {"given": {"type": "any", "description": "What."}},
        "output_type": "integer",
        "output_description": "What comes out.",
        "errors": [{"type": "ValueError", "when": "it is wrong"}],
    }
    return ToolSpec.model_validate(raw | changes)


def failed(body: str, *cases: dict[str, Any], limits: Limits | None = None, **changes: Any) -> dict[str, str]:
    """Title → detail of the failed cases."""
    source = f"from smolagents import tool\n@tool\ndef f(given):\n    {body}\n"
    suite = Suite.model_validate({"cases": [{"title": str(at), **case} for at, case in enumerate(cases)]})
    report = try_tool(spec_of(**changes), suite, source, sandboxes_for(spec_of(**changes), limits=limits))
    return {result.title: result.detail for result in report.results if not result.passed}


def call(given: Any, **outcome: Any) -> dict[str, Any]:
    return {"arguments": {"given": given}, **outcome}


def test_a_check_does_not_excuse_a_value_of_another_type() -> None:
    faults = failed("return given", call("2", check="value == '2'"), call(2, check="value == 2"))
    assert faults == {"0": 'returned "2", which is string; the output_type is integer'}


def test_a_kind_of_the_declared_error_is_that_error_wherever_it_is_defined() -> None:
    assert failed("import json; return json.loads(given)", call("{", error="ValueError")) == {}


def test_time_that_is_over_is_no_timeout_error_of_the_tool() -> None:
    errors = [{"type": "OSError", "when": "it cannot be read"}]
    faults = failed("while True: pass", call(1, error="OSError"), limits=Limits(wall_s=1), errors=errors)
    assert faults == {"0": "expected OSError to be raised, but it took longer than 1 s"}


def test_too_large_result_is_no_error_of_the_tool() -> None:
    cases = [call(3_000_000, error="ValueError"), call(2_100_000, error="ValueError")]
    faults = failed("return [0] * given if given > 2_500_000 else 'x' * given", *cases, output_type="any")
    assert faults["0"].startswith("expected ValueError to be raised, but it returned what cannot be told: ")
    assert faults["1"] == "expected ValueError to be raised, but it returned more than 2 MB"


def test_a_call_that_takes_too_much_memory_fails_with_that_reason() -> None:
    body = "kept = bytearray(400_000_000); return len(kept[::4096]) - 97657 + given"
    faults = failed(body, call(1, expected=1))
    assert faults["0"].startswith("expected 1, but it took ")
    assert faults["0"].endswith(" MB of memory, and 256 MB are allowed")


def test_what_differs_the_second_time_is_not_relied_on() -> None:
    faults = failed(
        "import os; return os.urandom(8)[0] * 256 + os.urandom(8)[1]", call(1, check="value >= 0")
    )
    assert faults["0"].startswith("the same call gave something else the second time: value: expected ")


def test_a_case_knows_what_its_call_took() -> None:
    spec, suite = spec_of(), Suite.model_validate({"cases": [{"title": "a", **call(1, expected=1)}]})
    source = (
        "from smolagents import tool\n@tool\ndef f(given):\n    import time; time.sleep(0.3); return given\n"
    )
    (result,) = try_tool(spec, suite, source).results
    assert 0.3 <= result.seconds < 5
    assert result.memory_mb is not None
    assert 1 < result.memory_mb < 256


TOOL = '''from smolagents import tool


@tool
def f(given):
    """Count what is above 3."""
    if not isinstance(given, list):
        raise ValueError("no list")
    count = 0
    for item in given:
        if item > 3:
            count += 1
    return count
'''


def test_planted_faults_show_what_cases_do_not_look_at() -> None:
    room = TrialSandboxes(choose_backend(), Limits())
    lazy = [call([], expected=0), call(None, error="ValueError")]
    good = [call([1, 5, 3, 4, 9], expected=3)]
    suites = [
        Suite.model_validate({"cases": [{"title": str(at), **case} for at, case in enumerate(cases)]})
        for cases in (lazy, lazy + good)
    ]
    before = try_mutants(spec_of(), suites[0], TOOL, room)
    after = try_mutants(spec_of(), suites[1], TOOL, room, before)
    assert "a value exactly at a boundary falls on the wrong side (off by one)" in gaps(before)
    assert gaps(after) == ()
    assert {mutant.caught_by for mutant in after} <= {"0", "1", "2"}
    assert [mutant.line for mutant in after] == [mutant.line for mutant in before]


def test_a_tool_with_network_is_not_probed() -> None:
    suite = Suite.model_validate({"cases": [{"title": "a", **call(1, expected=1)}]})
    spec = spec_of(network=["api.example.org"])
    assert try_mutants(spec, suite, TOOL, TrialSandboxes(choose_backend(), Limits())) == ()
