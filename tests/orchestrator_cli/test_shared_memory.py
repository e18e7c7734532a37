"""Memory on a server that people share: whose it is, and what happens while it is away."""

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from command import Orch
from endpoint import Endpoint
from qdrant_face import QdrantFace
from scripted_model import Cast, answered

from memory import FACT, RUN, Record, Scope, open_store
from memory.server import ServerStore
from orchestrator_cli.admin.memory import MemoryAdmin
from orchestrator_cli.durable.places import user_name
from orchestrator_cli.settings import load_settings


@pytest.fixture
def face() -> Iterator[QdrantFace]:
    with QdrantFace() as serving:
        yield serving


def admin(folder: Path, **memory: str) -> MemoryAdmin:
    (folder / "work").mkdir(exist_ok=True)
    settings = load_settings({"home": folder / "home", "memory": memory}, folder / "work")
    return MemoryAdmin(settings, warn=lambda _: None)


def texts(records: list[Record]) -> set[str]:
    return {record.text for record in records}


def test_users_of_one_server_do_not_see_each_other(face: QdrantFace, tmp_path: Path) -> None:
    ada, bob = (admin(tmp_path, url=face.url, user=user) for user in ("ada", "bob"))
    ada.add("I prefer metric units.")
    bob.add("I prefer imperial units.")
    assert texts(ada.facts()) == {"I prefer metric units."}
    assert texts(bob.facts()) == {"I prefer imperial units."}
    done = ada.forget(ada.to_forget("metric"), "metric")
    assert done.left == ()
    assert texts(bob.facts()) == {"I prefer imperial units."}
    assert bob.stats().kinds == {FACT: 1}


def test_the_user_is_the_one_of_the_system(
    face: QdrantFace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("USER", "LOGNAME", "USERNAME"):
        monkeypatch.setenv(variable, "somebody else")
    admin(tmp_path, url=face.url).add("I prefer metric units.")
    with closing(ServerStore(face.url)) as store:
        assert store.count(FACT, Scope(user=user_name())) == 1


def test_a_folder_keeps_its_records_whatever_its_owner_is_called(tmp_path: Path) -> None:
    open_store(tmp_path / "home" / "memory").add([Record(kind=FACT, key="k", text="It was there before.")])
    assert texts(admin(tmp_path, user="ada").facts()) == {"It was there before."}


def test_memory_moves_to_a_server_and_back_with_its_owner(face: QdrantFace, tmp_path: Path) -> None:
    here = admin(tmp_path, user="ada", url=face.url)
    folder = admin(tmp_path)
    folder.add("The deadline is Friday.")
    folder.add("The deadline is Monday.")
    with closing(ServerStore(face.url)) as store:
        others = [("bob", FACT), ("ada", "chunk")]
        store.add([Record(kind=kind, key="x", text="no", scope=Scope(user=user)) for user, kind in others])
    assert here.migrate("server", lambda *_: None).copied == 2
    ended, holds = sorted(here.all((FACT,), past=True), key=lambda record: record.valid_to is None)
    assert ended.superseded_by == holds.id
    (tmp_path / "home" / "memory").rename(tmp_path / "away")
    assert here.migrate("folder", lambda *_: None).copied == 2
    assert texts(folder.all((), past=True)) == {"The deadline is Friday.", "The deadline is Monday."}


def test_what_waits_is_counted_also_without_the_server(face: QdrantFace, tmp_path: Path) -> None:
    folder = tmp_path / "home" / "memory"
    with face.stopped():
        store = open_store(folder, url=face.url, warn=lambda _: None)
        for key in "ab":
            store.add([Record(kind=RUN, key=key, text="rivers")])
    ((place, count),) = admin(tmp_path).stats().waiting.items()
    assert Path(place).parent == folder / "waiting"
    assert count == 2
    assert admin(tmp_path, url=face.url).stats().waiting == {}


def test_an_export_becomes_the_importers_own(face: QdrantFace, tmp_path: Path) -> None:
    folder, ada = admin(tmp_path), admin(tmp_path, user="ada", url=face.url)
    ada.add("I prefer metric units.")
    export = tmp_path / "export.jsonl"
    ada.export(export)
    folder.import_file(export, mine=True, replace=False)
    assert texts(folder.facts()) == {"I prefer metric units."}
    again = folder.import_file(export, mine=True, replace=False)
    assert (len(again.same), len(again.added)) == (1, 0)


@pytest.fixture
def shared(orch: Orch, face: QdrantFace) -> Orch:
    (orch.home / "orch.toml").write_text(f'memory = {{url = "{face.url}", user = "ada"}}\n')
    return orch


def test_a_run_goes_on_without_its_server_and_is_remembered_later(
    shared: Orch, endpoint: Endpoint, face: QdrantFace
) -> None:
    endpoint.reply = Cast(planner=[answered("Paris."), answered("Rome.")])
    with face.stopped():
        done = shared("ask", "Capital of France?")
        assert done.code == 0, done.err
        notices = [event["message"] for event in shared.events("Noticed")]
        assert len([text for text in notices if face.url in text]) == 1
        failed = shared("memory", "list")
        assert failed.code != 0
        assert "1 write waits" in failed.err
        assert "FAIL  memory" in shared("doctor").err
    listed = shared("memory", "list", "--json", "--all")
    assert [(row["kind"], row["text"]) for row in json.loads(listed.out)] == [(RUN, "Capital of France?")]
    assert json.loads(shared("memory", "stats", "--json").out)["waiting"] == {}
    # Seen by its own user only.
    others = shared("memory", "list", "--json", "--all", ORCH_MEMORY__USER="bob")
    assert json.loads(others.out) == []


def test_an_address_that_is_none_is_said(shared: Orch) -> None:
    done = shared("memory", "list", ORCH_MEMORY__URL="qdrant")
    assert done.code == 3
    assert "memory.url" in done.err
