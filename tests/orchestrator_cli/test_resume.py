"""Runs that another process goes on with, forks or ends; and what is said of them."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from command import Done, Orch
from endpoint import Endpoint, fault
from engine import Engine
from scripted_model import Cast, code, coder, decided, patch, plan

TWO = plan(coder("one"), coder("two", ["one"]))
ONE_DONE = [code("open('one.txt', 'w').write('1')\nfinal_answer('one is done')")]
TWO_DONE = [code("open('two.txt', 'w').write('2')\nfinal_answer('two is done')")]


def agents(**lines: list[Any]) -> dict[str, list[Any]]:
    return {f"Do {name}": said for name, said in lines.items()}


def runs(orch: Orch) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(orch("runs", "--json").out)
    return found


@pytest.fixture
def limited(orch: Orch, endpoint: Endpoint) -> Done:
    """A run that came to its limit after its first subtask."""
    endpoint.reply = Cast(planner=[TWO], agents=agents(one=ONE_DONE))
    return orch("ask", "Do both.", "--max-calls", "2")


def test_a_run_goes_on_after_a_limit_and_does_nothing_again(
    orch: Orch, endpoint: Endpoint, engine: Engine, limited: Done
) -> None:
    (before,) = runs(orch)
    assert (limited.code, before["state"]) == (5, "failed")
    assert f"orch resume {before['run']} --max-calls" in limited.error
    asked = len(endpoint.exchanges)
    endpoint.reply = Cast(agents=agents(two=TWO_DONE))
    done = orch("resume", "last", "--max-calls", "10")
    assert (done.code, done.out) == (0, "All is done.\n")
    assert "resumed  1 of 2 subtasks done · max_calls 10" in done.err
    assert len(endpoint.exchanges) == asked + 2
    assert orch.files() == ["one.txt", "two.txt"]
    (now,) = runs(orch)
    assert (now["run"], now["state"], now["calls"]) == (before["run"], "completed", 4)
    numbers = [json.loads(line)["seq"] for line in orch.journal().read_text().splitlines()]
    assert numbers == list(range(1, len(numbers) + 1))
    (flow_run,) = engine.flow_runs(before["run"])
    assert flow_run["state"]["type"] == "COMPLETED"
    assert orch.log.count(f"## Run {before['run']}") == 2
    assert f"## Run {before['run']} goes on" in orch.log


def test_the_envelope_of_a_run_that_goes_on_tells_of_all_of_it(
    orch: Orch, endpoint: Endpoint, limited: Done
) -> None:
    endpoint.reply = Cast(agents=agents(two=TWO_DONE))
    shown = orch("resume", "last", "--max-calls", "10", "--json").envelope
    assert (shown["outcome"], shown["exit_code"], shown["error"]) == ("completed", 0, None)
    assert shown["states"] == {"one": "done", "two": "done"}
    assert [change["path"] for change in shown["files"]] == ["one.txt", "two.txt"]
    assert shown["usage"]["calls"] == 4


def test_only_given_limits_change(orch: Orch, limited: Done) -> None:
    again = orch("resume", "last", ORCH_MAX_CALLS="2")
    assert again.code == 5
    assert runs(orch)[0]["calls"] == 2


def test_a_run_that_is_over_says_again_what_came_of_it(orch: Orch, endpoint: Endpoint) -> None:
    endpoint.reply = Cast(
        planner=[plan(coder("one"), coder("two"))], agents=agents(one=ONE_DONE, two=TWO_DONE)
    )
    first = orch("ask", "Do both.")
    asked, shown = len(endpoint.exchanges), orch.journal().read_bytes()
    again = orch("resume", "last")
    assert (again.code, again.out) == (0, first.out)
    assert orch("resume", "last", "--json").envelope["answer"] == first.out.strip()
    assert (len(endpoint.exchanges), orch.journal().read_bytes()) == (asked, shown)


def test_a_run_goes_on_after_its_provider_has_failed(orch: Orch, endpoint: Endpoint) -> None:
    endpoint.reply = Cast(planner=[TWO], agents=agents(one=[fault(401, "no such key")]))
    failed = orch("ask", "Do both.")
    assert failed.code == 4
    assert f"orch resume {runs(orch)[0]['run']}" in failed.error
    endpoint.reply = Cast(agents=agents(one=ONE_DONE, two=TWO_DONE))
    assert orch("resume", "last").code == 0
    assert orch.files() == ["one.txt", "two.txt"]


def test_what_the_reviser_was_thinking_about_is_put_to_it_again(orch: Orch, endpoint: Endpoint) -> None:
    gave_up = [code("give_up('there is no way')")]
    endpoint.reply = Cast(planner=[TWO], agents=agents(one=gave_up), reviser=[fault(401, "no such key")])
    assert orch("ask", "Do both.").code == 4
    endpoint.reply = Cast(reviser=[decided("stop", "it is hopeless")])
    stopped = orch("resume", "last")
    assert stopped.code == 1
    assert "it is hopeless" in stopped.error
    assert [fact["subtask"] for fact in orch.events("SubtaskStarted")] == ["one"]


# --- who has a run


@pytest.fixture
def living(orch: Orch, endpoint: Endpoint) -> Iterator["subprocess.Popen[str]"]:
    """A run in another process that waits for its model in the second subtask."""
    endpoint.reply = Cast(planner=[TWO], agents=agents(one=ONE_DONE, two=[{"content": "late", "sleep": 120}]))
    process = subprocess.Popen(
        [*orch.command, "ask", "Do both."],
        env=orch.environment(),
        cwd=orch.workspace,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        until(lambda: endpoint.arrived == 3)
        yield process
    finally:
        process.kill()
        process.communicate()


def until(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.slow  # starts a cold process: 4 s
def test_living_run_belongs_to_its_process_until_it_is_cancelled(
    orch: Orch, living: "subprocess.Popen[str]"
) -> None:
    (row,), host = runs(orch), orch.starts.host(living.pid)
    assert (row["state"], row["pid"]) == ("running", host)
    for command in (["resume"], ["undo"], ["fork", "--at", "two"]):
        refused = orch(command[0], "last", *command[1:])
        assert refused.code == 2
        assert f"in process {host}" in refused.error
    shown = orch("cancel", "last")
    assert (shown.code, str(host) in shown.err) == (0, True)
    assert living.wait(timeout=30) == 130
    assert runs(orch)[0]["state"] == "cancelled"
    refused = orch("resume", "last")
    assert refused.code == 2
    assert "was cancelled" in refused.error
    assert "orch fork" in refused.error
    assert orch.files() == ["one.txt"]


@pytest.mark.slow  # starts a cold process: 4 s
def test_a_dead_run_is_known_as_dead_and_can_be_ended_or_gone_on_with(
    orch: Orch, endpoint: Endpoint, living: "subprocess.Popen[str]"
) -> None:
    os.kill(orch.starts.host(living.pid), signal.SIGKILL)
    living.wait()
    (row,) = runs(orch)
    assert (row["state"], row["pid"]) == ("died", None)
    shown = orch("show", "last")
    assert "go on with: orch resume" in shown.out
    endpoint.reply = Cast(agents=agents(two=TWO_DONE))
    assert orch("resume", "last").code == 0
    assert orch.files() == ["one.txt", "two.txt"]
    starts = [(fact["subtask"], fact["attempt"]) for fact in orch.events("SubtaskStarted")]
    assert starts == [("one", 1), ("two", 1), ("two", 2)]


def test_a_run_that_has_stopped_is_cancelled_for_good(orch: Orch, limited: Done) -> None:
    assert orch("cancel", "last").code == 0
    assert runs(orch)[0]["state"] == "cancelled"
    assert "run cancelled" in orch.log
    assert orch("resume", "last").code == 2
    assert orch("cancel", "last").code == 2


# --- what is said of runs


def test_runs_are_listed_newest_first_for_this_workspace_or_all(
    orch: Orch, endpoint: Endpoint, limited: Done, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    endpoint.reply = Cast(planner=[plan({"id": "a", "title": "t", "kind": "answer", "instruction": "42"})])
    assert orch("ask", "What is it?", "-C", str(other)).code == 0
    assert [row["prompt"] for row in runs(orch)] == ["Do both."]
    everywhere = orch("runs", "--all").out
    assert everywhere.index("What is it?") < everywhere.index("Do both.")
    assert "completed" in everywhere
    assert orch("runs", "--all", "-n", "1").out.count(" ago ") == 1


def test_show_tells_the_graph_the_work_and_the_versions(orch: Orch, endpoint: Endpoint) -> None:
    change = patch("another way", add=[coder("three")], remove=["two"])
    endpoint.reply = Cast(
        planner=[TWO],
        agents=agents(one=[code("give_up('there is no way')")], three=TWO_DONE),
        reviser=[change],
    )
    assert orch("ask", "Do both.").code == 0
    text = orch("show", "last").out
    assert "version 2: another way" in text
    assert "✗ one · agent coder" in text
    assert "✓ three · agent coder" in text
    assert "because: one failed: " in text
    rows = {tuple(line.split()[:2]) for line in text.splitlines()}
    assert {("coder", "one"), ("coder", "three")} <= rows
    assert [line.split()[0] for line in text.splitlines() if "(openai/planner)" in line] == ["planner"]
    shown = orch("show", "last", "--json").envelope
    assert shown["states"] == {"one": "failed", "three": "done"}
    assert [version["version"] for version in shown["versions"]] == [1, 2]
    assert any(line.startswith("- two") for line in shown["versions"][1]["diff"])
    assert shown["work"]["three"]["usage"]["calls"] == 1
    assert shown["work"]["reviser"]["models"] == ["openai/reviser"]


# --- forks


@pytest.fixture
def whole(orch: Orch, endpoint: Endpoint) -> str:
    """A run that was completed; its id."""
    endpoint.reply = Cast(planner=[TWO], agents=agents(one=ONE_DONE, two=TWO_DONE))
    assert orch("ask", "Do both.").code == 0
    return str(runs(orch)[0]["run"])


def test_a_fork_shares_what_was_finished_once_the_rest_was_taken_back(
    orch: Orch, endpoint: Endpoint, whole: str
) -> None:
    refused = orch("fork", "last", "--at", "two")
    assert refused.code == 2
    assert "two.txt" in refused.error
    assert f"orch undo {whole} --to one" in refused.error
    assert orch("undo", whole, "--to", "one").code == 0
    assert orch("resume", whole).code == 0
    endpoint.reply = Cast(agents=agents(two=[code("open('2.txt', 'w').write('2')\nfinal_answer('anew')")]))
    assert orch("fork", whole, "--at", "two").code == 0
    assert orch.files() == ["2.txt", "one.txt"]
    forked = runs(orch)[0]
    assert (forked["forked_from"], forked["calls"]) == (whole, 2)
    assert [fact["subtask"] for fact in orch.events("SubtaskStarted")] == ["two"]
    assert orch("undo", forked["run"]).code == 0
    assert orch.files() == ["one.txt"]


def test_what_is_said_with_a_fork_goes_to_the_reviser(orch: Orch, endpoint: Endpoint, whole: str) -> None:
    assert orch("undo", whole, "--to", "one").code == 0
    change = patch("as you wish", add=[coder("three", ["one"])], remove=["two"])
    endpoint.reply = Cast(agents=agents(three=TWO_DONE), reviser=[change])
    assert orch("fork", whole, "--at", "two", "--prompt", "Do it in green.").code == 0
    (asked,) = endpoint.of("reviser")
    assert "Do it in green." in asked.text
    assert {fact["subtask"] for fact in orch.events("SubtaskFinished")} == {"one", "three"}


def test_a_fork_at_a_subtask_that_is_not_there_names_those_that_are(orch: Orch, whole: str) -> None:
    refused = orch("fork", whole, "--at", "nine")
    assert refused.code == 2
    assert "one, two" in refused.error
