"""`fileLog.md`: what the runs of a workspace did, appended entry by entry for people to read.

Each entry is one write under a lock on the file, flushed to the disk before the lock is let
go, so that entries of several runs may alternate but are never torn. What a killed writer
left half written is closed by the next one, so that it swallows nothing that follows. A log
that somebody moved away is begun anew.

The file is never followed through a link: code that runs in the workspace could have laid one.

What is not covered: file systems without locks between processes, and a person's editor that
saves an old copy over newer entries.
"""

import contextlib
import os
import re
import stat
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from orchestrator_cli.errors import UsageError
from orchestrator_cli.events import Event, PlanApproved, PlanProposed, PlanRevised, RunFinished
from orchestrator_cli.planning.plan import Plan
from orchestrator_cli.views.entries import closing_comment, entry_for

HEADER = """\
# fileLog

What `orch` did in this folder, oldest first: one section per run, and in it every piece of
code that ran, every file that changed, every tool that was built, every change of the plan.
Times are as the run recorded them. Entries are only ever added at the end, by `orch` itself
and never by a model; those of runs that went on at the same time alternate, so each names
its run. Numbers are those of the run's journal, where events stand that have no entry here,
so numbers are passed over. You may move this file away; the next run begins a new one.
"""

CUT_OFF = "*The entry above was cut off: its writer was stopped while writing.*"
LOCK_WAIT_S = 30.0

_LAST_COMMENT = re.compile(rb"(?:^|\n)<!-- orch entry [^\n]*-->\n+\Z")
_A_COMMENT = re.compile(r"^<!-- orch entry .*-->$", re.MULTILINE)
_AN_ENTRY = re.compile(r"^(?:### \d+ · |\*\*\d+\*\* · run |## Run )", re.MULTILINE)
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})(.*)")


class FileLog:
    """The view that writes `path`. Raises `UsageError` where the file cannot be written."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._plans: dict[str, Plan] = {}
        with _translated(path), _locked(path):
            pass

    def __call__(self, event: Event) -> None:
        """Raises `UsageError` where the file can no longer be written."""
        entry = entry_for(event, self._plans.get(event.run))
        self._keep_plan(event)
        if entry is not None:
            self._append(f"\n{entry}\n\n{closing_comment(event)}\n")

    def catch_up(self, found: Sequence[Event]) -> None:
        """Write the entries that a killed process has not come to, and know the plan.

        Entries are told by the comments that end them, so none is written twice.
        """
        with _translated(self.path), _locked(self.path) as file:
            text = os.pread(file, os.fstat(file).st_size, 0).decode("utf-8", "replace")
        written = set(_A_COMMENT.findall(text))
        for event in found:
            if closing_comment(event) in written:
                self._keep_plan(event)
            else:
                self(event)

    def close(self) -> None:
        """Nothing is held open between entries."""

    def _keep_plan(self, event: Event) -> None:
        match event.data:
            case PlanProposed(plan=plan) | PlanApproved(plan=plan) | PlanRevised(plan=plan):
                self._plans[event.run] = plan
            case RunFinished():
                self._plans.pop(event.run, None)

    def _append(self, text: str) -> None:
        with _translated(self.path), _locked(self.path) as file:
            _write(file, _mend(file) + text)


@contextlib.contextmanager
def _translated(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        what = exc.strerror or str(exc)
        raise UsageError(f"Cannot write the log {path}: {what}.", _remedy(path)) from exc


def _remedy(path: Path) -> str:
    if path.is_symlink() or (path.exists() and not path.is_file()):
        return f"Move {path} out of the way: the log must be an ordinary file."
    if not path.parent.is_dir():
        return f"Make the folder {path.parent} first, or choose another workspace with -C."
    return "Allow writing there and see that the disk has room, or choose another workspace with -C."


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[int]:
    """The file, open for appending, made with its heading where it is new, and locked."""
    deadline = time.monotonic() + LOCK_WAIT_S
    while True:
        file = _open(path)
        try:
            _lock(file, deadline)
            # Between opening and locking, the file may have been moved away: then begin anew.
            if _is_still(file, path):
                if os.fstat(file).st_size == 0:
                    _write(file, HEADER)
                yield file
                return
        finally:
            os.close(file)


def _open(path: Path) -> int:
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    file = os.open(path, flags, 0o644)
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise OSError(0, "it is no ordinary file")
    return file


def _lock(file: int, deadline: float) -> None:
    from portalocker import LockFlags, lock
    from portalocker.exceptions import AlreadyLocked, LockException

    while True:
        try:
            lock(file, LockFlags.EXCLUSIVE | LockFlags.NON_BLOCKING)
        except AlreadyLocked as exc:
            if time.monotonic() > deadline:
                raise TimeoutError(0, f"another process has held its lock for {LOCK_WAIT_S:.0f} s") from exc
            time.sleep(0.01)
        except LockException as exc:
            raise OSError(0, f"it cannot be locked ({exc})") from exc
        else:
            return


def _is_still(file: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file), path.lstat())
    except FileNotFoundError:
        return False


def _write(file: int, text: str) -> None:
    """All of the text, on the disk, or none of it."""
    before = os.fstat(file).st_size
    left = memoryview(text.encode("utf-8", "replace"))
    try:
        while left:
            left = left[os.write(file, left) :]
        os.fsync(file)
    finally:
        if left:
            os.ftruncate(file, before)


# --- what another writer, or a person, left open


def _mend(file: int) -> str:
    """What has to be written first so that the next entry stands for itself; mostly nothing."""
    end = os.fstat(file).st_size
    if _LAST_COMMENT.search(os.pread(file, 512, max(0, end - 512))):
        return ""
    rest = _A_COMMENT.split(os.pread(file, end, 0).decode("utf-8", "replace"))[-1]
    mended = "" if rest.endswith("\n") or not rest else "\n"
    opened = _open_fence(rest)
    if opened:
        mended += f"{opened}\n"
    elif rest.rfind("<!--") > rest.rfind("-->"):
        mended += "-->\n"
    if rest.count("<details>") > rest.count("</details>"):
        mended += "\n</details>\n"
    return mended + (f"\n{CUT_OFF}\n" if _AN_ENTRY.search(rest) else "")


def _open_fence(text: str) -> str | None:
    """The signs that close the code block which the text leaves open."""
    opened = None
    for line in text.split("\n"):
        match = _FENCE.match(line)
        if match is None:
            continue
        signs, rest = match.groups()
        if opened is None:
            opened = signs if signs[0] == "~" or "`" not in rest else None
        elif signs.startswith(opened) and not rest.strip():
            opened = None
    return opened
