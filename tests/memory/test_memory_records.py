"""Ids that follow from the content's key, and values that survive every way they are stored."""

import json
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from memory import MemoryUnavailable, Record, Scope, Source, record_id
from memory.edge import EdgeStore
from memory.records import MOST_USES, from_payload, to_payload

WORDS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40)
KINDS = st.from_regex(r"[a-z][a-z0-9_]{0,8}", fullmatch=True)
SCOPES = st.builds(Scope, user=WORDS, project=st.none() | WORDS)
NUMBERS = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | WORDS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS, inner, max_size=4),
    max_leaves=12,
)
RECORDS = st.builds(
    Record,
    kind=KINDS,
    key=WORDS,
    text=WORDS,
    data=st.dictionaries(WORDS, JSON, max_size=4),
    scope=SCOPES,
    created=st.datetimes(timezones=st.just(UTC)),
    trust=st.sampled_from(["own", "file", "web"]),
    session=st.none() | WORDS,
    valid_from=st.none() | st.datetimes(timezones=st.just(UTC)),
    source=st.none() | st.builds(Source, type=st.sampled_from(["user", "web"]), ref=WORDS, quote=WORDS),
    uses=st.integers(0, MOST_USES),
    pinned=st.booleans(),
)


@given(SCOPES, KINDS, WORDS, SCOPES, KINDS, WORDS)
def test_ids_are_equal_exactly_when_scope_kind_and_key_are(
    scope: Scope, kind: str, key: str, other_scope: Scope, other_kind: str, other_key: str
) -> None:
    same = (scope, kind, key) == (other_scope, other_kind, other_key)
    assert (record_id(scope, kind, key) == record_id(other_scope, other_kind, other_key)) is same
    assert record_id(scope, kind, key) == record_id(scope.model_copy(), kind, key)


def test_an_id_never_changes_between_versions() -> None:
    assert (
        str(record_id(Scope(user="ada", project="p"), "run", "1")) == "afb3ab81-c3f3-5ea8-8331-68b90f6b343c"
    )


@given(RECORDS)
def test_a_record_survives_its_payload_and_json(record: Record) -> None:
    assert from_payload(json.loads(json.dumps(to_payload(record)))) == record
    assert Record.model_validate_json(record.model_dump_json()) == record


@settings(max_examples=10, deadline=None)
@given(st.lists(RECORDS, max_size=4))
def test_records_survive_the_shard_and_the_outbox(records: list[Record]) -> None:
    expected = {record.id: record for record in records}
    with TemporaryDirectory() as folder:
        store = EdgeStore(Path(folder))
        store.add(records)
        store._outbox.put(records)
        for record in expected.values():
            assert store.get([record.id], record.scope, at="ever") == [record]


@pytest.mark.parametrize("value", [float("nan"), [{"a": float("inf")}], "\ud800", {"\ud800": 1}])
def test_values_that_cannot_be_stored_exactly_are_rejected(value: object) -> None:
    with pytest.raises(ValidationError):
        Record.model_validate({"kind": "run", "key": "a", "text": "", "data": {"x": value}})


def test_naive_times_are_rejected() -> None:
    with pytest.raises(ValidationError, match="no time zone"):
        Record(kind="run", key="a", text="", created=datetime(2026, 1, 1))


def test_a_record_of_a_later_version_is_read_when_it_only_has_more_fields() -> None:
    record = Record(kind="run", key="a", text="t")
    assert from_payload({**to_payload(record), "valid_to": None}) == record
    with pytest.raises(MemoryUnavailable, match=r"schema 9.*upgrade"):
        from_payload({**to_payload(record), "trust": "unheard of", "schema_version": 9})


def test_records_without_optional_fields_are_read() -> None:
    first_form = {
        **{"kind": "run", "user": "ada", "project": "", "key": "a", "text": "t", "data": '{"x": [1.5]}'},
        **{"created": "2026-01-01T00:00:00+00:00", "trust": "own", "schema_version": 1},
    }
    record = from_payload(first_form)
    assert (record.data, record.session, record.uses, record.source) == ({"x": [1.5]}, None, 0, None)
    assert record.holds(datetime(1970, 1, 1, tzinfo=UTC))
    # What a record does not have takes no room in the store.
    assert to_payload(record) == first_form


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"seq": 1}, "name the session"),
        ({"superseded_by": record_id(Scope(), "fact", "b")}, "needs valid_to"),
        ({"source": Source(type="web", quote="\ud800")}, "surrogates"),
    ],
)
def test_inconsistent_records_are_rejected(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Record.model_validate({"kind": "fact", "key": "a", "text": "", **fields})


@pytest.mark.parametrize(
    ("fields", "trusted"),
    [
        ({}, True),
        ({"source": Source(type="user")}, True),
        ({"source": Source(type="tool")}, False),
        ({"source": Source(type="file")}, False),
        ({"trust": "web", "source": Source(type="user")}, False),
    ],
)
def test_only_records_of_user_or_orchestrator_are_trusted(fields: dict[str, object], trusted: bool) -> None:
    assert Record.model_validate({"kind": "fact", "key": "a", "text": "", **fields}).trusted is trusted


def test_a_use_is_counted_and_an_end_is_dated() -> None:
    then = datetime(2026, 1, 1, tzinfo=UTC)
    record = Record(kind="fact", key="a", text="")
    assert (record.used(then).used(then).uses, record.used(then).last_used) == (2, then)
    assert record.holds(then)
    assert not record.ended(then).holds(then)
