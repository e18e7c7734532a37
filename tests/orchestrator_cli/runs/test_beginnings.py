"""When a run began is in its journal; its name decides nothing."""

import json
import os
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from orchestrator_cli.events import RunFinished, RunStarted
from orchestrator_cli.journal.journal import EventStream
from orchestrator_cli.runs.background import BackgroundRun, last_of_schedules, write_background
from orchestrator_cli.runs.beginnings import began, newest_first
from orchestrator_cli.runs.find import PastRun, find_run
from orchestrator_cli.runs.stats import read_stats
from orchestrator_cli.schedules.limits import left_today
from orchestrator_cli.schedules.schedule import made
from orchestrator_cli.settings import Settings
from orchestrator_cli.values import Usage

NOW = datetime.now(UTC)
NAMES = ("99991231-235959-00000a", "20200101-000000-00000b", "20260101-000000-00000c")


def ran(home: Path, run: str, days: float, cost: float = 1.0) -> PastRun:
    """A run of the schedule `one` that began so many days ago."""
    past = PastRun(run, home, home.parent)
    stream = EventStream(run, past.journal, [])
    stream.emit(RunStarted(prompt="p", workspace=str(home.parent), models={}, sandbox="s", version="0"))
    usage = Usage(calls=1, cost=cost)
    end = {"answer": "", "error": "", "exit_code": 0, "seconds": 1.0, "usage": usage, "files": ()}
    stream.emit(RunFinished(outcome="completed", **end))
    stream.close()
    first, *rest = past.journal.read_text().splitlines()
    row = json.loads(first) | {"time": (NOW - timedelta(days=days)).isoformat()}
    past.journal.write_text("\n".join([json.dumps(row, separators=(",", ":")), *rest]) + "\n")
    write_background(past, BackgroundRun(schedule="one"))
    return past


@pytest.fixture
def runs(tmp_path: Path) -> list[PastRun]:
    """Runs of 40 days ago, of now and of nine days ago, whose names say other times."""
    ages = (40, 0, 9)
    return [ran(tmp_path / "home", run, days) for run, days in zip(NAMES, ages, strict=True)]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home", workspace=tmp_path)


def test_the_last_run_is_the_one_that_began_last(settings: Settings, runs: list[PastRun]) -> None:
    assert find_run(settings, "last").run == runs[1].run
    assert last_of_schedules(settings.home)["one"].run == runs[1].run


def test_a_day_counts_what_began_on_it(settings: Settings, runs: list[PastRun]) -> None:
    one = made(name="one", workspace="/w", prompt="Go.", max_cost_day=3.0)
    assert left_today(settings.home, one) == 2.0


def test_weeks_count_what_began_in_them(settings: Settings, runs: list[PastRun]) -> None:
    found = read_stats(settings, everywhere=True, weeks=3, today=date.today())
    assert sum(week.runs for week in found.weeks) == 2


def test_a_journal_without_a_time_is_as_old_as_its_file(tmp_path: Path) -> None:
    times = {
        "damaged": b"\0\0",
        "zoneless": b'{"run":"r","seq":1,"time":"2026-01-01T00:00:00"}',
        "empty": b"",
    }
    for name, content in times.items():
        path = tmp_path / name
        path.write_bytes(content)
        os.utime(path, (1_000_000, 1_000_000))
        assert began(path) == datetime.fromtimestamp(1_000_000, UTC)
    os.mkfifo(tmp_path / "pipe")
    assert began(tmp_path / "gone") < began(tmp_path / "empty") < began(tmp_path / "pipe")


def test_what_a_prompt_says_is_no_beginning(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_text('{"said": {"run":"r","seq":1,"time":"2099-01-01T00:00:00Z"}}')
    assert newest_first([path]) == [path]
    assert began(path).year < 2099
