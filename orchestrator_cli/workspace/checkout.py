"""A subtask's private view of the workspace, until it is committed or discarded."""

import contextlib
import os
import stat
from collections.abc import Callable, Container, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from orchestrator_cli.durable.places import Places, folder_id
from orchestrator_cli.errors import Conflict
from orchestrator_cli.events import FileChange
from orchestrator_cli.tools.file_names import canonical
from orchestrator_cli.tools.file_rules import (
    folders_above,
    hidden_at_home,
    hiding_rule,
    is_allowed,
)
from orchestrator_cli.workspace.commit import Intent, faults_of
from orchestrator_cli.workspace.entrances import Entrances
from orchestrator_cli.workspace.file_state import FileStat, FileTree, differing, display_paths
from orchestrator_cli.workspace.link_names import plain
from orchestrator_cli.workspace.overlay import Overlay, overlaid
from orchestrator_cli.workspace.tree import Root, hashed
from toolsmith.sandbox.disk import usage
from toolsmith.sandbox.removal import remove

SCRATCH = (".orch-", ".tmp")
"""Prefix and suffix of our own temporary names in a workspace."""

WORK = ".work"
UNSAFE_BITS = stat.S_ISUID | stat.S_ISGID | stat.S_ISVTX | stat.S_IWOTH


class Hidden:
    """Whether a path is neither copied into a checkout nor committed from one, judged by its last name.

    Folders are also known by what they are: those that `orch` trusts, and those of a home folder under
    another path. A walk of the workspace finds them (`enter`), and their paths are hidden from then on.
    """

    def __init__(
        self, root: Path, own: Iterable[Path], allowed: tuple[str, ...], entrances: Entrances | None = None
    ) -> None:
        """
        Args:
            root: the workspace, resolved.
            entrances: those of the workspace, if they were looked for already.
            own: what `orch` itself trusts, whether it is there or not.
            allowed: protected names that the user lets subtasks have.
        """
        self._allowed = allowed
        self._above = root.parts[1:]
        self._places = Places(own)
        self.entrances = entrances or Entrances(root)
        self._own: set[str] = set()
        """The paths in the workspace of what `orch` trusts."""
        self._secret: set[str] = set()
        self._names: dict[str, str] = {}
        """Paths of folders in the workspace, with those that they have below a home folder."""

    def __call__(self, path: str) -> bool:
        name = path.rpartition("/")[2]
        return self.protects(path) or (name.startswith(SCRATCH[0]) and name.endswith(SCRATCH[1]))

    def protects(self, path: str) -> bool:
        if (self._own or self._secret) and plain(path) in self._own | self._secret:
            return True
        folder, _, name = path.rpartition("/")
        around = self._names.get(folder)
        return (
            hiding_rule(path, self._allowed, self._above) is not None
            or (around is not None and hidden_at_home(f"{around}/{name}".strip("/"), self._allowed))
            or (self.entrances.hides(path, self._allowed) and not is_allowed(path.split("/"), self._allowed))
        )

    def enter(self, path: str, folder: int) -> bool:
        """Learn what is below an open folder of the workspace; returns whether the folder itself is shown."""
        found = folder_id(folder)
        self._own |= {plain(f"{path}/{rest}".strip("/")) for rest in self._places.below(found)}
        at_home = self.entrances.at_home.get(found) if found is not None else None
        name = at_home[1] if at_home is not None else None
        if name is not None:
            self._names[path] = name
        return not path or (
            plain(path) not in self._own and not (name and hidden_at_home(name, self._allowed))
        )

    def hide(self, path: str) -> bool:
        """Hide a file for what it holds, unless the user allows its name; returns whether it is hidden."""
        if not is_allowed([*self._above, *path.split("/")], self._allowed):
            self._secret.add(plain(path))
            return True
        return False

    def turns_aside(self, path: str) -> bool:
        """Whether a link at a path would lead what `orch` trusts elsewhere."""
        return any(own.startswith(f"{plain(path)}/") for own in self._own)


