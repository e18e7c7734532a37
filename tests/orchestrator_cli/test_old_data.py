"""Journals, logs, undo records, tools and memories that an earlier version wrote can still be used.

`tests/data/before` was recorded at commit d0c6b4b: a run with a failed subtask and a revised plan, a
run that was undone, and the demo, which built a tool. Its workspaces were in /tmp/before.
"""

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
from command import Orch
from endpoint import Endpoint, call
from scripted_model import Cast

BEFORE = Path(__file__).parents[1] / "data" / "before"
REVISED, UNDONE, DEMO = "20261129-001029-3de029", "20261129-001031-009d17", "20261129-001105-e69afa"
FINISH = call("final_answer", {"answer": "made"})


@pytest.fixture
def old(orch: Orch, tmp_path: Path) -> Orch:
    """A user with a copy of the old home and workspace, as recorded."""
    folder = tmp_path / "before"
    shutil.copytree(BEFORE, folder)
    (folder / "home").chmod(0o755)  # whatever the umask of the checkout was
    (folder / "demo" / "new.txt").chmod(0o600)  # as the demo left it; git does not keep that mode
    return dataclasses.replace(orch, home=folder / "home", workspace=folder / "work")


@pytest.fixture
def moved(old: Orch) -> Orch:
    """The same, with the workspace of each record changed to that of the copy."""
    for path in (*old.home.rglob("journal.jsonl"), *old.home.rglob("undo/*.json")):
        text = path.read_text(encoding="utf-8")
        path.write_text(text.replace("/tmp/before/", f"{old.home.parent}/"), encoding="utf-8")
    return old


def test_old_runs_are_listed_and_shown(old: Orch) -> None:
    listed = json.loads(old("runs", "--all", "--json").out)
    assert {row["run"]: row["state"] for row in listed} == dict.fromkeys((REVISED, UNDONE, DEMO), "completed")
    assert json.loads(old("stats", "--all", "--weeks=520", "--json").out)["states"] == {"completed": 3}
    shown = json.loads(old("show", REVISED, "--json").out)
    assert shown["states"] == {"prepare": "done", "fetch": "failed", "use": "done", "write": "done"}
    assert shown["plan"]["version"] == 2
    assert shown["feedback"]["vote"] == "good"
    assert old("show", DEMO).code == 0


def test_an_old_run_is_shown_in_every_format(old: Orch, tmp_path: Path) -> None:
    assert old("show", REVISED, "--format", "text").out == old("show", REVISED).out
    assert old("show", REVISED, "--format", "json").out == old("show", REVISED, "--json").out
    assert old("show", REVISED, "--format", "mermaid").out.startswith("flowchart")
    assert old("show", REVISED, "--format", "dot").out.startswith("digraph")
    page = tmp_path / "page.html"
    written = old("show", REVISED, "--format", "html", "-o", str(page))
    assert (written.code, written.out) == (0, "")
    assert page.read_text(encoding="utf-8") == old("show", REVISED, "--format", "html").out
    ascii_page = old("show", REVISED, "--format", "html", LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")
    assert "<svg" in ascii_page.out
    assert old("show", REVISED, "--format", "html", "--json").code == 2
    assert old("show", REVISED, "-o", str(tmp_path / "none" / "x")).code == 2


@pytest.mark.parametrize("workspace", ["work", "demo"])
def test_an_old_log_is_still_valid(old: Orch, workspace: str) -> None:
    folder = old.workspace.with_name(workspace)
    checked = old("log", "verify", "-C", str(folder))
    assert checked.code == 0, checked.out + checked.err
    log = folder / "fileLog.md"
    log.write_text(log.read_text(encoding="utf-8").replace("code run by", "code written by", 1))
    assert old("log", "verify", "-C", str(folder)).code != 0


def test_an_old_run_can_be_undone(moved: Orch) -> None:
    done = moved("undo", REVISED)
    assert done.code == 0, done.err
    assert {name: moved.file(name) for name in moved.files()} == {
        "notes.txt": "first line\n",
        "old.txt": "to be removed\n",
    }
    assert "There is nothing to undo" in moved("undo", UNDONE).err
    assert moved("undo", DEMO).code == 0
    assert not (moved.workspace.with_name("demo") / "new.txt").exists()


def test_an_old_run_can_be_forked(moved: Orch, endpoint: Endpoint) -> None:
    endpoint.reply = Cast(agents={"Do use": [FINISH]})
    forked = moved("fork", REVISED, "--at", "use", "--json")
    assert forked.code == 0, forked.err
    assert forked.envelope["states"] == {"prepare": "done", "fetch": "failed", "use": "done", "write": "done"}
    assert len(endpoint.of("agent")) == 1


def test_an_old_unfinished_run_can_be_resumed(moved: Orch, endpoint: Endpoint) -> None:
    journal = moved.home / "runs" / REVISED / "journal.jsonl"
    lines = journal.read_text(encoding="utf-8").splitlines(keepends=True)
    facts = [json.loads(line)["data"] for line in lines]
    start = next(
        n for n, fact in enumerate(facts) if fact["kind"] == "SubtaskStarted" and fact["subtask"] == "use"
    )
    journal.write_text("".join(lines[: start + 1]), encoding="utf-8")
    endpoint.reply = Cast(agents={"Do use": [FINISH]})
    resumed = moved("resume", REVISED, "--json")
    assert resumed.code == 0, resumed.err
    assert resumed.envelope["outcome"] == "completed"
    assert len(endpoint.of("agent")) == 1


def test_an_old_tool_library_can_be_read(old: Orch) -> None:
    shown = old("tools", "show", "file_fingerprint", ORCH_HOME=str(old.home / "demo"))
    assert shown.code == 0, shown.err
    assert "file_fingerprint" in shown.out


def test_old_memories_can_be_imported(old: Orch) -> None:
    imported = old("memory", "import", str(old.home.parent / "memory.jsonl"))
    assert imported.code == 0, imported.err
    # They do not say in which workspace they worked.
    found = old("memory", "search", "Use gone.txt.", "--all", "--json")
    assert REVISED in found.out
