"""What `orch resume` looks at first: the files of finished subtasks, the workspace's place, the journal."""

import errno
import json
import shutil
from pathlib import Path

import pytest
from command import Done, Orch
from disk_faults import disk
from endpoint import Endpoint
from scripted_model import Cast, code, coder, plan

NAMES = ("one", "side", "two", "three")
PLAN = plan(coder("one"), coder("side"), coder("two", ["one"]), coder("three", ["two", "side"]))
ONE_AT_A_TIME = {"ORCH_MAX_PARALLEL": "1"}


def cast() -> Cast:
    steps = {
        f"Do {name}": [code(f"open('{name}.txt', 'w').write('{name}')\nfinal_answer('{name}')")] * 3
        for name in NAMES
    }
    return Cast(planner=[PLAN], agents=steps, answer=["All is done."] * 3)


@pytest.fixture
def stopped(orch: Orch, endpoint: Endpoint) -> str:
    """A run that came to its limit before `three`; its id."""
    endpoint.reply = cast()
    done = orch("ask", "Do all.", "--max-calls", "4", **ONE_AT_A_TIME)
    assert (done.code, finished(orch)) == (5, ["one", "side", "two"]), done.err
    return orch.journal().parent.name


def resume(orch: Orch, run: str, *args: str) -> Done:
    return orch("resume", run, "--max-calls", "20", *args, **ONE_AT_A_TIME)


def finished(orch: Orch) -> list[str]:
    return [fact["subtask"] for fact in orch.events("SubtaskFinished")]


def test_nothing_is_asked_if_all_files_are_there(orch: Orch, stopped: str) -> None:
    (orch.workspace / "mine.txt").write_text("mine")
    (orch.workspace / "one.txt").chmod(0o600)
    assert resume(orch, stopped).code == 0
    assert finished(orch) == ["one", "side", "two", "three"]


def test_files_that_are_gone_or_changed_are_named_with_the_flag(
    orch: Orch, endpoint: Endpoint, stopped: str
) -> None:
    asked = endpoint.arrived
    (orch.workspace / "one.txt").unlink()
    (orch.workspace / "side.txt").write_text("other")
    refused = resume(orch, stopped, "-y")
    assert (refused.code, endpoint.arrived) == (6, asked)
    for text in ("one.txt", "side.txt", f"orch resume {stopped} --changed again|accept"):
        assert text in refused.error
    assert "two.txt" not in refused.error
    listed = json.loads(orch("approve", stopped, "--json").out)
    assert [row["result"] for row in listed] == [{"enum": ["again", "accept", "stop"]}]


def test_again_takes_along_what_depends_on_it(orch: Orch, stopped: str) -> None:
    (orch.workspace / "one.txt").unlink()
    done = resume(orch, stopped, "--changed", "again")
    assert (done.code, done.out) == (0, "All is done.\n"), done.err
    assert finished(orch) == ["one", "side", "two", "one", "two", "three"]
    (reopened,) = orch.events("SubtasksReopened")
    assert (reopened["subtasks"], "one.txt" in reopened["reason"]) == (["one", "two"], True)
    attempts = [(fact["subtask"], fact["attempt"]) for fact in orch.events("SubtaskStarted")]
    assert attempts[-3:] == [("one", 2), ("two", 2), ("three", 2)]
    assert orch.file("one.txt") == "one"


def test_accepted_files_are_not_asked_about_again(orch: Orch, endpoint: Endpoint, stopped: str) -> None:
    (orch.workspace / "one.txt").write_text("mine now")
    assert orch("resume", stopped, "--max-calls", "4", "--changed", "accept", **ONE_AT_A_TIME).code == 5
    assert resume(orch, stopped).code == 0
    assert finished(orch) == ["one", "side", "two", "three"]
    assert orch.file("one.txt") == "mine now"


def test_answer_of_another_terminal_resumes_the_run(orch: Orch, stopped: str) -> None:
    (orch.workspace / "two.txt").unlink()
    assert resume(orch, stopped).code == 6
    (asked,) = orch.events("ApprovalAsked")
    orch("approve", stopped, asked["id"], "--answer", "again", ORCH_MAX_CALLS="20", **ONE_AT_A_TIME)
    assert finished(orch)[:4] == ["one", "side", "two", "two"]


