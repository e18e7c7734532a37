"""A subtask's private view of the workspace: checkout, work, then commit all of it or none.

A checkout is a copy (with reflinks where the file system has them) up to a stated size. The
commit first puts every new file beside its target, and only then renames them all into
place; what others changed in the meantime is a conflict and never overwritten.

Never copied and never committed: version control, environment files, orch's own files.
They may hold secrets or be executed by the host later.

Not covered yet: a commit that survives SIGKILL between two renames, overlays instead of
copies, undo, and empty folders, which are not carried over.
"""

import contextlib
import hashlib
import os
import shutil
import stat
import threading
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import portalocker

from orchestrator_cli.errors import UsageError
from orchestrator_cli.events import FileChange
from orchestrator_cli.tools.protected import is_protected


class Conflict(Exception):
    """Somebody else changed files that this subtask changed too."""

    def __init__(self, paths: list[str]) -> None:
        super().__init__(f"{', '.join(paths)} changed in the workspace while the subtask worked on it")
        self.paths = paths


@dataclass(frozen=True)
class Mark:
    """What a file was: enough to notice that it changed. `what` is a link's target, else empty."""

    mode: int
    size: int
    mtime_ns: int
    inode: int
    what: str = ""


class Workspace:
    """The folder that a run works on. Raises `UsageError` where it cannot be used."""

    def __init__(self, root: Path, state: Path, max_mb: int) -> None:
        self.root = _usable(root)
        self._state = state
        self._max_bytes = max_mb << 20
        self._commit = threading.Lock()
        digest = hashlib.sha256(str(self.root).encode()).hexdigest()[:16]
        self._lock_path = state / "locks" / f"workspace-{digest}.lock"

    def files(self, limit: int = 100) -> list[str]:
        """Paths and sizes for a planner, sorted; at most `limit`, then how many more there are."""
        rows = sorted(_walk(self.root))
        lines = [f"{path} ({(self.root / path).lstat().st_size} bytes)" for path in rows[:limit]]
        return lines + ([f"… and {len(rows) - limit} more files"] if len(rows) > limit else [])

    def checkout(self) -> "Checkout":
        """A private copy. Raises `UsageError` where the workspace is larger than the set size."""
        marks = {path: _mark(self.root / path) for path in _walk(self.root)}
        size = sum(mark.size for mark in marks.values())
        if size > self._max_bytes:
            raise UsageError(
                f"The workspace {self.root} holds {size >> 20} MB, more than the {self._max_bytes >> 20} MB "
                "that are copied for a subtask.",
                "Choose a smaller folder with -C, or raise workspace_max_mb.",
            )
        folder = self._state / "checkouts" / uuid.uuid4().hex
        folder.mkdir(parents=True, mode=0o700)
        try:
            for path in marks:
                _copy(self.root / path, folder / path)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        copied = {path: _mark(folder / path) for path in marks}
        return Checkout(self, folder, marks, copied)

    def commit(self, checkout: "Checkout") -> tuple[FileChange, ...]:
        with self._commit, self._locked():
            paths = checkout.written_paths()
            if conflicts := [p for p in paths if _mark_or_none(self.root / p) != checkout.base.get(p)]:
                raise Conflict(conflicts)
            described = (_describe(self.root / p, checkout.root / p, p) for p in paths)
            changes = tuple(change for change in described if change is not None)
            self._put(checkout, [c for c in changes if c.change != "deleted"])
            for change in changes:
                if change.change == "deleted":
                    (self.root / change.path).unlink(missing_ok=True)
            return changes

    def _put(self, checkout: "Checkout", changes: list[FileChange]) -> None:
        """Stage everything beside its target, then rename: a full disk is noticed before anything changed."""
        staged: list[tuple[Path, Path]] = []
        try:
            for change in changes:
                target = self.root / change.path
                _make_parents(self.root, target)
                scratch = target.with_name(f".orch-{uuid.uuid4().hex[:12]}.tmp")
                staged.append((scratch, target))
                _copy(checkout.root / change.path, scratch)
            for scratch, target in staged:
                scratch.replace(target)
        finally:
            for scratch, _ in staged:
                scratch.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """One commit at a time, also between processes that work on the same folder."""
        self._lock_path.parent.mkdir(parents=True, exist_ok=True)
        with portalocker.Lock(self._lock_path, "a", timeout=60, fail_when_locked=False):
            yield


