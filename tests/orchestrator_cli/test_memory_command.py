"""`orch memory`: what is remembered is shown, added to, forgotten on the disk, given away and taken in."""

import json
import shlex
from datetime import UTC, datetime, timedelta
from pathlib import Path

import hostile_files
import pytest
from command import Orch

from memory import FACT, RUN, Record, Scope, open_store, run_record
from memory.records import to_payload
from memory.residue import find_residue
from memory.sessions import Exchange, save_exchange
from memory.transfer import as_untrusted, from_jsonl, import_records, to_jsonl
from orchestrator_cli.admin.memory import MemoryAdmin
from orchestrator_cli.cli.commands.memory import forgotten_lines, page_lines, record_lines, stats_lines
from orchestrator_cli.errors import ConfigError, RunFailed, UsageError
from orchestrator_cli.recall.scopes import workspace_scope
from orchestrator_cli.settings import load_settings

NOON = datetime(2026, 11, 3, 12, tzinfo=UTC)
SECRET = "the zanzibar contract"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "work").mkdir()
    return tmp_path / "home"


def keeping(home: Path, workspace: str = "work", *, everywhere: bool = False) -> MemoryAdmin:
    folder = home.parent / workspace
    folder.mkdir(exist_ok=True)
    return MemoryAdmin(load_settings({"home": home}, folder), everywhere=everywhere, warn=lambda _: None)


def said_in(home: Path, session: str, prompt: str) -> None:
    exchange = Exchange(run=f"run-of-{session}", prompt=prompt, answer="Well.", time=NOON)
    save_exchange(open_store(home / "memory"), session, exchange, workspace_scope(home.parent / "work"))


# --- to look at


def test_what_was_added_is_listed_found_and_shown(home: Path) -> None:
    added = keeping(home).add("I prefer metric units.").new[0]
    assert [record.text for record in keeping(home).all()] == ["I prefer metric units."]
    assert [hit.record.id for hit in keeping(home).search("which units", limit=5)] == [added.id]
    page = "\n".join(page_lines(keeping(home).find(str(added.id)[:8])))
    assert "pinned      yes" in page
    assert page.endswith("I prefer metric units.")


def test_a_question_that_comes_again_here_becomes_a_fact_with_the_named_command(orch: Orch) -> None:
    question, store = "Which port is it's staging on?", open_store(orch.home / "memory")
    here = str(workspace_scope(orch.workspace).project)
    store.add(
        run_record(
            run=f"{where}{day}",
            prompt=question,
            outcome="completed",
            answer="8443 'TLS'",
            plan=[],
            scope=Scope(),
            outside=False,
            workspace=where,
            created=NOON + timedelta(days=day),
        )
        for day in range(3)
        for where in (here, "elsewhere")
    )
    (row,) = orch("memory", "review", "--json").envelope
    assert (row["times"], row["answer"]) == (3, "8443 'TLS'")
    command = orch("memory", "review").out.splitlines()[-1].partition(": ")[2]
    assert orch(*shlex.split(command)[1:]).code == 0
    assert orch("memory", "review", "--json").envelope == []
    assert [row["text"] for row in orch("memory", "list", "--kind=fact", "--json").envelope] == [row["fact"]]


def test_a_workspace_shows_its_own_and_what_belongs_to_none(home: Path) -> None:
    keeping(home).add("It is built with make.", here=True)
    keeping(home).add("My editor is Vim.")
    assert len(keeping(home).all()) == 2
    assert [r.text for r in keeping(home, "other").all()] == ["My editor is Vim."]
    assert len(keeping(home, "other", everywhere=True).all()) == 2


def test_a_fact_that_is_contradicted_is_shown_only_with_the_past(home: Path) -> None:
    keeping(home).add("I prefer metric units.")
    assert keeping(home).add("I prefer imperial units.").ended[0].text == "I prefer metric units."
    assert [r.text for r in keeping(home).all()] == ["I prefer imperial units."]
    assert any("until 2" in line for line in record_lines(keeping(home).all(past=True)))


