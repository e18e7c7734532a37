"""The folder that a run works on: checkouts of it, and commits into it, one at a time.

A lock file next to the state of `orch` is held exclusively during a commit, and shared while a
checkout is taken, so that no checkout holds half of a commit. All processes of a home share it.
"""

import contextlib
import functools
import hashlib
import os
import sys
import time
import uuid
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from pathlib import Path

from orchestrator_cli.cancellation import Cancellation
from orchestrator_cli.durable.held_folder import HeldFolder
from orchestrator_cli.durable.locks import LockTimeout, acquire
from orchestrator_cli.durable.storage import too_small
from orchestrator_cli.errors import Conflict, StorageFault, UsageError, WorkspaceFault
from orchestrator_cli.events import FileChange
from orchestrator_cli.same_folder import check_same
from orchestrator_cli.tools.file_rules import folders_above
from orchestrator_cli.workspace.checkout import (
    SCRATCH,
    WORK,
    Checkout,
    Hidden,
    intents_of,
    is_cache,
    work_of,
)
from orchestrator_cli.workspace.commit import (
    USUAL_LIMITS,
    CommitLimits,
    Commits,
    Intent,
    faults_of,
    lock_folder,
)
from orchestrator_cli.workspace.contents import ManifestReader, holds_secret
from orchestrator_cli.workspace.entrances import Entrances
from orchestrator_cli.workspace.executes import Changed, Executed
from orchestrator_cli.workspace.file_state import FileStat, FileTree, differing, file_changes
from orchestrator_cli.workspace.history import Author, CommitHistory, read_record, write_record
from orchestrator_cli.workspace.listing import FileListing, listing
from orchestrator_cli.workspace.overlay import NoOverlay, Overlay, hide
from orchestrator_cli.workspace.tree import Root, copy_tree
from orchestrator_cli.workspace.usable import WorkFolder, usable_folder
from toolsmith.sandbox.removal import remove

LOCK_WAIT_S = 120.0
UNNAMED = "unnamed"
COPIED_FILES = 5_000
"""More are shown by an overlay if that works here: a copy takes 0.1 ms and more for each."""
_COARSE = 5  # CLOCK_REALTIME_COARSE, the clock of file times


