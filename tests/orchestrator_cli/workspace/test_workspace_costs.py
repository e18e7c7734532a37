"""The check of a commit takes a time in proportion to what it reads, and asks about what it cannot read."""

import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator_cli.cancellation import Cancellation
from orchestrator_cli.errors import Interrupted
from orchestrator_cli.workspace import Workspace, WorkspaceFault
from orchestrator_cli.workspace.link_names import MAX_HOPS, LinkNames

LONG_S = 30
"""A check takes a second on an idle machine, and is stopped after 20."""
KEYS = 1_000
DEEP_TOML = "a." * 20_000 + "a=1\n"

UNREADABLE = {
    "dotted/pyproject.toml": "a." * 1_500 + "a=1\n",
    "long/pyproject.toml": DEEP_TOML,
    "arrays/pyproject.toml": "[tool.x]\na = " + "[" * 500 + "]" * 500 + "\n",
    "objects/package.json": '{"a":' * 20_000 + "1" + "}" * 20_000,
    "lists/package.json": '{"a":' + "[" * 50_000 + "]" * 50_000 + "}",
    "names/Cargo.toml": f"[{'a.' * 400}a]\n" + "".join(f"{'b' * 90}{i}=1\n" for i in range(KEYS)),
}
"""Manifests that say nothing about what is executed, as far as one can know."""
SECTIONS = "".join(f" [{i}]\n" for i in range(KEYS)) + "".join(f" {i} =\n" for i in range(KEYS))
READABLE = {
    "sections/setup.cfg": SECTIONS,
    "comment/mypy.ini": "[mypy]\nplugins =\n# a = b\n  evil\n",
    "nested/mypy.ini": "[mypy]\n  strict = 1\n  plugins =\n      a = b\n    evil\n",
}
HARMLESS = {
    "letters/package-lock.json": "a" * 200_000,
    "escapes/uv.lock": "\\u0061" * 50_000,
    "lines/requirements.txt": f"#{' ' * 100_000}\n{'a' * 100_000}\n",
    "values/tox.ini": f"[flake8]\nmax-line-length = {'attr ' * 20_000}\n",
}

MULTIPLIED: dict[str, tuple[int, Callable[[int], tuple[str, str]]]] = {
    "a chain": (6_000, lambda number: (f".husky/l{number}", f"l{number + 1}")),
    "the top in many folders": (1_000, lambda number: (f"d{number}/.husky", "..")),
    "long targets": (1_500, lambda number: (f".husky/l{number}", f"{'../.husky/' * 300}l{number + 1}")),
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "work").mkdir()
    for name in ("package.json", "pyproject.toml", "Cargo.toml", "setup.cfg", "mypy.ini"):
        write(tmp_path / "work", name, "")
    return tmp_path / "work"


def write(root: Path, path: str, text: str) -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text)


def test_hostile_manifests_are_asked_about_in_time(root: Path, tmp_path: Path) -> None:
    workspace = Workspace(root, tmp_path / "state", 10)
    with workspace.checkout("a") as checkout:
        for path, text in {**READABLE, **HARMLESS, **UNREADABLE}.items():
            write(checkout.root, path, text)
        began = time.monotonic()
        found = {one.root for one in workspace.executed(checkout)}
        assert time.monotonic() - began < LONG_S
    assert found == {*READABLE, *UNREADABLE}


def test_a_site_is_found_behind_however_many_letters(root: Path, tmp_path: Path) -> None:
    workspace = Workspace(root, tmp_path / "state", 10)
    with workspace.checkout("a") as checkout:
        write(checkout.root, "package-lock.json", f"{'a' * 200_000}://evil.example/x")
        assert {one.root for one in workspace.executed(checkout)} == {"package-lock.json"}


def test_a_cancelled_run_does_not_wait_for_a_manifest(root: Path, tmp_path: Path) -> None:
    cancellation = Cancellation()
    workspace = Workspace(root, tmp_path / "state", 10, cancellation=cancellation)
    with workspace.checkout("a") as checkout:
        write(checkout.root, "pyproject.toml", DEEP_TOML)
        threading.Timer(0.5, cancellation.cancel, [Interrupted("the end")]).start()
        began = time.monotonic()
        with pytest.raises(Interrupted):
            workspace.executed(checkout)
        assert time.monotonic() - began < 3


@pytest.mark.parametrize("kind", MULTIPLIED)
def test_links_that_multiply_names_are_refused_in_time(kind: str, root: Path, tmp_path: Path) -> None:
    workspace = Workspace(root, tmp_path / "state", 10)
    with workspace.checkout("a") as checkout:
        count, link = MULTIPLIED[kind]
        for path, target in map(link, range(count)):
            (checkout.root / path).parent.mkdir(exist_ok=True)
            (checkout.root / path).symlink_to(target)
        began = time.monotonic()
        with pytest.raises(WorkspaceFault, match="too many links"):
            workspace.executed(checkout)
        assert time.monotonic() - began < LONG_S


def test_as_many_links_are_followed_as_the_kernel_follows(root: Path) -> None:
    links = {f"l{number}": f"l{number + 1}" for number in range(MAX_HOPS)}
    for number in range(MAX_HOPS):
        (root / f"l{number}").symlink_to(f"l{number + 1}")
    (root / f"l{MAX_HOPS}").touch()
    (root / "over").symlink_to("l0")
    names = LinkNames({**links, "over": "l0"}, root.parts[1:])
    assert names.followed("l0")[1] == [*root.parts[1:], f"l{MAX_HOPS}"]
    assert names.followed("over")[1] is None
    assert [(root / name).exists() for name in ("l0", "over")] == [True, False]


@pytest.mark.parametrize(
    "text",
    ["run " * 60_000, "run.sh " * 1_000 + "".join(f"\ncd d{number}" for number in range(20_000))],
    ids=["words", "folders"],
)
def test_scripts_are_asked_about_if_hooks_are_too_long_to_read(text: str, root: Path, tmp_path: Path) -> None:
    for number in range(60):
        write(root, f".husky/hook{number}", text)
    workspace = Workspace(root, tmp_path / "state", 100)
    with workspace.checkout("a") as checkout:
        write(checkout.root, "run.sh", "x")
        write(checkout.root, "run.md", "x")
        began = time.monotonic()
        assert {one.root for one in workspace.executed(checkout)} == {"run.sh"}
        assert time.monotonic() - began < LONG_S


def test_a_file_of_line_feeds_is_looked_through_for_keys_at_once(root: Path, tmp_path: Path) -> None:
    for number in range(500):
        write(root, f"{number}.txt", "\n" * 4_000)
    write(root, "key.txt", "\n \tclient-key-data: x")
    began = time.monotonic()
    with Workspace(root, tmp_path / "state", 100).checkout("a") as checkout:
        assert time.monotonic() - began < LONG_S / 3
        assert (checkout.root / "0.txt").exists()
        assert not (checkout.root / "key.txt").exists()
