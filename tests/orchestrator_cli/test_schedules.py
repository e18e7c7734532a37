"""Schedules as their user meets them: added, listed, served by `orch up`, and killed."""

import contextlib
import json
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from command import Orch
from endpoint import Endpoint, texts_of
from engine import Engine
from scripted_model import Cast, answered
from test_notifications import command, sent_by_command
from test_terminal_people import wait_for

from orchestrator_cli.cli.commands.up import say_line
from orchestrator_cli.schedules.schedule import ScheduleStore

PROCESSES = """
[processes.first]
when = "writes a line"
command = ["sh", "-c", "echo $ORCH_IDEMPOTENCY_KEY >> RAN; echo '{\\"n\\": 3}'"]

[processes.second]
when = "writes another"
command = ["sh", "-c", "echo $ORCH_IDEMPOTENCY_KEY >> THEN"]
"""


@pytest.fixture
def place(orch: Orch, tmp_path: Path) -> Path:
    """Where the processes write."""
    text = PROCESSES.replace("RAN", str(tmp_path / "ran")).replace("THEN", str(tmp_path / "then"))
    (orch.home / "orch.toml").write_text(text)
    return tmp_path


def lines(path: Path) -> list[str]:
    return path.read_text().split() if path.exists() else []


class Up:
    """`orch up` in a process of its own."""

    def __init__(self, orch: Orch) -> None:
        self.log = orch.home.parent / "up.log"
        with self.log.open("a") as log:
            self._process = subprocess.Popen(
                [*orch.command, "up"], env=orch.environment(), cwd=orch.home, stdout=log, stderr=log
            )

    def end(self, by: signal.Signals = signal.SIGINT) -> None:
        self._process.send_signal(by)
        self._process.wait(timeout=60)

    @property
    def is_running(self) -> bool:
        return self._process.poll() is None


@pytest.fixture
def up(orch: Orch, engine: Engine) -> Iterator[Callable[[], Up]]:
    begun: list[Up] = []

    def begin() -> Up:
        begun.append(Up(orch))
        return begun[-1]

    yield begin
    for one in begun:
        if one.is_running:
            with contextlib.suppress(OSError):
                one.end()


SET_OFF = '<untrusted source="what set the run off">'


def set_off_by(request: dict[str, Any]) -> str:
    """What a model is shown of what set the run off."""
    return texts_of(request).split(SET_OFF)[1].partition("</untrusted>")[0].strip()


def ended(orch: Orch) -> Counter[str]:
    journals = [path.read_text() for path in (orch.home / "runs").glob("*/journal.jsonl")]
    ends = [json.loads(text.splitlines()[-1])["data"] for text in journals if text.endswith("\n")]
    # The outcome of an effect is a value.
    over = (end["outcome"] if end["kind"] == "RunFinished" else "at work" for end in ends)
    return Counter(over)


def test_a_schedule_is_added_listed_paused_and_removed(orch: Orch, place: Path) -> None:
    assert orch("schedule", "add", "news", "What is new?", "--cron", "0 6 * * 1-5", "--max-calls=5").code == 0
    assert (
        orch("schedule", "add", "daily", "--process=first", "--every=1d", "--timezone=Asia/Tokyo").code == 0
    )
    rows: list[dict[str, Any]] = json.loads(orch("schedule", "list", "--json").out)
    assert [(row["name"], row["cron"], row["every_s"]) for row in rows] == [
        ("daily", "", 86400.0),
        ("news", "0 6 * * 1-5", None),
    ]
    assert rows[1]["arguments"] == ["--max-calls=5"]
    added = orch("schedule", "add", "leap", "Go.", "--cron", "0 6 29 2 *", "--timezone=Asia/Tokyo")
    assert "-02-29 06:00:00 JST" in added.err
    assert "-02-29T06:00:00+09:00" in json.loads(orch("schedule", "show", "leap", "--json").out)["next"]
    there = orch("schedule", "add", "once", "Go.", "--at=2099-01-01T12:00+05:00", "--timezone=Asia/Tokyo")
    assert there.code == 0
    assert json.loads(orch("schedule", "show", "once", "--json").out)["at"] == "2099-01-01T16:00:00"
    assert orch("schedule", "pause", "news").code == 0
    assert json.loads(orch("schedule", "show", "news", "--json").out)["paused"]
    assert orch("schedule", "remove", "news").code == 0
    assert orch("schedule", "show", "news").code == 2


