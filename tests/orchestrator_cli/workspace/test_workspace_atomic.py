"""A commit is atomic, whatever happens during it."""

import json
import os
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from orchestrator_cli.workspace import Conflict, Workspace, WorkspaceFault, steps

KILLING = Path(__file__).with_name("killing.py")


def kill(folder: Path, step: int) -> list[dict[str, Any]]:
    """Kill a commit at every `step`-th point, beginning anywhere."""
    seed = random.randrange(1 << 30)
    print("seed", seed)  # noqa: T201 - pytest shows it where the test fails
    command = [sys.executable, str(KILLING), str(folder), str(step), str(seed)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=600)
    return [json.loads(line) for line in done.stdout.splitlines()]


def check(rows: list[dict[str, Any]]) -> None:
    assert all(row["killed"] for row in rows)
    assert [row for row in rows if row["outcome"] == "between"] == []
    assert [row for row in rows if row["remains"]] == []
    # What the history holds is what the workspace holds.
    assert [row for row in rows if row["recorded"] != (row["outcome"] == "after")] == []
    assert set(Counter(row["outcome"] for row in rows)) == {"before", "after"}


def test_killed_commit_is_complete_or_absent_after_reopening(tmp_path):
    rows = kill(tmp_path, 149)
    check(rows)
    assert any(row["recovered"] for row in rows)


@pytest.mark.slow
@pytest.mark.thorough
@pytest.mark.timeout(600)
def test_a_commit_can_be_killed_at_any_of_its_calls(tmp_path):
    check(kill(tmp_path, 3))


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    root = tmp_path / "work"
    root.mkdir()
    for name in ("a", "b", "c"):
        (root / name).write_text(f"old {name}")
    return Workspace(root, tmp_path / "home", 10, run="run-1")


def contents(root: Path) -> dict[str, str]:
    return {str(p.relative_to(root)): p.read_text() for p in sorted(root.rglob("*")) if p.is_file()}


OLD = {"a": "old a", "b": "old b", "c": "old c"}


def failing_at(monkeypatch: pytest.MonkeyPatch, path: str, action: Any) -> None:
    """Have something happen in the middle of a commit, when its turn comes to a path."""
    original = steps.forward

    def forward(tree: Any, staging: int, step: Any) -> None:
        if step.path == path:
            action()
        original(tree, staging, step)

    monkeypatch.setattr("orchestrator_cli.workspace.commit.forward", forward)


def test_user_change_during_commit_rolls_it_back(workspace, monkeypatch):
    with workspace.checkout("s") as checkout:
        for name in ("a", "b", "c"):
            (checkout.root / name).write_text(f"new {name}")
        failing_at(monkeypatch, "c", lambda: (workspace.root / "c").write_text("the user's"))
        with pytest.raises(Conflict, match=r"^c changed in the workspace"):
            checkout.commit()
    assert contents(workspace.root) == OLD | {"c": "the user's"}


def test_commit_does_not_overwrite_file_created_meanwhile(workspace, monkeypatch):
    with workspace.checkout("s") as checkout:
        (checkout.root / "a").write_text("new a")
        (checkout.root / "made").write_text("the subtask's")
        failing_at(monkeypatch, "made", lambda: (workspace.root / "made").write_text("the user's"))
        with pytest.raises(Conflict):
            checkout.commit()
    assert contents(workspace.root) == OLD | {"made": "the user's"}


def test_disk_error_during_commit_rolls_it_back(workspace, monkeypatch):
    def fail() -> None:
        raise OSError(28, "No space left on device")

    with workspace.checkout("s") as checkout:
        (checkout.root / "a").unlink()
        (checkout.root / "b").write_text("new b")
        failing_at(monkeypatch, "b", fail)
        with pytest.raises(WorkspaceFault, match=r"No space left on device.*Nothing was changed"):
            checkout.commit()
    assert contents(workspace.root) == OLD
    with workspace.checkout("s") as again:
        (again.root / "b").write_text("new b")
        monkeypatch.undo()
        again.commit()
    assert contents(workspace.root) == OLD | {"b": "new b"}


def test_recovery_keeps_edits_made_after_a_kill(workspace, monkeypatch):
    def die() -> None:
        raise KeyboardInterrupt

    with workspace.checkout("s") as checkout:
        for name in ("a", "b", "c"):
            (checkout.root / name).write_text(f"new {name}")
        failing_at(monkeypatch, "c", die)
        with pytest.raises(KeyboardInterrupt):
            checkout.commit()
    assert contents(workspace.root)["b"] == "new b"
    (workspace.root / "a").write_text("the user's a")
    (workspace.root / "c").write_text("the user's c")
    monkeypatch.undo()
    opened = Workspace(workspace.root, workspace.root.parent / "home", 10)
    assert contents(workspace.root) == {"a": "the user's a", "b": "old b", "c": "the user's c"}
    assert "a stays as it was changed" in opened.recovered[0]
    assert list(workspace.root.glob(".orch-*")) == []


def test_commit_works_without_renameat2(workspace, monkeypatch):
    monkeypatch.setattr(steps, "renameat2", lambda: None)
    with workspace.checkout("s") as checkout:
        (checkout.root / "a").write_text("new a")
        (checkout.root / "b").unlink()
        (checkout.root / "d").write_text("new d")
        checkout.commit()
    assert contents(workspace.root) == {"a": "new a", "c": "old c", "d": "new d"}


def test_staging_of_another_home_is_left_alone(workspace, tmp_path):
    theirs = workspace.root / ".orch-01234567-0123456789ab.tmp"
    theirs.mkdir()
    Workspace(workspace.root, tmp_path / "home", 10)
    assert theirs.is_dir()


def test_only_checkouts_of_dead_processes_are_removed(workspace, tmp_path):
    program = (
        "import os, sys; from pathlib import Path\n"
        "from orchestrator_cli.workspace import Workspace\n"
        "Workspace(Path(sys.argv[1]), Path(sys.argv[2]), 10).checkout(); os.kill(os.getpid(), 9)"
    )
    home = tmp_path / "home"
    subprocess.run([sys.executable, "-c", program, str(workspace.root), str(home)], check=False)
    assert len(list((home / "checkouts").iterdir())) == 1
    with workspace.checkout() as living:
        Workspace(workspace.root, home, 10)
        assert list((home / "checkouts").iterdir()) == [living.root]
    assert os.listdir(home / "checkouts") == []  # noqa: PTH208


def test_the_folder_of_the_user_keeps_its_own_permissions(tmp_path):
    root = tmp_path / "work"
    root.mkdir()
    root.chmod(0o755)
    with Workspace(root, tmp_path / "state", 100).checkout() as checkout:
        (checkout.root / "new.txt").write_text("x")
        checkout.commit()
    assert root.stat().st_mode & 0o777 == 0o755


def test_commit_of_many_files_is_atomic(workspace):
    with workspace.checkout("s") as checkout:
        for number in range(100):
            (checkout.root / f"many-{number}").write_text(str(number))
        (checkout.root / os.fsdecode(b"zz-\xff")).write_text("no name")
        with pytest.raises(WorkspaceFault, match="not a UTF-8 name"):
            checkout.commit()
        assert contents(workspace.root) == OLD
        assert list(workspace.root.glob(".orch-*")) == []
        (checkout.root / os.fsdecode(b"zz-\xff")).unlink()
        assert len(checkout.commit()) == 100
    assert contents(workspace.root) == OLD | {f"many-{number}": str(number) for number in range(100)}
