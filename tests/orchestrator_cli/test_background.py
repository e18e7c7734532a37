"""Runs in the background: started from a terminal, watched and answered from another, resumed there."""

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from command import Orch
from endpoint import Endpoint, call
from scripted_model import Cast, answered, caller, plan, tool_call
from test_terminal_people import CHOOSE, Open, Screen, open_screen, wait_for

pytestmark = pytest.mark.resident

__all__ = ["open_screen"]

FINISH = call("final_answer", {"answer": "made"})
USE = caller("use", ["choose"], inputs={"colour": "$choose.value"})


def end(orch: Orch) -> dict[str, Any]:
    """The end of the newest run, which may still go on."""
    wait_for(lambda: bool(orch.events("RunFinished")))
    return orch.events("RunFinished")[-1]


def pid_of(orch: Orch) -> int:
    (row,) = json.loads(orch("runs", "--json").out)
    return int(row["pid"])


@pytest.fixture
def held(endpoint: Endpoint) -> Iterator[Callable[[], None]]:
    """A run whose only agent waits until this is called."""
    free: list[bool] = []

    def until_free(_: dict[str, Any]) -> Any:
        wait_for(lambda: bool(free))
        return FINISH

    endpoint.reply = Cast(planner=[plan(caller("slow"))], agents={"Do slow": [until_free, FINISH]})
    yield lambda: free.append(True)
    free.append(True)


def test_a_detached_run_prints_its_name_and_is_watched_to_its_end(
    orch: Orch, held: Callable[[], None]
) -> None:
    begun = orch("ask", "--detach", "Go slowly.")
    assert begun.code == 0
    run = begun.out.strip()
    assert orch.journal().parent.name == run
    assert os.getsid(pid_of(orch)) == pid_of(orch)
    assert orch.events("RunFinished") == []
    held()
    seen = orch("attach", run)
    assert (seen.code, seen.out) == (0, "made\n")
    again = orch("attach", run, "--json")
    assert again.envelope["outcome"] == "completed"


def test_the_options_and_the_prompt_reach_the_run(orch: Orch, endpoint: Endpoint) -> None:
    endpoint.reply = Cast(planner=[answered("Paris.")])
    prompt = "What is the capital of France?\n\n-- not an option"
    begun = orch("ask", "-", "--detach", "--max-calls=7", "--json", stdin=prompt)
    assert end(orch)["answer"] == "Paris."
    assert json.loads(begun.out) == {"run": orch.journal().parent.name}
    assert orch.events("RunStarted")[0]["prompt"] == prompt
    kept = json.loads((orch.journal().parent / "background.json").read_text())
    assert kept["arguments"] == ["--max-calls=7"]


def test_what_keeps_a_run_from_beginning_is_said_at_once(orch: Orch) -> None:
    done = orch("ask", "--detach", "Go.", ORCH_MODEL="", OPENAI_API_KEY="", OPENAI_BASE_URL="")
    foreground = orch("ask", "Go.", ORCH_MODEL="", OPENAI_API_KEY="", OPENAI_BASE_URL="")
    assert done.code == foreground.code == 3
    assert done.error == foreground.error
    assert orch("ask", "--detach", "--unsafe-no-sandbox", "Go.").code == 2


def test_a_person_who_attaches_answers_and_the_run_goes_on(
    orch: Orch, endpoint: Endpoint, open_screen: Open
) -> None:
    endpoint.reply = Cast(planner=[plan(CHOOSE, USE)], agents={"Do use": [FINISH]})
    run = orch("ask", "--detach", "Paint it.").out.strip()
    assert end(orch)["outcome"] == "paused"
    unattended = orch("attach", run)
    assert unattended.code == 6
    screen = open_screen("attach", run)
    screen.expect("[1-2] › ")
    screen.type("2\r")
    screen.expect("All is done.")
    assert screen.end() == 0
    assert orch.events("ApprovalGiven")[0]["value"] == "green"
    assert end(orch)["outcome"] == "completed"


@pytest.mark.thorough
def test_a_person_who_attaches_may_say_no_to_any_question(
    orch: Orch, endpoint: Endpoint, open_screen: Open
) -> None:
    endpoint.reply = Cast(planner=[plan(CHOOSE | {"on_failure": "skip"})])
    run = orch("ask", "--detach", "Paint it.").out.strip()
    assert end(orch)["outcome"] == "paused"
    screen = open_screen("attach", run)
    screen.expect("[1-2] › ")
    screen.type("/no because red is out\r")
    screen.when(lambda: bool(orch.events("ApprovalGiven")))
    assert orch.events("ApprovalGiven")[0]["decision"] == "no"


@pytest.mark.usefixtures("held")
def test_a_remark_reaches_it_and_ctrl_c_leaves_it_running(orch: Orch, open_screen: Open) -> None:
    run = orch("ask", "--detach", "Go slowly.").out.strip()
    screen: Screen = open_screen("attach", run)
    screen.expect("slow")
    screen.type("a bit faster\r")
    screen.when(lambda: bool(orch.events("Remarked")))
    screen.type("\x03")
    screen.expect("goes on")
    assert screen.end() == 130
    assert pid_of(orch)
    assert orch("cancel", run).code == 0
    assert end(orch)["outcome"] == "cancelled"  # while its agent still waits


def say_too_late(orch: Orch, endpoint: Endpoint, screen: Screen) -> None:
    """Type a remark to an attached run while its answer is written."""
    screen.when(lambda: endpoint.arrived == 2)
    screen.type("and another\r")
    screen.expect("All is done.")


