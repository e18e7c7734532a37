"""The figures of many runs: from journals as they are on the disk, whole and damaged."""

import json
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from orchestrator_cli import events
from orchestrator_cli.events import Event, Fact
from orchestrator_cli.plan import Plan, Result, Subtask
from orchestrator_cli.runs.stats import read_stats
from orchestrator_cli.settings import Settings
from orchestrator_cli.values import Usage
from orchestrator_cli.views.stats import RunStats, stats_json, stats_lines

TODAY = date(2026, 1, 15)  # a Thursday


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home", workspace=tmp_path)


def spent(model: str, total: Usage, cost: float | None = 0.5, fault: str | None = None) -> Fact:
    return events.Spent(
        role="agent", subtask="a", model=model, prompt_tokens=10, completion_tokens=5, cost=cost, seconds=2,
        total=total, fault=fault,
    )  # fmt: skip


def called(*, ok: bool) -> Fact:
    return events.ToolCalled(subtask="a", attempt=1, tool="t", arguments={}, outcome="o", ok=ok)


def ended(outcome: str = "completed", seconds: float = 9) -> Fact:
    usage = Usage(calls=1, cost=0.5)
    return events.RunFinished(outcome=outcome, answer="a", seconds=seconds, usage=usage)  # type: ignore[arg-type]


def write(settings: Settings, day: date, *facts: Fact, at: Path | None = None, name: str = "a") -> Path:
    """A journal with an event each second."""
    start = datetime(day.year, day.month, day.day, 12, tzinfo=UTC)
    run = f"{day:%Y%m%d}-120000-{name}"
    first = events.RunStarted(
        prompt="p", workspace=str(at or settings.workspace), models={}, sandbox="s", version="1"
    )
    found = [
        Event(run=run, seq=n, time=start + timedelta(seconds=n), data=fact)  # type: ignore[arg-type]
        for n, fact in enumerate((first, *facts), 1)
    ]
    path = settings.home / "runs" / run / "journal.jsonl"
    path.parent.mkdir(parents=True)
    path.write_text("".join(event.json_line() + "\n" for event in found), encoding="utf-8")
    return path


def read(settings: Settings, weeks: int = 2, *, everywhere: bool = False) -> RunStats:
    return read_stats(settings, everywhere=everywhere, weeks=weeks, today=TODAY)


def test_runs_are_summed_up_by_week(settings: Settings) -> None:
    write(settings, date(2026, 1, 4), ended())  # before the two weeks
    write(settings, date(2026, 1, 5), ended())
    write(settings, date(2026, 1, 12), ended("failed"))
    write(settings, date(2026, 1, 13), ended())
    found = read(settings)
    assert (found.since, found.runs, found.states) == (date(2026, 1, 5), 3, {"completed": 2, "failed": 1})
    assert [(week.monday.day, week.runs, week.completed, week.seconds) for week in found.weeks] == [
        (5, 1, 1, 9),
        (12, 2, 1, 18),
    ]
    assert (found.usage.calls, found.usage.cost, found.seconds) == (3, 1.5, 27)


def test_other_workspaces_count_only_with_all(settings: Settings, tmp_path: Path) -> None:
    write(settings, TODAY, ended(), at=tmp_path / "other")
    write(settings, date(2026, 1, 14), ended())
    assert (read(settings).runs, read(settings, everywhere=True).runs) == (1, 2)


def test_models_and_tools_are_counted(settings: Settings) -> None:
    lost = spent("m", Usage(calls=1, failed=1), None, "lost")
    last = spent("n", Usage(calls=2, failed=1, unpriced=1), None)
    built = events.ToolBuilt(
        tool="t", version=1, purpose="p", functions=(), permissions="p", trial=(), sha256="0", source="s"
    )
    calls = (called(ok=True), called(ok=False))
    write(settings, TODAY, spent("m", Usage(calls=1)), lost, last, built, *calls, ended())
    found = read(settings)
    models = found.models
    usages = {name: (one.usage.calls, one.usage.failed, one.usage.unpriced) for name, one in models.items()}
    assert usages == {"m": (1, 1, 0), "n": (1, 0, 1)}
    assert {name: (one.runs, one.seconds) for name, one in models.items()} == {"m": (1, 4), "n": (1, 2)}
    assert found.tools["t"]._asdict() == {"built": 1, "reused": 0, "refused": 0, "calls": 2, "failed": 1}


def test_a_run_without_an_end_counts_what_it_spent(settings: Settings) -> None:
    write(settings, TODAY, spent("m", Usage(calls=1, cost=0.5)))
    resumed = (ended("failed"), events.RunResumed(version="1"), spent("m", Usage(calls=2, cost=1.0)))
    write(settings, TODAY, *resumed, name="b")
    paused = (events.RunPaused(approvals=("q",)),)
    write(settings, TODAY, *paused, name="c")
    found = read(settings)
    assert found.states == {"died": 2, "paused": 1}
    assert (found.usage.cost, found.seconds) == (1.5, 1 + 9 + 1 + 1)


def test_the_slowest_run_has_its_path(settings: Settings) -> None:
    plan = Plan(goal="g", subtasks=(Subtask(id="a", title="A", kind="human"),))
    result = Result(subtask="a", attempt=1, plan_version=1)
    work = (
        events.PlanProposed(plan=plan),
        events.SubtaskStarted(subtask="a", title="A", attempt=1, plan_version=1),
        events.SubtaskFinished(subtask="a", result=result, seconds=1),
    )
    write(settings, TODAY, *work, ended(seconds=100))
    write(settings, TODAY, ended(seconds=5), name="b")
    slowest = read(settings).slowest
    assert slowest is not None
    assert (slowest.figures.seconds, slowest.path) == (100, (("subtask", "a", 1.0),))


def test_damaged_journals_are_named_or_read_without_their_damage(settings: Settings) -> None:
    torn = write(settings, TODAY, spent("m", Usage(calls=1)), ended())
    lines = torn.read_text().splitlines()
    row = json.loads(lines[1])
    del row["data"]["total"]
    torn.write_text(
        "\n".join([lines[0], "{", json.dumps(row), '{"schema":1,"data":{"kind":"Spent"}}', lines[2][:40]])
    )
    later = write(settings, TODAY, ended(), name="b")
    later.write_text(later.read_text().replace('"schema":1', '"schema":99'))
    (settings.home / "runs" / f"{TODAY:%Y%m%d}-120000-c" / "journal.jsonl").mkdir(parents=True)
    unread: list[str] = []
    found = read_stats(settings, everywhere=True, weeks=2, today=TODAY, on_unread=unread.append)
    assert (found.runs, found.states, found.unread, len(unread)) == (1, {"died": 1}, 2, 2)


def test_lines_and_json_say_the_same(settings: Settings) -> None:
    write(settings, TODAY, spent("\x1b[31mm", Usage(calls=1)), called(ok=True), ended())
    found = read(settings)
    lines = "\n".join(stats_lines(found, "here"))
    assert "\x1b" not in lines
    assert "2026-01-12  1     1 (100 %)" in lines
    shown = json.loads(json.dumps(stats_json(found)))
    assert (shown["runs"], shown["weeks"][1]["completed"], shown["tools"][0]["calls"]) == (1, 1, 1)
    assert shown["slowest"]["seconds"] == 9


def test_no_run_is_said(settings: Settings) -> None:
    assert stats_lines(read(settings), "here")[0].startswith("No run here")
    assert stats_json(read(settings))["slowest"] is None
