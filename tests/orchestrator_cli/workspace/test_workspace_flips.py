"""Another process changes what a name leads to, at any call of a commit: a conflict, and no other error."""

import contextlib
import itertools
import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from orchestrator_cli.errors import UsageError
from orchestrator_cli.workspace import Checkout, Conflict, Workspace

Act = Callable[[Path], object]
CALLS = ("open", "stat", "readlink", "listdir", "mkdir", "rmdir")
NAMES = ("sub", "f", "link")


def replaced(name: str, make: Act) -> Act:
    def act(root: Path) -> None:
        if os.path.lexists(root / name):
            (root / name).rename(root / "moved")
        make(root / name)

    return act


def listen(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server, pytest.MonkeyPatch.context() as patch:
        patch.chdir(path.parent)  # its path may be too long for a socket
        server.bind(path.name)


FLIPS: dict[str, Act] = {
    "the folder is gone": replaced("sub", lambda path: None),
    "the folder is a link": replaced("sub", lambda path: path.symlink_to("moved")),
    "the file is a link": replaced("sub/f", lambda path: path.symlink_to("../moved")),
    "the file is a folder": replaced("sub/f", Path.mkdir),
    "the file is a pipe": replaced("sub/f", os.mkfifo),
    "the file is a socket": replaced("sub/f", listen),
    "the link is a file": replaced("sub/link", lambda path: path.write_text("another")),
}


def relink(root: Path) -> None:
    (root / "sub/link").unlink()
    (root / "sub/link").symlink_to("elsewhere")


EDITS: dict[str, Act] = {
    "write": lambda root: (root / "sub/f").write_text("new"),
    "delete": lambda root: shutil.rmtree(root / "sub"),
    "link": relink,
}


def committed(folder: Path, edit: Act, flip: Act, at: int) -> bool | None:
    """Whether a commit succeeds if a flip comes before its call number `at`; None if it has fewer calls."""
    root = folder / "work"
    (root / "sub").mkdir(parents=True)
    (root / "sub/f").write_text("old")
    (root / "sub/link").symlink_to("f")
    with Workspace(root, folder / "home", 10, run="run-1").checkout("s") as checkout:
        edit(checkout.root)
        left = itertools.count(at, -1)
        with pytest.MonkeyPatch.context() as patch:
            for name in CALLS:
                patch.setattr(os, name, _flipping(getattr(os, name), lambda: next(left) == 0, flip, root))
            found = _outcome(checkout)
    return found if next(left) < 0 else None


def _flipping(call: Any, is_due: Callable[[], bool], flip: Act, root: Path) -> Any:
    def called(place: Any, *args: Any, **kwargs: Any) -> Any:
        is_below = kwargs.get("dir_fd") is not None and place in NAMES
        if (is_below or call is os.listdir) and is_due():
            flip(root)
        return call(place, *args, **kwargs)

    return called


def _outcome(checkout: Checkout) -> bool:
    try:
        return bool(checkout.commit())
    except Conflict:
        return False


@pytest.mark.slow
@pytest.mark.parametrize(
    ("edit", "flip"),
    [
        pytest.param(edit, flip, marks=[] if n == 0 or m == 0 else [pytest.mark.thorough])
        for n, edit in enumerate(EDITS)
        for m, flip in enumerate(FLIPS)
    ],
)
def test_a_flip_at_any_call_is_a_conflict_or_too_late(
    edit: str, flip: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/usr/bin")  # a commit looks at every folder there
    for at in itertools.count():
        if committed(tmp_path / str(at), EDITS[edit], FLIPS[flip], at) is None:
            break
    assert at > 3


def exchanged(folder: Path, at: int) -> bool:
    """Whether the whole workspace was exchanged for a link, before call number `at` of a commit."""
    root, other = folder / "work", folder / "other"
    root.mkdir(parents=True)
    other.mkdir()
    left = itertools.count(at, -1)

    def flipping(call: Any) -> Any:
        def called(*args: Any, **kwargs: Any) -> Any:
            if next(left) == 0:
                call_rename(root, folder / "moved")
                root.symlink_to(other)
            return call(*args, **kwargs)

        return called

    call_rename = os.rename
    with Workspace(root, folder / "home", 10, run="run-1").checkout("s") as checkout:
        (checkout.root / "new").write_text("new")
        with pytest.MonkeyPatch.context() as patch:
            for name in ("open", "stat", "mkdir", "fsync", "scandir", "rename"):
                patch.setattr(os, name, flipping(getattr(os, name)))
            with contextlib.suppress(UsageError):
                _outcome(checkout)
    assert list(other.iterdir()) == []
    moved = folder / "moved"
    if not moved.exists():
        return False
    assert [path.name for path in moved.iterdir()] in ([], ["new"])
    return True


@pytest.mark.thorough
def test_a_commit_never_reaches_the_folder_that_took_the_workspaces_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/usr/bin")
    for at in itertools.count(0, 5):
        if not exchanged(tmp_path / str(at), at):
            break
    assert at > 50
