"""A commit: staged, decided, done; and after a kill finished or undone.

1. Everything new is copied into a staging folder in the root, everything it replaces into the
   run's history; all of it is on the disk. Until here, nothing has changed.
2. The record is written: the commit is decided.
3. Every step is done: renames, and what folders need. A path that turns out to be other than
   it was, or cannot be written, turns the commit round: all steps are taken back.
4. The record is moved into the history: the commit is over.

Whoever opens the workspace next, in any process, goes on after a kill: without a record only a
staging folder is left and removed; with one, the steps are gone through again, or taken back
where somebody has changed a path since. What somebody changed since stays in either case.

What is not covered: below a mount within the workspace nothing can be renamed into place, so
changes there are refused. A process that has a replaced file open goes on writing into the old
one. Hard links to a replaced file keep its old content.
"""

import contextlib
import os
import stat
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from orchestrator_cli.durable.files import sync_folder
from orchestrator_cli.durable.locks import LockUnsupported, try_lock
from orchestrator_cli.workspace.faults import Conflict, TargetChanged, WorkspaceFault
from orchestrator_cli.workspace.history import SMALL, History
from orchestrator_cli.workspace.marks import Change, Entry, Ident, Mark, folder, ident
from orchestrator_cli.workspace.record import Author, Record, read_record, write_record
from orchestrator_cli.workspace.steps import Turn, back, forward, steps_for
from orchestrator_cli.workspace.tree import Root, copy_hashed, dress, mark_at, remove

DONE = "-done"
MANY, THREADS = 32, 8


@dataclass(frozen=True)
class Intent:
    """What a commit is to make of a path. `open_source` opens the content of what is to be a file."""

    path: str
    before: Mark | None
    """What was found there just now."""
    after: Mark | None
    open_source: Callable[[], int] | None = None


@dataclass(frozen=True)
class _Staged:
    turn: Turn
    change: Change


