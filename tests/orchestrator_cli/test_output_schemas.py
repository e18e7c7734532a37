"""What `--json` and `--stream-json` print satisfies the schemas that `orch schema` prints."""

import json
from typing import Any

import pytest
from command import Orch
from endpoint import Endpoint, call
from jsonschema import Draft202012Validator
from scripted_model import Cast, answered, caller, code, coder, patch, plan


def checked(orch: Orch, printed: str, lines: list[str]) -> list[dict[str, Any]]:
    schema = json.loads(orch("schema", printed).out)
    Draft202012Validator.check_schema(schema)
    rows = [json.loads(line) for line in lines]
    faults = [fault.message for row in rows for fault in Draft202012Validator(schema).iter_errors(row)]
    assert faults == []
    return rows


def revised() -> Cast:
    mended = coder("again")
    return Cast(
        planner=[plan(coder("write"))],
        agents={
            "Do write": [code("open('a.txt', 'w').write('x'); give_up('no')")],
            "Do again": [code("open('b.txt', 'w').write('x'); final_answer([1, None])")],
        },
        reviser=[patch("again", add=[mended])],
    )


CASES = {
    "answered": (lambda: Cast(planner=[answered("Seven.")]), 0),
    "revised": (revised, 0),
    "failed": (
        lambda: Cast(
            planner=[plan(caller("look", on_failure="abort"))],
            agents={"Do look": [call("give_up", {"reason": "no"})]},
        ),
        1,
    ),
    "paused": (
        lambda: Cast(planner=[plan({"id": "ask", "title": "Ask", "kind": "human", "instruction": "Which?"})]),
        6,
    ),
    "no model": (lambda: lambda _request, _n: {"status": 401, "body": {}}, 4),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("printed", ["json", "stream-json"])
def test_what_a_run_prints_satisfies_the_schema(
    orch: Orch, endpoint: Endpoint, case: str, printed: str
) -> None:
    make, exit_code = CASES[case]
    endpoint.reply = make()
    done = orch("ask", f"--{printed}", "Do it.")
    assert done.code == exit_code, done.err
    rows = checked(orch, printed, done.out.splitlines())
    assert (len(rows) == 1) == (printed == "json")


def test_what_never_became_a_run_satisfies_it_too(orch: Orch) -> None:
    done = orch("ask", "--json", "  ")
    (row,) = checked(orch, "json", done.out.splitlines())
    assert (done.code, row["run"], row["plan"]) == (2, None, None)


def test_other_objects_do_not(orch: Orch) -> None:
    envelope = Draft202012Validator(json.loads(orch("schema").out))
    event = Draft202012Validator(json.loads(orch("schema", "stream-json").out))
    assert not envelope.is_valid({"schema": 1, "run": None})
    assert not event.is_valid({"run": "r", "seq": 1, "time": "now", "schema": 1, "data": {"kind": "None"}})
