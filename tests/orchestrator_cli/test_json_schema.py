"""A schema is a model's, and the value too: nothing is fetched, and checking takes a limited time."""

import json
import time
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from endpoint import Endpoint

from orchestrator_cli.json_schema import CHECK_S, misfits, schema_fault

DRAFT_7 = "http://json-schema.org/draft-07/schema#"
DRAFT_2020 = "https://json-schema.org/draft/2020-12/schema"
DOUBLING = {
    "$defs": {
        f"d{n}": {"anyOf": [{"$ref": f"#/$defs/d{n + 1}"}, {"$ref": f"#/$defs/d{n + 1}"}]} for n in range(40)
    }
    | {"d40": {"const": 1}},
    "$ref": "#/$defs/d0",
}


@pytest.mark.parametrize(
    "keyword",
    [
        {"$ref": "{there}"},
        {"$dynamicRef": "{there}"},
        {"properties": {"a": {"$ref": "{there}#/nowhere"}}},
        {"$id": "{there}", "anyOf": [{"$ref": "other.json"}]},
        {"$defs": {"x": {"$ref": "//127.0.0.1/x"}}},
    ],
)
def test_a_schema_refers_to_nothing_but_its_parts(
    keyword: dict[str, Any], tmp_path: Path, endpoint: Endpoint
) -> None:
    secret = tmp_path / "config.json"
    secret.write_text('{"auth": "TOPSECRET"}')
    for there in (secret.as_uri(), endpoint.url):
        schema = json.loads(json.dumps(keyword).replace("{there}", there))
        assert schema_fault(schema)
        # A plan of an earlier version can have it.
        assert "TOPSECRET" not in str(misfits(schema, {"a": 1}))
    assert endpoint.arrived == 0


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"pattern": "^(a+)+$"}, "a" * 40 + "!"),
        ({"patternProperties": {"^(a+)+$": {}}}, {"a" * 40 + "!": 1}),
        ({"patternProperties": {"^(a+)+$": {}}, "additionalProperties": False}, {"a" * 40 + "!": 1}),
        (DOUBLING, 2),
        ({"$schema": DRAFT_7, "allOf": [{"$ref": "#/$defs/a"}], "$defs": {"a": {"not": {"$ref": "#"}}}}, 1),
        ({"items": {}}, [1] * 1_000_000),
        ({"unevaluatedItems": False, "prefixItems": [True]}, [1] * 100_000),
    ],
    ids=[
        "pattern",
        "patternProperties",
        "additionalProperties",
        "references",
        "circle",
        "items",
        "unevaluated",
    ],
)
def test_checking_takes_a_limited_time(schema: dict[str, Any], value: Any) -> None:
    assert not schema_fault(schema)
    started = time.process_time()
    found = misfits(schema, value)
    assert time.process_time() - started < CHECK_S + 3
    assert found or "patternProperties" in schema


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"multipleOf": 0.1}, 10**400),
        ({"maximum": 1}, 10**5000),
        ({"const": 1}, 10**5000),
        ({"uniqueItems": True}, [10**5000, 1]),
    ],
    ids=["multipleOf", "maximum", "const", "uniqueItems"],
)
def test_numbers_without_measure_do_not_fit(schema: dict[str, Any], value: Any) -> None:
    assert not schema_fault(schema)
    assert misfits(schema, value)


@pytest.mark.parametrize("pattern", ["(?R)*", "(a)(?1)+", "(?P<n>a)(?&n)*", r"\\(?R)", "(?-1)"])
def test_a_pattern_that_refers_to_itself_is_refused(pattern: str) -> None:
    assert "refers to itself" in schema_fault({"pattern": pattern})
    assert not schema_fault({"pattern": r"\(?R|(?:a)(?=b)(?P<n>c)"})


SLOW = {"pattern": "^(a+)+$"}
"""Slow with the library's own keywords only."""


