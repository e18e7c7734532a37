"""What a checkout wants of the workspace, and where that conflicts with what others did meanwhile."""

import os

from orchestrator_cli.workspace.checkout import Checkout
from orchestrator_cli.workspace.commit import Intent
from orchestrator_cli.workspace.faults import Conflict
from orchestrator_cli.workspace.marks import Mark, differing
from orchestrator_cli.workspace.tree import Root, hashed


class Intents:
    """Compares three states of each path: at the checkout, in the checkout now, in the workspace now.

    No conflict: a folder that both made, a path that both deleted, a file that both wrote with
    the same content. A folder that the subtask deleted stays where it holds something else now.
    """

    def __init__(self, tree: Root, checkout: Checkout) -> None:
        self._tree = tree
        self._checkout = checkout
        self._now = checkout.now()
        self._changed = differing(checkout.copied, self._now)
        self._gone = {path for path in self._changed if path not in self._now}
        self._made = {path for path in self._changed if path in self._now and self._now[path].is_folder}

    def all(self) -> list[Intent]:
        """What is to be done. Raises `Conflict` naming every path that cannot."""
        found: list[Intent] = []
        conflicts: list[str] = []
        with Root(self._checkout.root) as source:
            # The deepest first: a folder that stays is known before the folder around it.
            for path in reversed(self._changed):
                current = self._tree.mark(path)
                if current != self._checkout.base.get(path):
                    if not self._agree(source, path, current):
                        conflicts.append(path)
                    continue
                if barred := self._barred(path, current):
                    conflicts += barred
                elif not self._stays(path, current):
                    found.append(self._intent(path, current))
        if conflicts:
            raise Conflict(sorted(set(conflicts)))
        return found

    def _intent(self, path: str, current: Mark | None) -> Intent:
        after = self._now.get(path)
        if after is None or not after.is_file:
            return Intent(path, current, after)
        root = self._checkout.root

        def open_source() -> int:
            with Root(root) as source:
                return source.open_file(path)

        return Intent(path, current, after, open_source)

    def _agree(self, source: Root, path: str, current: Mark | None) -> bool:
        """Whether what others made of a path is what the subtask made of it too."""
        after = self._now.get(path)
        if current is None or after is None:
            return current is after
        if current.is_folder and after.is_folder:
            return path not in self._checkout.base
        if (current.mode, current.size, current.target) != (after.mode, after.size, after.target):
            return False
        return not current.is_file or _hash_of(self._tree, path) == _hash_of(source, path)

    def _barred(self, path: str, current: Mark | None) -> list[str]:
        """What others did around a path that keeps it from being written."""
        after = self._now.get(path)
        if after is None:
            return []
        parent = path.rpartition("/")[0]
        around = self._tree.mark(parent) if parent else None
        if parent and parent not in self._made and (around is None or not around.is_folder):
            return [parent]
        if current is not None and current.is_folder and not after.is_folder:
            return self._others(path)
        return []

    def _stays(self, path: str, current: Mark | None) -> bool:
        """Whether a folder that the subtask deleted holds what it did not know of."""
        if current is None or not current.is_folder or path in self._now or not self._others(path):
            return False
        self._gone.discard(path)
        return True

    def _others(self, folder: str) -> list[str]:
        """What lies in a folder and is not deleted by the subtask."""
        with self._tree.folder(folder) as fd:
            below = [f"{folder}/{name}" for name in os.listdir(fd)]  # noqa: PTH208
        return [path for path in below if path not in self._gone]


def _hash_of(tree: Root, path: str) -> str:
    fd = tree.open_file(path)
    try:
        return hashed(fd)
    finally:
        os.close(fd)