class Commits:
    """The commits into one folder. All methods want the workspace's lock held by the caller."""

    def __init__(self, root: Path, pending: Path, prefix: str, history_of: Callable[[str], History]) -> None:
        """`pending`: where the record stands meanwhile; `prefix`: begins the names of staging folders."""
        self._root = root
        self._pending = pending
        self._prefix = prefix
        self._history_of = history_of

    def commit(self, author: Author, intents: Sequence[Intent]) -> tuple[Change, ...]:
        """Do all of it or nothing. Raises `Conflict`, `WorkspaceFault`."""
        if not intents:
            return ()
        history = self._history_of(author.run)
        name = f"{self._prefix}{uuid.uuid4().hex[:12]}.tmp"
        try:
            with Root(self._root) as tree, _staging_folder(tree, name) as staging:
                record = self._decide(tree, staging, history, author, name, intents)
                if record.changes:
                    self._finish(tree, staging, record, history)
        except OSError as exc:
            self._drop_undecided(name)
            where = f"{exc.filename}: " if exc.filename else ""
            then = "The next commit ends this one." if self._pending.exists() else "Nothing was changed."
            raise WorkspaceFault(
                f"The changes could not be committed: {where}{exc.strerror}. {then}"
            ) from exc
        except Exception:
            self._drop_undecided(name)
            raise
        self._drop_undecided(name)
        return record.changes

    def recover(self) -> list[str]:
        """End what a kill has left. Returns what was done, for people. Raises `WorkspaceFault`."""
        record = read_record(self._pending)
        told = []
        if record is not None:
            try:
                told = [self._resume(record)]
            except OSError as exc:
                raise WorkspaceFault(f"A commit that was cut off cannot be finished: {exc}") from exc
        for path in self.remains():
            if _is_free(path):
                remove(path)
        return told

    def is_pending(self) -> bool:
        """Whether a commit is under way or was cut off."""
        return self._pending.exists() or any(True for _ in self.remains())

    def remains(self) -> Iterator[Path]:
        """Staging folders of this home."""
        return self._root.glob(f"{self._prefix}*.tmp")

    # --- until it is decided

    def _decide(
        self,
        tree: Root,
        staging: int,
        history: History,
        author: Author,
        name: str,
        intents: Sequence[Intent],
    ) -> Record:
        def stage(numbered: tuple[int, Intent]) -> _Staged | None:
            number, intent = numbered
            _refuse_what_cannot_be_kept(tree, intent.path)
            return self._stage(tree, staging, history, str(number), intent)

        staged = [item for item in _each(stage, list(enumerate(intents))) if item is not None]
        record = Record(
            author=author,
            root=str(self._root),
            staging=name,
            changes=tuple(item.change for item in staged),
            steps=steps_for(item.turn for item in staged),
        )
        if staged:
            os.fsync(staging)
            os.fsync(tree.fd)
            history.sync()
            history.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            write_record(self._pending, record)
        return record

    def _stage(self, tree: Root, staging: int, history: History, slot: str, intent: Intent) -> _Staged | None:
        """What a path becomes, on the disk, with what it replaces; None where it stays as it is."""
        after, became = _stage_after(staging, slot, history, intent)
        before = _keep_before(tree, history, intent)
        if before is not None and before.same(after):
            if became is not None:
                os.unlink(slot, dir_fd=staging)
            return None
        mode = None if intent.after is None else intent.after.mode
        return _Staged(
            Turn(intent.path, intent.before, mode, slot, became),
            Change(path=intent.path, before=before, after=after),
        )

    def _drop_undecided(self, name: str) -> None:
        """Remove a staging folder that no record speaks of."""
        if not self._pending.exists():
            remove(self._root / name)

    # --- from then on

    def _finish(self, tree: Root, staging: int, record: Record, history: History) -> None:
        """Do the steps, or take them all back and raise."""
        try:
            for step in record.steps:
                forward(tree, staging, step)
        except TargetChanged as exc:
            self._turn_round(tree, staging, record)
            raise Conflict([exc.path]) from exc
        except OSError:
            self._turn_round(tree, staging, record)
            raise
        self._end(tree, record, history)

    def _end(self, tree: Root, record: Record, history: History) -> None:
        for path in {step.path.rpartition("/")[0] for step in record.steps}:
            tree.sync(path)
        done = record.staging.removesuffix(".tmp") + f"{DONE}.tmp"
        with contextlib.suppress(FileNotFoundError):
            os.rename(record.staging, done, src_dir_fd=tree.fd, dst_dir_fd=tree.fd)
            os.fsync(tree.fd)
        remove(self._root / done)
        history.add(self._pending)

    def _turn_round(self, tree: Root, staging: int, record: Record) -> list[str]:
        """Take all steps back; returns the paths that somebody changed since, which stay as they are."""
        # Without room for it, the steps are taken back all the same; after a kill they would be tried again.
        with contextlib.suppress(OSError):
            write_record(self._pending, record.model_copy(update={"phase": "back"}))
        kept = [step.path for step in reversed(record.steps) if not back(tree, staging, step)]
        for path in {step.path.rpartition("/")[0] for step in record.steps}:
            tree.sync(path)
        self._pending.unlink()
        sync_folder(self._pending.parent)
        return kept

    def _resume(self, record: Record) -> str:
        whose = f"A commit of {record.author} into {self._root} had been cut off"
        history = self._history_of(record.author.run)
        with Root(self._root) as tree:
            staging = _open_staging(tree, record.staging)
            if staging is None and record.phase == "back":
                self._pending.unlink()
                return f"{whose}; it was taken back."
            if staging is None:
                # Only after the last step does the staging folder change its name.
                self._end(tree, record, history)
                return f"{whose}; all of it was there."
            try:
                return f"{whose}; {self._resume_steps(tree, staging, record, history)}"
            finally:
                os.close(staging)

    def _resume_steps(self, tree: Root, staging: int, record: Record, history: History) -> str:
        reason = ""
        if record.phase == "forward":
            try:
                for step in record.steps:
                    forward(tree, staging, step)
            except (TargetChanged, OSError) as exc:
                reason = f" because {getattr(exc, 'path', None) or exc} was changed since"
            else:
                self._end(tree, record, history)
                return "it was finished."
        kept = self._turn_round(tree, staging, record)
        stays = f" {', '.join(kept)} stays as it was changed." if kept else ""
        return f"it was taken back{reason}.{stays}"