@pytest.mark.parametrize("text", ["", "  ", "x" * 500])
def test_what_is_no_fact_is_refused(home: Path, text: str) -> None:
    with pytest.raises(UsageError, match="between 3 and 400"):
        keeping(home).add(text)


@pytest.mark.parametrize("ident", ["ffff", "no such session", "", "f"])
def test_what_is_not_there_is_said_with_the_way_to_find_it(home: Path, ident: str) -> None:
    with pytest.raises(UsageError, match="orch memory list"):
        keeping(home).find(ident)


def test_facts_that_only_begin_alike_do_not_end_each_other(home: Path) -> None:
    keeping(home).add("All the reports that I ask for are written in English.")
    assert keeping(home).add("All the reports that I ask for are written in sections.").ended == ()
    assert len(keeping(home).all()) == 2


def test_a_kind_that_there_is_not_is_refused_with_those_that_there_are(home: Path) -> None:
    for look in (lambda: keeping(home).all(["facts"]), lambda: keeping(home).search("x", limit=1, kinds="x")):
        with pytest.raises(UsageError, match="fact, session, turn, run, tool"):
            look()


def test_neighbour_of_a_hit_is_not_found(home: Path) -> None:
    said_in(home, "one", "The colour is red.")
    found = [hit.record.text for hit in keeping(home).search("Which colour?", limit=10)]
    assert found
    assert not any("Well." in text for text in found)


def test_a_session_is_listed_by_the_name_that_it_is_gone_on_with(home: Path) -> None:
    said_in(home, "colours", "The colour is red.")
    (line,) = record_lines(keeping(home).all())
    assert line.endswith("session  colours: The colour is red.")


def test_secrets_are_not_kept(home: Path) -> None:
    keeping(home).add("My token: abcdefghijk123456")
    assert "abcdefghijk123456" not in keeping(home).all()[0].model_dump_json()


def test_figures_say_what_there_is(home: Path) -> None:
    said_in(home, "one", "The colour is red.")
    keeping(home).add("I prefer metric units.")
    keeping(home).add("I prefer imperial units.")
    stats = keeping(home).stats()
    assert stats.kinds == {"fact": 2, "session": 1, "turn": 2}
    assert (stats.ended, stats.pinned, stats.workspaces) == (1, 2, 1)
    assert stats_lines(stats)[0].startswith(f"{home / 'memory'}: 5 records, ")


# --- to forget


def test_a_forgotten_text_is_gone_from_the_disk_and_its_other_places_are_named(home: Path) -> None:
    said_in(home, "one", f"What is {SECRET} about?")
    keeping(home).add(f"I signed {SECRET}.")
    keeping(home).add("My editor is Vim.")
    journal = home / "runs" / "20261103-120000-abcdef" / "journal.jsonl"
    journal.parent.mkdir(parents=True)
    journal.write_text(json.dumps({"prompt": f"What is {SECRET} about?"}) + "\n")
    (home / "history").write_text(f"+What is {SECRET} about?\n")
    log = home.parent / "work" / "fileLog.md"
    log.write_text(f"> What is {SECRET} about?\n")
    other = home.parent / "work" / "notes.txt"
    other.write_text(SECRET)

    doomed = keeping(home).to_forget(SECRET)
    assert {record.kind for record in doomed} == {"fact", "session", "turn"}
    done = keeping(home).forget(doomed, SECRET)
    assert find_residue(home / "memory", [SECRET]).found == ()
    assert (done.looked.found, done.looked.files > 0) == ((), True)
    assert {place.path for place in done.elsewhere} == {journal, home / "history", log}
    assert [record.text for record in keeping(home).all()] == ["My editor is Vim."]
    shown = "\n".join(forgotten_lines(done))
    for part in (
        "the text is in none of them",
        f"rm -r {journal.parent}",
        "orch log verify will report the entry",
    ):
        assert part in shown


def test_a_session_is_forgotten_with_its_turns(home: Path) -> None:
    said_in(home, "one", "The colour is red.")
    said_in(home, "two", "The colour is blue.")
    doomed = keeping(home).to_forget("one")
    done = keeping(home).forget(doomed, "one")
    assert done.ids == tuple(record.id for record in doomed)
    assert sorted(record.kind for record in doomed) == ["session", "turn", "turn"]
    assert not find_residue(home / "memory", ["The colour is red."])
    assert [r.key for r in keeping(home).all(("session",))] == ["two"]


