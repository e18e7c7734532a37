"""Questions with a deadline: who answers when no one is there, and which clocks count."""

import json
import os
import signal
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from command import Orch
from endpoint import Endpoint
from scripted_model import Cast, caller, plan, tool_call
from test_background import FINISH, end, pid_of
from test_terminal_people import CHOOSE, Open, open_screen, wait_for

from orchestrator_cli.approvals.deadlines import SETTLING_S, Moment, Patience, deadline_of, left_s

pytestmark = pytest.mark.resident

__all__ = ["open_screen"]

USE = caller("use", ["choose"], inputs={"colour": "$choose.value"})
WRITE = tool_call("write", "write_file", path="one.txt", content="made")
NOON = datetime(2027, 1, 31, 12, tzinfo=UTC)


def moment(boot_s: float, *, wall_s: float = 0.0, boot: str = "this") -> Moment:
    return Moment(NOON + timedelta(seconds=wall_s), boot, boot_s)


def last_given(orch: Orch) -> dict[str, Any]:
    return orch.events("ApprovalGiven")[-1]


# --- the clocks


@pytest.mark.parametrize("wall_s", [-1e9, 0.0, 30.0, 1e9])
def test_within_a_boot_setting_the_time_changes_nothing(wall_s: float) -> None:
    asked = deadline_of(Patience(within_s=100), None, moment(1000))
    assert asked is not None
    for began in (None, moment(1000), moment(1029)):
        assert left_s(asked, moment(1030, wall_s=wall_s), began) == 70
        assert left_s(asked, moment(1101, wall_s=wall_s), began) == 0


def test_after_another_boot_the_time_of_day_counts_once_it_had_time_to_settle() -> None:
    asked = deadline_of(Patience(within_s=600), None, moment(1000))
    assert asked is not None
    began = moment(5, wall_s=100, boot="next")
    assert left_s(asked, moment(5, wall_s=100, boot="next"), began) == 500
    ahead = moment(5, wall_s=1e6, boot="next")
    assert left_s(asked, ahead, ahead) == SETTLING_S
    assert left_s(asked, moment(35, wall_s=130, boot="next"), ahead) == 470  # it was set right
    assert left_s(asked, moment(66, wall_s=1e6, boot="next"), ahead) == 0
    assert left_s(asked, moment(66, wall_s=-1e6, boot="next"), ahead) == 600
    short = deadline_of(Patience(within_s=2), None, moment(1000))
    assert short is not None
    assert left_s(short, ahead, ahead) == 2


def test_a_question_keeps_the_moment_at_which_it_was_asked() -> None:
    asked = deadline_of(Patience(within_s=600, default="red"), None, moment(1000))
    assert asked is not None
    assert deadline_of(None, asked, moment(2000)) == asked
    again = deadline_of(Patience(within_s=700), asked, moment(2000))
    assert again is not None
    assert (again.asked, again.boot_s, again.within_s, again.default) == (asked.asked, 1000, 700, None)
    assert deadline_of(None, None, moment(2000)) is None


# --- runs


def test_a_question_in_words_gets_the_default_at_its_deadline(orch: Orch, endpoint: Endpoint) -> None:
    endpoint.reply = Cast(planner=[plan(CHOOSE, USE)], agents={"Do use": [FINISH]})
    begun = orch("ask", "--detach", "--answer-within=1s", "--default-answer=green", "Paint it.")
    wait_for(lambda: bool(orch.events("RunFinished")))
    assert end(orch)["outcome"] == "completed"
    assert (last_given(orch)["by"], last_given(orch)["value"]) == ("deadline", "green")
    assert "by the deadline" in (orch.workspace / "fileLog.md").read_text()
    kept = json.loads((orch.home / "runs" / begun.out.strip() / "background.json").read_text())
    assert kept["patience"] == {"within_s": 1.0, "default": "green"}
    assert not any("green" in one for one in kept["arguments"])


@pytest.mark.parametrize("options", [[], ["--default-answer=blue"]])
def test_without_a_default_that_fits_the_run_pauses_at_the_deadline(
    orch: Orch, endpoint: Endpoint, options: list[str]
) -> None:
    endpoint.reply = Cast(planner=[plan(CHOOSE, USE)], agents={"Do use": [FINISH]})
    done = orch("ask", "--json", "--answer-within=1s", *options, "Paint it.")
    assert (done.code, done.envelope["outcome"]) == (6, "paused")
    assert orch.events("ApprovalGiven") == []
    run = done.envelope["run"]
    assert orch("approve", run, "--answer=red", "--json").envelope["outcome"] == "completed"


