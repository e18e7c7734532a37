"""Who sees which record from where."""

from pathlib import Path

import pytest

from memory import RUN, Query, Record, Scope, open_store, recall, run_record, tool_record
from memory.records import CHUNK, FACT, LOCAL_USER, SESSION, TOOL, TURN, USAGE
from memory.transfer import local_id, owned_by
from memory.visibility import search_visible, sees

ADA, BOB = Scope(user="ada"), Scope(user="bob")
HERE, THERE = (Scope(user="ada", project=name) for name in ("/here", "/there"))


def made(kind: str, scope: Scope, **data: object) -> Record:
    return Record.model_validate({"kind": kind, "key": "k", "text": "rivers", "scope": scope, "data": data})


@pytest.mark.parametrize(
    ("record", "here"),
    [
        (made(FACT, ADA), True),
        (made(TOOL, ADA), True),
        (made(USAGE, ADA), True),
        (made(CHUNK, ADA), True),
        (made(RUN, ADA, workspace="/here"), True),
        (made(RUN, ADA, workspace="/there"), False),
        (made(RUN, ADA), False),
        (made(FACT, HERE), True),
        (made(FACT, THERE), False),
        (made(TURN, THERE), False),
        (made(SESSION, THERE), False),
        (made(CHUNK, THERE), False),
    ],
)
def test_a_workspace_sees_what_is_its_own_or_of_none(record: Record, here: bool) -> None:
    assert sees(HERE, record) is here
    assert sees(ADA, record)
    for scope in (BOB, Scope(user="bob", project="/here")):
        assert not sees(scope, record)


def test_a_search_finds_its_own_runs_among_many_of_others(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    others = [
        Record(kind=RUN, key=f"o{n}", text="rivers rivers", data={"workspace": "/there"}, scope=ADA)
        for n in range(40)
    ]
    mine = Record(kind=RUN, key="mine", text="rivers and hills", data={"workspace": "/here"}, scope=ADA)
    store.add([*others, mine])
    found = search_visible(store, Query("rivers", kinds=RUN, scope=HERE, limit=3))
    assert [hit.record.key for hit in found] == ["mine"]
    assert len(search_visible(store, Query("rivers", kinds=RUN, scope=THERE, limit=3))) == 3


def test_runs_are_recalled_in_their_workspace_or_in_all_if_asked(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    step = {"id": "s", "title": "Report", "kind": "agent", "tools": [], "depends_on": [], "state": "done"}
    prompt = "Make a report on bitcoin prices"
    store.add(
        [
            run_record(
                run=name,
                prompt=prompt,
                outcome="completed",
                answer="done",
                plan=[step],
                scope=ADA,
                workspace=f"/{name}",
            )
            for name in ("here", "there")
        ]
    )
    store.add([tool_record(name="prices", version="1", purpose=prompt, signature="", prompts=[], scope=ADA)])
    for scope, runs in ((HERE, {"here"}), (THERE, {"there"}), (BOB, set())):
        found = recall(store, prompt, scope=scope)
        assert {run.run for run in found.runs} == runs
        assert [tool.name for tool in found.tools] == (["prices"] if scope.user == "ada" else [])
    # Of runs with the same prompt, one is returned.
    assert len(recall(store, prompt, scope=ADA).runs) == 1


def test_records_change_their_owner_and_keep_their_references() -> None:
    new = made(FACT, HERE)
    old = new.model_copy(update={"key": "old"}).ended(new.created, new.id)
    moved_new, moved_old = owned_by(LOCAL_USER, [new, old])
    assert moved_new.scope == Scope(project="/here")
    assert moved_old.superseded_by == moved_new.id != new.id
    assert local_id(new) == moved_new.id
    assert owned_by("ada", [moved_new, moved_old]) == [new, old]