def test_what_is_put_aside_is_looked_through_too(home: Path) -> None:
    keeping(home).add(f"I signed {SECRET}.")
    aside = home / "memory" / "shard.corrupt-1" / "wal"
    aside.parent.mkdir()
    aside.write_text(SECRET)
    done = keeping(home).forget(keeping(home).to_forget(SECRET), SECRET)
    assert done.looked.found == (aside,)
    assert "still in" in "\n".join(forgotten_lines(done))


def test_what_else_holds_the_words_of_a_forgotten_fact_is_said(home: Path) -> None:
    said_in(home, "one", "I prefer metric units.")
    fact = keeping(home).add("I prefer metric units.").new[0]
    done = keeping(home).forget(keeping(home).to_forget(str(fact.id)), str(fact.id))
    assert done.ids == (fact.id,)
    assert {record.kind for record in done.left} == {"session", "turn"}
    assert "2 other records" in "\n".join(forgotten_lines(done))


def test_letters_count_and_that_is_said(home: Path) -> None:
    keeping(home).add("My editor is Vim.")
    with pytest.raises(UsageError, match="1 contain it"):
        keeping(home).to_forget("VIM")


def test_what_is_of_another_workspace_is_forgotten_only_with_all(home: Path) -> None:
    keeping(home, "other").add(f"It needs {SECRET}.", here=True)
    with pytest.raises(UsageError, match="orch memory search"):
        keeping(home).to_forget(SECRET)
    assert len(keeping(home, everywhere=True).to_forget(SECRET)) == 1


# --- to give away, to take in, to move


def test_what_is_exported_is_taken_in_elsewhere_just_the_same(home: Path, tmp_path: Path) -> None:
    said_in(home, "one", "The colour\u2028is red.")
    keeping(home).add("I prefer metric units.")
    keeping(home).add("I prefer imperial units.")
    target = tmp_path / "memory.jsonl"
    assert keeping(home).export(target) == 5
    assert target.stat().st_mode & 0o077 == 0
    there = keeping(tmp_path / "new")
    taken = there.import_file(target, mine=True, replace=False)
    assert (len(taken.added), taken.same, taken.differing) == (5, [], [])
    assert set(there.export_lines()) == set(keeping(home).export_lines())
    assert [hit.record.text for hit in there.search("units", limit=1)] == ["I prefer imperial units."]
    assert len(there.import_file(target, mine=True, replace=False).same) == 5
    with pytest.raises(UsageError, match="already exists"):
        keeping(home).export(target)


def test_text_of_others_is_no_fact_about_the_user(home: Path, tmp_path: Path) -> None:
    keeping(home).add("I prefer metric units.")
    target = tmp_path / "memory.jsonl"
    keeping(home).export(target)
    there = keeping(tmp_path / "new")
    there.import_file(target, mine=False, replace=False)
    assert [record.trusted for record in there.all()] == [False]
    assert len(there.import_file(target, mine=False, replace=False).same) == 1


def test_nothing_is_overwritten_unless_that_is_said(home: Path) -> None:
    store = open_store(home / "memory")
    old, new = (Record(kind=RUN, key="1", text=text, created=NOON) for text in ("old", "new"))
    store.add([old])
    assert import_records(store, [new]).differing == [new]
    assert store.get([old.id], Scope()) == [old]
    import_records(store, [new], replace=True)
    assert store.get([old.id], Scope()) == [new]


def test_a_file_with_a_wrong_line_is_refused_whole_and_each_fault_has_its_line(
    home: Path, tmp_path: Path
) -> None:
    good = next(to_jsonl([Record(kind=FACT, key="a", text="fine")]))
    source = tmp_path / "memory.jsonl"
    source.write_text(f'{good}\nnot json\n{{"kind": "fact"}}\n{good[:-2]}, "more": 1}}\n')
    with pytest.raises(UsageError, match="Nothing was imported") as shown:
        keeping(home).import_file(source, mine=True, replace=True)
    for part in ("line 3: ", "line 4: key: ", "line 5: more: "):
        assert part in str(shown.value)
    assert keeping(home).all() == []


