"""A damaged memory is said by every command that meets it, and rebuilt from the journals of runs."""

import shutil
from pathlib import Path

import pytest
from command import Orch
from copies import keep_count
from endpoint import Endpoint
from scripted_model import Cast, answered

from memory import RUN, SESSION, TURN, Scope, open_store


@pytest.fixture(scope="module")
def template(stage: tuple[Orch, Endpoint], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home and a workspace with two runs of one session and one of none, the last with a vote."""
    orch, endpoint = stage
    endpoint.reply = Cast(planner=[answered("Paris."), answered("Rome."), answered("Oslo.")])
    for prompt in ("Capital of France?", "Capital of Italy?"):
        assert orch("ask", "--session", "capitals", prompt).code == 0
    assert orch("ask", "Capital of Norway?").code == 0
    assert orch("feedback", "last", "bad", "too short").code == 0
    without = shutil.ignore_patterns("resident")  # sockets cannot be copied
    return shutil.copytree(orch.home.parent, tmp_path_factory.mktemp("template") / "user", ignore=without)


@pytest.fixture
def runs(stage: tuple[Orch, Endpoint], template: Path) -> Orch:
    """A user after those runs, at the paths where they were."""
    orch, endpoint = stage
    endpoint.reply = Cast(planner=[answered("Oslo.")])
    shutil.rmtree(orch.home.parent)
    shutil.copytree(template, orch.home.parent)
    keep_count(orch.home / "memory")
    return orch


def kept(orch: Orch) -> dict[str, list[tuple[str, object]]]:
    """By kind, the text and what later plans look at of each record, oldest first."""
    store = open_store(orch.home / "memory")
    fields = {RUN: "outcome", TURN: "text", SESSION: "exchanges"}
    found = {
        kind: [(record.text.partition("] ")[2] or record.text, record.data.get(field)) for record in records]
        for kind, field in fields.items()
        if (records := store.all(kind, Scope())[::-1])
    }
    store.close()
    return found


def lose(orch: Orch) -> None:
    shutil.rmtree(orch.home / "memory" / "shard")


def damage(orch: Orch) -> None:
    (orch.home / "memory" / "shard" / "edge_config.json").write_text("garbage")


def test_runs_without_a_workspace_are_given_theirs(runs: Orch) -> None:
    store = open_store(runs.home / "memory")
    known = store.all(RUN, Scope())
    store.add(
        [
            one.model_copy(update={"data": {k: v for k, v in one.data.items() if k != "workspace"}})
            for one in known
        ]
    )
    store.close()
    assert "Capital" not in runs("memory", "list", "--kind", "run").out
    assert runs("memory", "rebuild").code == 0
    assert runs("memory", "list", "--kind", "run").out.count("Capital") == len(known)


def test_what_the_journals_hold_is_rebuilt(runs: Orch) -> None:
    before = kept(runs)
    vote = {"vote": "bad", "why": "too short"}
    lose(runs)
    done = runs("memory", "rebuild", "--json")
    assert {**done.envelope, "tools": 0} == {"runs": 3, "messages": 2, "tools": 0, "forgotten": 0}
    assert {kind: sorted(map(str, rows)) for kind, rows in kept(runs).items()} == {
        kind: sorted(map(str, rows)) for kind, rows in before.items()
    }
    store = open_store(runs.home / "memory")
    voted = [record.data["feedback"] for record in store.all(RUN, Scope()) if "feedback" in record.data]
    assert len(voted) == 1
    assert isinstance(voted[0], dict)
    assert voted[0].items() >= vote.items()
    assert runs("memory", "rebuild", "--json").envelope["runs"] == 0


def test_what_was_forgotten_is_not_rebuilt(runs: Orch) -> None:
    assert runs("memory", "forget", "-y", "Capital of France?").code == 0
    lose(runs)
    done = runs("memory", "rebuild", "--json").envelope
    assert done["runs"] == 2
    assert done["forgotten"] >= 1
    assert "Capital of France?" not in str(kept(runs))


@pytest.mark.parametrize(
    "command",
    [
        ("memory", "list"),
        ("memory", "search", "capital"),
        ("memory", "add", "My editor is Vim."),
        ("memory", "stats", "--json"),
        ("memory", "rebuild"),
        ("feedback", "last", "good"),
        ("tools", "reindex"),
        ("ask", "Capital of Norway?"),
        ("ask", "-c", "Capital of Norway?"),
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("fault", [lose, damage])
def test_every_command_says_what_it_met(runs: Orch, command: tuple[str, ...], fault) -> None:  # type: ignore[no-untyped-def]
    fault(runs)
    if fault is lose and "-c" in command:
        pytest.skip("there is no session left to continue")
    done = runs(*command)
    assert done.code == 0, done.err
    if fault is lose:
        assert "memory rebuild" in done.err
    else:
        assert "shard.corrupt-" in done.err
        assert "all 8" in done.err
    assert done.err.count("The memory") == 1


def test_nothing_is_called_forgotten_while_its_text_is_on_the_disk(runs: Orch) -> None:
    damage(runs)
    assert runs("memory", "list").code == 0
    done = runs("memory", "forget", "-y", "Capital of France?")
    assert "Deleted: " in done.out
    assert "Forgotten" not in done.out
    for aside in (runs.home / "memory").glob("shard.corrupt-*"):
        shutil.rmtree(aside)
    assert runs("memory", "forget", "-y", "--json", "Capital of Norway?").envelope["erased"] is True
