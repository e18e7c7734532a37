"""A commit preserves every type of file, and never reaches outside the workspace."""

import contextlib
import os
import socket
import stat
from pathlib import Path

import pytest
from unprivileged import bound_by_modes

from orchestrator_cli.tools.files import file_tools
from orchestrator_cli.workspace import CommitLimits, Conflict, Workspace, WorkspaceFault


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "work"
    folder.mkdir()
    return folder


@pytest.fixture
def workspace(root: Path, tmp_path: Path) -> Workspace:
    return Workspace(root, tmp_path / "home", 10)


def test_empty_folders_are_created_and_deleted(workspace, root):
    (root / "old").mkdir()
    with workspace.checkout() as checkout:
        assert (checkout.root / "old").is_dir()
        (checkout.root / "old").rmdir()
        (checkout.root / "new").mkdir(mode=0o750)
        assert (checkout.changed_paths(), checkout.written_paths()) == (["new/", "old/"], ["new/"])
        changes = checkout.commit()
    assert [(c.path, c.change) for c in changes] == [("new/", "created"), ("old/", "deleted")]
    assert (root / "new").stat().st_mode & 0o777 == 0o750
    assert not (root / "old").exists()


def test_folders_are_reported_by_their_files(workspace, root):
    with workspace.checkout() as checkout:
        (checkout.root / "a/b").mkdir(parents=True)
        (checkout.root / "a/b/c").write_text("c")
        assert checkout.written_paths() == ["a/b/c"]
        assert [change.path for change in checkout.commit()] == ["a/b/c"]


@pytest.mark.parametrize("first", ["file", "folder", "link"])
@pytest.mark.parametrize("second", ["file", "folder", "link"])
def test_any_file_type_can_replace_any_other(workspace, root, first, second):
    def make(place: Path, kind: str, text: str) -> None:
        if kind == "file":
            place.write_text(text)
        elif kind == "link":
            place.symlink_to(text)
        else:
            place.mkdir()
            (place / text).write_text(text)

    make(root / "it", first, "one")
    with workspace.checkout() as checkout:
        place = checkout.root / "it"
        if first == "folder":
            (place / "one").unlink()
            place.rmdir()
        else:
            place.unlink()
        make(place, second, "two")
        checkout.commit()
    it = root / "it"
    if second == "file":
        assert it.read_text() == "two"
        assert not it.is_symlink()
    elif second == "link":
        assert str(it.readlink()) == "two"
    else:
        assert [path.name for path in it.iterdir()] == ["two"]


def test_times_modes_and_extended_attributes_are_kept(workspace, root):
    (root / "tool").write_text("x")
    (root / "tool").chmod(0o751)
    os.utime(root / "tool", ns=(10**18, 10**18))
    with workspace.checkout() as checkout:
        assert (checkout.root / "tool").stat().st_mtime_ns == 10**18
        (checkout.root / "made").write_text("y")
        os.utime(checkout.root / "made", ns=(10**18, 10**18))
        try:
            os.setxattr(checkout.root / "made", "user.note", b"kept")
        except OSError:
            pytest.skip("no extended attributes on this file system")
        checkout.commit()
    assert (root / "made").stat().st_mtime_ns == 10**18
    assert os.getxattr(root / "made", "user.note") == b"kept"


