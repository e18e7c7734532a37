"""Which of the runs that are due begin, and what becomes of the others."""

import asyncio
import contextlib
import os
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from orchestrator_cli.engine import deployments
from orchestrator_cli.engine.deployments import ScheduledRun, has_time, next_time
from orchestrator_cli.engine.server import import_prefect
from orchestrator_cli.errors import UsageError
from orchestrator_cli.schedules.rates import EVENT, HOUR_S, HourlyRate
from orchestrator_cli.schedules.rules import BUSY, MADE_UP, MISSED, REPLACED, TOO_MANY, decide
from orchestrator_cli.schedules.schedule import Schedule, ScheduleStore, made

UP = datetime(2027, 1, 1, 12, tzinfo=UTC)


def schedule(**fields: object) -> Schedule:
    return made(name="one", workspace="/w", prompt="Go.", **fields)


def due(*minutes: int, timed: bool = True) -> list[ScheduledRun]:
    """Runs so many minutes after `orch up` began."""
    times = [UP + timedelta(minutes=minute) for minute in minutes]
    return [
        ScheduledRun(f"{n}", "one", time, "name", timed, "SCHEDULED") for n, time in enumerate(times, start=1)
    ]


def decided(one: Schedule, runs: list[ScheduledRun], *, busy: bool = False) -> tuple[str, str, bool]:
    """The id of what starts, those of what is skipped, and whether the run at work is cancelled."""
    found = decide(one, runs, was_missed=UP.__gt__, is_busy=busy)
    return found.start.id if found.start else "", "".join(run.id for run, _ in found.skip), found.cancels


@pytest.mark.parametrize(
    ("missed", "expected"),
    [("skip", ("4", "123", False)), ("once", ("3", "12", False)), ("all", ("1", "", False))],
)
def test_missed_times_are_skipped_made_up_for_once_or_caught_up_with(
    missed: str, expected: tuple[str, str, bool]
) -> None:
    runs = due(-30, -20, -10, 1)
    assert decided(schedule(missed=missed), runs) == expected
    reasons = {
        why for _, why in decide(schedule(missed=missed), runs, was_missed=UP.__gt__, is_busy=False).skip
    }
    assert reasons <= {MISSED, MADE_UP}


def test_what_a_person_asked_for_is_never_missed() -> None:
    assert decided(schedule(missed="skip"), due(-30, timed=False)) == ("1", "", False)


@pytest.mark.parametrize(
    ("overlap", "expected", "reasons"),
    [
        ("queue", ("", "", False), set()),
        ("skip", ("", "12", False), {BUSY}),
        ("cancel", ("", "1", True), {REPLACED}),
    ],
)
def test_a_run_that_is_at_work_is_waited_for_kept_or_cancelled(
    overlap: str, expected: tuple[str, str, bool], reasons: set[str]
) -> None:
    one, runs = schedule(overlap=overlap), due(1, 2)
    assert decided(one, runs, busy=True) == expected
    assert {why for _, why in decide(one, runs, was_missed=UP.__gt__, is_busy=True).skip} == reasons


def test_events_set_no_run_off_once_they_were_too_many() -> None:
    by_event = [replace(run, source=EVENT) for run in due(1, 2, timed=False)]
    by_hand = replace(due(3, timed=False)[0], id="3")
    found = decide(
        schedule(), [*by_event, by_hand], was_missed=UP.__gt__, is_busy=False, has_room=EVENT.__ne__
    )
    assert (found.start, found.skip) == (by_hand, tuple((run, TOO_MANY[EVENT]) for run in by_event))


def test_an_hourly_rate_counts_amounts_by_schedule() -> None:
    now = 0.0
    rate = HourlyRate(3, lambda: now)
    assert [rate.takes("one", 2), rate.takes("one", 2), rate.takes("one"), rate.takes("two", 3)] == [
        True,
        False,
        True,
        True,
    ]
    now = HOUR_S - 1
    assert not rate.has_room("one")
    now = HOUR_S
    assert rate.takes("one", 3)


def test_times_that_are_caught_up_with_are_not_skipped_for_the_run_at_work() -> None:
    assert decided(schedule(missed="all", overlap="skip"), due(-2, -1, 1), busy=True) == ("", "3", False)