class Checkout:
    """A private view; `root` is its folder.

    As a context manager, leaving it discards what was not committed.
    """

    def __init__(
        self, workspace: Workspace, root: Path, base: dict[str, Mark], copied: dict[str, Mark]
    ) -> None:
        self._workspace = workspace
        self.root = root
        self.base = base
        """The user's files as they were when the checkout was opened."""
        self._copied = copied

    def written_paths(self) -> list[str]:
        """What was created, written or deleted in this view, sorted; protected paths are left out.

        A file that was written again with the content it had counts: the work was done.
        """
        now = {path: _mark(self.root / path) for path in _walk(self.root)}
        return sorted(
            path for path in now.keys() | self._copied.keys() if now.get(path) != self._copied.get(path)
        )

    def refused_paths(self) -> list[str]:
        """Protected files that were written in this view and will not be committed."""
        return sorted(p.name for p in self.root.iterdir() if is_protected(p.name))

    def commit(self) -> tuple[FileChange, ...]:
        """Bring all changes into the workspace. Raises `Conflict`, with nothing changed."""
        return self._workspace.commit(self)

    def discard(self) -> None:
        shutil.rmtree(self.root, ignore_errors=True)

    def __enter__(self) -> "Checkout":
        return self

    def __exit__(self, *_: object) -> None:
        self.discard()


def check_folder(root: Path) -> None:
    """Raise `UsageError` where a workspace is missing or is a file."""
    if not root.exists():
        raise UsageError(f"There is no folder {root}.", "Make it, or name another one with -C.")
    if not root.is_dir():
        raise UsageError(f"{root} is a file, not a folder.", "Name a folder with -C.")


def _usable(root: Path) -> Path:
    check_folder(root)
    # os.access lies for root and for read-only mounts, so the only honest test is a write.
    probe = root / f".orch-{uuid.uuid4().hex[:12]}.tmp"
    try:
        probe.touch()
        probe.unlink()
    except OSError as exc:
        raise UsageError(
            f"The folder {root} cannot be written to: {exc.strerror}.",
            "Mend its permissions, or name another one with -C.",
        ) from exc
    return root.resolve()


def _walk(root: Path) -> Iterator[str]:
    """Every file and link below `root`, relative, without following links or entering protected names."""
    for folder, subfolders, names in os.walk(root):
        links = [name for name in subfolders if os.path.islink(os.path.join(folder, name))]  # noqa: PTH114, PTH118
        subfolders[:] = sorted(n for n in subfolders if n not in links and not is_protected(n))
        for name in (*names, *links):
            path = Path(folder, name)
            ours = name.startswith(".orch-") and name.endswith(".tmp")
            regular = stat.S_IFMT(path.lstat().st_mode) in (stat.S_IFREG, stat.S_IFLNK)
            if regular and not ours and not is_protected(name):
                yield str(path.relative_to(root))


def _mark(path: Path) -> Mark:
    found = path.lstat()
    link = str(path.readlink()) if stat.S_ISLNK(found.st_mode) else ""
    return Mark(found.st_mode, found.st_size, found.st_mtime_ns, found.st_ino, link)


def _mark_or_none(path: Path) -> Mark | None:
    try:
        return _mark(path)
    except (FileNotFoundError, NotADirectoryError):
        return None


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(source, target, follow_symlinks=False)


def _make_parents(root: Path, target: Path) -> None:
    """Make the target's folders, refusing to pass through a link that leads out of the workspace."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if not target.parent.resolve().is_relative_to(root):
        raise Conflict([str(target.relative_to(root))])


def _describe(before: Path, after: Path, path: str) -> FileChange | None:
    """What commits as a change of `path`; None where the content and the mode stay as they are."""
    was, now = _facts(before), _facts(after)
    if was == now:
        return None
    change: Literal["created", "modified", "deleted"]
    change = "deleted" if now is None else "created" if was is None else "modified"
    return FileChange(
        path=path,
        change=change,
        before_size=was and was.size,
        before_sha256=was and was.sha256,
        after_size=now and now.size,
        after_sha256=now and now.sha256,
    )


@dataclass(frozen=True)
class _Facts:
    mode: int
    size: int
    sha256: str


def _facts(path: Path) -> _Facts | None:
    if path.is_symlink():
        target = os.fsencode(path.readlink())
        return _Facts(path.lstat().st_mode, len(target), hashlib.sha256(target).hexdigest())
    if not path.is_file():
        return None
    found = path.stat()
    return _Facts(found.st_mode, found.st_size, _sha256(path))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
