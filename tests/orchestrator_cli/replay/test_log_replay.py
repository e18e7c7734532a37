"""Replaying a run from its journal gives the same files, and names those that differ."""

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from command import Orch
from endpoint import Endpoint, call
from scripted_model import Cast, caller, code, coder, decided, plan, process, tool_call
from toolsmith_replies import CASED, SPECIFIED, WRITTEN

MAKE = (
    "seed = read_file('seed.txt')\nbase = 40",
    "from pathlib import Path\nPath('a.txt').write_text(seed + str(base + 2))\n"
    "Path('old.txt').unlink()\nreport_surprise('all went well')",
    "write_file('deep/b.txt', 'by the file tool')\nfinal_answer({'words': 'from make'})",
)
GRAPH = plan(
    coder("make", tools=["read_file", "write_file"]),
    tool_call("put", "write_file", ["make"], path="c.txt", content="$make.value.words"),
    coder("each", ["put"], inputs={"words": "$make.value.words"}, tools=["count_vowels"]),
    caller("edit", ["each"], tools=["write_file"]),
    new_tools=[{"name": "count_vowels", "purpose": "counts the vowels of a text"}],
)
AGENTS = {
    "Do make": [code(text) for text in MAKE],
    "Do each": [
        code("n = count_vowels(words)\nopen('n.txt', 'w').write(f'{words}: {n}')"),
        code("open('n.txt', 'a').write('\\nagain')\nfinal_answer(n)"),
    ],
    "Do edit": [
        call("write_file", {"path": "a.txt", "content": "edited"}),
        call("final_answer", {"answer": "done"}),
    ],
}