def test_planted_folder_link_is_not_followed(workspace, root, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (root / "sub").mkdir()
    with workspace.checkout() as checkout:
        (checkout.root / "sub/new").write_text("x")
        (root / "sub").rmdir()
        (root / "sub").symlink_to(outside)
        with pytest.raises(Conflict, match=r"^sub changed"):
            checkout.commit()
    assert list(outside.iterdir()) == []


def test_link_out_of_checkout_is_committed_as_link(workspace, root, tmp_path):
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/inner").write_text("secret")
    with workspace.checkout() as checkout:
        (checkout.root / "file").symlink_to(tmp_path / "secret")
        (checkout.root / "way").symlink_to(tmp_path / "folder")
        assert checkout.written_paths() == ["file", "way"]
        checkout.commit()
    assert (root / "file").is_symlink()
    assert (root / "way").is_symlink()


def test_special_files_are_skipped(workspace, root, monkeypatch):
    with workspace.checkout() as checkout, socket.socket(socket.AF_UNIX) as listening:
        os.mkfifo(checkout.root / "pipe")
        monkeypatch.chdir(checkout.root)  # a socket's path has to be short
        listening.bind("socket")
        with contextlib.suppress(PermissionError):
            os.mknod(checkout.root / "device", stat.S_IFCHR | 0o666, os.makedev(1, 3))
        assert checkout.commit() == ()
    assert list(root.iterdir()) == []


def test_modes_that_give_others_rights_are_not_committed(workspace, root):
    (root / "mine").write_text("x")
    (root / "mine").chmod(0o666)
    (root / "shared").mkdir()
    (root / "shared").chmod(0o3775)
    with workspace.checkout() as checkout:
        for name in ("tool", "mine"):
            (checkout.root / name).write_text("new")
            (checkout.root / name).chmod(0o6777)
        (checkout.root / "folder").mkdir()
        (checkout.root / "folder").chmod(0o7777)
        (checkout.root / "shared").chmod(0o7777)
        checkout.commit()
    modes = {path.name: oct(path.stat().st_mode & 0o7777) for path in root.iterdir()}
    assert modes == {"tool": "0o775", "mine": "0o775", "folder": "0o775", "shared": "0o3775"}


def test_a_mode_that_is_not_committed_is_no_change(workspace, root):
    (root / "tool").write_text("x")
    (root / "tool").chmod(0o755)
    with workspace.checkout() as checkout:
        (checkout.root / "tool").chmod(0o4757)
        assert checkout.commit() == ()
    assert (root / "tool").stat().st_mode & 0o7777 == 0o755


def test_sparse_files_count_at_their_full_length(root, tmp_path):
    workspace = Workspace(root, tmp_path / "home", 10, limits=CommitLimits(max_mb=4))
    with workspace.checkout() as checkout:
        for name in ("a", "b", "c"):
            with (checkout.root / name).open("wb") as file:
                file.truncate(2 << 20)
        for attempt in (checkout.commit, lambda: workspace.executed(checkout)):
            with pytest.raises(WorkspaceFault, match="6 MB, more than the 4 MB of commit_max_mb"):
                attempt()
        assert list(root.iterdir()) == []
        (checkout.root / "c").unlink()
        assert len(checkout.commit()) == 2


def test_so_many_files_at_once_are_refused(root, tmp_path):
    workspace = Workspace(root, tmp_path / "home", 10, limits=CommitLimits(max_files=3))
    with workspace.checkout() as checkout:
        for n in range(4):
            (checkout.root / str(n)).touch()
        with pytest.raises(WorkspaceFault, match="4 files, more than the 3 of commit_max_files"):
            checkout.commit()
        (checkout.root / "3").unlink()
        assert len(checkout.commit()) == 3


def test_protected_names_are_never_committed_at_any_depth(workspace, root):
    (root / "sub/.git").mkdir(parents=True)
    (root / "sub/.git/config").write_text("mine")
    (root / "sub/code").write_text("code")
    with workspace.checkout() as checkout:
        assert not (checkout.root / "sub/.git").exists()
        (checkout.root / "sub/code").unlink()
        (checkout.root / "sub").rmdir()
        (checkout.root / "deep").mkdir()
        (checkout.root / "deep/.env").write_text("x")
        assert checkout.refused_paths() == ["deep/.env"]
        checkout.commit()
    assert (root / "sub/.git/config").read_text() == "mine"
    assert not (root / "sub/code").exists()
    assert list((root / "deep").iterdir()) == []


def test_folder_with_protected_content_cannot_become_file(workspace, root):
    (root / "sub/.git").mkdir(parents=True)
    with workspace.checkout() as checkout:
        (checkout.root / "sub").rmdir()
        (checkout.root / "sub").write_text("a file")
        with pytest.raises(Conflict, match=r"sub/\.git"):
            checkout.commit()
    assert (root / "sub/.git").is_dir()


def test_deleted_folder_stays_if_user_added_a_file(workspace, root):
    (root / "sub").mkdir()
    (root / "sub/old").write_text("old")
    with workspace.checkout() as checkout:
        (checkout.root / "sub/old").unlink()
        (checkout.root / "sub").rmdir()
        (root / "sub/mine").write_text("mine")
        assert [change.path for change in checkout.commit()] == ["sub/old"]
    assert [path.name for path in (root / "sub").iterdir()] == ["mine"]


def test_too_deeply_nested_folders_are_refused(workspace, root):
    with workspace.checkout() as checkout:
        here = checkout.root
        for _ in range(150):
            here = here / "d"
            here.mkdir()
        with pytest.raises(WorkspaceFault, match="more than 100 nested folders"):
            checkout.commit()
    assert list(root.iterdir()) == []
    assert not checkout.root.exists()


def test_what_code_made_unreadable_is_committed_and_deleted(workspace, root):
    with bound_by_modes():
        with workspace.checkout() as checkout:
            (checkout.root / "closed").mkdir()
            (checkout.root / "closed/file").write_text("x")
            (checkout.root / "closed/file").chmod(0)
            (checkout.root / "closed").chmod(0)
            workspace.executed(checkout)
            checkout.commit()
            (checkout.root / "closed").chmod(0)
        assert not checkout.root.exists()
    assert (root / "closed/file").read_text() == "x"


def test_non_utf8_name_is_refused(workspace, root):
    with workspace.checkout() as checkout:
        (checkout.root / os.fsdecode(b"bad\xff")).write_text("x")
        with pytest.raises(WorkspaceFault, match="not a UTF-8 name"):
            checkout.commit()
    assert list(root.iterdir()) == []


def test_creating_the_same_folder_is_no_conflict(workspace, root):
    with workspace.checkout("one") as one, workspace.checkout("two") as two:
        for checkout, name in ((one, "1"), (two, "2")):
            (checkout.root / "out").mkdir()
            (checkout.root / "out" / name).write_text(name)
            checkout.commit()
    assert sorted(path.name for path in (root / "out").iterdir()) == ["1", "2"]


def test_writing_the_same_content_is_no_conflict(workspace, root):
    with workspace.checkout("one") as one, workspace.checkout("two") as two:
        for checkout in (one, two):
            (checkout.root / "it").write_text("the same")
            checkout.commit()
    assert (root / "it").read_text() == "the same"


def test_a_conflict_names_the_file_and_the_subtask_that_committed_it(workspace, root):
    (root / "it").write_text("0")
    (root / "mine").write_text("0")
    with workspace.checkout("one") as one, workspace.checkout("two") as two:
        (one.root / "it").write_text("1")
        (two.root / "it").write_text("2")
        (two.root / "mine").write_text("2")
        (two.root / "other").write_text("2")
        one.commit()
        (root / "mine").write_text("the user's")
        with pytest.raises(Conflict) as caught:
            two.commit()
    assert caught.value.paths == ["it", "mine"]
    assert caught.value.by == {"it": "one"}
    assert "it (committed by one), mine changed" in str(caught.value)
    assert not (root / "other").exists()


def test_a_change_that_keeps_size_and_time_is_noticed(workspace, root):
    (root / "it").write_text("one")
    os.utime(root / "it", ns=(10**18, 10**18))
    with workspace.checkout() as checkout:
        (checkout.root / "it").write_text("two")
        (root / "it").write_text("ONE")
        os.utime(root / "it", ns=(10**18, 10**18))
        with pytest.raises(Conflict):
            checkout.commit()
    assert (root / "it").read_text() == "ONE"


def test_change_right_after_checkout_is_noticed(workspace, root):
    for _ in range(20):
        (root / "it").write_text("one")
        with workspace.checkout() as checkout:
            (root / "it").write_text("two")
            (checkout.root / "it").write_text("six")
            with pytest.raises(Conflict):
                checkout.commit()


def test_allowed_protected_name_is_committed_but_never_the_log(root, tmp_path):
    for name in (".env.example", ".env", "fileLog.md"):
        (root / name).write_text("old")
    workspace = Workspace(root, tmp_path / "home", 10, allowed=(".env.example", "fileLog.md"))
    with workspace.checkout() as checkout:
        assert [path.name for path in checkout.root.iterdir()] == [".env.example"]
        for name in (".env.example", ".env", "fileLog.md"):
            (checkout.root / name).write_text("new")
        assert checkout.refused_paths() == [".env", "fileLog.md"]
        checkout.commit()
    assert [(root / name).read_text() for name in (".env.example", ".env", "fileLog.md")] == [
        *("new", "old", "old")
    ]
    tools = file_tools(root, (".env.example",))
    assert tools["read_file"](".env.example") == "new"
    with pytest.raises(ValueError, match="protected"):
        tools["read_file"](".env")
