"""Runs that are over and old are removed; what is open stays, and so does everything else."""

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from command import Orch
from endpoint import Endpoint
from scripted_model import Cast, plan, tool_call

from orchestrator_cli.runs.prune import DailyPruning, finish_removals

WRITE = plan(tool_call("write", "write_file", path="one.txt", content="made"))
ASKED = plan(tool_call("ask", "list_files") | {"approve": True})


def aged(orch: Orch, run: str, days: int) -> str:
    """The run as if it had begun so many days ago, with a name of the future."""
    named = f"20990101-000000-{run[-6:]}"
    journal = orch.home / "runs" / run / "journal.jsonl"
    begun = f'"time":"{(datetime.now(UTC) - timedelta(days=days)).isoformat()}"'
    text = re.sub(r'"time":"[^"]+"', begun, journal.read_text(), count=1)
    journal.write_text(text.replace(run, named))
    journal.parent.rename(journal.parent.with_name(named))
    return named


@pytest.fixture
def runs(orch: Orch, endpoint: Endpoint) -> list[str]:
    """An old run that is done, an old one that waits for a person, and a new one."""
    made = []
    for reply, days in ((WRITE, 40), (ASKED, 40), (WRITE, 0)):
        endpoint.reply = Cast(planner=[reply])
        run: str = orch("ask", "--json", "--no-reuse", "Do it.").envelope["run"]
        made.append(aged(orch, run, days) if days else run)
    return made


def left(orch: Orch) -> set[str]:
    return {path.name for path in (orch.home / "runs").iterdir()}


def test_only_what_is_old_and_over_is_removed(orch: Orch, runs: list[str]) -> None:
    before = (orch.workspace / "fileLog.md").read_bytes()
    tried = orch("prune", "--older-than", "30d", "--dry-run", "--json")
    assert json.loads(tried.out)["runs"] == [runs[0]]
    assert left(orch) == set(runs)
    asked = orch("prune", "--older-than", "30d")
    assert (asked.code, left(orch)) == (6, set(runs))
    done = orch("prune", "--older-than", "30d", "-y")
    assert (done.code, left(orch)) == (0, set(runs[1:]))
    assert (orch.workspace / "fileLog.md").read_bytes() == before
    assert orch.file("one.txt") == "made"
    assert orch("log", "verify").code == 0
    assert orch("undo", runs[2]).code == 0


def test_the_name_of_a_run_makes_it_neither_old_nor_new(orch: Orch, runs: list[str]) -> None:
    names = [f"{day}-000000-00000a" for day in ("99991231", "20200102", "20200101")]
    for run, name in zip(runs, names, strict=True):
        folder = orch.home / "runs" / run
        journal = folder / "journal.jsonl"
        journal.write_text(journal.read_text().replace(run, name))
        folder.rename(folder.with_name(name))
    done = orch("prune", "--older-than", "30d", "-n", "--json")
    assert json.loads(done.out)["runs"] == [names[0]]
    assert json.loads(orch("runs", "--json").out)[0]["run"] == names[2]
    assert orch("undo", "last").code == 0
    assert names[2] in orch("show", "last").out


def test_an_old_plan_that_never_ran_is_removed(orch: Orch, endpoint: Endpoint) -> None:
    endpoint.reply = Cast(planner=[WRITE])
    assert orch("plan", "Do it.").code == 0
    old = aged(orch, orch.journal().parent.name, 40)
    done = orch("prune", "--older-than", "30d", "--yes", "--json")
    assert (done.envelope["runs"], left(orch)) == ([old], set())


@pytest.mark.parametrize("length", ["soon", "-1d", "99999999999d", ""])
def test_a_length_that_is_none_removes_nothing(orch: Orch, length: str) -> None:
    assert orch("prune", "--older-than", length, "-y").code == 2


DAY = timedelta(days=1, minutes=1)


def test_orch_up_removes_what_was_too_old_the_day_before(orch: Orch, runs: list[str]) -> None:
    said: list[str] = []
    now = datetime.now()
    daily = DailyPruning(orch.home, 30, said.append)
    daily.look(now)
    daily.look(now + timedelta(hours=1))
    assert (left(orch), said) == (set(runs), [])
    moved = aged(orch, runs[2], 31)
    daily.look(now + DAY)
    assert left(orch) == {runs[1], moved}
    assert len(said) == 1
    DailyPruning(orch.home, 30, said.append).look(now + 2 * DAY)
    assert left(orch) == {runs[1]}


def test_a_clock_that_was_ahead_removes_nothing(orch: Orch, runs: list[str]) -> None:
    said: list[str] = []
    now, ahead = datetime.now(), datetime.now() + timedelta(days=365)
    for one in (ahead, now, now + DAY):
        DailyPruning(orch.home, 30, said.append).look(one)
        assert runs[2] in left(orch)
    daily = DailyPruning(orch.home, 30, said.append)
    for one in (ahead, now + DAY, ahead + DAY):
        daily.look(one)
        assert runs[2] in left(orch)


@pytest.mark.parametrize("said", ["../../precious", "other"])
def test_a_journal_of_another_run_is_named_and_skipped(orch: Orch, runs: list[str], said: str) -> None:
    bad, past = aged(orch, runs[2], 50), orch.home.parent / "precious"
    past.mkdir()
    journal = orch.home / "runs" / bad / "journal.jsonl"
    journal.write_text(journal.read_text().replace(bad, runs[1] if said == "other" else said))
    for args in (("runs",), ("runs", "--all"), ("prune", "--older-than", "30d", "-n"), ("stats",)):
        done = orch(*args)
        assert (done.code, bad in done.err) == (0, True), args
        assert bad not in done.out
    for args in (
        ("show", bad),
        ("undo", bad),
        ("diff", bad),
        ("fork", bad, "--at", "x"),
        ("log", "replay", bad),
    ):
        done = orch(*args)
        assert done.code != 0, args
        assert "another run" in done.err, args
    done = orch("prune", "--older-than", "30d", "-y", "--json")
    assert (done.code, json.loads(done.out)["runs"], left(orch)) == (0, [runs[0]], {bad, runs[1]})
    assert bad in done.err
    assert past.exists()
    heard: list[str] = []
    DailyPruning(orch.home, 30, heard.append).look()
    assert [bad in one for one in heard] == [True]


def test_a_removal_that_was_killed_is_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    going = tmp_path / "runs" / ".removed-20260101-000000-abcdef"
    going.mkdir(parents=True)
    (going / "journal.jsonl").write_text("{}")
    never: Callable[..., Any] = pytest.fail
    monkeypatch.setattr("orchestrator_cli.runs.prune.remove_run", never)
    DailyPruning(tmp_path, None, never).look()
    assert going.exists()
    finish_removals(tmp_path)
    assert list((tmp_path / "runs").iterdir()) == []
