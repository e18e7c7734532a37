"""`fileLog.md`: what the runs of a workspace did, appended entry by entry for people to read.

Each entry is one write under a lock in the home and is flushed to the disk before the lock is released. So
entries of several runs may alternate, but none is torn. The file itself is locked too, for runs of another
home, but that is not waited for long: every user who can read the file can lock it. A seal ends each entry
and chains it to the one before (`journal.hash_chain`). If a writer was killed, the next one closes and seals
what it left, so that the rest stays readable. If the log was moved away, a new one is started; a log from
before there were seals continues with them.

A text that is too long for an entry is cut there and kept whole beside the run, by its hash.

`entries_of` reads the entries back. An entry is found by the comment that ends it, so what a person typed
between two entries belongs to the second; whether they are true, `orch log verify` checks.

The file is never opened through a link, because code that ran in the workspace could have made one. It is
opened in the folder that the view was made for, whatever its path leads to later.

Not covered: file systems without locks between processes, and an editor that saves an old copy over newer
entries."""

import contextlib
import errno
import hashlib
import os
import re
import secrets
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator_cli.durable.files import append
from orchestrator_cli.durable.held_folder import HeldFolder
from orchestrator_cli.durable.locks import LockTimeout, acquire, wait_for_lock
from orchestrator_cli.errors import RunFailed, UsageError
from orchestrator_cli.events import Event
from orchestrator_cli.journal.hash_chain import (
    FOUND,
    LONGEST_SEAL,
    NONE,
    Head,
    Seal,
    entries_in,
    entry_head,
    head_of,
    is_torn,
    last_seal,
    note_head,
    open_log,
    original_of,
    pieces_of,
    read_log,
    sealed,
)
from orchestrator_cli.journal.journal import Blobs
from orchestrator_cli.plan import Plan
from orchestrator_cli.same_folder import check_same
from orchestrator_cli.state import RunState
from orchestrator_cli.views.entries import entry_for, form, plan_after
from orchestrator_cli.views.markdown import code, noting_cuts

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
COPIED = "*The entries above are a copy of {original}: they are about the workspace there.*"
LOCK_WAIT_S = 30.0
FILE_LOCK_WAIT_S = 2.0
"""How long one view waits for locks on the file itself, in all."""

_A_COMMENT = re.compile(r"^<!-- orch .*-->$", re.MULTILINE)
_AN_ENTRY = re.compile(r"^(?:### \d+ · |\*\*\d+\*\* · run |## Run )", re.MULTILINE)
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})(.*)")


