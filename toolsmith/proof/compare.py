"""Compares the outcome of a call with what a case demands. Pure.

The messages are the same in every run: no times, no paths of the host.

Besides its own outcome, every case demands what the specification promises: a JSON value of the declared
type, and no undeclared error.
"""

from collections.abc import Iterator, Mapping

from orchestrator_cli.durable.text import truncate
from toolsmith.proof.calls import CallOutcome
from toolsmith.proof.expressions import CheckFailed, holds
from toolsmith.spec import Case, ToolSpec
from toolsmith.values import difference, is_of_type, not_json, short_json, type_name


def case_fault(spec: ToolSpec, case: Case, outcome: CallOutcome) -> str:
    """All that is wrong with a case's outcome, on one line; empty when nothing is."""
    # Half a surrogate pair from the tool must not travel on into prompts and files.
    return "; ".join(_faults(spec, case, outcome)).encode(errors="backslashreplace").decode()


def is_declared(spec: ToolSpec, outcome: CallOutcome) -> bool:
    """Whether what was raised is an error of the specification, or a kind of one."""
    return any(error.type in outcome.kinds for error in spec.errors)


def value_fault(spec: ToolSpec, value: object) -> str | None:
    """Why a value cannot be what the specification promises; None when it can."""
    if told := not_json(value):
        return f"{told}; return plain JSON values"
    if not is_of_type(value, spec.output_type):
        found = f"returned {short_json(value)}, which is {type_name(value)}"
        return f"{found}; the output_type is {spec.output_type}"
    return None


def check_fault(
    check: str, value: object, files: Mapping[str, str], arguments: Mapping[str, object]
) -> str | None:
    """Why a check is not true of a call; None when it is."""
    try:
        if holds(check, value, files, arguments):
            return None
    except CheckFailed as exc:
        return f"{check} could not be checked ({exc}); it returned {short_json(value)}"
    return f"{check} is not true; it returned {short_json(value)}"


def shortened(text: str) -> str:
    """The beginning of a text, long enough to tell."""
    return truncate(text, 200)


def _faults(spec: ToolSpec, case: Case, outcome: CallOutcome) -> Iterator[str]:
    if fault := _fault(spec, case, outcome):
        yield fault
    for path, text in case.files_after.items():
        place = f"files_after[{path!r}]"
        if text is None and path in outcome.files:
            yield f"{place}: must not exist, but does"
        elif text is not None and path not in outcome.files:
            yield f"{place}: does not exist"
        elif text is not None and (told := difference(text, outcome.files[path], place)):
            yield told


def _fault(spec: ToolSpec, case: Case, outcome: CallOutcome) -> str | None:
    if outcome.fault:
        return f"expected {_wanted(case)}, but it {outcome.fault}"
    if case.outcome == "error":
        return _error_fault(case, outcome)
    if outcome.error:
        return f"expected {_wanted(case)}, but it raised {shortened(outcome.error)}"
    if told := not_json(outcome.value):
        return f"{told}; return plain JSON values"
    if case.outcome == "expected":
        return difference(case.expected, outcome.value)
    return value_fault(spec, outcome.value) or check_fault(
        case.check, outcome.value, outcome.files, case.arguments
    )


def _wanted(case: Case) -> str:
    if case.outcome == "error":
        return f"{case.error} to be raised"
    return short_json(case.expected) if case.outcome == "expected" else f"a value for which {case.check}"


def _error_fault(case: Case, outcome: CallOutcome) -> str | None:
    if not outcome.error:
        return f"expected {case.error} to be raised, but it returned {short_json(outcome.value)}"
    if case.error in outcome.kinds:
        return None
    return f"expected {case.error} to be raised, but it raised {shortened(outcome.error)}"
