"""What a planner and an agent see of a folder: the user's own files, as git sees them, in bounded time."""

import os
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest
from command import Orch
from endpoint import Endpoint
from scripted_model import Cast, code, coder, plan

from orchestrator_cli.tools.files import MAX_LISTED, file_tools
from orchestrator_cli.workspace import Workspace
from orchestrator_cli.workspace.folder import COPIED_FILES
from toolsmith.sandbox.removal import remove

KEY = "-----BEGIN PRIVATE KEY-----\nabc\n"


def make(root: Path, **files: str) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return root


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A repository with its dependencies and its data."""
    files = {
        "README.md": "# Sales\n\nWhat was sold.\nMore.",
        ".gitignore": "data/\n*.log\n",
        "src/main.py": "print(1)\n",
        "src/.gitignore": "made/\n!kept.log\n",
        "src/made/out.py": "x = 1\n",
        "src/kept.log": "kept",
        "run.log": "late",
        "data/sales.csv": "region,units\nnorth,3\n",
        ".venv/lib/site.py": "x",
        "web/node_modules/left/pad.js": "x",
        ".env": "TOKEN=secret",
        "sub/key.txt": KEY,
    }
    (tmp_path / "root" / ".git").mkdir(parents=True)
    return make(tmp_path / "root", **files)


def workspace(root: Path) -> Workspace:
    return Workspace(root, root.parent / "home", 10)


OWN = ["README.md", ".gitignore", "src/kept.log", "src/main.py", "src/.gitignore", "sub/key.txt"]


def test_a_listing_has_the_users_own_files_first_and_names_what_it_leaves_out(root: Path) -> None:
    found = workspace(root).listing()
    assert list(found.paths) == OWN
    assert found.rows[0] == "README.md (29 bytes), begins: # Sales ⏎ What was sold."
    for name in ("data/", ".venv/", "run.log", "src/made/", "web/node_modules/"):
        assert name in found.rows[-1]
    assert "secret" not in "".join(found.rows)
    assert "PRIVATE" not in "".join(found.rows)


def test_agents_see_the_same_and_what_is_left_out_by_its_name(root: Path) -> None:
    tools = file_tools(root)
    assert sorted(tools["list_files"]()) == sorted(OWN)
    assert tools["list_files"]("data") == ["data/sales.csv"]
    assert tools["list_files"]("web/node_modules/left") == ["web/node_modules/left/pad.js"]
    assert tools["list_files"]("src") == ["src/.gitignore", "src/kept.log", "src/main.py"]
    assert tools["search_files"]("x") == []
    assert tools["search_files"]("north") == []
    assert tools["search_files"]("north", "data") == ["data/sales.csv:2: north,3"]


def test_git_agrees_on_what_is_left_out(root: Path) -> None:
    subprocess.run(["git", "init", "-q", root], check=True)
    make(root, **{"a b.log": "", "x/y/z.log": "", "x/data/n": "", "src/deep/made/n": "", "src/no.log": ""})
    make(root, **{"mark/a.out": "", "mark/b.txt": ""})
    (root / "mark" / ".gitignore").write_bytes(b"\xef\xbb\xbf*.out\r\n# a\x0b*.txt\r\n")
    listed = subprocess.run(
        ["git", "-C", root, "ls-files", "--others", "--exclude-standard"],
        check=True,
        capture_output=True,
        text=True,
    )
    gits = [name for name in listed.stdout.splitlines() if not name.startswith((".venv", "web", ".env"))]
    assert sorted(workspace(root).listing().paths) == sorted(gits)


def test_a_repository_around_that_ignores_the_folder_says_nothing(root: Path) -> None:
    make(root.parent, **{".gitignore": "*\n"})
    (root.parent / ".git").mkdir()
    (root / ".git").rmdir()
    assert list(workspace(root).listing().paths) == OWN


def test_rules_of_the_repository_around_are_obeyed(root: Path) -> None:
    assert list(workspace(root / "src").listing().paths) == ["kept.log", "main.py", ".gitignore"]


def test_agents_obey_the_rules_of_the_repository_around_the_workspace(
    orch: Orch, endpoint: Endpoint, root: Path
) -> None:
    part = make(root / "part", **{"own.txt": "x", "run.log": "x", "data/a.csv": "x", "kept.log": "x"})
    step = (
        "open('.gitignore', 'w').write('!kept.log')\n"
        "final_answer([list_files(), search_files('x'), list_files('data')])"
    )
    tools = ["list_files", "search_files"]
    endpoint.reply = Cast(planner=[plan(coder("one", tools=tools))], agents={"Do one": [code(step)]})
    done = replace(orch, workspace=part)("ask", "--json", "Do it.")
    assert done.code == 0, done.err
    found = ["own.txt:1: x", "kept.log:1: x"]
    assert [sorted(part) for part in done.envelope["value"]] == [
        [".gitignore", "kept.log", "own.txt"],
        sorted(found),
        ["data/a.csv"],
    ]


def test_a_large_folder_is_counted_by_its_parts(root: Path) -> None:
    make(root, **{f"many/{n}.txt": "x" for n in range(150)})
    rows = workspace(root).listing().rows
    assert len(rows) == 102
    assert rows[100].startswith(f"… and {len(OWN) + 150 - 100} more files: many/ ")
    make(root, **{f"many/more/{n}.txt": "x" for n in range(MAX_LISTED)})
    assert len(file_tools(root)["list_files"]()) == MAX_LISTED + 1


@pytest.mark.parametrize(
    ("prompt", "first"),
    [
        ("Which tests in zoo/deep are slow?", ["zoo/deep/a.py", "zoo/deep/b.py"]),
        ("Look at `zoo/deep/`.", ["zoo/deep/a.py", "zoo/deep/b.py"]),
        ("Mend ./zoo/deep/b.py, please.", ["zoo/deep/b.py"]),
        ("Is zoo deep?", ["README.md"]),
        ("Is and/or in /etc/passwd or .. or ./ ?", ["README.md"]),
    ],
)
def test_what_the_promptnames_comes_first(root: Path, prompt: str, first: list[str]) -> None:
    make(root, **{f"many/{n}.txt": "x" for n in range(150)}, **{f"zoo/deep/{n}.py": "x" for n in "ab"})
    rows = workspace(root).listing(prompt).rows
    assert [row.partition(" (")[0] for row in rows[: len(first)]] == first
    assert len(rows) == 102
    many = workspace(root).listing("Sort many/ by size.").rows
    assert {row.partition("/")[0] for row in many[:50]} == {"many"}
    assert many[50].startswith("README.md")


@pytest.mark.parametrize("rules", ["a" * 200_000, "\n".join(f"*{n}*x" for n in range(30_000))])
def test_looking_is_bounded_whatever_the_rules(root: Path, rules: str) -> None:
    make(root, **{".gitignore": rules}, **{f"many/{n}/{n}.txt": "x" for n in range(300)})
    since = time.process_time()
    found = workspace(root).listing()
    assert time.process_time() - since < 3
    assert "README.md" in found.paths


def chain(root: Path, levels: int) -> None:
    """Folders in one another, deeper than a path can name."""
    folder = os.open(root, os.O_RDONLY)
    for _ in range(levels):
        os.mkdir("deep" * 12, dir_fd=folder)
        inner = os.open("deep" * 12, os.O_RDONLY, dir_fd=folder)
        os.close(folder)
        folder = inner
    os.close(folder)


def test_looking_is_bounded_however_deep_the_folders(root: Path) -> None:
    chain(root / "src", 2_000)
    since = time.process_time()
    found = workspace(root).listing()
    assert time.process_time() - since < 3
    assert (list(found.paths), found.is_whole) == (OWN, False)
    remove(root / "src")  # pytest's own way takes a path as long as that


def test_beginnings_are_bounded_and_only_of_texts(root: Path) -> None:
    make(root, **{f"{n}.txt": "long " * 1_000 for n in range(60)})
    (root / "0.bin").write_bytes(b"\0\1")
    (root / "0.latin").write_bytes(b"caf\xe9")
    (root / "0.large").write_text("region,units\n" + "north,3\n" * 100_000)
    os.mkfifo(root / "0.pipe")
    (root / "0.link").symlink_to("/etc/passwd")
    rows = workspace(root).listing().rows
    begun = [row for row in rows if ", begins: " in row]
    assert 10 < len(begun) < 30
    assert any(row.startswith("0.large") and "region,units" in row for row in begun)
    assert sum(map(len, rows)) < 10_000
    assert not any(row.startswith(("0.bin", "0.latin", "0.link", "0.pipe")) for row in begun)


def test_many_files_are_shown_and_not_copied(root: Path) -> None:
    many = root / "data" / "many"
    many.mkdir()
    for number in range(COPIED_FILES):
        (many / str(number)).touch()
    with workspace(root).checkout("one") as view:
        if not view.entrance:
            pytest.skip("no overlay mounts here")
        assert not (view.folder / "data").exists()
        (view.folder / "new.txt").write_text("new")
        assert view.changed_paths() == ["new.txt"]
        view.commit()
    assert (root / "new.txt").read_text() == "new"


def test_a_planner_sees_how_files_begin_and_code_reaches_what_git_ignores(
    orch: Orch, endpoint: Endpoint, root: Path
) -> None:
    for name in (".gitignore", "data/sales.csv", "README.md"):
        make(orch.workspace, **{name: (root / name).read_text()})
    endpoint.reply = Cast(
        planner=[plan(coder("one"))],
        agents={"Do one": [code("final_answer(open('data/sales.csv').read())")]},
    )
    done = orch("ask", "Do it.")
    assert (done.code, "north,3" in done.out) == (0, True), done.err
    asked = endpoint.of("planner")[0].text
    assert "README.md (29 bytes), begins: # Sales" in asked
    assert "sales.csv" not in asked
    assert "data/" in asked
