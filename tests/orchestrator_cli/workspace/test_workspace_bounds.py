"""What a stranger's workspace names to be executed is found in a limited time, or not at all."""

import os
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator_cli.workspace import Workspace, WorkspaceFault
from orchestrator_cli.workspace.git_settings import MAX_BYTES, WAIT_S, Repository


def executed(root: Path, state: Path) -> set[str]:
    """The roots that are asked about if a run changes `main.py`."""
    workspace = Workspace(root, state, 10)
    checkout = workspace.checkout("a")
    (checkout.root / "main.py").write_text("other")
    return {one.root for one in workspace.executed(checkout)}


def hook(root: Path, text: str) -> None:
    (root / ".husky").mkdir()
    (root / ".husky/pre-commit").write_text(text)


@pytest.mark.parametrize(
    ("text", "is_named"),
    [
        ("".join(f"cd main{n}/main;\n" for n in range(4_000)), False),
        ("python3 main.py\n" + "".join(f"cd main{n}/main;\n" for n in range(4_000)), True),
        ("".join(f"cd {'./' * (n % 3)}main;\n" for n in range(20_000)) + "python3 ../main.py", True),
        ("".join(f"main.py {n}\n" for n in range(20_000)), True),
        ("".join(f"cd d{n}; {'./' * (n % 9)}main.py\n" for n in range(40)), True),
    ],
)
def test_a_long_hook_is_looked_through(tmp_path: Path, text: str, is_named: bool) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "work/main.py").write_text("one")
    hook(tmp_path / "work", text)
    started = time.process_time()
    assert ("main.py" in executed(tmp_path / "work", tmp_path / "state")) == is_named
    assert time.process_time() - started < 10


def test_a_hook_that_names_too_many_places_may_name_each_script(tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "work/main.py").write_text("one")
    hook(tmp_path / "work", "".join(f"cd a{n}/main; x{n}/main.py\n" for n in range(8_000)))
    started = time.process_time()
    assert "main.py" in executed(tmp_path / "work", tmp_path / "state")
    assert time.process_time() - started < 10


def piped(folder: Path) -> None:
    os.mkfifo(folder / "pipe")
    (folder / "config").write_text("[include]\n\tpath = pipe\n")


def deep(folder: Path) -> None:
    for level in range(9):
        (folder / f"c{level}").write_text("[include]\n" + f"\tpath = c{level + 1}\n" * 10)
    (folder / "c9").write_text("[alias]\n" + '\tx = "!echo a"\n' * 20)
    (folder / "config").write_text("[include]\n\tpath = c0\n")


def long(folder: Path) -> None:
    (folder / "config").write_text("[alias]\n" + f"\tx = !{'a ' * 500}\n" * (MAX_BYTES // 900))


@pytest.fixture
def repositories(tmp_path: Path) -> list[Path]:
    if shutil.which("git", path="/usr/local/bin:/usr/bin:/bin") is None:
        pytest.skip("git is not installed")
    paths = [tmp_path / f"lib{number}" for number in range(8)]
    for path in paths:
        subprocess.run(["git", "init", "-q", path], check=True, timeout=60)
    return paths


def broken(folder: Path) -> None:
    with (folder / "config").open("a") as file:
        file.write("[bad\n")


def piped_itself(folder: Path) -> None:
    os.mkfifo(folder / "config.worktree")


@pytest.mark.parametrize("make", [piped, deep, long, broken, piped_itself])
def test_settings_that_cannot_be_read_to_their_end_are_not_taken_for_none(
    repositories: list[Path], make: Callable[[Path], None]
) -> None:
    for repository in repositories:
        make(repository / ".git")
    started = time.monotonic()
    with pytest.raises(WorkspaceFault, match="lib0"):
        Repository.read_all(repositories, wait_s=2)
    assert time.monotonic() - started < WAIT_S


def test_a_repository_is_looked_at_once(repositories: list[Path]) -> None:
    folder = repositories[0] / ".git"
    piped(folder)
    with subprocess.Popen(
        ["sh", "-c", f"echo > '{folder / 'pipe'}'"]
    ):  # a second look would wait for another
        found = Repository.read_all([repositories[0], folder, *repositories[1:]])
    assert [one.path for one in found] == [repositories[0], folder, *repositories[1:]]


def folder_beside(folder: Path) -> None:
    (folder / "config.worktree").mkdir()


def of_another(folder: Path) -> None:
    if os.geteuid():
        pytest.skip("only root can give files away")
    for path in (folder.parent, folder, folder / "config"):
        os.chown(path, 12345, 12345)


def of_a_later_format(folder: Path) -> None:
    with (folder / "config").open("a") as file:
        file.write("[core]\n\trepositoryformatversion = 1\n[extensions]\n\tlater = true\n")


@pytest.mark.parametrize("make", [folder_beside, of_another, of_a_later_format])
def test_settings_that_git_does_not_list_here_count(
    repositories: list[Path], make: Callable[[Path], None]
) -> None:
    repository = repositories[0]
    subprocess.run(["git", "-C", repository, "config", "core.hooksPath", "tools"], check=True)
    make(repository / ".git")
    assert Repository.read(repository).named[repository / "tools"] == "core.hookspath"


def test_without_a_repository_there_are_no_settings_of_one(repositories: list[Path], tmp_path: Path) -> None:
    (tmp_path / "dangling").mkdir()
    (tmp_path / "dangling/.git").write_text("gitdir: /nonexistent/folder")
    (tmp_path / "odd/.git").mkdir(parents=True)
    (tmp_path / "odd/.git/config").write_text("[core]\n\thooksPath = tools\n")
    found = Repository.read_all([tmp_path, tmp_path / "dangling", tmp_path / "odd"])
    assert not any("core.hookspath" in one.named.values() for one in found)
