"""The rule for folders that were named before they are opened: the folder has to be the same one.

Settings are read from a folder, a schedule is made for it, a session or a server works on it. What opens it
by its path later compares its mark, see `durable.held_folder`, and does nothing in another folder.
"""

from pathlib import Path

from orchestrator_cli.durable.held_folder import has_mark
from orchestrator_cli.errors import UsageError

REMEDY = (
    "Nothing was read from or written to what is there now. Put the folder back, or start orch again in the "
    "one that you mean."
)


class FolderReplaced(UsageError):
    """A path leads to another folder than before, or to none."""


def check_same(folder: Path, mark: str, *, fd: int | None = None, remedy: str = REMEDY) -> None:
    """Raise `FolderReplaced` if a folder is not the one with the mark. An empty mark is that of any.

    Args:
        fd: a descriptor of the folder, if it is open.
        remedy: what the user does if the other folder is meant.
    """
    if not has_mark(folder if fd is None else fd, mark):
        raise FolderReplaced(
            f"{folder} is not the folder any more that it was: it was moved, replaced or deleted since.",
            remedy,
        )
