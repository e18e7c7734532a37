"""A checkout by copying: with shared blocks where the file system has them."""

import contextlib
import os
import stat
from pathlib import Path

from orchestrator_cli.errors import UsageError
from orchestrator_cli.workspace.faults import WorkspaceFault
from orchestrator_cli.workspace.marks import Mark, Tree
from orchestrator_cli.workspace.tree import Root, clone, dress


def copy_tree(source: Path, target: Path, marks: Tree) -> Tree:
    """Copy what `marks` names into an empty folder of our own; returns the marks of what was copied.

    What vanishes or becomes something else meanwhile is left out. Raises `UsageError` for what
    cannot be read, and for a disk that is full.
    """
    copied: dict[str, Mark] = {}
    path = ""
    try:
        with Root(source) as tree:
            for path, mark in marks.items():
                with contextlib.suppress(FileNotFoundError, NotADirectoryError, WorkspaceFault):
                    _copy(tree, path, mark, target / path)
                    copied[path] = mark
        for path, mark in reversed(copied.items()):
            if mark.is_folder:
                (target / path).chmod(stat.S_IMODE(mark.mode))
    except OSError as exc:
        raise UsageError(
            f"{path} in the workspace {source} cannot be copied: {exc.strerror}.",
            "Mend its permissions, free some disk space, or choose another folder with -C.",
        ) from exc
    return copied


def _copy(tree: Root, path: str, mark: Mark, target: Path) -> None:
    if mark.is_folder:
        target.mkdir(mode=0o700)
    elif mark.target:
        target.symlink_to(mark.target)
    else:
        _copy_file(tree, path, mark, target)


def _copy_file(tree: Root, path: str, mark: Mark, target: Path) -> None:
    source = tree.open_file(path)
    try:
        made = os.open(target, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            clone(source, made)
            dress(source, made, mark.mode, mark.mtime_ns)
        finally:
            os.close(made)
    finally:
        os.close(source)
