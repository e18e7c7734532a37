"""What names scripts and was not read to its end may name each of them."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator_cli.workspace import Workspace, followed

PADDED = "# a\n" * (followed.MAX_BYTES // 4) + "sh tools/check.sh\n"


def write(root: Path, path: str, text: str) -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text)


def executed(root: Path, state: Path) -> dict[str, str]:
    """What is asked about if a run changes `tools/check.sh`, with the reasons."""
    write(root, "tools/check.sh", "one")
    workspace = Workspace(root, state, 10)
    with workspace.checkout("a") as checkout:
        write(checkout.root, "tools/check.sh", "other")
        return {one.root: one.why for one in workspace.executed(checkout)}


def long_hook(root: Path) -> None:
    write(root, ".husky/pre-commit", PADDED)


def long_hook_of_git(root: Path) -> None:
    write(root, ".git/hooks/pre-commit", PADDED)


def linked_hook(root: Path) -> None:
    write(root, "lib/hook.txt", "sh tools/check.sh\n")
    (root / ".husky").mkdir()
    (root / ".husky/pre-commit").symlink_to("../lib/hook.txt")


def deep_scripts(root: Path) -> None:
    scripts = {"postinstall": "npm run go", "go": "sh tools/check.sh", "z": []}
    write(root, "package.json", json.dumps({"scripts": scripts}).replace("[]", "[" * 150 + "]" * 150))


def double_key(root: Path) -> None:
    write(root, "package.json", '{"scripts": {"postinstall": "a", "postinstall": "b"}}')


def called_list(root: Path) -> None:
    scripts = {"post-install-cmd": "@go", "go": ["sh tools/check.sh"]}
    write(root, "composer.json", json.dumps({"scripts": scripts}))


def many(root: Path) -> None:
    for number in range(followed.MAX_FILES + 1):
        write(root, f".husky/hook{number}", "")


@pytest.mark.parametrize(
    "make", [long_hook, long_hook_of_git, linked_hook, deep_scripts, double_key, called_list, many]
)
def test_a_script_is_asked_about_unless_all_that_may_name_it_was_read(
    make: Callable[[Path], None], tmp_path: Path
) -> None:
    root = tmp_path / "work"
    root.mkdir()
    make(root)
    assert set(executed(root, tmp_path / "state")) == {"tools/check.sh"}


def test_what_is_read_and_is_no_file_names_nothing(tmp_path: Path) -> None:
    root = tmp_path / "work"
    for path in (".git/hooks/folder", ".husky/_", ".devcontainer/folder"):
        (root / path).mkdir(parents=True)
    (root / ".husky/pre-commit").symlink_to("nothing")
    write(root, ".husky/pre-push", "sh tools/other.sh\n")
    write(root, "package.json", '{"scripts": {"postinstall": "sh other.sh"}}')
    assert executed(root, tmp_path / "state") == {}