class FileLog:
    """The view that writes `path`. Raises `UsageError` if the file cannot be written.

    `home` keeps the last seal of the log and the texts that were cut; without it neither is kept. `mark` is
    that of the folder that it has to be in.
    """

    def __init__(self, path: Path, home: Path | None = None, mark: str = "") -> None:
        self.path = path
        with _translated(path):
            self.folder = HeldFolder(path.parent)
        check_same(path.parent, mark, fd=self.folder.fd)
        self._place = hashlib.sha256(os.fsencode(path.resolve())).hexdigest()[:16]
        self._home = home
        self._patience = LOCK_WAIT_S if home is None else FILE_LOCK_WAIT_S
        self._plans: dict[str, Plan] = {}
        self._id = ("", 0)
        """The log's id, and the inode of the file that has it."""
        # It begins with the first entry: a run that cannot start leaves none.
        check_log(path)

    def __call__(self, event: Event, state: RunState | None = None) -> None:  # noqa: ARG002
        """Raises `UsageError` where the file can no longer be written, `RunFailed` where the home cannot."""
        with noting_cuts() as whole:
            entry = entry_for(event, self._plans.get(event.run))
        self._keep_plan(event)
        if entry is not None:
            self._keep(event.run, whole)
            self._append(entry_head(event.seq, event.run), entry)

    def catch_up(self, found: Sequence[Event]) -> None:
        """Write the entries that a killed process did not write, and learn the current plan.

        Entries are recognised by the comments that end them, so none is written twice.
        """
        written = self._written()
        for event in found:
            if entry_head(event.seq, event.run) in written:
                self._keep_plan(event)
            else:
                self(event)

    def complete(self, found: Sequence[Event]) -> None:
        """Catch up with a finished run before another event of it, if the run is in this file."""
        if not self.path.exists():
            return
        written = self._written()
        if any(entry_head(event.seq, event.run) in written for event in found):
            self.catch_up(found)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[int]:
        """The file, created if it is missing, open for appending, and locked."""
        with self._turn():
            while True:
                file = open_log(self.path.name, os.O_RDWR | os.O_APPEND | os.O_CREAT, self.folder.fd)
                try:
                    self._lock(file)
                    # The file may have been moved between opening and locking: then open it again.
                    if self._is_still(file):
                        yield file
                        return
                finally:
                    os.close(file)

    @contextlib.contextmanager
    def _turn(self) -> Iterator[None]:
        """Keep out other runs of this home."""
        if self._home is None or not self._home.is_dir():
            yield
            return
        folder = self._home / "locks"
        with _recording(self._home):
            folder.mkdir(exist_ok=True)
        try:
            lock = acquire(folder / f"log-{self._place}.lock", wait_s=LOCK_WAIT_S)
        except LockTimeout as exc:
            raise _held() from exc
        with lock:
            yield

    def _is_still(self, file: int) -> bool:
        try:
            now = os.stat(self.path.name, dir_fd=self.folder.fd, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return os.path.samestat(os.fstat(file), now)

    def _lock(self, file: int) -> None:
        began = time.monotonic()
        try:
            wait_for_lock(file, wait_s=self._patience)
        except LockTimeout as exc:
            if self._home is None:
                raise _held() from exc
        finally:
            if self._home is not None:
                self._patience = max(0.0, self._patience - (time.monotonic() - began))

    def _written(self) -> set[str]:
        with _translated(self.path), self._locked() as file:
            return {entry_head(*entry) for entry in entries_in(_whole(file))}

    def close(self) -> None:
        """Only the folder is held open between entries."""
        self.folder.close()

    def _keep_plan(self, event: Event) -> None:
        if (plan := plan_after(self._plans.get(event.run), event)) is not None:
            self._plans[event.run] = plan
        else:
            self._plans.pop(event.run, None)

    def _keep(self, run: str, whole: Sequence[str]) -> None:
        if whole and self._home is not None:
            blobs = Blobs(self._home / "runs" / run / "blobs")
            with _recording(self._home):
                for text in whole:
                    blobs.keep(text.encode("utf-8", "replace"))

    def _append(self, head: str, entry: str) -> None:
        with _translated(self.path), self._locked() as file:
            before, last = _end_of(file) if os.fstat(file).st_size else begun(HEADER)
            before, last = self._renamed(file, before, last)
            text = f"\n{entry}\n\n".encode("utf-8", "replace")
            seal = sealed(head, last.place + 1, last.hash, text)
            self._write(file, before, (text + seal.line.encode(), seal))

    def _write(self, file: int, before: bytes, added: tuple[bytes, Seal]) -> None:
        """Write, and record the last seal."""
        text, seal = added
        append(file, before + text)
        self._record(self._id_of(file), seal)

    def _record(self, log: str, seal: Seal) -> None:
        if self._home is not None:
            head = Head(log, str(self.path.absolute()), seal.place, seal.hash)
            with _recording(self._home):
                note_head(self._home, head, form())

    def _id_of(self, file: int) -> str:
        inode = os.fstat(file).st_ino
        if self._id[1] != inode:
            self._id = (read_log(_whole(file)).id, inode)
        return self._id[0]

    def _renamed(self, file: int, before: bytes, last: Seal) -> tuple[bytes, Seal]:
        """With a log that this home did not write here, the note of that; a copy goes on under another id."""
        is_new = bool(before) and last.what == "log"
        if self._home is None or is_new or self._id[1] == os.fstat(file).st_ino:
            return before, last
        log = self._id_of(file)
        if original := original_of([self._home], log, self.path):
            note, id_ = COPIED.format(original=code(str(original))), secrets.token_hex(8)
        elif head_of([self._home], log) is not None:
            return before, last
        elif _is_empty(_whole(file)):
            # Recorded before its first entry, so that a kill in between does not make it a stranger's.
            self._record(log, last)
            return before, last
        else:
            note, id_ = f"*{FOUND}*", log  # the same id: another home may write to the same log
        text = f"\n{note}\n\n".encode("utf-8", "replace")
        seal = sealed(f"copy {id_}", last.place + 1, last.hash, text)
        self._id = (id_, os.fstat(file).st_ino)
        return before + text + seal.line.encode(), seal


def check_log(path: Path) -> None:
    """Raise `UsageError` if a run could not write its log here; nothing is written."""
    with _translated(path):
        if os.path.lexists(path):
            os.close(open_log(path, os.O_RDWR))
        elif not os.access(path.parent, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


@contextlib.contextmanager
def _translated(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        what = exc.strerror or str(exc)
        raise UsageError(f"Cannot write the log {path}: {what}.", _remedy(path)) from exc


@contextlib.contextmanager
def _recording(home: Path) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        what = exc.strerror or str(exc)
        raise RunFailed(
            f"What the log needs beside it cannot be written in {home}: {what}.",
            "Free some disk space or correct the permissions; the workspace has what was finished.",
        ) from exc


def _remedy(path: Path) -> str:
    if path.is_symlink() or (path.exists() and not path.is_file()):
        return f"Move {path} out of the way: the log must be an ordinary file."
    if not path.parent.is_dir():
        return f"Make the folder {path.parent} first, or choose another workspace with -C."
    return "Allow writing there and see that the disk has room, or choose another workspace with -C."


def _held() -> OSError:
    return TimeoutError(0, f"another process has held its lock for {LOCK_WAIT_S:.0f} s")


def _whole(file: int) -> bytes:
    return os.pread(file, os.fstat(file).st_size, 0)


# --- what another writer, or a person, left


def begun(text: str | bytes) -> tuple[bytes, Seal]:
    """The first block of a chain, and its seal."""
    text = (text.encode() if isinstance(text, str) else text) + b"\n"
    seal = sealed(f"log {secrets.token_hex(8)}", 0, NONE, text)
    return text + seal.line.encode(), seal


def _is_empty(data: bytes) -> bool:
    """Whether a log has its head and no entry yet."""
    blocks = read_log(data).blocks
    return len(blocks) == 1 and blocks[0].text == HEADER.encode() + b"\n"


def _end_of(file: int) -> tuple[bytes, Seal]:
    """What has to be written before the next entry to separate it, and the seal that it follows."""
    end = os.fstat(file).st_size
    if (seal := last_seal(os.pread(file, LONGEST_SEAL, max(0, end - LONGEST_SEAL)))) is not None:
        return b"", seal
    data = _whole(file)
    log = read_log(data)
    if not log.blocks:
        # A writer that was killed at the head left a part of it; all else is not ours.
        is_ours = HEADER.encode().startswith(data)
        found = b"" if is_ours else f"\n*{FOUND}*\n".encode()
        old, seal = begun(data + _closing(data, whole=not is_ours) + found)
        return old[len(data) :], seal
    last = log.blocks[-1].seal
    if not log.rest:
        return b"\n", last
    torn = is_torn(log.rest)
    closing = _closing(log.rest, whole=not torn) + b"\n"
    head = f"cut {len(log.rest)}" if torn else "added"
    seal = sealed(head, last.place + 1, last.hash, log.rest + closing)
    return closing + seal.line.encode(), seal


def _closing(data: bytes, *, whole: bool = False) -> bytes:
    """What closes an open line, code block, comment or fold, and says that an entry was cut off.

    `whole`: nothing was cut off.
    """
    rest = _A_COMMENT.split(data.decode("utf-8", "replace"))[-1]
    closing = "" if rest.endswith("\n") or not rest else "\n"
    opened = _open_fence(rest)
    if opened:
        closing += f"{opened}\n"
    elif rest.rfind("<!--") > rest.rfind("-->"):
        closing += "-->\n"
    if rest.count("<details>") > rest.count("</details>"):
        closing += "\n</details>\n"
    return (closing + ("" if whole or not _AN_ENTRY.search(rest) else f"\n{CUT_OFF}\n")).encode()


def _open_fence(text: str) -> str | None:
    """The signs that close the code block that the text leaves open."""
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


_TITLE = re.compile(r"### \d+ · (.*)|\*\*\d+\*\* · run [^·]* · [^·]* · (.*)|## (.*)")


@dataclass(frozen=True)
class LogEntry:
    """An entry of the file. `number` is None for what is not an entry, such as the head of the file."""

    number: int | None
    run: str
    line: int
    text: str
    """Markdown, without the comment that ends it."""
    hash: str = ""

    @property
    def title(self) -> str:
        first = self.text.strip().partition("\n")[0]
        match = _TITLE.match(first)
        return next((part for part in match.groups() if part), "") if match else first.lstrip("# ")

    @property
    def is_of_tool(self) -> bool:
        """Whether it is about a tool that was needed, tried, built, reused or refused."""
        return self.number is not None and self.title.startswith("tool ")

    def as_json(self) -> dict[str, Any]:
        """Keys: `number`, `run`, `line`, `title`, `text`, `hash` (empty if it has none)."""
        place = {"number": self.number, "run": self.run, "line": self.line}
        return {**place, "title": self.title, "text": self.text.strip(), "hash": self.hash}


@dataclass(frozen=True)
class EntryFilter:
    """Which entries to show; by default all of them."""

    run: str = ""
    """The run's id or the end of it, or `last`."""
    tools: bool = False
    grep: str = ""
    """A text that they contain, in upper or lower case."""

    def __call__(self, entry: LogEntry) -> bool:
        return (
            (not self.run or (entry.number is not None and entry.run.endswith(self.run)))
            and (not self.tools or entry.is_of_tool)
            and (not self.grep or self.grep.casefold() in entry.text.casefold())
        )


def entries_of(data: bytes) -> list[LogEntry]:
    """Every entry in the order of the file, including those from before there were hashes."""
    return [
        LogEntry(piece.seq, piece.run, piece.line, piece.text.decode("utf-8", "replace"), piece.hash)
        for piece in pieces_of(data)
    ]


def select_entries(entries: Iterable[LogEntry], wanted: EntryFilter) -> list[LogEntry]:
    found = list(entries)
    if wanted.run == "last":
        last = next((entry.run for entry in reversed(found) if entry.number is not None), "")
        wanted = EntryFilter(last or "none", wanted.tools, wanted.grep)
    return [entry for entry in found if wanted(entry)]


def markdown_of(entries: Iterable[LogEntry]) -> str:
    """The entries one after the other, without the comments between them."""
    return "\n\n".join(text for entry in entries if (text := entry.text.strip()))
