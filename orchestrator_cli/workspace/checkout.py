"""A subtask's private view of the workspace, until it is committed or discarded."""

import contextlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from orchestrator_cli.events import FileChange
from orchestrator_cli.tools.files import is_protected
from orchestrator_cli.workspace.marks import Tree, differing, telling
from orchestrator_cli.workspace.overlay import Overlay, overlaid
from orchestrator_cli.workspace.tree import Root, remove

SCRATCH = (".orch-", ".tmp")
"""How names of ours begin and end that stand in a workspace for a moment."""

WORK = ".work"


@dataclass(frozen=True)
class Hidden:
    """Says of a path whether it is neither copied into a checkout nor committed from one.

    Its last name decides; `allowed` are protected names that the user lets subtasks have.
    """

    allowed: tuple[str, ...] = ()

    def __call__(self, path: str) -> bool:
        name = path.rpartition("/")[2]
        return self.protects(name) or (name.startswith(SCRATCH[0]) and name.endswith(SCRATCH[1]))

    def protects(self, name: str) -> bool:
        return is_protected(name, self.allowed)


def work_of(folder: Path) -> Path:
    """Where an overlay over a checkout's folder has its own things."""
    return folder.with_name(f"{folder.name}{WORK}")


class Checkout:
    """A private view; `root` is its folder, for the host.

    As a context manager, leaving it discards what was not committed.
    """

    def __init__(
        self,
        root: Path,
        *,
        base: Tree,
        copied: Tree,
        holder: int,
        overlay: Overlay | None = None,
        hidden: Hidden,
        author: tuple[str, int],
        commit: "Callable[[Checkout], tuple[FileChange, ...]]",
    ) -> None:
        """`root`: its folder; `holder`: a descriptor whose lock says that it is in use, closed by `discard`.

        `overlay`: the view over that folder, which then holds only what was changed.
        """
        self.folder = root
        """The folder as a sandbox is given it, which enters the overlay where there is one."""
        self.root = root if overlay is None else overlay.view
        """The whole view for the host."""
        self._overlay = overlay
        self.base = base
        """The user's files as they were when the checkout was opened."""
        self.copied = copied
        """The same files as they lay in `root` then."""
        self.subtask, self.attempt = author
        self._holder: int | None = holder
        self._hidden = hidden
        self._commit = commit

    def now(self) -> Tree:
        """What lies in `root`. Raises `WorkspaceFault` where folders are nested too deep."""
        with Root(self.folder) as tree:
            if self._overlay is not None:
                return overlaid(self.copied, tree, self._hidden)
            return dict(tree.walk(self._hidden))

    @property
    def entrance(self) -> tuple[str, ...]:
        """What the command of a sandbox has to begin with; nothing where the checkout is a copy."""
        return self._overlay.entrance if self._overlay is not None else ()

    def written_paths(self) -> list[str]:
        """What was created, written or deleted in this view, sorted; protected paths are left out.

        A file that was written again with the content it had counts: the work was done. A folder,
        told as `name/`, counts where nothing in it does.
        """
        now = self.now()
        return telling(differing(self.copied, now), self.copied, now)

    def refused_paths(self) -> list[str]:
        """Protected files that were written in this view and will not be committed, sorted."""
        with Root(self.folder) as tree:
            found = (path for path, _ in tree.walk(lambda _: False))
            rows = sorted(path for path in found if self._hidden.protects(path.rpartition("/")[2]))
        return [path for path in rows if not any(map(self._hidden.protects, path.split("/")[:-1]))]

    def commit(self) -> tuple[FileChange, ...]:
        """Bring all changes into the workspace. Raises `Conflict` or `WorkspaceFault`, nothing changed."""
        return self._commit(self)

    def discard(self) -> None:
        """Remove the view. Idempotent."""
        if self._overlay is not None:
            self._overlay.close()
        remove(self.folder)
        remove(work_of(self.folder))
        if self._holder is not None:
            with contextlib.suppress(OSError):
                os.close(self._holder)
            self._holder = None

    def __enter__(self) -> "Checkout":
        return self

    def __exit__(self, *_: object) -> None:
        self.discard()
