"""A commit: staged, decided, done; completed or reverted after a kill.

1. All new content is copied into a staging folder in the root, all replaced content into the
   run's history, and both are on the disk. So far nothing has changed.
2. The record is written: the commit is decided.
3. Every step is done: renames, and what folders need. If a path was changed meanwhile or cannot be
   written, all steps are rolled back.
4. The record is moved into the history: the commit is over.

The next process to open the workspace resumes after a kill. Without a record, only a staging
folder is left, which is removed; with one, the steps are repeated, or rolled back if a path was
changed since. Changes that others made since stay in either case.

Not covered: below a mount within the workspace nothing can be renamed into place, so changes
there are refused. A process with a replaced file open keeps writing into the old one. Hard links
to a replaced file keep its old content.
"""

import contextlib
import os
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from orchestrator_cli.durable.encodings import not_kept
from orchestrator_cli.durable.files import sync, sync_folder
from orchestrator_cli.durable.locks import LockUnsupported, try_lock
from orchestrator_cli.errors import Conflict, TargetChanged, WorkspaceFault
from orchestrator_cli.workspace.file_state import Change, FileEntry, FileId, FileStat, entry_of
from orchestrator_cli.workspace.history import (
    SMALL,
    Author,
    CommitHistory,
    CommitRecord,
    read_record,
    write_record,
)
from orchestrator_cli.workspace.steps import StagedPath, back, forward, steps_for
from orchestrator_cli.workspace.tree import FOLDER, Root, copy_hashed, copy_metadata, name_changed, stat_at
from orchestrator_cli.workspace.usable import WorkFolder
from toolsmith.sandbox.removal import remove

DONE = "-done"
MANY, THREADS = 32, 8


@dataclass(frozen=True)
class Intent:
    """What a commit is to make of a path. `open_source` opens the new content of a file."""

    path: str
    before: FileStat | None
    """The state just found; None if there is nothing."""
    after: FileStat | None
    """None to delete the path."""
    open_source: Callable[[], int] | None = None


@dataclass(frozen=True)
class CommitLimits:
    """How much one commit of a checkout may change."""

    max_mb: int = 1024
    max_files: int = 20_000

    def check(self, states: Iterable[FileStat | None]) -> None:
        """Raise `WorkspaceFault` if the new states of changed paths are too many or too large."""
        found = list(states)
        if len(found) > self.max_files:
            raise WorkspaceFault(
                f"it changed {len(found):,} files, more than the {self.max_files:,} of commit_max_files; "
                "leave fewer, or raise that setting"
            )
        # Not what they take of the disk: a copy fills the holes of a sparse file.
        size = sum(state.size for state in found if state is not None) >> 20
        if size > self.max_mb:
            raise WorkspaceFault(
                f"it wrote files of {size:,} MB, more than the {self.max_mb:,} MB of commit_max_mb; "
                "leave less, or raise that setting"
            )


USUAL_LIMITS = CommitLimits()


