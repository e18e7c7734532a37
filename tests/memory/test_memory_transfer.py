"""All that is remembered comes along to another store, whole, also when the way there was broken off."""

import json
import os
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest
from qdrant_face import QdrantFace

from memory import MemoryStore, MemoryUnavailable, Query, Record, Scope, Source
from memory.edge import EdgeStore
from memory.records import from_payload, to_payload
from memory.server import ServerStore
from memory.transfer import MigrationResult, from_jsonl, migrate

pytestmark = pytest.mark.filterwarnings("ignore:Payload indexes have no effect in the local Qdrant")

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def face() -> Iterator[QdrantFace]:
    with QdrantFace() as serving:
        yield serving


@pytest.fixture(params=["client in memory", "client over HTTP", "server"])
def server(request: pytest.FixtureRequest) -> Iterator[MemoryStore]:
    from qdrant_client import QdrantClient

    url = os.environ.get("ORCH_TEST_QDRANT_URL")
    if request.param == "client over HTTP":
        made = ServerStore(request.getfixturevalue("face").url)
    elif request.param == "server":
        if not url:
            pytest.skip("no Qdrant server: ORCH_TEST_QDRANT_URL is not set")
        made = ServerStore(url, os.environ.get("ORCH_TEST_QDRANT_API_KEY"))
    else:
        made = ServerStore("memory", client=QdrantClient(":memory:"))
    yield made
    made.close()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("created", "9999-12-31T23:59:59-14:00"),
        ("last_used", "0001-01-01T00:00:00+14:00"),
        ("uses", 2**80),
        ("uses", 10**7),
        ("schema_version", 3),
        ("schema_version", 2**70),
    ],
)
def test_a_line_that_could_not_be_read_back_is_refused_by_its_name(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"line 1: {field}: "):
        from_jsonl([json.dumps({"kind": "fact", "key": "k", "text": "t", field: value})])


def test_a_line_of_this_version_can_be_read_back() -> None:
    fields = {"created": "0001-01-01T00:00:00Z", "valid_to": "9999-12-31T23:59:59Z", "uses": 10**6}
    (record,) = from_jsonl([json.dumps({"kind": "fact", "key": "k", "text": "t", **fields})])
    assert from_payload(to_payload(record)) == record
    assert record.used(NOW).uses == record.uses


def records(many: int) -> list[Record]:
    """Facts of two users, some of them of a project, ended, or from the web."""
    one, other = (Scope(user=f"tester-{uuid4().hex}") for _ in range(2))
    made = [
        Record(kind="fact", key=str(n), text=f"note {n} ü", data={"n": [n, 0.1]}, scope=one, created=NOW)
        for n in range(many)
    ]
    web = Source(type="web", ref="https://example.org")
    return [
        *made,
        made[0].model_copy(update={"scope": other, "source": web}),
        made[1].model_copy(update={"key": "ended"}).ended(NOW),
        made[2].model_copy(update={"scope": Scope(user=other.user, project="p")}),
    ]


def by_id(found: Iterable[Record]) -> dict[object, Record]:
    return {record.id: record for record in found}


def test_all_records_go_to_a_server_and_back(tmp_path: Path, server: MemoryStore) -> None:
    given = records(620)
    folder, fresh = EdgeStore(tmp_path / "a"), EdgeStore(tmp_path / "b")
    folder.add(given)
    heard: list[tuple[int, int]] = []
    assert migrate(folder, server, lambda done, every: heard.append((done, every))) == MigrationResult(
        copied=623
    )
    assert heard == [(500, 623), (621, 623), (623, 623)]
    mine = by_id(given)
    assert {id_: record for id_, record in by_id(server.scan()).items() if id_ in mine} == mine
    assert migrate(server, fresh).copied >= 623
    assert {id_: record for id_, record in by_id(fresh.scan()).items() if id_ in mine} == mine
    assert by_id(folder.scan()) == mine
    assert fresh.search(Query("note 17", kinds=(), scope=given[0].scope, limit=1))[0].record == given[17]


def test_an_interrupted_migration_continues(tmp_path: Path, server: MemoryStore) -> None:
    folder = EdgeStore(tmp_path)
    folder.add(records(600))

    def break_off(done: int, every: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        migrate(folder, server, break_off)
    again = migrate(folder, server)
    assert again == MigrationResult(copied=again.copied, there=603 - again.copied)
    assert 0 < again.there < 603
    assert migrate(folder, server) == MigrationResult(there=603)


def test_newer_records_of_the_target_stay(tmp_path: Path) -> None:
    given = records(3)
    source, target = EdgeStore(tmp_path / "a"), EdgeStore(tmp_path / "b")
    source.add(given)
    later = given[0].model_copy(update={"text": "newer", "created": NOW + timedelta(days=1)})
    older = given[1].model_copy(update={"text": "older", "created": NOW - timedelta(days=1)})
    target.add([later, older])
    assert migrate(source, target) == MigrationResult(copied=5, newer=1)
    assert by_id(target.scan())[later.id] == later
    assert by_id(target.scan())[older.id] == given[1]


class Forgetful(EdgeStore):
    """A target that loses what it is given, as a disk may."""

    def add(self, records: Iterable[Record]) -> None:
        super().add(list(records)[1:])


def test_a_target_that_loses_a_record_raises(tmp_path: Path) -> None:
    source = EdgeStore(tmp_path / "a")
    source.add(records(3))
    with pytest.raises(MemoryUnavailable, match=r"1 of [24] records came back different"):
        migrate(source, Forgetful(tmp_path / "b"))
