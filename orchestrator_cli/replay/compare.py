"""A run done again from its journal on a copy of the workspace, to see whether it comes to the same files.

The copy is the workspace as it was before the run. Each finished subtask takes its checkout of it where the
journal says it did, its recorded code and calls run there in the sandbox, and what it commits is held
against what was committed then. What cannot be done again is told, and its files are taken over from the
record, so that what follows finds them. The workspace itself is only read.

What is not covered: see `execution.recorded`, `execution.rerun` and `execution.workspace.rewind`.
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
from orchestrator_cli.errors import UsageError
from orchestrator_cli.events import Event, FileChange
from orchestrator_cli.journal.run_lock import held
from orchestrator_cli.replay.rerun import KnownTool, reason_against, rerun
from orchestrator_cli.replay.rewind import copy_as_before, in_order, restore
from orchestrator_cli.replay.work import Closed, Work, moments_of
from orchestrator_cli.runs.find import DEMO, PastRun
from orchestrator_cli.settings import Settings
from orchestrator_cli.workspace import Checkout, Conflict, Workspace, WorkspaceFault, check_folder
from orchestrator_cli.workspace.checkout import Hidden
from orchestrator_cli.workspace.commit import lock_folder
from orchestrator_cli.workspace.history import History
from orchestrator_cli.workspace.record import Record
from orchestrator_cli.workspace.tree import remove
from toolsmith.sandbox import Backend

YOUNG_S = 60.0
Outcome = Literal["same", "different", "not replayed"]


@dataclass(frozen=True)
class FileVerdict:
    """A file that a subtask changed, then or now. A hash is None where there was no file."""

    path: str
    same: bool
    then: str | None
    now: str | None
    what: str = ""
    """In what the two differ."""


@dataclass(frozen=True)
class SubtaskVerdict:
    subtask: str
    attempt: int
    outcome: Outcome
    steps: int
    files: tuple[FileVerdict, ...]
    why: tuple[str, ...]
    """Why it was not replayed, or what went otherwise."""


@dataclass(frozen=True)
class Replayed:
    run: str
    subtasks: tuple[SubtaskVerdict, ...]
    notes: tuple[str, ...]

    @property
    def same(self) -> bool:
        """Whether every change of a file was made again and came out the same."""
        return all(
            one.outcome == "same" or not (one.files or one.outcome == "different") for one in self.subtasks
        )


def replay_run(where: PastRun, settings: Settings, backend: Backend) -> Replayed:
    """Do a run again. Raises `UsageError` where it goes on now, or its workspace cannot be copied."""
    check_folder(where.root)
    with held(where.folder), _scratch(where.home) as scratch:
        found = where.events()
        copy = scratch / "workspace"
        copy.mkdir(mode=0o700)
        hidden = Hidden(settings.allow_protected)
        try:
            notes = copy_as_before(
                where.root.resolve(),
                where.home,
                where.run,
                list(_histories(where, settings)),
                copy,
                hidden,
                settings.workspace_max_mb,
            )
            again = _Again(where, settings, backend, copy, scratch / "state", _tools(found, where.home))
            return Replayed(where.run, tuple(again.verdicts(found)), tuple(notes))
        except (WorkspaceFault, OSError) as exc:
            raise UsageError(f"Run {where.run} cannot be replayed: {exc}.") from exc


@dataclass
class _Again:
    """The replay under way: checkouts that were taken and not committed yet."""

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

    def _verdict(self, work: Work, checkout: Checkout) -> SubtaskVerdict:
        def verdict(outcome: Outcome, files: Iterable[FileVerdict], why: Iterable[str]) -> SubtaskVerdict:
            return SubtaskVerdict(work.name, work.attempt, outcome, len(work.steps), tuple(files), tuple(why))

        if reason := reason_against(work, self.tools):
            lost = self._take_over(work, checkout)
            checkout.commit()
            return verdict("not replayed", (_taken(change) for change in work.changes), [reason, *lost])
        why = rerun(work, checkout, self.backend, self.tools, self.settings.allow_protected)
        try:
            files = list(_compared(work.changes, checkout.commit()))
        except Conflict as exc:
            return verdict("different", (), [*why, str(exc)])
        return verdict("same" if all(one.same for one in files) else "different", files, why)

    def _take_over(self, work: Work, checkout: Checkout) -> list[str]:
        """Put the recorded files of a subtask into its checkout; returns what is not kept."""
        records = [record for record in self.where.history.records() if _is_of(record, work)]
        lost = []
        for record in records[-1:]:
            for change in in_order(record.changes):
                try:
                    restore(checkout.root, change.path, change.after, self.where.history)
                except (OSError, WorkspaceFault):
                    lost.append(f"what it made of {change.path} is not kept")
        return lost


def _is_of(record: Record, work: Work) -> bool:
    author = record.author
    return author.undo_to is None and (author.subtask, author.attempt) == (work.name, work.attempt)


def _compared(then: Iterable[FileChange], now: Iterable[FileChange]) -> Iterator[FileVerdict]:
    was, is_ = {change.path: change for change in then}, {change.path: change for change in now}
    for path in sorted(was.keys() | is_.keys()):
        old, new = was.get(path), is_.get(path)
        yield FileVerdict(
            path,
            same=_like(old, new),
            then=old.after_sha256 if old else None,
            now=new.after_sha256 if new else None,
            what=_difference(old, new),
        )


def _like(old: FileChange | None, new: FileChange | None) -> bool:
    return old is not None and new is not None and _difference(old, new) == ""


def _difference(old: FileChange | None, new: FileChange | None) -> str:
    if old is None or new is None:
        return "not changed then" if old is None else "not changed now"
    if old.change != new.change:
        return f"{old.change} then, {new.change} now"
    return "" if old.after_sha256 == new.after_sha256 else "other content"


def _taken(change: FileChange) -> FileVerdict:
    return FileVerdict(change.path, False, change.after_sha256, None, "taken over from the record")


# --- what the run had


def _tools(found: Iterable[Event], home: Path) -> dict[str, KnownTool]:
    """The built tools of a run, each in the version that it used last."""
    tools: dict[str, KnownTool] = {}
    for event in found:
        match event.data:
            case events.ToolBuilt(tool=name, permissions=permissions, source=source):
                tools[name] = KnownTool(name, source, _lacks(permissions))
            case events.ToolReused(tool=name, version=version, sha256=sha256):
                tools[name] = _from_library(home / "tools" / name, name, version, sha256)
    return tools


def _lacks(permissions: str) -> str:
    """What a tool was given that a replay does not give: all but files."""
    parts = (part.strip() for part in permissions.split(";"))
    given = [part for part in parts if not part.startswith("workspace:") and not part.endswith(": none")]
    return f"it had {'; '.join(given)}" if given else ""


def _from_library(folder: Path, name: str, version: int, sha256: str) -> KnownTool:
    """The version with this very content, as it is or as it was proved."""
    for place in (folder / f"v{version}", folder / ".proved" / f"v{version}"):
        with contextlib.suppress(OSError, ValueError, LookupError):
            source = (place / "tool.py").read_bytes()
            if hashlib.sha256(source).hexdigest() == sha256:
                spec: dict[str, Any] = json.loads((place / "tool.json").read_text(encoding="utf-8"))["spec"]
                given = [
                    f"{what}: {', '.join(map(str, spec[what]))}"
                    for what in ("network", "secrets", "packages")
                    if spec.get(what)
                ]
                return KnownTool(name, source.decode(), f"it had {'; '.join(given)}" if given else "")
    return KnownTool(name, "", f"its version {version} is gone from the library, or was changed")


def _histories(where: PastRun, settings: Settings) -> Iterator[History]:
    for home in dict.fromkeys((where.home, settings.home, settings.home / DEMO)):
        for folder in (home / "runs").glob("*/undo"):
            yield History(folder)


# --- where it is done


@contextlib.contextmanager
def _scratch(home: Path) -> Iterator[Path]:
    """A folder of its own beside the runs. What killed replays left is taken away."""
    replays = home / "replays"
    replays.mkdir(parents=True, exist_ok=True, mode=0o700)
    for left in replays.iterdir():
        if time.time() - left.stat().st_mtime < YOUNG_S:
            continue  # its maker may not hold it yet
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
    """Hold a folder as long as this lasts; False where somebody else does."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield lock_folder(fd)
    finally:
        os.close(fd)
