"""Properties of a tool, tried on generated inputs in the real sandbox."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from toolsmith.built import PropertyResult
from toolsmith.proof.calls import TrialSandboxes
from toolsmith.proof.cases import Property
from toolsmith.proof.schemas import generate, schema_faults, values_of
from toolsmith.proof.trial import inputs_of, try_properties
from toolsmith.sandbox import Limits, choose_backend
from toolsmith.spec import ToolSpec

ITEMS = {"type": "array", "items": {"type": "integer", "minimum": -9, "maximum": 9}, "maxItems": 5}
TEXT = {"type": "string", "pattern": "[a-c]{0,6}"}


def spec_of(**changes: Any) -> ToolSpec:
    raw = {
        "name": "f",
        "purpose": "Do it.",
        "inputs": {"given": {"type": "any", "description": "What."}},
        "output_type": "any",
        "output_description": "What comes out.",
        "errors": [{"type": "ValueError", "when": "it is wrong"}],
    }
    return ToolSpec.model_validate(raw | changes)


def tried(
    body: str, *properties: dict[str, Any], head: str = "", **changes: Any
) -> tuple[PropertyResult, ...]:
    source = f"{head}\nfrom smolagents import tool\n@tool\ndef f(given=None, way=0):\n    {body}\n"
    held = [Property.model_validate({"title": str(at), **one}) for at, one in enumerate(properties)]
    room = TrialSandboxes(choose_backend(), Limits(wall_s=10))
    return try_properties(spec_of(**changes), held, source, room)


def always(check: str, schema: Any = ITEMS, **more: Any) -> dict[str, Any]:
    return {"kind": "always", "inputs": {"given": schema}, "check": check, **more}


def test_broken_property_names_the_smallest_input() -> None:
    right, wrong = tried(
        "return sorted(given)", always("len(value) == len(arguments['given'])"), always("value != [0, 0]")
    )
    assert (right.passed, right.detail, right.counted) == (True, "", right.inputs)
    assert 25 <= right.inputs <= 40
    (failed,) = tried(
        "return given[::-1] if len(given) > 2 else given",
        always("value == arguments['given'] or len(value) < 3"),
    )
    assert failed.detail.startswith("for given=[0, 0, ")
    assert len(json.loads(failed.detail.removeprefix("for given=").split(":")[0])) == 3
    assert wrong.title == "1"


@pytest.mark.parametrize(
    ("kind", "right", "wrong", "message"),
    [
        ("idempotent", "return given.strip('a')", "return given[1:]", "given that again"),
        ("order_free", "return sorted(given)", "return given[:1]", "in another order"),
    ],
)
def test_a_second_call_has_to_agree_with_the_first(kind: str, right: str, wrong: str, message: str) -> None:
    held = {"kind": kind, "of": "given", "inputs": {"given": TEXT if kind == "idempotent" else ITEMS}}
    (good,), (bad,) = tried(right, held), tried(wrong, held)
    assert good.passed
    assert message in bad.detail


def test_the_way_back_gives_what_there_was() -> None:
    held = {
        "kind": "round_trip",
        "of": "given",
        "back": {"way": 1},
        "arguments": {"way": 0},
        "inputs": {"given": TEXT},
    }
    both = {
        "given": {"type": "any", "description": "x"},
        "way": {"type": "integer", "description": "x", "default": 0},
    }
    (good,) = tried("return given + 'x' if way == 0 else given[:-1]", held, inputs=both)
    (bad,) = tried("return given.upper() if way == 0 else given", held, inputs=both)
    assert good.passed
    assert re.fullmatch(
        r'for way=0, given="[abc]": it returned "[ABC]", and on the way back "[ABC]"', bad.detail
    )


def test_declared_errors_do_not_count_and_others_are_failures() -> None:
    some, nearly_all = tried(
        "if not given or given[0] < 0: raise ValueError\n"
        "    if len(given) > 4: raise UnicodeError\n    return 1",
        always("value == 1"),
        always("value == 1", {"const": []}),
    )
    assert some.passed
    assert 0 < some.counted < some.inputs
    assert nearly_all.passed
    assert nearly_all.weak == "only 0 of 1 inputs count"
    (undeclared,) = tried("return 1 / len(given)", always("value <= 1"))
    assert undeclared.detail == "for given=[]: it raised ZeroDivisionError: division by zero"


def test_every_call_gives_the_declared_type_and_ends() -> None:
    (typed,) = tried("return given or None", always("value or not value"), output_type="array")
    assert typed.detail == "for given=[]: returned null, which is null; the output_type is array"
    (plain,) = tried("return {1: given}", always("value"))
    assert "JSON has only text keys" in plain.detail
    (endless,) = tried(
        "\n    while given == [0]: pass\n    return 1", always("value == 1", {"enum": [[0], [1]]})
    )
    assert endless.detail == "for given=[0]: it took longer than 2 s"


def test_what_a_tool_keeps_between_calls_does_not_help_it() -> None:
    (held,) = tried("SEEN.append(1); return len(SEEN)", always("value == 1"), head="SEEN = []")
    assert held.passed
    body = "open('mark', 'a').write('x'); return len(open('mark').read())"
    (held,) = tried(body, always("value == 1"), workspace="write")
    assert held.passed


def test_files_can_be_generated_too() -> None:
    held = {
        "kind": "always",
        "inputs": {},
        "arguments": {"given": "a.txt"},
        "files": {"a.txt": {"type": "string", "pattern": "([a-z]\n){0,4}"}},
        "check": "value == len(files['a.txt'].splitlines())",
    }
    (good,) = tried("return len(open(given).readlines())", held, workspace="read")
    (bad,) = tried("return len(open(given).readlines()) % 3", held, workspace="read")
    assert good.passed
    assert "the file 'a.txt' with" in bad.detail


SCHEMAS = [
    ITEMS,
    TEXT,
    {"type": "string", "minLength": 2, "maxLength": 3},
    {"type": "number", "minimum": 0.5, "maximum": 2},
    {"type": "integer", "maximum": -5},
    {"type": "boolean"},
    {"type": "null"},
    {"enum": [1, "a", None]},
    {"const": [1]},
    {"anyOf": [{"type": "null"}, {"type": "integer", "minimum": 3}]},
    {
        "type": "array",
        "items": {"type": "integer", "minimum": 0, "maximum": 9},
        "minItems": 2,
        "uniqueItems": True,
    },
    {"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "integer"}}, "required": ["a"]},
]


@pytest.mark.parametrize("schema", SCHEMAS)
def test_what_is_generated_fits_its_schema_by_the_library_for_schemas(schema: Any) -> None:
    assert not list(schema_faults(schema))
    seen = list[Any]()
    generate(values_of(schema), seen.append, 40)
    assert seen
    for value in seen:
        jsonschema.validate(value, schema)


GENERATE = """
import json, sys
from concurrent.futures import ThreadPoolExecutor
from toolsmith.proof.cases import Property
from toolsmith.proof.trial import inputs_of
held = Property.model_validate_json(sys.argv[1])
with ThreadPoolExecutor(4) as pool:
    first, *others = pool.map(inputs_of, [held] * 4)
assert all(one == first for one in others)
print(json.dumps([dict(call.arguments) for call in first]))
"""


def test_a_property_gives_the_same_inputs_in_every_process_and_thread_and_no_file(tmp_path: Path) -> None:
    schema = {"type": "array", "items": {"anyOf": [{"type": "string"}, {"type": "number"}]}}
    held = Property(title="t", kind="always", inputs={"given": schema}, check="value")
    done = subprocess.run(
        [sys.executable, "-c", GENERATE, held.model_dump_json()],
        capture_output=True, text=True, cwd=tmp_path, check=True, timeout=60,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )  # fmt: skip
    assert json.loads(done.stdout) == [dict(call.arguments) for call in inputs_of(held)]
    assert list(tmp_path.iterdir()) == []
