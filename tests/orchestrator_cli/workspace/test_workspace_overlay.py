"""A workspace too large to copy is mounted, and behaves like a copied one."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from orchestrator_cli.cancellation import Cancellation
from orchestrator_cli.errors import UsageError
from orchestrator_cli.execution.processes import run
from orchestrator_cli.execution.sandboxes import open_sandbox, within
from orchestrator_cli.execution.subtask import ref_of
from orchestrator_cli.tools.files import file_tools
from orchestrator_cli.workspace import Checkout, Conflict, Workspace
from orchestrator_cli.workspace.overlay import NoOverlay, Overlay
from orchestrator_cli.workspace.tree import Root
from toolsmith.sandbox import SandboxUnavailable, choose_backend
from toolsmith.sandbox.probe import self_test

READING = """
def readable(path):
    try:
        return bool(open(path).read())
    except OSError:
        return False
[path for path in ('{root}/text', '{root}/.git/config', 'sub/.env', '.git/config') if readable(path)]
"""


def can_mount(folder: Path) -> bool:
    for name in ("lower", "upper", "work"):
        (folder / name).mkdir(parents=True)
    try:
        with Root(folder / "lower") as lower:
            Overlay(lower, folder / "upper", folder / "work").close()
    except NoOverlay:
        return False
    return True


@pytest.fixture
def root(tmp_path: Path) -> Path:
    if not can_mount(tmp_path / "probe"):
        pytest.skip("no overlay mounts here")
    folder = tmp_path / "work"
    folder.mkdir()
    (folder / "large").write_bytes(os.urandom(2 << 20))
    (folder / "text").write_text("old")
    (folder / "gone").write_text("gone")
    (folder / "sub/deep").mkdir(parents=True)
    (folder / "sub/deep/a").write_text("a")
    (folder / "sub/b").write_text("b")
    (folder / "sub/.env").write_text("secret")
    (folder / ".git").mkdir()
    (folder / ".git/config").write_text("mine")
    (folder / "link").symlink_to("text")
    return folder


@pytest.fixture
def workspace(root: Path, tmp_path: Path) -> Workspace:
    return Workspace(root, tmp_path / "home", 1, run="run-1")


def all_files(root: Path) -> list[str]:
    found = []
    for folder, _, names in os.walk(root):
        found += [str(Path(folder, name).relative_to(root)) for name in names]
    return sorted(found)


def test_view_hides_protected_files(workspace):
    with workspace.checkout() as checkout:
        assert checkout.entrance
        assert all_files(checkout.root) == ["gone", "large", "link", "sub/b", "sub/deep/a", "text"]
        assert not (checkout.root / ".git").exists()
        assert checkout.written_paths() == []
        assert checkout.refused_paths() == []


def test_only_changes_in_the_view_are_committed(workspace, root):
    with workspace.checkout("s") as checkout:
        view = checkout.root
        (view / "text").write_text("new")
        (view / "gone").unlink()
        shutil.rmtree(view / "sub/deep")
        (view / "sub/deep").mkdir()
        (view / "sub/deep/c").write_text("c")
        (view / "made/here").mkdir(parents=True)
        (view / "made/here/d").write_text("d")
        (view / "link").unlink()
        (view / "link").mkdir()
        (view / "sub/b").chmod(0o755)
        (view / "sub/.env.local").write_text("x")
        assert checkout.refused_paths() == ["sub/.env.local"]
        assert (root / "text").read_text() == "old"
        assert checkout.changed_paths() == [
            *("gone", "link", "made/here/d", "sub/b", "sub/deep/a", "sub/deep/c", "text")
        ]
        assert len(checkout.commit()) == 7
    assert (root / "text").read_text() == "new"
    assert all_files(root) == [
        *(".git/config", "large", "made/here/d", "sub/.env", "sub/b", "sub/deep/c", "text")
    ]
    assert (root / "link").is_dir()
    assert (root / "sub/b").stat().st_mode & 0o777 == 0o755


def test_discarded_view_leaves_nothing(workspace, root, tmp_path):
    before = all_files(root)
    with workspace.checkout() as checkout:
        shutil.rmtree(checkout.root / "sub")
    assert all_files(root) == before
    assert list((tmp_path / "home/checkouts").iterdir()) == []


def test_changes_by_others_are_conflicts_in_a_view_too(workspace, root):
    with workspace.checkout("one") as one, workspace.checkout("two") as two:
        (one.root / "text").write_text("1")
        (two.root / "text").write_text("2")
        (two.root / "sub/b").write_text("2")
        one.commit()
        (root / "sub/b").write_text("the user's")
        with pytest.raises(Conflict, match=r"sub/b, text \(committed by one\)"):
            two.commit()
    assert (root / "sub/b").read_text() == "the user's"


@pytest.mark.parametrize("name", ["bubblewrap", "landlock"])
def test_code_in_the_sandbox_and_file_tools_share_the_view(workspace, root, name):
    try:
        backend = choose_backend(name)
    except SandboxUnavailable as exc:
        pytest.skip(str(exc))
    with workspace.checkout() as checkout:
        tools = file_tools(checkout.root)
        tools["write_file"]("from-tool", "tool")
        executor = open_sandbox(ref_of(checkout), backend, 30)
        with executor:
            said = executor(
                "import os\n"
                "open('from-code', 'w').write(open('from-tool').read() + open('text').read())\n"
                "os.remove('gone')\n"
                "sorted(os.listdir('.'))"
            ).output
            assert said == ["from-code", "from-tool", "large", "link", "sub", "text"]
            assert executor(READING.format(root=str(root))).output == []
        assert tools["read_file"]("from-code") == "toolold"
        assert checkout.changed_paths() == ["from-code", "from-tool", "gone"]
        checkout.commit()
    assert (root / "from-code").read_text() == "toolold"


def test_code_works_in_the_view_without_sandbox(workspace, root):
    with workspace.checkout() as checkout:
        with open_sandbox(ref_of(checkout), choose_backend("unsafe"), 30) as executor:
            executor("open('text', 'w').write(open('sub/b').read() + 'new')")
        assert (root / "text").read_text() == "old"
        checkout.commit()
    assert (root / "text").read_text() == "bnew"


@pytest.mark.parametrize("name", ["bubblewrap", "landlock"])
def test_sandbox_is_effective_inside_the_view(workspace, name):
    try:
        backend = choose_backend(name)
    except SandboxUnavailable as exc:
        pytest.skip(str(exc))
    with workspace.checkout() as checkout:
        found = self_test(within(ref_of(checkout), backend))
    # Its own workspace is another folder, so what is missing says nothing here.
    assert found.escaped == ()
    assert len(found.blocked) > 10


def test_no_process_or_mount_of_a_killed_host_remains(workspace, root, tmp_path):
    program = (
        "import os, sys; from pathlib import Path\n"
        "from orchestrator_cli.workspace import Workspace\n"
        "checkout = Workspace(Path(sys.argv[1]), Path(sys.argv[2]), 1).checkout()\n"
        "(checkout.root / 'text').write_text('half')\n"
        "os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", program, str(root), str(tmp_path / "home")], check=False)
    deadline = time.monotonic() + 2
    while holders(tmp_path):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    Workspace(root, tmp_path / "home", 1)
    assert list((tmp_path / "home/checkouts").iterdir()) == []
    assert (root / "text").read_text() == "old"


def holders(folder: Path) -> list[Path]:
    found = []
    for path in Path("/proc").iterdir():
        try:
            if path.name.isdigit() and str(folder) in (path / "mountinfo").read_text():
                found.append(path)
        except OSError:
            continue
    return found


def test_large_workspace_is_refused_if_overlays_are_unavailable(workspace, monkeypatch):
    def none(*_: object) -> Overlay:
        raise NoOverlay("user namespaces are forbidden")

    monkeypatch.setattr("orchestrator_cli.workspace.folder.Overlay", none)
    with pytest.raises(UsageError, match=r"holds 2 MB.*user namespaces are forbidden") as caught:
        workspace.checkout()
    assert "workspace_max_mb" in caught.value.remedy


def test_a_small_workspace_is_copied(root, tmp_path):
    with Workspace(root, tmp_path / "home", 10).checkout() as checkout:
        assert isinstance(checkout, Checkout)
        assert checkout.entrance == ()


def test_user_process_works_in_the_whole_view(workspace: Workspace, root: Path) -> None:
    program = "import os; open('new', 'w').write(open('text').read()); print(os.path.getsize('large'))"
    with workspace.checkout() as checkout:
        assert checkout.entrance
        value = run([sys.executable, "-c", program], "{}", {}, checkout, Cancellation())
        assert not (root / "new").exists()
        checkout.commit()
    assert (value, (root / "new").read_text()) == (2 << 20, "old")
