"""Repeats a run from its journal on a copy of the workspace, and compares the resulting files.

The copy is the workspace as it was before the run. Each finished subtask takes its checkout at the point
that the journal shows, its recorded code and calls run there in the sandbox, and its commit is compared
with the recorded one. Work that cannot be repeated is reported, and its files are copied from the
record, so that later subtasks find them. The workspace itself is only read.

Not covered: see `replay.rerun` and `replay.rewind`.
"""

import contextlib
import hashlib
import json
import os
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from orchestrator_cli import events
from orchestrator_cli.errors import Conflict, UsageError, WorkspaceFault
from orchestrator_cli.events import Event, FileChange
from orchestrator_cli.journal.journal import run_lock
from orchestrator_cli.replay.rerun import (
    Closed,
    FinishedAttempt,
    KnownTool,
    moments_of,
    reason_against,
    rerun,
)
from orchestrator_cli.replay.rewind import copy_as_before, in_order, restore
from orchestrator_cli.runs.find import PastRun, homes_of
from orchestrator_cli.settings import Settings
from orchestrator_cli.workspace import Checkout, CommitLimits, Workspace, check_folder
from orchestrator_cli.workspace.checkout import Hidden
from orchestrator_cli.workspace.commit import lock_folder
from orchestrator_cli.workspace.history import Author, CommitHistory
from toolsmith.sandbox import Backend
from toolsmith.sandbox.removal import remove

YOUNG_S = 60.0
"""A newer folder may not be locked by its process yet."""
ReplayOutcome = Literal["same", "different", "not replayed"]


@dataclass(frozen=True)
class FileVerdict:
    """A file that a subtask changed, then or now. A hash is None if there was no file."""

    path: str
    same: bool
    then: str | None
    now: str | None
    what: str = ""
    """The difference, or empty."""


@dataclass(frozen=True)
class SubtaskVerdict:
    subtask: str
    attempt: int
    outcome: ReplayOutcome
    steps: int
    files: tuple[FileVerdict, ...]
    why: tuple[str, ...]
    """Why it was not replayed, or what was different."""


@dataclass(frozen=True)
class Replayed:
    run: str
    subtasks: tuple[SubtaskVerdict, ...]
    notes: tuple[str, ...]

    @property
    def same(self) -> bool:
        """Whether every change of a file was repeated with the same result."""
        return all(
            one.outcome == "same" or not (one.files or one.outcome == "different") for one in self.subtasks
        )


def replay_run(where: PastRun, settings: Settings, backend: Backend) -> Replayed:
    """Repeat a run. Raises `UsageError` if it is running now, or its workspace cannot be copied."""
    check_folder(where.root)
    with run_lock(where.folder), _scratch(where.home) as scratch:
        found = where.events()
        copy = scratch / "workspace"
        copy.mkdir(mode=0o700)
        hidden = Hidden(where.root.resolve(), (where.home, *settings.own_places), settings.allow_protected)
        try:
            notes = copy_as_before(
                where.root.resolve(),
                where.home,
                where.run,
                [
                    CommitHistory(folder)
                    for home in dict.fromkeys((where.home, *homes_of(settings)))
                    for folder in (home / "runs").glob("*/undo")
                ],
                copy,
                hidden,
                settings.workspace_max_mb,
            )
            replay = _Replay(where, settings, backend, copy, scratch / "state", _tools(found, where.home))
            return Replayed(where.run, tuple(replay.verdicts(found)), tuple(notes))
        except (WorkspaceFault, OSError) as exc:
            raise UsageError(f"Run {where.run} cannot be replayed: {exc}.") from exc


@dataclass
class _Replay:
    """A replay under way; `open` are its checkouts that are not committed yet."""

    where: PastRun
    settings: Settings
    backend: Backend
    copy: Path
    state: Path
    tools: Mapping[str, KnownTool]
    open: dict[tuple[str, int], Checkout] = field(default_factory=dict)

    def verdicts(self, found: list[Event]) -> Iterator[SubtaskVerdict]:
        settings = self.settings
        workspace = Workspace(
            self.copy,
            self.state,
            settings.workspace_max_mb,
            run=self.where.run,
            allowed=settings.allow_protected,
            limits=CommitLimits(settings.commit_max_mb, settings.commit_max_files),
        )
        try:
            for moment in moments_of(found):
                work = moment.work
                key = work.name, work.attempt
                if isinstance(moment, Closed):
                    with self.open.pop(key) as checkout:
                        yield self._verdict(work, checkout)
                else:
                    self.open[key] = workspace.checkout(*key)
        finally:
            for checkout in self.open.values():
                checkout.discard()

    def _verdict(self, work: FinishedAttempt, checkout: Checkout) -> SubtaskVerdict:
        def verdict(
            outcome: ReplayOutcome, files: Iterable[FileVerdict], why: Iterable[str]
        ) -> SubtaskVerdict:
            return SubtaskVerdict(work.name, work.attempt, outcome, len(work.steps), tuple(files), tuple(why))

        if reason := reason_against(work, self.tools):
            lost = self._copy_recorded(work, checkout)
            checkout.commit(approved=None)  # onto a copy
            files = [
                FileVerdict(change.path, False, change.after_sha256, None, "taken over from the record")
                for change in work.changes
            ]
            return verdict("not replayed", files, [reason, *lost])
        allowed, root = self.settings.allow_protected, self.where.root.resolve()
        why = rerun(work, checkout, self.backend, self.tools, allowed, root)
        try:
            files = list(_compared(work.changes, checkout.commit(approved=None)))
        except Conflict as exc:
            return verdict("different", (), [*why, str(exc)])
        return verdict("same" if all(one.same for one in files) else "different", files, why)

    def _copy_recorded(self, work: FinishedAttempt, checkout: Checkout) -> list[str]:
        """Put the recorded files of a subtask into its checkout; returns what is missing in the record."""
        author = Author(run=self.where.run, subtask=work.name, attempt=work.attempt)
        records = [record for record in self.where.history.records() if record.author == author]
        lost = []
        for record in records[-1:]:
            for change in in_order(record.changes):
                try:
                    restore(checkout.root, change.path, change.after, self.where.history)
                except (OSError, WorkspaceFault):
                    lost.append(f"its version of {change.path} was not kept")
        return lost


