"""The changes of a run can be shown and undone, all or none, without losing later changes."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from orchestrator_cli import events
from orchestrator_cli.errors import UsageError
from orchestrator_cli.journal.journal import EventStream, read_journal
from orchestrator_cli.runs.find import find_run
from orchestrator_cli.runs.undo import show_changes, undo_run
from orchestrator_cli.settings import Settings
from orchestrator_cli.workspace import Workspace


class Place:
    """A workspace with a home, in which runs commit."""

    def __init__(self, folder: Path) -> None:
        self.root, self.home = folder / "work", folder / "home"
        self.root.mkdir()
        self.settings = Settings(home=self.home, workspace=self.root)

    def start(self, run: str) -> Workspace:
        stream = EventStream(run, self.home / "runs" / run / "journal.jsonl", [])
        stream.emit(
            events.RunStarted(prompt="p", workspace=str(self.root), models={}, sandbox="s", version="0")
        )
        stream.close()
        return Workspace(self.root, self.home, 10, run=run)

    def commit(self, workspace: Workspace, subtask: str, **files: str | None) -> None:
        with workspace.checkout(subtask) as checkout:
            for name, text in files.items():
                path = checkout.root / name.replace("__", "/")
                if text is None:
                    path.unlink()
                else:
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_text(text)
            checkout.commit()

    def undo(self, name: str = "last", to: str = "") -> list[str]:
        changes = undo_run(self.settings, find_run(self.settings, name), to, lambda: [])
        return [f"{change.change} {change.path}" for change in changes]

    def diff(self, name: str = "last") -> list[str]:
        return show_changes(find_run(self.settings, name)).lines

    def state(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for path in sorted(self.root.rglob("*")):
            name, mode = str(path.relative_to(self.root)), path.lstat().st_mode
            if path.is_symlink():
                found[name] = (mode, str(path.readlink()))
            elif path.is_file():
                found[name] = (mode, path.read_bytes(), path.stat().st_mtime_ns)
            else:
                found[name] = mode
        return found


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_undo_restores_every_file_type(place):
    root = place.root
    (root / "text").write_text("old")
    (root / "script").write_text("x")
    (root / "gone").write_text("gone")
    (root / "link").symlink_to("text")
    (root / "dir/deep").mkdir(parents=True)
    (root / "dir/deep/a").write_text("a")
    (root / "empty").mkdir(mode=0o711)
    (root / "was-file").write_text("was")
    before = place.state()
    workspace = place.start("run-1")
    with workspace.checkout("first") as checkout:
        c = checkout.root
        (c / "text").write_text("new")
        (c / "script").chmod(0o755)
        (c / "gone").unlink()
        (c / "link").unlink()
        (c / "link").write_text("a file")
        shutil.rmtree(c / "dir")
        (c / "dir").write_text("a file")
        (c / "empty").rmdir()
        (c / "was-file").unlink()
        (c / "was-file/x").mkdir(parents=True)
        (c / "was-file/x/y").write_text("y")
        (c / "new").mkdir()
        checkout.commit()
    place.commit(workspace, "second", text="newer", other="other")
    assert place.state() != before
    place.undo()
    assert place.state() == before


def test_undo_to_a_subtask_goes_back_to_just_after_it(place):
    workspace = place.start("run-1")
    place.commit(workspace, "one", a="1", b="1")
    after_one = place.state()
    place.commit(workspace, "two", a="2", c="2")
    place.commit(workspace, "three", b=None)
    assert sorted(place.undo(to="one")) == ["created b", "deleted c", "modified a"]
    assert place.state() == after_one
    assert place.undo() == ["deleted a", "deleted b"]
    # And forth again: what an undo takes away is kept as well.
    place.undo(to="one")
    assert place.state() == after_one


def test_undo_twice_does_nothing_the_second_time(place):
    workspace = place.start("run-1")
    place.commit(workspace, "one", a="1")
    assert place.undo() == ["deleted a"]
    assert place.undo() == []
    undone = [event for event in read_journal(find_run(place.settings, "last").journal)]
    assert [(event.seq, event.data.kind) for event in undone] == [(1, "RunStarted"), (2, "RunUndone")]


def test_undo_refuses_and_names_what_the_user_changed_since(place):
    (place.root / "edited").write_text("0")
    workspace = place.start("run-1")
    place.commit(workspace, "one", edited="1", dropped="1", fine="1")
    (place.root / "edited").write_text("mine")
    (place.root / "dropped").unlink()
    before = place.state()
    with pytest.raises(UsageError, match="changed since then: dropped, edited"):
        place.undo()
    assert place.state() == before


def test_undo_refuses_and_names_the_later_run_that_changed_a_file(place):
    place.commit(place.start("run-1"), "one", a="1")
    place.commit(place.start("run-2"), "two", a="2")
    with pytest.raises(UsageError, match=r"a \(changed by run run-2\)"):
        place.undo("run-1")
    place.undo("run-2")
    assert place.undo("run-1") == ["deleted a"]


def test_undo_keeps_user_files_in_a_folder_of_the_run(place):
    place.commit(place.start("run-1"), "one", out__made="1")
    (place.root / "out/mine").write_text("mine")
    assert place.undo() == ["deleted out/made"]
    assert sorted(place.state()) == ["out", "out/mine"]
    assert place.undo() == []


def test_undo_does_not_follow_a_planted_link(place, tmp_path):
    (place.root / "sub").mkdir()
    (place.root / "sub/a").write_text("a")
    place.commit(place.start("run-1"), "one", sub__a=None)
    outside = tmp_path / "outside"
    outside.mkdir()
    (place.root / "sub").rmdir()
    (place.root / "sub").symlink_to(outside)
    with pytest.raises(UsageError, match="changed since then: sub"):
        place.undo()
    assert list(outside.iterdir()) == []


def test_undo_refuses_damaged_contents(place):
    (place.root / "a").write_text("precious")
    place.commit(place.start("run-1"), "one", a="1")
    for blob in (place.home / "runs/run-1/undo/blobs").iterdir():
        if blob.read_text() == "precious":
            blob.write_text("damaged!")
    with pytest.raises(UsageError, match="is damaged"):
        place.undo()
    assert (place.root / "a").read_text() == "1"


def test_undo_to_a_subtask_without_commits_is_refused(place):
    place.commit(place.start("run-1"), "one", a="1")
    with pytest.raises(UsageError, match="three committed no changes") as caught:
        place.undo(to="three")
    assert "one" in caught.value.remedy


def test_runs_are_found_by_their_end_and_by_last_of_the_workspace(place, tmp_path):
    place.start("20260101-000000-aaaaaa")
    place.start("20260102-000000-bbbbbb")
    place.root = tmp_path / "elsewhere"
    place.root.mkdir()
    place.start("20260103-000000-cccccc")
    find: Callable[[str], str] = lambda name: find_run(place.settings, name).run  # noqa: E731
    assert find("aaaaaa") == "20260101-000000-aaaaaa"
    assert find("last") == "20260102-000000-bbbbbb"
    with pytest.raises(UsageError, match="There is no run nowhere"):
        find("nowhere")
    place.start("20260104-000000-1aaaaa")
    with pytest.raises(UsageError, match="Several runs end in aaaaa"):
        find("aaaaa")


def test_diff_shows_text_line_by_line_and_the_rest_by_size_and_hash(place):
    root = place.root
    (root / "text").write_text("one\ntwo\n")
    (root / "gone").write_text("gone")
    (root / "tool").write_text("x\n")
    (root / "pic").write_bytes(b"\0\1")
    workspace = place.start("run-1")
    with workspace.checkout("s") as checkout:
        (checkout.root / "text").write_text("one\n2\n")
        (checkout.root / "gone").unlink()
        (checkout.root / "tool").chmod(0o755)
        (checkout.root / "pic").write_bytes(b"\0\2\3")
        (checkout.root / "empty").mkdir()
        (checkout.root / "link").symlink_to("text")
        checkout.commit()
    (root / "text").write_text("the user's later change\n")
    text = "\n".join(place.diff())
    assert "--- a/text\n+++ b/text\n@@ -1,2 +1,2 @@\n one\n-two\n+2" in text
    assert "deleted file mode 100644\n--- a/gone\n+++ /dev/null\n@@ -1 +0,0 @@\n-gone\n\\ No newline" in text
    assert "old mode 100644\nnew mode 100755" in text
    assert "shown line by line: 2 bytes, sha256 b413f47d13ee → 3 bytes, sha256 " in text
    assert "folder empty/ created" in text
    assert "new file mode 120000\n--- /dev/null\n+++ b/link\n@@ -0,0 +1 @@\n+text" in text


def test_the_diff_of_a_run_is_net_and_can_be_applied(place, tmp_path):
    (place.root / "a").write_text("1\n2\n3\n")
    copy = tmp_path / "copy"
    shutil.copytree(place.root, copy)
    workspace = place.start("run-1")
    place.commit(workspace, "one", a="1\n2\n", temporary="x")
    place.commit(workspace, "two", a="1\n", temporary=None, b="no end")
    patch = "\n".join(place.diff()) + "\n"
    assert "temporary" not in patch
    if shutil.which("git"):
        subprocess.run(["git", "apply", "-"], input=patch, text=True, cwd=copy, check=True)
        assert (copy / "a").read_text() == "1\n"
        assert (copy / "b").read_text() == "no end"


def orch(place: Place, *args: str) -> "subprocess.CompletedProcess[str]":
    env = {"PATH": os.environ["PATH"], "ORCH_HOME": str(place.home), "LC_ALL": "C.UTF-8"}
    env |= {name: os.environ[name] for name in ("PYTHONPATH",) if name in os.environ}
    command = [sys.executable, "-m", "orchestrator_cli", *args, "-C", str(place.root)]
    return subprocess.run(command, capture_output=True, text=True, env=env, timeout=60, check=False)


def test_commands_report_and_log_what_they_do(place):
    (place.root / "a").write_text("old\n")
    place.commit(place.start("run-1"), "one", a="new\n")
    shown = orch(place, "diff", "last")
    assert (shown.returncode, shown.stdout.splitlines()[-2:]) == (0, ["-old", "+new"])
    as_json = json.loads(orch(place, "diff", "last", "--json").stdout)
    assert [change["path"] for change in as_json["files"]] == ["a"]
    done = orch(place, "undo", "last")
    assert (done.returncode, done.stdout) == (0, "")
    assert "modified a" in done.stderr
    assert (place.root / "a").read_text() == "old\n"
    log = (place.root / "fileLog.md").read_text()
    assert "run undone: the workspace is as before it" in log
    again = orch(place, "undo", "last")
    assert again.returncode == 0
    assert "There is nothing to undo" in again.stderr
    assert (place.root / "fileLog.md").read_text() == log
    assert "was undone since" in orch(place, "diff", "last").stderr
    assert orch(place, "undo", "nowhere").returncode == 2


KILLED = """
import os, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from killing import die_at
from orchestrator_cli.settings import Settings
from orchestrator_cli.runs.find import find_run
from orchestrator_cli.runs.undo import undo_run
settings = Settings(home=Path(sys.argv[2]), workspace=Path(sys.argv[3]))
past = find_run(settings, "last")
die_at(int(sys.argv[4]))
undo_run(settings, past, "", lambda: [])
"""


@pytest.mark.parametrize("point", [100, 300, 400, 450, 500, 600, 700])
def test_killed_undo_is_complete_or_absent_and_logged_once(place, point):
    for name in ("a", "b", "c"):
        (place.root / name).write_text("old")
    before = place.state()
    place.commit(place.start("run-1"), "one", a="new", b=None, c="new", d="new")
    after = place.state()
    folder = Path(__file__).parents[1] / "workspace"
    arguments = [str(folder), str(place.home), str(place.root), str(point)]
    done = subprocess.run([sys.executable, "-c", KILLED, *arguments], check=False, timeout=60)
    assert done.returncode in (0, -signal.SIGKILL)
    Workspace(place.root, place.home, 10)
    assert place.state() in (before, after)
    place.undo()
    assert place.state() == before
    kinds = [event.data.kind for event in read_journal(find_run(place.settings, "last").journal)]
    assert kinds == ["RunStarted", "RunUndone"]