def test_only_the_instance_whose_file_is_gone_is_done_again(orch: Orch, endpoint: Endpoint) -> None:
    step = code("open(f'{item}.txt', 'w').write(item)\nfinal_answer(item)")
    each = coder("each", ["list"], for_each="$list.value", inputs={"item": "$item"})
    endpoint.reply = Cast(
        planner=[plan(coder("list", result={"type": "array"}), each, coder("last", ["each"]))],
        agents={
            "Do list": [code("final_answer(['a', 'b'])")],
            **{f"Do each ({n} of 2)": [step] * 2 for n in (1, 2)},
            "Do last": [code("final_answer('last')")],
        },
    )
    assert orch("ask", "Do each.", "--max-calls", "4", **ONE_AT_A_TIME).code == 5
    (orch.workspace / "b.txt").unlink()
    assert resume(orch, "last", "--changed", "again").code == 0
    assert orch.events("SubtasksReopened")[0]["subtasks"] == ["each[1]"]
    started = [fact["subtask"] for fact in orch.events("SubtaskStarted")]
    assert (started.count("each[0]"), started.count("each[1]")) == (1, 2)
    assert orch.file("b.txt") == "b"


# --- a moved workspace


def move(orch: Orch) -> Path:
    new = orch.workspace.with_name("moved")
    shutil.move(orch.workspace, new)
    return new


def test_moved_workspace_is_resumed_with_its_new_place(orch: Orch, stopped: str) -> None:
    new = move(orch)
    gone = resume(orch, stopped)
    assert gone.code == 2
    assert f"orch resume {stopped} -C" in gone.error
    assert resume(orch, stopped, "-C", str(new)).code == 0
    assert sorted(path.name for path in new.glob("*.txt")) == sorted(f"{name}.txt" for name in NAMES)
    assert not orch.workspace.exists()
    # From now on the run belongs to the new place.
    assert [row["run"] for row in json.loads(orch("runs", "--json", "-C", str(new)).out)] == [stopped]
    assert orch("undo", stopped).code == 0
    assert list(new.glob("*.txt")) == []


def test_interrupted_commit_moves_with_the_workspace(orch: Orch, endpoint: Endpoint) -> None:
    endpoint.reply = cast()
    broken = disk("*/undo/0*.json", number=errno.EIO)
    assert orch("ask", "Do all.", **ONE_AT_A_TIME, **broken).code == 3
    run = orch.journal().parent.name
    new = move(orch)
    done = resume(orch, run, "-C", str(new))
    assert done.code == 0, done.err
    assert finished(orch) == ["one", "side", "two", "three"]
    assert [fact["attempt"] for fact in orch.events("SubtaskStarted")] == [1] * 4
    assert list(new.glob(".orch-*")) == []
    assert list((orch.home / "commits").iterdir()) == []


# --- the journal


def test_damaged_line_of_the_journal_is_named_on_the_terminal(orch: Orch, stopped: str) -> None:
    lines = orch.journal().read_bytes().split(b"\n")
    at = next(n for n, line in enumerate(lines) if b'"kind":"Spent"' in line)
    lines[at] = b"\x00" * len(lines[at])
    orch.journal().write_bytes(b"\n".join(lines))
    said = f"line {at + 1} cannot be read"
    assert said in orch("show", stopped).err
    done = resume(orch, stopped)
    assert (done.code, said in " ".join(done.err.split())) == (0, True), done.err


def test_journal_of_a_later_schema_is_not_resumed(orch: Orch, endpoint: Endpoint, stopped: str) -> None:
    asked, path = endpoint.arrived, orch.journal()
    later = (
        path.read_text().replace('"schema":1', '"schema":2').replace('"version":"0.1.0"', '"version":"9.9"')
    )
    path.write_text(later)
    refused = resume(orch, stopped)
    assert (refused.code, endpoint.arrived) == (1, asked)
    assert "Use orch 9.9" in refused.error
    assert path.read_text() == later