@pytest.mark.parametrize("options", [[], ["--default-answer=yes"]])
def test_no_deadline_gives_a_permission(orch: Orch, endpoint: Endpoint, options: list[str]) -> None:
    endpoint.reply = Cast(planner=[plan(WRITE | {"approve": True, "on_failure": "skip"})])
    orch("ask", "--answer-within=1s", *options, "Write it.")
    assert (last_given(orch)["by"], last_given(orch)["decision"]) == ("deadline", "no")
    assert not (orch.workspace / "one.txt").exists()


def test_no_deadline_approves_a_plan_or_files(orch: Orch, endpoint: Endpoint) -> None:
    endpoint.reply = Cast(planner=[plan(WRITE | {"on_failure": "skip"})] * 2)
    done = orch("ask", "--json", "--answer-within=1s", "--approve=plan", "Write it.")
    assert (done.code, done.envelope["outcome"]) == (1, "cancelled")
    orch("ask", "--answer-within=1s", "--approve=writes", "Write it now.")
    assert (last_given(orch)["by"], last_given(orch)["decision"]) == ("deadline", "no")
    assert not (orch.workspace / "one.txt").exists()


@pytest.mark.thorough
def test_an_answer_in_time_counts_and_the_time_left_is_shown(
    orch: Orch, endpoint: Endpoint, open_screen: Open
) -> None:
    endpoint.reply = Cast(planner=[plan(CHOOSE, USE)], agents={"Do use": [FINISH]})
    run = orch("ask", "--detach", "--answer-within=2h", "--default-answer=red", "Paint it.").out.strip()
    wait_for(lambda: bool(orch.events("SubtaskWaiting")))
    (row,) = json.loads(orch("runs", "--json").out)
    assert row["state"] == "running"
    assert 7000 < row["answer_within_s"] <= 7200
    assert "min left" in orch("runs").out
    assert "min left" in orch("approve", run).err
    screen = open_screen("attach", run)
    screen.expect("min left")
    screen.type("2\r")
    screen.expect("All is done.")
    assert screen.end() == 0
    assert (last_given(orch)["by"], last_given(orch)["value"]) == ("user", "green")
    (row,) = json.loads(orch("runs", "--json").out)
    assert row["answer_within_s"] is None


@pytest.mark.thorough
def test_a_deadline_outlives_the_process_that_asked(orch: Orch, endpoint: Endpoint) -> None:
    endpoint.reply = Cast(planner=[plan(CHOOSE, USE)], agents={"Do use": [FINISH]})
    run = orch("ask", "--detach", "--answer-within=2h", "--default-answer=green", "Paint it.").out.strip()
    wait_for(lambda: bool(orch.events("SubtaskWaiting")))
    os.kill(pid_of(orch), signal.SIGKILL)
    wait_for(lambda: "died" in orch("runs").out)
    assert orch("resume", "--detach", run).code == 0
    wait_for(lambda: len(orch.events("ApprovalAsked")) == 2)
    first, second = (one["deadline"] for one in orch.events("ApprovalAsked"))
    assert first == second
    os.kill(pid_of(orch), signal.SIGKILL)
    wait_for(lambda: "died" in orch("runs").out)
    # It counts from the first time that it was asked, so this has passed.
    assert orch("resume", "--detach", "--answer-within=0.5s", "--default-answer=red", run).code == 0
    wait_for(lambda: bool(orch.events("RunFinished")))
    assert (last_given(orch)["by"], last_given(orch)["value"]) == ("deadline", "red")


@pytest.mark.thorough
def test_a_person_at_the_terminal_has_all_the_time(orch: Orch, endpoint: Endpoint, open_screen: Open) -> None:
    endpoint.reply = Cast(planner=[plan(CHOOSE, USE)], agents={"Do use": [FINISH]})
    screen = open_screen("ask", "--answer-within=1s", "--default-answer=red", "Paint it.")
    screen.expect("[1-2] › ")
    assert orch.events("ApprovalAsked")[0]["deadline"] is None
    screen.type("2\r")
    assert screen.end() == 0


@pytest.mark.parametrize("wrong", [["--answer-within=soon"], ["--answer-within=0s"], ["--default-answer=x"]])
def test_what_is_no_deadline_is_refused(orch: Orch, wrong: list[str]) -> None:
    for command in (["ask", "Go."], ["ask", "--detach", "Go."], ["schedule", "add", "one", "Go."]):
        assert orch(*command, *wrong).code == 2


def test_a_schedule_has_them_too(orch: Orch) -> None:
    added = orch("schedule", "add", "one", "Go.", "--answer-within=2h", "--default-answer=red")
    assert added.code == 0
    shown = json.loads(orch("schedule", "show", "one", "--json").out)
    assert shown["patience"] == {"within_s": 7200.0, "default": "red"}
    assert shown["arguments"] == []
