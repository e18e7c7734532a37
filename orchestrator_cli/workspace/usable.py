"""Which folders a run may work on, and the one that it works on: an open folder, not a name."""

import uuid
from pathlib import Path

from orchestrator_cli.durable.encodings import is_utf8
from orchestrator_cli.durable.held_folder import HeldFolder
from orchestrator_cli.errors import UsageError
from orchestrator_cli.same_folder import check_same
from orchestrator_cli.tools.file_rules import hidden_at, is_git_folder
from orchestrator_cli.workspace.entrances import Entrances, real_folder
from orchestrator_cli.workspace.tree import Root

GIT_NAMES = ("HEAD", "config", "objects", "refs", "commondir")
"""By which `is_git_folder` knows one."""


class WorkFolder:
    """The folder of a run. What a run reads and writes there goes through `open`, never through its path."""

    def __init__(self, path: Path, mark: str = "") -> None:
        """Raises `UsageError` if it cannot be opened, or is not the folder with the mark."""
        self.path = path
        try:
            self.held = HeldFolder(path)
        except OSError as exc:
            raise UsageError(
                f"The folder {path} cannot be opened: {exc.strerror}.",
                "Fix its permissions, or name another one with -C.",
            ) from exc
        check_same(path, mark, fd=self.held.fd)

    def check(self, other: HeldFolder | None = None) -> None:
        """Raise `UsageError` if its path leads to another folder now, or did when `other` was opened."""
        if not self.held.is_there() or (other is not None and other.id != self.held.id):
            raise UsageError(
                f"The workspace {self.path} is not the folder any more that the run began in: it was moved, "
                "replaced or deleted meanwhile.",
                "Nothing was read from or written to what is there now. Put the folder back, or name its new "
                "place with -C.",
            )

    def open(self) -> Root:
        """The folder, open once more, whatever its path leads to later. Raises as `check`, and `OSError`."""
        self.check()
        return Root(self.path, self.held.fd)


def check_folder(root: Path, entrances: Entrances | None = None) -> Path:
    """The `real_folder`. Raises `UsageError` if it does not exist, is a file, or holds credentials."""
    if not root.exists():
        raise UsageError(f"There is no folder {root}.", "Create it, or name another one with -C.")
    if not root.is_dir():
        raise UsageError(f"{root} is a file, not a folder.", "Name a folder with -C.")
    entrances = entrances or Entrances(root.resolve())
    found = real_folder(root, entrances)
    if not is_utf8(str(found)):
        raise UsageError(f"The path {found} is not UTF-8.", "Rename it, or name another folder with -C.")
    names = str(found), *(name for name, _ in entrances.names(""))
    if rule := next(filter(None, map(hidden_at, names)), None):
        raise UsageError(
            f"{root} is hidden from runs, so no run works there: {rule.why}.", "Name another folder with -C."
        )
    if folder := _git_folder_around(root.resolve()):
        raise UsageError(
            f"{folder} is a git repository without a work tree, so no run works in {root}: git runs what its "
            "settings and hooks name.",
            "Name another folder with -C, such as a clone of it.",
        )
    return found


def _git_folder_around(root: Path) -> Path | None:
    """The folder that git takes for its own and that a folder is or is in, unless a work tree is between."""
    for folder in (root, *root.parents):
        if (folder / ".git").exists():
            return None
        if is_git_folder(name for name in GIT_NAMES if (folder / name).exists()):
            return folder
    return None


def usable_folder(root: Path, entrances: Entrances) -> Path:
    """The folder, resolved. Raises `UsageError` if it cannot be written to."""
    found = check_folder(root, entrances)
    # os.access is wrong for root and for read-only mounts, so try a write.
    probe = root / f".orch-{uuid.uuid4().hex[:12]}.tmp"
    try:
        probe.touch()
        probe.unlink()
    except OSError as exc:
        raise UsageError(
            f"The folder {root} cannot be written to: {exc.strerror}.",
            "Fix its permissions, or name another one with -C.",
        ) from exc
    return found