# --- staging


def _each(
    stage: Callable[[tuple[int, Intent]], _Staged | None], rows: list[tuple[int, Intent]]
) -> Iterable[_Staged | None]:
    """Stage several at once where there are many: most of the time goes in waiting for the disk."""
    if len(rows) < MANY:
        return map(stage, rows)
    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(stage, rows))


@contextlib.contextmanager
def _staging_folder(tree: Root, name: str) -> Iterator[int]:
    """A new folder in the root, locked as long as its maker lives."""
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
        fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=tree.fd)
    except (FileNotFoundError, NotADirectoryError):
        return None
    lock_folder(fd)
    return fd


def lock_folder(fd: int) -> bool:
    """Mark a folder as in use until the descriptor is closed; False where somebody else has."""
    with contextlib.suppress(LockUnsupported):
        return try_lock(fd)
    return True


def _is_free(path: Path) -> bool:
    """Whether nobody who lives has the folder in use."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return lock_folder(fd)
    finally:
        os.close(fd)


def _refuse_what_cannot_be_kept(tree: Root, path: str) -> None:
    try:
        path.encode()
    except UnicodeEncodeError:
        raise WorkspaceFault(f"{path!r} is no UTF-8 name; such files cannot be committed") from None
    parts = path.split("/")[:-1]
    for end in range(len(parts), -1, -1):
        with contextlib.suppress(OSError), tree.folder("/".join(parts[:end])) as fd:
            if os.fstat(fd).st_dev != os.fstat(tree.fd).st_dev:
                raise WorkspaceFault(f"{path} lies on another file system than the workspace around it")
            return


def _stage_after(
    staging: int, slot: str, history: History, intent: Intent
) -> tuple[Entry | None, Ident | None]:
    """Make what is to come in the staging folder. A folder needs nothing there."""
    after = intent.after
    if after is None:
        return None, None
    if after.is_folder:
        return folder(after.mode), None
    if after.target:
        os.symlink(after.target, slot, dir_fd=staging)
        digest, size = _sha256(os.fsencode(after.target)), len(os.fsencode(after.target))
    else:
        digest, size = _stage_file(staging, slot, history, intent)
    made = mark_at(staging, slot)
    if made is None:
        raise FileNotFoundError(2, os.strerror(2), intent.path)
    return _entry(made, size, digest), ident(made)


def _stage_file(staging: int, slot: str, history: History, intent: Intent) -> tuple[str, int]:
    if intent.open_source is None or intent.after is None:
        raise ValueError(f"{intent.path} has no source")
    source = intent.open_source()
    try:
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        target = os.open(slot, flags, 0o600, dir_fd=staging)
        try:
            digest = copy_hashed(source, target)
            dress(source, target, intent.after.mode, intent.after.mtime_ns)
            os.fsync(target)
            size = os.fstat(target).st_size
            if size <= SMALL:
                history.keep_small(os.pread(target, size, 0), digest)
        finally:
            os.close(target)
    finally:
        os.close(source)
    return digest, size


def _keep_before(tree: Root, history: History, intent: Intent) -> Entry | None:
    """Keep what a path holds. Raises `Conflict` where it is not what was found there just now."""
    mark = intent.before
    if mark is None:
        return None
    if mark.is_folder:
        return folder(mark.mode)
    if mark.target:
        raw = os.fsencode(mark.target)
        return _entry(mark, len(raw), _sha256(raw))
    try:
        source = tree.open_file(intent.path)
    except (FileNotFoundError, NotADirectoryError):
        raise Conflict([intent.path]) from None
    try:
        digest = history.keep(source)
    finally:
        os.close(source)
    if tree.mark(intent.path) != mark:
        raise Conflict([intent.path])
    return _entry(mark, mark.size, digest)


def _entry(mark: Mark, size: int, digest: str) -> Entry:
    return Entry(
        type="link" if mark.target else "file",
        mode=stat.S_IMODE(mark.mode),
        size=size,
        mtime_ns=mark.mtime_ns,
        sha256=digest,
        target=mark.target,
    )


def _sha256(raw: bytes) -> str:
    import hashlib

    return hashlib.sha256(raw).hexdigest()