@pytest.mark.parametrize("dialect", [DRAFT_7, DRAFT_2020, "urn:unknown"])
@pytest.mark.parametrize(
    "schema",
    [
        {"properties": {"x": {"$schema": "{dialect}", **SLOW}}},
        {"items": [{"$schema": "{dialect}", "$id": "urn:x", **SLOW}]},
        {"$schema": "{dialect}", "$defs": {"x": SLOW}, "properties": {"x": {"$ref": "#/$defs/x"}}},
        {"$schema": "{dialect}", **SLOW, "properties": {"x": {"$ref": "#"}}},
        {"properties": {"x": {"$ref": "#/$defs/x"}}, "$defs": {"x": {"$schema": "{dialect}", **SLOW}}},
        {"unevaluatedProperties": False, "allOf": [{"patternProperties": {"^(a+)+$": {}}}]},
    ],
)
def test_no_keyword_of_a_schema_chooses_who_reads_it(schema: dict[str, Any], dialect: str) -> None:
    schema = json.loads(json.dumps(schema).replace("{dialect}", dialect))
    text = "a" * 27 + "!"
    started = time.process_time()
    assert misfits(schema, {"x": text, text: 1})
    assert time.process_time() - started < 1


def test_a_property_may_have_the_name_of_the_keyword() -> None:
    schema: dict[str, Any] = {"$schema": DRAFT_2020, "properties": {"$schema": {"type": "string"}}}
    assert not schema_fault(schema)
    assert misfits(schema, {"$schema": 1})
    assert not misfits(schema, {"$schema": DRAFT_7})


def test_a_schema_is_read_in_a_limited_time() -> None:
    started = time.process_time()
    assert schema_fault({"type": [1, "a"] * 20_000})
    assert schema_fault({"pattern": "(?:(?:(?:a{100}){100}){100}){100}"})
    assert schema_fault({"pattern": "(?x)(?:(?:a{100}) # \n{100}) # \n{100}"})
    assert not schema_fault({"pattern": "^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$|^.{1,5000}$"})
    assert time.process_time() - started < CHECK_S + 3


def test_many_items_are_compared_in_time() -> None:
    items: list[Any] = [{"n": n} if n % 2 else [n] for n in range(50_000)]
    started = time.process_time()
    assert not misfits({"uniqueItems": True}, items)
    assert misfits({"uniqueItems": True}, [*items, {"n": 1.0}])
    assert time.process_time() - started < CHECK_S + 3


@pytest.mark.parametrize(
    "schema", [{"$ref": "#"}, {"$defs": {"a": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"}]
)
def test_a_circle_does_not_fit(schema: dict[str, Any]) -> None:
    assert len(misfits(schema, 1)) == 1


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "nothing"},
        {"$ref": "#/$defs/missing", "pattern": "("},
        {"pattern": "a" * 2_000},
        {"patternProperties": {"(": {}}},
        {"patternProperties": {"a": {}}, "unevaluatedProperties": False},
    ],
)
def test_a_schema_that_cannot_be_used_has_a_fault(schema: dict[str, Any]) -> None:
    assert schema_fault(schema)


def test_a_reference_to_a_missing_part_does_not_fit() -> None:
    assert len(misfits({"$ref": "#/$defs/missing"}, 1)) == 1
    assert len(misfits({"$ref": "#/required/0", "required": ["a"]}, 1)) == 1


VALUES: list[Any] = [
    *(None, True, 1, 1.0, 1.5, "", "ab", "b", [], [1, 1.0], [1, 2], [[1], [1.0]], {}),
    *({"a": 1}, {"b": "x"}, {"ab": 1, "c": 2}, {"c": {"a": 1}}, [{"a": 1}, {"a": 1}]),
]
SCHEMAS: list[dict[str, Any]] = [
    {"pattern": "^a"},
    {"uniqueItems": True},
    {"patternProperties": {"^a": {"type": "integer"}}},
    {"patternProperties": {"^a": {}}, "additionalProperties": False},
    {"properties": {"c": {}}, "patternProperties": {"b$": {}}, "additionalProperties": {"type": "string"}},
    {"additionalProperties": {"type": "string"}},
    {"type": "object", "required": ["a"], "additionalProperties": False, "properties": {"a": {}}},
    {"$defs": {"n": {"type": "number"}}, "items": {"$ref": "#/$defs/n"}},
]


@pytest.mark.parametrize("schema", SCHEMAS, ids=str)
def test_the_rest_is_as_the_library_has_it(schema: dict[str, Any]) -> None:
    validator = jsonschema.Draft202012Validator(schema)
    assert [not misfits(schema, value) for value in VALUES] == [validator.is_valid(value) for value in VALUES]