CACHES = frozenset({"__pycache__", ".pytest_cache", ".mypy_cache", ".ruff_cache"})
"""Folders of what a tool makes again by itself. Python even runs its own instead of the source."""


def is_cache(path: str) -> bool:
    """Whether a path is, or is in, a folder of `CACHES`."""
    return not CACHES.isdisjoint(map(canonical, path.split("/")))


def work_of(folder: Path) -> Path:
    """The folder beside a checkout's that its overlay needs for itself."""
    return folder.with_name(f"{folder.name}{WORK}")


class Checkout:
    """A private view; `root` is its folder, for the host.

    As a context manager, leaving it discards what was not committed.
    """

    def __init__(
        self,
        root: Path,
        *,
        base: FileTree,
        concealed: tuple[str, ...],
        copied: FileTree,
        holder: int,
        overlay: Overlay | None = None,
        hidden: Hidden,
        author: tuple[str, int],
        commit: "Callable[[Checkout, Container[str] | None], tuple[FileChange, ...]]",
    ) -> None:
        """
        Args:
            root: the checkout's folder.
            base: the user's files when the checkout was opened.
            concealed: the paths that were hidden from it.
            copied: the same files as they were in `root` then.
            holder: a descriptor whose lock marks the folder as in use; `discard` closes it.
            overlay: the view over that folder, which then holds only what was changed.
        """
        self.folder = root
        """The folder for a sandbox, which enters the overlay if there is one."""
        self.root = root if overlay is None else overlay.view
        """The whole view for the host."""
        self._overlay = overlay
        self.base = base
        self.concealed = concealed
        self.copied = copied
        self.subtask, self.attempt = author
        self._holder: int | None = holder
        self._hidden = hidden
        self._commit = commit

    def now(self) -> FileTree:
        """The current content of `root`, without the caches that were made there.

        Raises `WorkspaceFault` if folders are nested too deep.

        What code made unreadable for its owner is made readable first.
        """
        with contextlib.suppress(PermissionError):
            found = self._read()
            if all(state.target or state.mode & stat.S_IRUSR for state in found.values()):
                return found
        usage([self.folder])
        return self._read()

    def _read(self) -> FileTree:
        with Root(self.folder) as tree:
            if self._overlay is not None:
                found = overlaid(self.copied, tree, self._hidden)
            else:
                found = dict(tree.walk(self._hidden))
        # It is made again, and Python would run its own instead of the source: it may go, but not change.
        kept = {path: self.copied.get(path) for path in found if is_cache(path)}
        return {path: now for path, state in found.items() if (now := kept.get(path, state)) is not None}

    @property
    def entrance(self) -> tuple[str, ...]:
        """The prefix of a sandbox's command that enters the overlay; empty for a copy."""
        return self._overlay.entrance if self._overlay is not None else ()

    def written_paths(self, changed: Sequence[str] | None = None) -> list[str]:
        """Those of `changed_paths` that are still there; `changed` are those, if they are known."""
        paths = self.changed_paths() if changed is None else changed
        with Root(self.root) as tree:
            return [path for path in paths if tree.stat(path.rstrip("/")) is not None]

    def changed_paths(self) -> list[str]:
        """Paths created, written or deleted in this view, sorted, without protected ones.

        A file rewritten with its old content counts, since the work was done. A folder, shown as
        `name/`, counts only if nothing in it does.
        """
        now = self.now()
        return display_paths(differing(self.copied, now), self.copied, now)

    def refused_paths(self) -> list[str]:
        """Protected files that were written in this view and will not be committed, sorted."""
        with Root(self.folder) as tree:
            found = (path for path, _ in tree.walk(lambda _: False))
            rows = sorted(filter(self._hidden.protects, found))
        return [path for path in rows if not any(map(self._hidden.protects, folders_above(path)))]

    def commit(self, approved: Container[str] | None = ()) -> tuple[FileChange, ...]:
        """Move all changes into the workspace. Raises `Conflict` or `WorkspaceFault`, nothing changed.

        `approved`: the roots of `Workspace.executed` that a person agreed to; None for all there are.
        """
        return self._commit(self, approved)

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