class Commits:
    """The commits into one folder. The caller of any method holds the workspace's lock."""

    def __init__(
        self, folder: WorkFolder, pending: Path, prefix: str, history_of: Callable[[str], CommitHistory]
    ) -> None:
        """`pending`: path of the record during a commit; `prefix`: of the names of staging folders."""
        self._folder = folder
        self._pending = pending
        self._prefix = prefix
        self._history_of = history_of

    def commit(self, author: Author, intents: Sequence[Intent]) -> tuple[Change, ...]:
        """Do all of it or nothing. Raises `Conflict`, `WorkspaceFault`."""
        if not intents:
            return ()
        history = self._history_of(author.run)
        name = f"{self._prefix}{uuid.uuid4().hex[:12]}.tmp"
        with self._folder.open() as tree:
            try:
                with _staging_folder(tree, name) as staging:
                    record = self._decide(tree, staging, history, author, name, intents)
                    if record.changes:
                        self._finish(tree, staging, record, history)
            except OSError as exc:
                raise _fault(exc, is_decided=self._pending.exists()) from exc
            finally:
                if not self._pending.exists():
                    remove(tree.place / name)
        return record.changes

    def recover(self) -> list[str]:
        """End a commit that a kill interrupted. Returns what was done, for people.

        Raises `WorkspaceFault`.
        """
        record = read_record(self._pending)
        repairs = []
        if record is not None:
            try:
                repairs = [self._resume(record)]
            except OSError as exc:
                raise WorkspaceFault(f"An interrupted commit cannot be completed: {exc}") from exc
        with self._folder.open() as tree:
            for name in self._remains(tree):
                if _is_free(tree, name):
                    remove(tree.place / name)
        return repairs

    def is_pending(self) -> bool:
        """Whether a commit is under way or was interrupted."""
        with self._folder.open() as tree:
            return self._pending.exists() or bool(self._remains(tree))

    def _remains(self, tree: Root) -> list[str]:
        """The names of staging folders of this home."""
        with os.scandir(tree.fd) as entries:
            names = [entry.name for entry in entries]
        return [name for name in names if name.startswith(self._prefix) and name.endswith(".tmp")]

    # --- until it is decided

    def _decide(
        self,
        tree: Root,
        staging: int,
        history: CommitHistory,
        author: Author,
        name: str,
        intents: Sequence[Intent],
    ) -> CommitRecord:
        def stage(numbered: tuple[int, Intent]) -> tuple[StagedPath, Change] | None:
            number, intent = numbered
            _refuse_what_cannot_be_committed(tree, intent.path)
            return _stage(tree, staging, history, str(number), intent)

        staged = [item for item in _each(stage, list(enumerate(intents))) if item is not None]
        record = CommitRecord(
            author=author,
            root=str(self._folder.path),
            staging=name,
            changes=tuple(change for _, change in staged),
            steps=steps_for(path for path, _ in staged),
        )
        if staged:
            sync(staging)
            sync(tree.fd)
            history.sync()
            history.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            write_record(self._pending, record)
        return record

    # --- from then on

    def _finish(self, tree: Root, staging: int, record: CommitRecord, history: CommitHistory) -> None:
        """Do the steps, or roll them back and raise."""
        try:
            for step in record.steps:
                forward(tree, staging, step)
        except TargetChanged as exc:
            self._roll_back(tree, staging, record)
            raise Conflict([exc.path]) from exc
        except OSError:
            self._roll_back(tree, staging, record)
            raise
        self._end(tree, record, history)

    def _end(self, tree: Root, record: CommitRecord, history: CommitHistory) -> None:
        for path in {step.path.rpartition("/")[0] for step in record.steps}:
            tree.sync(path)
        done = record.staging.removesuffix(".tmp") + f"{DONE}.tmp"
        with contextlib.suppress(FileNotFoundError):
            os.rename(record.staging, done, src_dir_fd=tree.fd, dst_dir_fd=tree.fd)
            sync(tree.fd)
        remove(tree.place / done)
        history.add(self._pending)

    def _roll_back(self, tree: Root, staging: int, record: CommitRecord) -> list[str]:
        """Revert all steps; returns the paths that others changed since, which stay as they are."""
        # If this cannot be written, the steps are reverted anyway; after a kill they would be tried again.
        with contextlib.suppress(OSError):
            write_record(self._pending, record.model_copy(update={"phase": "back"}))
        kept = [step.path for step in reversed(record.steps) if not back(tree, staging, step)]
        for path in {step.path.rpartition("/")[0] for step in record.steps}:
            tree.sync(path)
        self._pending.unlink()
        sync_folder(self._pending.parent)
        return kept

    def _resume(self, record: CommitRecord) -> str:
        what = f"A commit of {record.author} into {self._folder.path} had been interrupted"
        history = self._history_of(record.author.run)
        with self._folder.open() as tree:
            staging = _open_staging(tree, record.staging)
            if staging is None and record.phase == "back":
                self._pending.unlink()
                return f"{what}; it was rolled back."
            if staging is None:
                # The staging folder is renamed only after the last step.
                self._end(tree, record, history)
                return f"{what}; it was complete."
            try:
                return f"{what}; {self._resume_steps(tree, staging, record, history)}"
            finally:
                os.close(staging)

    def _resume_steps(self, tree: Root, staging: int, record: CommitRecord, history: CommitHistory) -> str:
        reason = ""
        if record.phase == "forward":
            try:
                for step in record.steps:
                    forward(tree, staging, step)
            except TargetChanged as exc:
                reason = f" because {exc.path} was changed since"
            except OSError as exc:
                reason = f" because of {exc}"
            else:
                self._end(tree, record, history)
                return "it was completed."
        kept = self._roll_back(tree, staging, record)
        stays = f" {', '.join(kept)} stays as it was changed." if kept else ""
        return f"it was rolled back{reason}.{stays}"


@contextlib.contextmanager
def faults_of(path: str = "") -> Iterator[None]:
    """Turn an `OSError` before a commit into `Conflict`, if a name changed, else into `WorkspaceFault`."""
    try:
        yield
    except OSError as exc:
        raise _fault(exc, path) from exc


def _fault(exc: OSError, path: str = "", *, is_decided: bool = False) -> Conflict | WorkspaceFault:
    named = path or str(exc.filename or "")
    if name_changed(exc) and not is_decided:
        return Conflict([named or "a file"])
    place = f"{named}: " if named else ""
    then = "The next commit ends this one." if is_decided else "Nothing was changed."
    return WorkspaceFault(f"The changes could not be committed: {place}{exc.strerror}. {then}")


