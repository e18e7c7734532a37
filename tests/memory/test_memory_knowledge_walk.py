"""Which files of a folder are read: by the rules of .gitignore, as git has them."""

import os
import random
import shutil
import subprocess
import time
from pathlib import Path

import hostile_files
import pytest
from unprivileged import bound_by_modes

from memory.knowledge.documents import walk

FILES = (
    *("a.md", "b.log", "keep.log", "build/x.md", "src/a.py", "src/build.md", "src/deep/b.log"),
    *("src/deep/c.tmp", "docs/c.tmp", "docs/keep.tmp", ".hidden/a.md", "src/.secret", "odd[1].md"),
)
RULES = {".gitignore": "*.log\n!keep.log\n/build/\n[\n", "docs/.gitignore": "*\n!keep.tmp\n!.gitignore\n"}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in FILES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    for name, text in RULES.items():
        (tmp_path / name).write_text(text)
    return tmp_path


def seen(root: Path) -> list[str]:
    return [found.path.relative_to(root).as_posix() for found in walk(root) if not found.skip_reason]


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_walk_lists_the_files_of_git_except_hidden_ones(tree: Path) -> None:
    environment = {"PATH": os.environ["PATH"], "HOME": str(tree), "GIT_CONFIG_NOSYSTEM": "1"}
    for command in (["git", "init", "-q"], ["git", "ls-files", "--others", "--exclude-standard"]):
        done = subprocess.run(
            command, cwd=tree, env=environment, capture_output=True, text=True, check=True, timeout=30
        )
    taken = [name for name in done.stdout.split() if not any(part[0] == "." for part in name.split("/"))]
    assert sorted(seen(tree)) == sorted(taken)


def test_rules_of_parent_folders_apply(tree: Path) -> None:
    assert "deep/b.log" in seen(tree / "src")
    (tree / ".git").mkdir()
    assert "deep/b.log" not in seen(tree / "src")


def test_links_are_reported_and_not_followed(tree: Path) -> None:
    (tree / "link.md").symlink_to("/etc/hostname")
    (tree / "loop").symlink_to(tree, target_is_directory=True)
    left = {found.path.name: found.skip_reason for found in walk(tree) if found.skip_reason}
    assert left == {"link.md": "it is a symbolic link: links are not followed"}


def test_refused_names_are_skipped(tree: Path) -> None:
    found = [one.path.name for one in walk(tree, lambda path: path.name == "src")]
    assert "a.py" not in found
    assert "a.md" in found


def test_a_pipe_is_not_a_file(tree: Path) -> None:
    os.mkfifo(tree / "pipe.md")
    assert "pipe.md" not in seen(tree)


def test_unlistable_subfolders_are_reported(
    tree: Path,
) -> None:
    (tree / "src").chmod(0o000)
    (tree / "docs").chmod(0o400)
    with bound_by_modes():
        found = list(walk(tree))
    (tree / "src").chmod(0o700)
    (tree / "docs").chmod(0o700)
    assert [(one.path.name, one.list_error) for one in found if one.list_error] == [
        ("src", "Permission denied")
    ]
    assert tree / "docs/keep.tmp" in [one.path for one in found if not one.list_error]


def test_a_missing_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        list(walk(tmp_path / "nowhere"))


STARS = {
    "*a" * 30 + "b": "a" * 200,
    "*?" * 60 + "b": "a" * 200,
    "[a]*" * 60 + "b": "a" * 200,
    "**/a/" * 12 + "b": "a/" * 150 + "a",
}


@pytest.mark.parametrize(("rule", "name"), STARS.items())
def test_a_rule_of_many_stars_takes_no_time(tmp_path: Path, rule: str, name: str) -> None:
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_text("x")
    (tmp_path / ".gitignore").write_text(f"{rule}\n")
    started = time.process_time()
    assert seen(tmp_path) == [name]
    assert time.process_time() - started < 3


GLOBS = ("**", "*", "a", "b", "a*", "*a", "*a*b", "?a*", "*?*", "[ab]*a", "[!a]", "*[a]*?b", "a**b")


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_rules_mean_what_they_mean_to_git(tmp_path: Path) -> None:
    """Several rules, of which later ones take back what earlier ones ignore."""
    chance = random.Random(1)
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    (tmp_path / ".git" / "info" / "exclude").unlink(missing_ok=True)
    for folder in ("", "a", "a/b", "b/ab", "ba/a/b/a"):
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        for name in ("aa", "bb", "b.a"):
            (tmp_path / folder / name).write_text("x")
    for _ in range(120):
        lines = [
            chance.choice(("", "/", "!", "!/"))
            + "/".join(chance.choices(GLOBS, k=chance.choice((1, 1, 2, 3))))
            + chance.choice(("", "", "/"))
            for _ in range(chance.randint(1, 4))
        ]
        (tmp_path / ".gitignore").write_text("\n".join(lines))
        command = ["git", "-C", tmp_path, "ls-files", "--others", "--exclude-standard"]
        listed = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
        assert sorted(seen(tmp_path)) == sorted({*listed} - {".gitignore"}), lines


def test_a_list_of_what_is_kept_reaches_all_folders(tmp_path: Path) -> None:
    for name in ("a.py", "a.txt", "one/two/b.py", "one/two/b.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    (tmp_path / ".gitignore").write_text("*\n!*/\n!*.py\n")
    assert sorted(seen(tmp_path)) == ["a.py", "one/two/b.py"]


@pytest.mark.parametrize("kind", hostile_files.KINDS)
def test_rules_that_are_not_obeyed_are_reported(tmp_path: Path, kind: str) -> None:
    rules, below = tmp_path / ".gitignore", tmp_path / "below"
    (tmp_path / ".git").mkdir()
    below.mkdir()
    (below / "a.md").write_text("x")
    hostile_files.make(kind, rules)
    with hostile_files.little_memory():
        found = {entry.path: entry.skip_reason for entry in walk(below)}
    assert found[below / "a.md"] == ""
    assert "its rules are not obeyed" in found[rules]