@pytest.fixture
def answering(orch: Orch, endpoint: Endpoint) -> str:
    """A run in the background whose answer waits for a remark."""

    def at_last(_: dict[str, Any]) -> Any:
        wait_for(lambda: bool(orch.events("Remarked")))
        return "All is done."

    work = plan(tool_call("one", "list_files"), tool_call("two", "list_files"))
    endpoint.reply = Cast(planner=[work], answer=[at_last])
    return orch("ask", "--detach", "Go.").out.strip()


def test_a_remark_that_comes_too_late_for_an_attached_run_is_the_next_prompt(
    orch: Orch, endpoint: Endpoint, answering: str, open_screen: Open
) -> None:
    screen = open_screen()
    screen.expect_prompt()
    screen.type(f"/attach {answering}\r")
    say_too_late(orch, endpoint, screen)
    screen.expect("it is your next prompt")
    screen.expect("orch> and another")


def test_a_remark_that_comes_too_late_is_named_outside_of_the_loop(
    orch: Orch, endpoint: Endpoint, answering: str, open_screen: Open
) -> None:
    screen = open_screen("attach", answering)
    say_too_late(orch, endpoint, screen)
    screen.expect("The run had ended when you said: and another")
    assert screen.end() == 0


@pytest.mark.thorough
def test_a_killed_run_is_named_and_resumed_in_the_background_with_its_limits(
    orch: Orch, held: Callable[[], None]
) -> None:
    run = orch("ask", "--detach", "--max-calls=9", "Go slowly.").out.strip()
    wait_for(lambda: bool(orch.events("SubtaskStarted")))
    os.kill(pid_of(orch), signal.SIGKILL)
    time.sleep(0.2)
    dead = orch("attach", run)
    assert dead.code == 1
    assert f"orch resume {run}" in dead.error
    held()
    assert orch("resume", "--detach", run, "--max-calls=9").out.strip() == run
    assert orch("attach", run).code == 0
    assert end(orch)["outcome"] == "completed"


def test_the_loop_starts_one_beside_itself(orch: Orch, endpoint: Endpoint, open_screen: Open) -> None:
    write = tool_call("write", "write_file", path="one.txt", content="made")
    endpoint.reply = Cast(planner=[plan(write)])
    screen = open_screen()
    screen.expect_prompt()
    screen.type("/bg Make a file.\r")
    screen.expect("orch attach")
    screen.expect_prompt()
    assert end(orch)["outcome"] == "completed"
    assert orch.file("one.txt") == "made"
    screen.type("\x04")
    assert screen.end() == 0


# --- a process as a run of its own

PROCESSES = """
[processes.echo]
when = "gives back what it is given"
command = ["cat"]
inputs = {type = "object", properties = {count = {type = "integer"}}, required = ["count"]}

[processes.flaky]
when = "fails the first time"
command = ["sh", "-c", "ls MARK || { touch MARK; exit 3; }"]
"""


def test_a_process_runs_without_a_model(orch: Orch) -> None:
    (orch.workspace / "orch.toml").write_text(PROCESSES)
    orch.trust()
    done = orch("run", "echo", "count=3", "name=12", ORCH_MODEL="", OPENAI_API_KEY="", OPENAI_BASE_URL="")
    assert (done.code, json.loads(done.out)) == (0, {"count": 3, "name": "12"})
    assert orch("run", "echo", "name=x").code == 2
    assert orch("run", "other").code == 2
    assert [row["decision"] for row in orch.events("ApprovalGiven")] == ["yes"]
    assert json.loads(orch("memory", "search", "process echo", "--json").out) == []


def test_a_process_that_fails_is_tried_again_and_can_run_in_the_background(orch: Orch, tmp_path: Any) -> None:
    mark = tmp_path / "mark"
    text = PROCESSES.replace("MARK", str(mark))
    (orch.workspace / "orch.toml").write_text(text)
    orch.trust()
    run = orch("run", "flaky", "--retries=1", "--detach").out.strip()
    assert end(orch)["outcome"] == "completed"
    assert [row["attempt"] for row in orch.events("SubtaskStarted")] == [1, 2]
    assert orch.journal().parent.name == run
    mark.unlink()
    failed = orch("run", "flaky")
    assert (failed.code, end(orch)["outcome"]) == (1, "failed")


def test_a_process_that_was_killed_goes_on_with_the_permission_of_its_name(
    orch: Orch, tmp_path: Path
) -> None:
    mark = tmp_path / "mark"
    program = json.dumps(["sh", "-c", f"ls {mark} || {{ touch {mark}; sleep 60; }}"])
    (orch.home / "orch.toml").write_text(f"[processes.slow]\nwhen = 'waits once'\ncommand = {program}\n")
    run = orch("run", "slow", "--detach").out.strip()
    wait_for(mark.exists)
    os.kill(pid_of(orch), signal.SIGKILL)
    time.sleep(0.2)
    events = orch.journal().read_text().splitlines()
    kept = [line for line in events if "ApprovalAsked" not in line and "ApprovalGiven" not in line]
    kept = [line for line in kept if "Effect" not in line and "SubtaskStarted" not in line]
    orch.journal().write_text("\n".join(kept) + "\n")  # as if it was killed before
    assert orch("resume", run).code == 0
    assert end(orch)["outcome"] == "completed"