def with_safe_mode(state: FileStat, before: FileStat | None) -> FileStat:
    """A state as it is committed: no set-id and sticky bits, and not writable for everyone.

    A folder keeps those that it had.
    """
    if state.target:
        return state
    kept = before.mode if before is not None and before.is_folder and state.is_folder else 0
    return replace(state, mode=state.mode & ~(UNSAFE_BITS & ~kept))


def intents_of(checkout: Checkout, tree: Root) -> list[Intent]:
    """The changes of a checkout to commit into `tree`. Raises `Conflict` with every path that conflicts.

    Not a conflict: a folder that both created, a path that both deleted, a file that both wrote with
    the same content. A folder that the subtask deleted stays if it holds something else now.
    """
    return _Comparison(tree, checkout).intents()


class _Comparison:
    """Compares three states of each path: at the checkout, in the checkout now, in the workspace now."""

    def __init__(self, tree: Root, checkout: Checkout) -> None:
        self._tree = tree
        self._checkout = checkout
        now = checkout.now()
        self._changed = differing(checkout.copied, now)
        # Only what changed: the user's own files keep the modes that they have.
        masked = {
            path: with_safe_mode(now[path], checkout.base.get(path)) for path in self._changed if path in now
        }
        self._now = {**now, **masked}
        self._deleted = {path for path in self._changed if path not in self._now}
        self._created = {path for path in self._changed if path in self._now and self._now[path].is_folder}

    def intents(self) -> list[Intent]:
        found: list[Intent] = []
        conflicts: list[str] = []
        with Root(self._checkout.root) as source:
            # The deepest first: whether a folder stays is known before the folder around it.
            for path in reversed(self._changed):
                with faults_of(path):
                    current = self._tree.stat(path)
                    if current != self._checkout.base.get(path):
                        if not self._agree(source, path, current):
                            conflicts.append(path)
                    elif blocking := self._blocking(path, current):
                        conflicts += blocking
                    elif not self._stays(path, current):
                        found.append(self._intent(path, current))
        if conflicts:
            raise Conflict(sorted(set(conflicts)))
        return found

    def _intent(self, path: str, current: FileStat | None) -> Intent:
        after = self._now.get(path)
        if after is None or not after.is_file:
            return Intent(path, current, after)
        root = self._checkout.root

        def open_source() -> int:
            with Root(root) as source:
                return source.open_file(path)

        return Intent(path, current, after, open_source)

    def _agree(self, source: Root, path: str, current: FileStat | None) -> bool:
        """Whether others and the subtask made the same of a path."""
        after = self._now.get(path)
        if current is None or after is None:
            return current is after
        if current.is_folder and after.is_folder:
            return path not in self._checkout.base
        if (current.mode, current.size, current.target) != (after.mode, after.size, after.target):
            return False
        return not current.is_file or _hash_of(self._tree, path) == _hash_of(source, path)

    def _blocking(self, path: str, current: FileStat | None) -> list[str]:
        """Changes of others around a path that keep it from being written."""
        after = self._now.get(path)
        if after is None:
            return []
        parent = path.rpartition("/")[0]
        around = self._tree.stat(parent) if parent else None
        if parent and parent not in self._created and (around is None or not around.is_folder):
            return [parent]
        if current is not None and current.is_folder and not after.is_folder:
            return self._others(path)
        return []

    def _stays(self, path: str, current: FileStat | None) -> bool:
        """Whether a folder that the subtask deleted holds files of others."""
        if current is None or not current.is_folder or path in self._now or not self._others(path):
            return False
        self._deleted.discard(path)
        return True

    def _others(self, folder: str) -> list[str]:
        """The content of a folder that the subtask did not delete."""
        with self._tree.folder(folder) as fd:
            below = [f"{folder}/{name}" for name in os.listdir(fd)]  # noqa: PTH208
        return [path for path in below if path not in self._deleted]


def _hash_of(tree: Root, path: str) -> str:
    fd = tree.open_file(path)
    try:
        return hashed(fd)
    finally:
        os.close(fd)
