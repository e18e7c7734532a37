"""How work on a workspace can fail without anything being changed."""

from collections.abc import Iterable, Mapping


class Conflict(Exception):
    """Somebody else changed files that this subtask changed too."""

    def __init__(self, paths: Iterable[str], by: Mapping[str, str] | None = None) -> None:
        """`by`: which subtask committed a path, where it was one of this run."""
        self.paths = list(paths)
        self.by = dict(by or {})
        named = (f"{p} (committed by {self.by[p]})" if p in self.by else p for p in self.paths)
        super().__init__(f"{', '.join(named)} changed in the workspace while the subtask worked on it")


class WorkspaceFault(Exception):
    """The workspace or a checkout cannot be read or written as it has to be; the message says where."""


class TargetChanged(Exception):
    """In the middle of a commit, a path turned out to be other than it was a moment before."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.path = path
