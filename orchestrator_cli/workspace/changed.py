"""Files that a run made and that are no longer as it left them: what a resumed run has to know first."""

from collections.abc import Sequence
from dataclasses import dataclass

from orchestrator_cli.workspace.history import Author, CommitRecord, not_undone
from orchestrator_cli.workspace.tree import Root
from orchestrator_cli.workspace.undo import entry_at


@dataclass(frozen=True)
class ChangedFile:
    """A file or link whose content is not that of the newest commit to its path."""

    path: str
    author: Author
    sha256: str
    """Of what is there now; empty if the path is gone."""

    def __str__(self) -> str:
        return f"{self.path} (of {self.author.subtask}) {'was changed' if self.sha256 else 'is gone'}"


def changed_files(records: Sequence[CommitRecord], tree: Root) -> list[ChangedFile]:
    """What is gone or changed of what these commits made, sorted by path. Modes and times do not count."""
    newest = {
        change.path: (record.author, change.after)
        for record in not_undone(records)
        for change in record.changes
    }
    found = []
    for path, (author, made) in sorted(newest.items()):
        if made is None or made.type == "folder":
            continue
        now = entry_at(tree, path)
        if now is None or (now.type, now.sha256) != (made.type, made.sha256):
            found.append(ChangedFile(path, author, now.sha256 or now.type if now is not None else ""))
    return found