def _compared(then: Iterable[FileChange], now: Iterable[FileChange]) -> Iterator[FileVerdict]:
    was, current = {change.path: change for change in then}, {change.path: change for change in now}
    for path in sorted(was.keys() | current.keys()):
        old, new = was.get(path), current.get(path)
        what = _difference(old, new)
        yield FileVerdict(
            path,
            same=not what,
            then=old.after_sha256 if old else None,
            now=new.after_sha256 if new else None,
            what=what,
        )


def _difference(old: FileChange | None, new: FileChange | None) -> str:
    if old is None or new is None:
        return "not changed then" if old is None else "not changed now"
    if old.change != new.change:
        return f"{old.change} then, {new.change} now"
    return "" if old.after_sha256 == new.after_sha256 else "other content"


# --- what the run had


def _tools(found: Iterable[Event], home: Path) -> dict[str, KnownTool]:
    """The built tools of a run, each in the version last used."""
    tools: dict[str, KnownTool] = {}
    for event in found:
        match event.data:
            case events.ToolBuilt(tool=name, permissions=permissions, source=source):
                tools[name] = KnownTool(name, source, _lacks(permissions), _workspace(permissions))
            case events.ToolReused(tool=name, version=version, sha256=sha256):
                tools[name] = _from_library(home / "tools" / name, name, version, sha256)
    return tools


def _lacks(permissions: str) -> str:
    """The permissions of a tool that a replay does not grant: all but those on files."""
    parts = (part.strip() for part in permissions.split(";"))
    granted = [part for part in parts if not part.startswith("workspace:") and not part.endswith(": none")]
    return f"it had {'; '.join(granted)}" if granted else ""


def _workspace(permissions: str) -> str:
    """What a tool may do with the workspace."""
    parts = (part.strip().partition(": ") for part in permissions.split(";"))
    return {what: value for what, _, value in parts}.get("workspace", "none")


def _from_library(folder: Path, name: str, version: int, sha256: str) -> KnownTool:
    """The version with exactly this content, current or as it was proved."""
    for place in (folder / f"v{version}", folder / ".proved" / f"v{version}"):
        with contextlib.suppress(OSError, ValueError, LookupError):
            source = (place / "tool.py").read_bytes()
            if hashlib.sha256(source).hexdigest() == sha256:
                spec: dict[str, Any] = json.loads((place / "tool.json").read_text(encoding="utf-8"))["spec"]
                granted = [
                    f"{what}: {', '.join(map(str, spec[what]))}"
                    for what in ("network", "secrets", "packages")
                    if spec.get(what)
                ]
                lacks = f"it had {'; '.join(granted)}" if granted else ""
                return KnownTool(name, source.decode(), lacks, str(spec.get("workspace", "none")))
    return KnownTool(name, "", f"its version {version} is no longer in the library, or was changed")


# --- the folder of a replay


@contextlib.contextmanager
def _scratch(home: Path) -> Iterator[Path]:
    """A new folder next to the runs. Removes the folders of killed replays."""
    replays = home / "replays"
    replays.mkdir(parents=True, exist_ok=True, mode=0o700)
    for left in replays.iterdir():
        if time.time() - left.stat().st_mtime < YOUNG_S:
            continue
        with _in_use(left) as mine:
            if mine:
                remove(left)
    folder = replays / uuid.uuid4().hex
    folder.mkdir(mode=0o700)
    with _in_use(folder):
        try:
            yield folder
        finally:
            remove(folder)


@contextlib.contextmanager
def _in_use(folder: Path) -> Iterator[bool]:
    """Lock a folder for the block; False if another process has it."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield lock_folder(fd)
    finally:
        os.close(fd)