@pytest.mark.parametrize(
    "wrong",
    [
        ["--cron", "61 * * * *", "Go."],
        ["--rrule", "FREQ=NEVER", "Go."],
        ["--every", "soon", "Go."],
        ["--at", "yesterday", "Go."],
        ["--at", "2020-01-01 12:00", "Go."],
        ["--at", "2099-03-29 02:30", "--timezone", "Europe/Berlin", "Go."],
        ["--cron", "0 0 30 2 *", "Go."],
        ["--on-event", "", "Go."],
        ["--timezone", " ", "--every", "1d", "Go."],
        ["--on-file", "../secret", "Go."],
        ["--on-file", "", "Go."],
        ["--process", "first", "--max-cost=1"],
        ["--process", "unknown"],
        ["--after", "unknown", "Go."],
        [],
    ],
)
def test_a_schedule_that_could_never_run_is_refused(orch: Orch, place: Path, wrong: list[str]) -> None:
    done = orch("schedule", "add", "bad", *wrong)
    assert done.code == 2
    assert json.loads(orch("schedule", "list", "--json").out) == []


def test_times_and_what_comes_after_run_once_each_also_if_orch_up_is_killed(
    orch: Orch, place: Path, up: Callable[[], Up], engine: Engine
) -> None:
    ran, then = place / "ran", place / "then"
    orch("schedule", "add", "first", "--process=first", "--every=6s", "--missed=all")
    orch("schedule", "add", "second", "--process=second", "--after=first", "--if=value['n'] == 3")
    orch("schedule", "add", "never", "--process=second", "--after=first", "--if=value['n'] == 4")
    one = up()
    wait_for(lambda: bool(lines(ran)))
    one.end(signal.SIGKILL)
    two = up()
    wait_for(lambda: len(lines(ran)) >= 3)
    orch("schedule", "pause", "first")
    wait_for(lambda: len(lines(then)) >= len(lines(ran)) and not ended(orch)["at work"])
    time.sleep(3)
    two.end()
    assert set(Counter(lines(ran) + lines(then)).values()) == {1}
    assert len(lines(then)) == len(lines(ran))
    assert ended(orch) == {"completed": len(lines(ran)) + len(lines(then))}


def test_a_prompt_runs_when_a_file_changes_and_when_its_user_says_so(
    orch: Orch, endpoint: Endpoint, up: Callable[[], Up]
) -> None:
    endpoint.reply = Cast(planner=[answered("One."), answered("Two.")])
    orch("schedule", "add", "look", "What is new?", "--on-file=*.csv")
    begun = up()
    orch("schedule", "run", "look")
    wait_for(lambda: ended(orch)["completed"] == 1)
    assert Up(orch)._process.wait(timeout=60) == 2, "a second one is refused"
    time.sleep(2)
    (orch.workspace / "other.txt").write_text("not watched")
    (orch.workspace / "new.csv").write_text("a,b")
    wait_for(lambda: ended(orch)["completed"] == 2)
    begun.end()
    by_hand, by_file = endpoint.of("planner")
    assert SET_OFF not in texts_of(by_hand.request)
    assert set_off_by(by_file.request).endswith("- new.csv")


def not_run(orch: Orch, name: str) -> str:
    """Why a schedule last did not run."""
    found = json.loads(orch("schedule", "show", name, "--json").out)["not_run"]
    return str(found["why"]) if found else ""