# --- staging


def _each(
    stage: Callable[[tuple[int, Intent]], tuple[StagedPath, Change] | None], rows: list[tuple[int, Intent]]
) -> Iterable[tuple[StagedPath, Change] | None]:
    """Stage many paths in parallel, since most of the time is spent waiting for the disk."""
    if len(rows) < MANY:
        return map(stage, rows)
    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(stage, rows))


@contextlib.contextmanager
def _staging_folder(tree: Root, name: str) -> Iterator[int]:
    """A new folder in the root, locked until this process closes it or dies."""
    os.mkdir(name, 0o700, dir_fd=tree.fd)
    fd = _open_staging(tree, name)
    if fd is None:
        raise FileNotFoundError(2, os.strerror(2), name)
    try:
        yield fd
    finally:
        os.close(fd)


def _open_staging(tree: Root, name: str) -> int | None:
    try:
        fd = os.open(name, FOLDER, dir_fd=tree.fd)
    except (FileNotFoundError, NotADirectoryError):
        return None
    lock_folder(fd)
    return fd


def lock_folder(fd: int) -> bool:
    """Mark a folder as in use until the descriptor is closed; False if another process has it."""
    with contextlib.suppress(LockUnsupported):
        return try_lock(fd)
    return True


def _is_free(tree: Root, name: str) -> bool:
    """Whether no living process uses the folder."""
    try:
        fd = os.open(name, FOLDER, dir_fd=tree.fd)
    except OSError:
        return False
    try:
        return lock_folder(fd)
    finally:
        os.close(fd)


def _refuse_what_cannot_be_committed(tree: Root, path: str) -> None:
    if why := not_kept([path]):
        raise WorkspaceFault(why)
    parts = path.split("/")[:-1]
    for end in range(len(parts), -1, -1):
        with contextlib.suppress(OSError), tree.folder("/".join(parts[:end])) as fd:
            if os.fstat(fd).st_dev != os.fstat(tree.fd).st_dev:
                raise WorkspaceFault(f"{path} is on another file system than the workspace around it")
            return


def _stage(
    tree: Root, staging: int, history: CommitHistory, slot: str, intent: Intent
) -> tuple[StagedPath, Change] | None:
    """Put on the disk what a path becomes and what it replaces; None if the path stays as it is."""
    after, staged = _stage_after(staging, slot, history, intent)
    before = _keep_before(tree, history, intent)
    if before is not None and before.same(after):
        if staged is not None:
            os.unlink(slot, dir_fd=staging)
        return None
    mode = None if intent.after is None else intent.after.mode
    return (
        StagedPath(intent.path, intent.before, mode, slot, staged),
        Change(path=intent.path, before=before, after=after),
    )


def _stage_after(
    staging: int, slot: str, history: CommitHistory, intent: Intent
) -> tuple[FileEntry | None, FileId | None]:
    """Create the new file or link in the staging folder. A folder needs nothing there."""
    after = intent.after
    if after is None:
        return None, None
    if after.is_folder:
        return entry_of(after), None
    digest = ""
    if after.target:
        os.symlink(after.target, slot, dir_fd=staging)
    else:
        digest = _stage_file(staging, slot, history, intent)
    made = stat_at(staging, slot)
    if made is None:
        raise FileNotFoundError(2, os.strerror(2), intent.path)
    return entry_of(made, digest), made.id


def _stage_file(staging: int, slot: str, history: CommitHistory, intent: Intent) -> str:
    if intent.open_source is None or intent.after is None:
        raise ValueError(f"{intent.path} has no source")
    source = intent.open_source()
    try:
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        target = os.open(slot, flags, 0o600, dir_fd=staging)
        try:
            digest = copy_hashed(source, target)
            copy_metadata(source, target, intent.after.mode, intent.after.mtime_ns)
            sync(target)
            size = os.fstat(target).st_size
            if size <= SMALL:
                history.keep_small(os.pread(target, size, 0), digest)
        finally:
            os.close(target)
    finally:
        os.close(source)
    return digest


def _keep_before(tree: Root, history: CommitHistory, intent: Intent) -> FileEntry | None:
    """Keep the present content of a path. Raises `Conflict` if it changed since `intent.before`."""
    state = intent.before
    if state is None or not state.is_file:
        return None if state is None else entry_of(state)
    with faults_of(intent.path):
        source = tree.open_file(intent.path)
        try:
            digest = history.keep(source)
        finally:
            os.close(source)
        if tree.stat(intent.path) != state:
            raise Conflict([intent.path])
    return entry_of(state, digest)