def test_lines_and_records_are_each_others_inverse() -> None:
    record = Record(kind=FACT, key="a", text='two\nlines "quoted" Größe', data={"n": [1.5]}, created=NOON)
    assert from_jsonl(to_jsonl([record])) == [record]
    assert as_untrusted(record).trusted is False
    assert as_untrusted(record.model_copy(update={"trust": "web"})).trust == "web"


def test_a_record_that_cannot_be_read_is_forgotten_by_its_id(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = Record(kind=FACT, key="a", text="of a later version")
    with monkeypatch.context() as patched:
        stored = {"trust": "unheard of", "schema_version": 9}
        patched.setattr("memory.edge.to_payload", lambda one: to_payload(one) | stored)
        open_store(home / "memory").add([record])
    admin, ident = keeping(home), str(record.id)
    assert admin.all() == []
    assert admin.to_forget(ident) == []
    assert admin.forget([], ident).ids == (record.id,)
    with pytest.raises(UsageError, match="No record has the id"):
        admin.forget([], ident)


def test_without_a_server_there_is_nothing_to_move(home: Path) -> None:
    with pytest.raises(ConfigError, match="No server is set"):
        keeping(home).migrate("server", lambda *_: None)


def test_a_server_that_is_not_there_is_said(home: Path) -> None:
    settings = load_settings({"home": home, "memory": {"url": "http://127.0.0.1:9"}}, home.parent / "work")
    with pytest.raises((RunFailed, ConfigError)):
        MemoryAdmin(settings, warn=lambda _: None).migrate("server", lambda *_: None)


# --- the command


def test_the_command_adds_lists_and_forgets(orch: Orch) -> None:
    added = orch("memory", "add", "I prefer metric units.")
    assert (added.code, added.out) == (0, ""), added.err
    assert "Remembered as " in added.err
    rows = json.loads(orch("memory", "list", "--json").out)
    assert [(row["kind"], row["text"], row["trusted"]) for row in rows] == [
        ("fact", "I prefer metric units.", True)
    ]
    asked = orch("memory", "forget", "metric")
    assert (asked.code, "-y" in asked.error) == (6, True)
    done = orch("memory", "forget", "metric", "-y", "--json")
    assert (done.code, done.envelope["found"], len(done.envelope["forgotten"])) == (0, [], 1)
    assert orch("memory").out == "Nothing is remembered yet.\n"


def test_what_is_exported_to_a_pipe_is_taken_in_from_one_and_counts_as_said_once_that_is_said(
    orch: Orch,
) -> None:
    orch("memory", "add", "I prefer metric units.")
    lines = orch("memory", "export", "-").out
    orch("memory", "forget", "metric", "-y")
    done = orch("memory", "import", "-", stdin=lines)
    assert (done.code, done.err.splitlines()[0]) == (0, "1 new, 0 unchanged, 0 differ")
    assert "--mine --replace" in done.err
    assert orch("memory", "import", "-", "--mine", "--replace", stdin=lines).code == 0
    assert [row["trusted"] for row in json.loads(orch("memory", "list", "--json").out)] == [True]


def test_wrong_use_names_a_remedy(orch: Orch) -> None:
    assert (done := orch("memory", "migrate", "moon")).code == 2
    assert "server or folder" in done.error
    assert (done := orch("memory", "import", "nowhere.jsonl")).code == 2
    assert "cannot be read" in done.error


@pytest.mark.parametrize("kind", hostile_files.KINDS)
def test_what_is_no_file_of_text_is_refused_at_once(home: Path, tmp_path: Path, kind: str) -> None:
    hostile_files.make(kind, tmp_path / "memory.jsonl")
    with hostile_files.little_memory(), pytest.raises(UsageError, match=r"cannot be read|not read"):
        keeping(home).import_file(tmp_path / "memory.jsonl", mine=False, replace=False)