class Workspace:
    """The folder that a run works on. Opening it completes or reverts an interrupted commit.

    Raises `UsageError` if it cannot be used.
    """

    def __init__(
        self,
        root: Path,
        state: Path,
        max_mb: int,
        *,
        run: str = UNNAMED,
        own: tuple[Path, ...] = (),
        allowed: tuple[str, ...] = (),
        limits: CommitLimits = USUAL_LIMITS,
        cancellation: Cancellation | None = None,
        mark: str = "",
    ) -> None:
        """
        Args:
            state: the home of `orch`.
            mark: of the folder that `root` has to be.
            max_mb: the size up to which the workspace is copied.
            run: the run whose history keeps what commits replace.
            own: what `orch` trusts besides `state`; no subtask sees or makes it.
            allowed: protected names that subtasks may read and write.
            limits: how much a commit of a checkout may change.
            cancellation: ends the check of a commit at once.
        """
        check_same(root, mark)
        entrances = Entrances(root.resolve())
        self.root = usable_folder(root, entrances)
        self._folder = WorkFolder(self.root, mark)
        self._allowed = allowed
        self._limits = limits
        self._cancellation = cancellation
        self._hidden = Hidden(self.root, (state, *own), allowed, entrances)
        self._run = run
        self._history = history_folder(state, run)
        self._copy_bytes = max_mb << 20
        self._digest = hashlib.sha256(str(self.root).encode()).hexdigest()[:16]
        self._lock_path = state / "locks" / f"workspace-{self._digest}.lock"
        self._checkouts = state / "checkouts"
        # Two homes that work on one folder must not take each other's staging folders for their own.
        home = hashlib.sha256(str(state.resolve()).encode()).hexdigest()[:8]
        pending = pending_commit(self.root, state)
        self._commits = Commits(
            self._folder,
            pending,
            f"{SCRATCH[0]}{home}-",
            lambda name: CommitHistory(history_folder(state, name)),
        )
        self._committed: dict[str, tuple[str, FileStat | None]] = {}
        self.recovered: tuple[str, ...] = ()
        """Repairs done at the opening, for people."""
        if self._is_left_over():
            with self.locked():
                self.recovered = tuple(self._commits.recover())
                self._sweep()

    def check(self) -> None:
        """Raise `UsageError` if the path leads to another folder than when the workspace was opened."""
        self._folder.check()

    def check_is(self, folder: HeldFolder) -> None:
        """Raise as `check` if an open folder, which was opened by the same path, is another one."""
        self._folder.check(folder)

    def tree(self) -> Root:
        """The folder, open, whatever its path leads to later. Raises as `check`, and `OSError`."""
        return self._folder.open()

    @property
    def mark(self) -> str:
        """By which another process knows the folder: see `held_folder`."""
        return self._folder.held.mark

    @property
    def fd(self) -> int:
        """A descriptor of the folder, until it is closed."""
        return self._folder.held.fd

    def close(self) -> None:
        self._folder.held.close()

    def listing(self, request: str = "", mask: Callable[[str], str] = str) -> FileListing:
        """The user's own files, for a planner, first those that the request names.

        `mask` is applied to how they begin.
        """
        with self._readable(), self.tree() as tree:
            return listing(tree, self._hidden, self._hidden.enter, request, mask)

    def holds(self, path: str) -> bool:
        """Whether there is something at a path that a run may see."""
        parts = path.strip("/").removeprefix("./")
        with contextlib.suppress(OSError), self.tree() as tree:
            ways = [*folders_above(parts), parts][1:]
            return not any(map(self._hidden, ways)) and tree.stat(parts) is not None
        return False

    def written(self) -> frozenset[str]:
        """The paths that commits of this run wrote, in any process."""
        records = CommitHistory(self._history).records()
        return frozenset(change.path for record in records for change in record.changes if change.after)

    def checkout(self, subtask: str = "", attempt: int = 1) -> Checkout:
        """A private view: a copy up to the set size and `COPIED_FILES`, beyond them an overlay.

        Raises `UsageError` if the workspace is too large to copy and overlays do not work here.
        """
        with self.locked(shared=True):
            concealed: list[str] = []
            base = self._walk(concealed)
            size = sum(state.size for state in base.values())
            root = self._checkouts / f"{self._digest}-{uuid.uuid4().hex}"
            root.mkdir(parents=True, mode=0o700)
            holder = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            lock_folder(holder)
            overlay = None
            try:
                wait_for_clock_tick(base)
                if size > self._copy_bytes or len(base) > COPIED_FILES:
                    overlay = self._overlay(root, base, concealed, size)
                if overlay is not None:
                    copied = base
                else:
                    with self.tree() as tree:
                        base = copy_tree(tree, root, base)
                    with Root(root) as tree:
                        copied = dict(tree.walk(self._hidden))
                    wait_for_clock_tick(copied)
            except BaseException:
                remove(root)
                os.close(holder)
                raise
        return Checkout(
            root,
            base=base,
            concealed=tuple(concealed),
            copied=copied,
            holder=holder,
            overlay=overlay,
            hidden=self._hidden,
            author=(subtask, attempt),
            commit=self.commit,
        )

    def _overlay(self, root: Path, base: FileTree, concealed: list[str], size: int) -> Overlay | None:
        """None if it does not work here and the workspace is small enough for a copy."""
        work = work_of(root)
        work.mkdir(mode=0o700)
        try:
            user = os.geteuid()
            if foreign := next((p for p, s in base.items() if not s.is_folder and s.owner != user), ""):
                raise NoOverlay(f"{foreign} belongs to another user")
            with self.tree() as tree:
                hide(tree, root, concealed)
                return Overlay(tree, root, work)
        except (NoOverlay, OSError) as exc:
            remove(work)
            if size <= self._copy_bytes:
                for made in root.iterdir():
                    remove(made)
                return None
            raise UsageError(
                f"The workspace {self.root} holds {size >> 20} MB, more than the {self._copy_bytes >> 20} MB "
                f"that are copied for a subtask, and cannot be mounted instead: {exc}.",
                "Choose a smaller folder with -C, or raise workspace_max_mb.",
            ) from exc

    def executed(self, checkout: Checkout) -> tuple[Executed, ...]:
        """What a checkout changes that is executed or obeyed later.

        Raises `Conflict`, and `WorkspaceFault`, also if it changes more than the limits allow.
        """
        now = checkout.now()
        paths = differing(checkout.copied, now)
        self._check({path: now.get(path) for path in paths})
        with faults_of(), self.tree() as tree:
            return self._executed(checkout, tree, now, paths)

    def _executed(
        self, checkout: Checkout, tree: Root, now: FileTree, paths: list[str]
    ) -> tuple[Executed, ...]:
        # Links of other subtasks, since the checkout was taken.
        since = {path: state.target for path, (_, state) in self._committed.items() if state and state.target}
        with Root(checkout.root) as after, ManifestReader(self._cancellation) as manifests:
            made = functools.cache(self._made)
            return Changed(
                [path for path in paths if not is_cache(path)],  # which can only be deleted
                before=tree,
                after=after,
                manifests=manifests,
                entrances=self._hidden.entrances,
                now=now,
                was=checkout.base,
                concealed=checkout.concealed,
                links=since,
                allowed=self._allowed,
                is_new=lambda path: path in made(),
            ).executed()

    def _made(self) -> frozenset[str]:
        """The paths that this run created: the first change of each says what was there before."""
        rows = [change for record in CommitHistory(self._history).records() for change in record.changes]
        first = {change.path: change.before for change in reversed(rows)}
        return frozenset(path for path, before in first.items() if before is None)

    def commit(self, checkout: Checkout, approved: Container[str] | None = ()) -> tuple[FileChange, ...]:
        """Commit a checkout's changes. Raises `Conflict` or `WorkspaceFault`, with nothing changed.

        Raises `StorageFault` if they do not fit on the disk. `approved`: the roots of `executed` that a
        person agreed to; None for all there are.
        """
        author = Author(run=self._run, subtask=checkout.subtask, attempt=checkout.attempt)
        with self.locked(), faults_of(), self.tree() as tree:
            self._commits.recover()
            try:
                intents = intents_of(checkout, tree)
                self._check_room((intent.before, intent.after) for intent in intents)
                self._check({intent.path: intent.after for intent in intents})
                if approved is not None:
                    self._check_approved(checkout, tree, [intent.path for intent in intents], approved)
                changes = self._commits.commit(author, intents)
            except Conflict as exc:
                raise Conflict(exc.paths, self._authors(tree, exc.paths)) from exc
            for change in changes:
                with contextlib.suppress(OSError):  # only to name the subtask in a later conflict
                    self._committed[change.path] = (checkout.subtask, tree.stat(change.path))
        return file_changes(changes)

    def _check(self, after: Mapping[str, FileStat | None]) -> None:
        """Raise `WorkspaceFault` if no answer of a person makes the new states of changed paths good."""
        self._limits.check(after.values())
        for path, state in after.items():
            if state is not None and not state.is_folder and self._hidden.turns_aside(path):
                raise WorkspaceFault(f"{path} may not be replaced: orch keeps what it trusts below it")

    def _check_approved(
        self, checkout: Checkout, tree: Root, paths: list[str], approved: Container[str]
    ) -> None:
        for one in self._executed(checkout, tree, checkout.now(), paths):
            if one.root not in approved:
                raise WorkspaceFault(
                    f"{', '.join(one.paths)} may be changed only if a person agrees: {one.why}"
                )

    def check_room(self, checkout: Checkout) -> None:
        """Raise `StorageFault` if the changes of a checkout do not fit on the disk."""
        now = checkout.now()
        paths = differing(checkout.copied, now)
        self._check_room((checkout.base.get(path), now.get(path)) for path in paths)

    def _check_room(self, changes: Iterable[tuple[FileStat | None, FileStat | None]]) -> None:
        """Before a commit: new content goes to the workspace, replaced content to the history."""
        made = kept = 0
        for before, after in changes:
            made += after.size if after is not None and after.is_file else 0
            kept += before.size if before is not None and before.is_file else 0
        if error := too_small([(self.root, made), (self._history, kept)]):
            raise StorageFault.of(error)

    def apply(self, author: Author, intents: list[Intent]) -> tuple[FileChange, ...]:
        """Commit changes that are not a checkout's; the caller holds the lock. Raises as `commit`."""
        return file_changes(self._commits.commit(author, intents))

    @contextlib.contextmanager
    def locked(self, *, shared: bool = False) -> Iterator[None]:
        """Keep others from committing, and unless `shared` from taking checkouts. Raises `WorkspaceFault`."""
        self._lock_path.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock = acquire(self._lock_path, wait_s=LOCK_WAIT_S, shared=shared)
        except LockTimeout as exc:
            raise WorkspaceFault(
                f"Another process has been committing into {self.root} for {LOCK_WAIT_S:.0f} s"
            ) from exc
        except OSError as exc:
            raise WorkspaceFault(f"The lock {self._lock_path} cannot be used: {exc.strerror}") from exc
        with lock:
            yield

    def _walk(self, concealed: list[str] | None = None) -> FileTree:
        """The user's files; the paths that are skipped are added to `concealed`."""

        def noted(path: str, *, hidden: bool) -> bool:
            if hidden and concealed is not None:
                concealed.append(path)
            return hidden

        with self._readable(), self.tree() as tree:
            found = dict(
                tree.walk(
                    lambda path: noted(path, hidden=self._hidden(path)),
                    lambda path, folder: not noted(path, hidden=not self._hidden.enter(path, folder)),
                )
            )
            keys = [path for path, state in found.items() if holds_secret(tree, path, state)]
            made = self._made() if keys else ()
            for path in keys:
                if path not in made and noted(path, hidden=self._hidden.hide(path)):
                    del found[path]
            return found

    @contextlib.contextmanager
    def _readable(self) -> Iterator[None]:
        """Raise `UsageError` for what cannot be read below the folder."""
        try:
            yield
        except OSError as exc:
            raise UsageError(
                f"{exc.filename or self.root} in the workspace {self.root} cannot be read: {exc.strerror}.",
                "Fix its permissions, or choose another folder with -C.",
            ) from exc
        except WorkspaceFault as exc:
            raise UsageError(f"{self.root}: {exc}.", "Choose another folder with -C.") from exc

    def _authors(self, tree: Root, paths: list[str]) -> dict[str, str]:
        """The subtasks of this run that left these paths as they are."""
        known = {path: self._committed[path] for path in paths if path in self._committed}
        return {path: name for path, (name, state) in known.items() if tree.stat(path) == state and name}

    def _is_left_over(self) -> bool:
        # An unreadable home is reported elsewhere; there is nothing in it to repair.
        with contextlib.suppress(OSError):
            return self._commits.is_pending() or any(self._own_checkouts())
        return False

    def _own_checkouts(self) -> Iterator[Path]:
        return self._checkouts.glob(f"{self._digest}-*")

    def _sweep(self) -> None:
        """Remove the checkouts of dead processes."""
        for path in self._own_checkouts():
            if path.suffix == WORK:
                continue
            with contextlib.suppress(OSError):
                fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                try:
                    if lock_folder(fd):
                        remove(path)
                        remove(work_of(path))
                finally:
                    os.close(fd)


def pending_commit(root: Path, state: Path) -> Path:
    """The path of the record of a commit that is under way; `root` is resolved."""
    return state / "commits" / f"{hashlib.sha256(str(root).encode()).hexdigest()[:16]}.json"


def adopt_commit(state: Path, old: Path, new: Path) -> None:
    """Have the commit that was interrupted in `old` go on in `new`, to which that folder was moved.

    Nothing happens if the commit still belongs to `old`. Raises `WorkspaceFault` and `OSError`.
    """
    pending = pending_commit(old, state)
    record = read_record(pending)
    if record is not None and (not old.exists() or (new / record.staging).is_dir()):
        write_record(pending_commit(new, state), record.model_copy(update={"root": str(new)}))
        pending.unlink()


def history_folder(state: Path, run: str) -> Path:
    """The folder of a run's history."""
    return state / "runs" / run / "undo"


def wait_for_clock_tick(tree: FileTree) -> None:
    """Wait, if a file is very new, until another change of it would get another time."""
    tick = time.clock_getres(_COARSE) if sys.platform == "linux" else 0.01
    newest = max((state.ctime_ns for state in tree.values()), default=0)
    if newest > time.time_ns() - 2e9 * tick:
        time.sleep(1.5 * tick)