@pytest.mark.parametrize(
    "fields",
    [
        {"cron": "0 6 * * *", "every_s": 60},
        {"timezone": "Mars/Olympus"},
        {"condition": "outcome == 'completed'"},
        {"after": "one"},
        {"after": "two", "condition": "secret == 1"},
        {"process": "backup"},
        {"name": "Über uns"},
        {"name": ""},
    ],
)
def test_a_schedule_that_means_nothing_is_refused(fields: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        made(**{"name": "one", "workspace": "/w", "prompt": "Go.", **fields})


@pytest.mark.parametrize(
    ("timing", "comes"),
    [
        ({"cron": "0 0 30 2 *"}, False),
        ({"cron": "0 0 29 2 *"}, True),
        ({"rrule": "DTSTART:20200101T000000Z\nRRULE:FREQ=DAILY;UNTIL=20200301T000000Z"}, False),
        ({"rrule": "FREQ=DAILY;COUNT=0"}, False),
        ({"rrule": "DTSTART:20200101T000000\nRRULE:FREQ=DAILY;COUNT=3"}, False),
        ({"rrule": "FREQ=MONTHLY;BYMONTH=2;BYMONTHDAY=30"}, False),
        ({"rrule": "FREQ=WEEKLY"}, True),
        ({"interval": 60.0}, True),
    ],
)
def test_whether_a_time_is_to_come(timing: dict[str, object], *, comes: bool) -> None:
    import_prefect()
    found = None
    with contextlib.nullcontext() if comes else contextlib.suppress(ValueError):
        found = next_time({"timezone": "UTC", **timing})
    assert (found is not None) is comes
    assert found is None or found >= datetime.now(UTC)


@pytest.mark.parametrize(
    "timing",
    [
        {"cron": "*/20 * * * *"},
        {"cron": "30 2 * * *"},
        {"interval": 1200.0, "anchor_date": "2026-10-01T00:30:07+00:00"},
        {"interval": 86400.0, "anchor_date": "2026-10-01T00:30:07+00:00"},
        {"interval": 129600.0, "anchor_date": "2026-10-01T00:30:07+00:00"},
        {"rrule": "DTSTART:20260901T023000\nRRULE:FREQ=HOURLY;INTERVAL=5"},
    ],
)
@pytest.mark.parametrize(
    "day", [datetime(2026, 10, 24, 20, tzinfo=UTC), datetime(2027, 3, 27, 20, tzinfo=UTC)]
)
def test_every_time_that_prefects_scheduler_finds_is_one_of_the_schedule(
    timing: dict[str, object], day: datetime
) -> None:
    import_prefect()
    from prefect.server.schemas import schedules

    zoned = {"timezone": "Europe/Berlin", **timing}
    kind = {"cron": "Cron", "interval": "Interval", "rrule": "RRule"}[next(iter(timing))]
    made_of = getattr(schedules, f"{kind}Schedule").model_validate(zoned)
    for found in asyncio.run(made_of.get_dates(n=30, start=day)):
        moment = datetime.fromisoformat(found.astimezone(UTC).isoformat())
        assert has_time(zoned, moment)
        assert not has_time(zoned, moment + timedelta(seconds=1))


def test_a_rule_whose_next_time_is_not_found_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    import_prefect()
    monkeypatch.setattr(deployments, "SEARCH_S", 0.2)
    with pytest.raises(ValueError, match="DTSTART"):
        next_time({"rrule": "FREQ=SECONDLY;COUNT=900000"})


@pytest.mark.parametrize(
    ("at", "left_out"), [("2027-03-28T02:30", True), ("2027-03-28T03:30", False), ("2027-10-31T02:30", False)]
)
def test_a_time_that_the_clocks_leave_out(at: str, *, left_out: bool) -> None:
    assert schedule(at=at, timezone="Europe/Berlin").is_left_out is left_out


def test_broken_files_in_the_folder_hide_no_schedule(tmp_path: Path) -> None:
    store = ScheduleStore(tmp_path)
    store.put(schedule())
    store.trigger("one", "now")
    spool = store.folder / "due"
    for folder in (store.folder, spool):
        (folder / "nowhere.json").symlink_to("nothing")
        (folder / "list.json").write_text("[]")
        (folder / "number.json").write_text('{"schedule": "one", "key": 7}')
        with (folder / "huge.json").open("wb") as file:
            file.truncate(20 << 30)
        os.mkfifo(folder / "pipe.json")
    assert list(store.all()) == ["one"]
    assert [trigger.why for _, trigger in store.triggered()] == ["now"]
    assert len(store.version) == 6