def snapshot(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Content and times of everything below a folder, and of the folder."""
    paths = [folder, *sorted(folder.rglob("*"))]
    return {
        str(path): (os.lstat(path).st_mtime_ns, path.read_bytes() if path.is_file() else b"")
        for path in paths
    }


def replayed(orch: Orch, run: str = "last") -> tuple[int, dict[str, Any]]:
    done = orch("log", "replay", run, "--json")
    assert done.out, done.err
    return done.code, json.loads(done.out)


@pytest.fixture(scope="module")
def ran(stage: tuple[Orch, Endpoint]) -> tuple[Orch, Endpoint]:
    orch, endpoint = stage
    (orch.workspace / "seed.txt").write_text("seed ")
    (orch.workspace / "old.txt").write_text("to be deleted")
    keep = [decided("keep", "Nothing has to change.")]
    smith = [SPECIFIED, CASED, WRITTEN]
    endpoint.reply = Cast(planner=[GRAPH], agents=AGENTS, toolsmith=smith, reviser=keep)
    done = orch("ask", "--json", "Make the files.")
    assert done.code == 0, done.err
    assert orch.file("a.txt") == "edited"
    return orch, endpoint


def test_replay_gives_the_same_files_and_touches_nothing_else(ran: tuple[Orch, Endpoint]) -> None:
    orch, endpoint = ran
    before, asked = snapshot(orch.workspace), endpoint.arrived
    exit_code, found = replayed(orch)
    assert (exit_code, found["same"], found["notes"]) == (0, True, [])
    verdicts = {
        one["subtask"]: (one["outcome"], [f["path"] for f in one["files"]]) for one in found["subtasks"]
    }
    assert verdicts == {
        "make": ("same", ["a.txt", "deep/b.txt", "old.txt"]),
        "put": ("same", ["c.txt"]),
        "each": ("same", ["n.txt"]),
        "edit": ("same", ["a.txt"]),
    }
    assert all(file["same"] for one in found["subtasks"] for file in one["files"])
    assert snapshot(orch.workspace) == before
    assert endpoint.arrived == asked, "a model was asked"
    assert list((orch.home / "replays").iterdir()) == []


def test_replay_is_reported_by_subtask(ran: tuple[Orch, Endpoint]) -> None:
    done = ran[0]("log", "replay", "last")
    assert done.code == 0
    assert "make: same (3 steps)" in done.out
    assert "  same       old.txt none" in done.out
    assert "every change of a file was made again and is the same" in done.out


def test_later_edits_of_the_runs_files_do_not_matter(
    ran: tuple[Orch, Endpoint],
) -> None:
    orch, _ = ran
    kept = orch.file("a.txt")
    (orch.workspace / "a.txt").write_text("by hand")
    try:
        assert replayed(orch)[0] == 0
    finally:
        (orch.workspace / "a.txt").write_text(kept)


def test_different_files_are_named(ran: tuple[Orch, Endpoint]) -> None:
    orch, _ = ran
    (orch.workspace / "seed.txt").write_text("another seed ")
    try:
        exit_code, found = replayed(orch)
    finally:
        (orch.workspace / "seed.txt").write_text("seed ")
    assert exit_code == 1
    different = {
        one["subtask"]: [f["path"] for f in one["files"] if not f["same"]] for one in found["subtasks"]
    }
    assert different == {"make": ["a.txt"], "put": [], "each": [], "edit": []}


def test_code_that_was_changed_in_the_journal_is_noticed(ran: tuple[Orch, Endpoint]) -> None:
    orch, _ = ran
    journal = orch.journal()
    text = journal.read_text()
    journal.write_text(text.replace("base + 2", "base + 3"))
    try:
        assert replayed(orch)[0] == 1
    finally:
        journal.write_text(text)


def test_missing_tool_version_is_reported_and_its_files_are_copied(
    ran: tuple[Orch, Endpoint],
) -> None:
    orch, endpoint = ran
    graph = plan(
        coder("use", tools=["count_vowels"]),
        coder("after", ["use"]),
    )
    endpoint.reply = Cast(
        planner=[graph],
        agents={
            "Do use": [code("open('used.txt', 'w').write(str(count_vowels('banana')))\nfinal_answer(1)")],
            "Do after": [
                code("t = open('used.txt').read()\nopen('after.txt', 'w').write(t)\nfinal_answer(2)")
            ],
        },
    )
    assert orch("ask", "--json", "Use the tool.").code == 0
    assert replayed(orch)[0] == 0
    tools = orch.home / "tools"
    tools.rename(orch.home / "gone")
    try:
        exit_code, found = replayed(orch)
    finally:
        (orch.home / "gone").rename(tools)
    assert exit_code == 1
    use, after = found["subtasks"]
    assert (use["outcome"], after["outcome"]) == ("not replayed", "same")
    (why,) = use["why"]
    assert "count_vowels" in why
    assert "version 1" in why


def test_processes_are_not_replayed_and_random_results_differ(ran: tuple[Orch, Endpoint]) -> None:
    orch, endpoint = ran
    program = "open('stamp.txt', 'w').write('by the process'); print(None)"
    command = json.dumps([sys.executable, "-c", program])
    config = orch.home / "orch.toml"
    config.write_text(
        f'[processes.stamp]\ncommand = {command}\nwhen = "A stamp is wanted."\neffects = false\n'
    )
    graph = plan(process("press", "stamp"), coder("roll", ["press"]))
    roll = (
        "import secrets\nopen('dice.txt', 'w').write(secrets.token_hex(8))\n"
        "final_answer(open('stamp.txt').read())"
    )
    endpoint.reply = Cast(planner=[graph], agents={"Do roll": [code(roll)]})
    try:
        done = orch("ask", "--json", "Press and roll.")
    finally:
        config.unlink()
    assert done.code == 0, done.err
    exit_code, found = replayed(orch)
    assert exit_code == 1
    press, roll_ = found["subtasks"]
    assert press["outcome"] == "not replayed"
    assert "process" in press["why"][0]
    assert press["files"][0]["what"] == "taken over from the record"
    assert (roll_["outcome"], roll_["why"]) == ("different", [])
    assert [(file["path"], file["what"]) for file in roll_["files"]] == [("dice.txt", "other content")]