def test_why_a_schedule_did_not_run_is_shown_afterwards(
    orch: Orch, place: Path, up: Callable[[], Up]
) -> None:
    orch("schedule", "add", "first", "--process=first")
    conditions = {"true": "value['n'] == 3", "false": "value['n'] == 4", "broken": "value['m'] == 4"}
    for name, condition in conditions.items():
        orch("schedule", "add", name, "--process=second", "--after=first", f"--if={condition}")
    orch("schedule", "add", "then", "--process=second", "--after=false")
    orch("schedule", "run", "first")
    begun = up()
    wait_for(lambda: ended(orch)["completed"] == 2)
    begun.end()
    [run] = [
        path.parent.name
        for path in (orch.home / "runs").glob("*/background.json")
        if '"first"' in path.read_text()
    ]
    assert not_run(orch, "true") == not_run(orch, "then") == ""
    assert run in not_run(orch, "false")
    assert not_run(orch, "false").endswith("its condition is false")
    assert "'m'" in not_run(orch, "broken")
    assert "false" in orch("schedule", "show", "false").out.splitlines()[-1]
    assert "not run" not in orch("schedule", "show", "true").out
    assert "did not run" in orch("schedule", "list").out
    orch("schedule", "remove", "false")
    orch("schedule", "add", "false", "--process=second")
    assert not_run(orch, "false") == ""


def test_what_others_wrote_is_on_one_line(
    orch: Orch, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    forged = "x\n2026-12-01 03:00:00  first: run 1 completed\r\x1b[31m\u202e"
    orch("schedule", "add", "first", "--process=first", "--every=1d")
    ScheduleStore(orch.home).note("first", forged)
    say_line(forged)
    for text in (
        orch("schedule", "show", "first").out,
        orch("schedule", "list").out,
        capsys.readouterr().out,
    ):
        [line] = [line for line in text.splitlines() if "run 1 completed" in line]
        assert "x 2026-12-01 03:00:00" in line
        assert "\\x1b[31m" in line


def sent(path: Path) -> list[tuple[str, str]]:
    """The messages that a program was given: event and prompt."""
    return [(one["event"], one["prompt"]) for row in sent_by_command(path) for one in row["messages"]]


@pytest.mark.thorough
def test_a_schedule_says_what_its_user_is_notified_of(
    orch: Orch, up: Callable[[], Up], tmp_path: Path, engine: Engine
) -> None:
    kept = tmp_path / "kept"
    notify = f"""
[notify]
digest_s = 0
on = ["done"]
command = {json.dumps(command(kept))}

[processes.works]
when = "works"
command = ["true"]

[processes.fails]
when = "fails"
command = ["false"]
"""
    (orch.home / "orch.toml").write_text(notify)
    for name, options in {
        "settings-works": [],
        "settings-fails": [],
        "quiet-works": ["--no-notify"],
        "loud-fails": ["--notify=failed,budget"],
        "loud-works": ["--notify=failed"],
    }.items():
        done = orch("schedule", "add", name, f"--process={name.partition('-')[2]}", *options)
        assert done.code == 0
        assert orch("schedule", "run", name).code == 0
    # What is begun in a folder that is gone says nothing itself.
    orch("schedule", "add", "gone", "--process=works", "--notify=failed")
    assert orch("schedule", "run", "gone").code == 0
    store = ScheduleStore(orch.home)
    store.put(store.get("gone").model_copy(update={"workspace": str(tmp_path / "gone")}))
    begun = up()
    wait_for(lambda: sum(ended(orch).values()) == 5 and not ended(orch)["at work"])
    wait_for(lambda: len(sent(kept)) >= 3)
    begun.end()
    found = sorted((event, prompt.partition(":")[0]) for event, prompt in sent(kept))
    assert [event for event, _ in found] == ["done", "failed", "failed"]
    assert "gone" in {name for _, name in found}


@pytest.mark.parametrize("wrong", [["--notify=sometimes"], ["--notify=done", "--no-notify"], ["--notify=,"]])
def test_notifications_that_there_are_not_are_refused(orch: Orch, wrong: list[str]) -> None:
    assert orch("schedule", "add", "bad", "Go.", *wrong).code == 2
