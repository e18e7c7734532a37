"""The folder of built tools, readable by people and shared by processes.

    ROOT/count_words/v1/tool.py      the module
                       /tool.json    specification, trial, origin, hash of tool.py, seal of the record
                    /.proved/v1/     the same two files as they were proved
                    /history.jsonl   uses and decisions; see `records`
    ROOT/.locks/count_words.build    held while a tool is built, so that it is built once
                           .write    held while a version is added
                           .history  held while a line of the history is written
    ROOT/.trash/                     removed tools, each with the time
    ROOT/.retired/                   a library of those that are not offered; see `retirement`

A version is written into a temporary folder, synced, and renamed: it appears whole or not at all, even after
`kill -9`. Versions never change, and no number is used twice. The highest one is current, unless an earlier
one was chosen with `roll_back`.

`get` returns what may be used. It raises ToolDisabled if the user disabled the tool, ToolQuarantined if it
failed three times in a row, and ToolEdited after an edit by hand, because no case has proved what it holds
now. `edits` proves an edit and makes it the next version; until then `fallback` is the last proved version.
`list` includes every tool that can be read, because looking must always work.

Similarity here is the name alone, without case, `-`, `_` and blanks. Not covered: an edit that also repairs
hash and seal, or changes `.proved`. Locks work between processes of one machine; on a network file system
they are as good as its `flock`.
"""

import re
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from orchestrator_cli.durable.files import sync_folder
from orchestrator_cli.durable.locks import LockTimeout, acquire
from toolsmith.built import BuiltTool, Origin, TrialReport
from toolsmith.errors import LibraryError, ToolDisabled, ToolEdited, ToolQuarantined
from toolsmith.library import records
from toolsmith.library.records import ToolHistory
from toolsmith.library.status import Disabled, Enabled, Entry, Judgement, RolledBack, ToolStatus, Tried, Used
from toolsmith.names import folded
from toolsmith.proof.cases import Suite
from toolsmith.spec import Need, ToolSpec

_PATIENCE_S = 900.0


class Library:
    """The tools under `root`, which is made when the first one is added."""

    def __init__(self, root: Path, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self.root = root
        self.now = now

    # --- looking

    def get(self, name: str) -> BuiltTool | None:
        """The current version of the tool with exactly this name; None if there is none.

        Raises:
            ToolDisabled: the user does not want it to be used.
            ToolEdited: its files were changed by hand.
            ToolQuarantined: it failed too often in a row.
            LibraryError: its files cannot be read.
        """
        if not self.versions(name):
            return None
        status = self.status(name)
        if status.disabled is not None:
            raise ToolDisabled(name, status.disabled)
        tool = self._read(name, status.current_version(self.versions(name)))
        if tool.edited:
            raise ToolEdited(name, tool.version, str(self.folder(name, tool.version)))
        if failures := status.quarantine(tool.version):
            raise ToolQuarantined(name, tool.version, failures)
        return tool

    def edited(self, name: str) -> BuiltTool | None:
        """The current version, even if it was changed by hand; None if there is none."""
        number = self.current_version(name)
        return self._read(name, number) if number else None

    def version(self, name: str, number: int) -> BuiltTool:
        """One version as it is on disk, changed by hand or not. Raises `LibraryError`."""
        if number not in self.versions(name):
            has_none = "The tool '{}' has no" if self.versions(name) else "The library has no tool '{}'"
            raise LibraryError(f"{has_none.format(name)} v{number}.\n{self._there(name)}")
        return self._read(name, number)

    def versions(self, name: str) -> tuple[int, ...]:
        """The numbers of a tool's versions, in order; empty if there is no such tool."""
        return _numbers(self.root / name) if not name.startswith(".") else ()

    def current_version(self, name: str) -> int:
        """The number of the current version; 0 if there is no such tool."""
        found = self.versions(name)
        with self._history(name) as history:
            return history.chosen().current_version(found) if found else 0

    def known(self) -> Mapping[str, int]:
        """The name and current version of every tool, without reading any."""
        return {name: number for name in self._names() if (number := self.current_version(name))}

    def status(self, name: str) -> ToolStatus:
        """The uses of a tool, and whether it is disabled or in quarantine. Raises `LibraryError`."""
        with self._history(name) as history:
            return history.status()

    def entries(self, name: str) -> tuple[Entry, ...]:
        """The history of a tool, oldest first; old uses are summed. Raises `LibraryError`."""
        with self._history(name) as history:
            return history.entries()

    def stored_name(self, name: str) -> str:
        """The name as the library writes it; unchanged if there is no such tool."""
        if self.versions(name):
            return name
        return next((known for known in self._names() if folded(known) == folded(name)), name)

    def find_similar(self, need: Need) -> BuiltTool | None:
        """The tool that a need means, by its exact name, otherwise by the same name written differently.

        Raises: as `get` does.
        """
        names = sorted(self._names(), key=lambda name: (name != need.tool_name, name))
        alike = (name for name in names if folded(name) == folded(need.tool_name))
        return next((tool for name in alike if (tool := self.get(name)) is not None), None)

    def list(self) -> tuple[BuiltTool, ...]:
        """The current version of every readable tool, by name; `edited` marks those changed by hand.

        Includes disabled tools and those in quarantine; see `fit`.
        """
        return tuple(tool for tool, _ in self._all() if tool is not None)

    def fit(self) -> tuple[BuiltTool, ...]:
        """The tools that `get` would return, by name."""
        found = []
        for name in self._names():
            try:
                found.append(self.get(name))
            except LibraryError:
                continue
        return tuple(tool for tool in found if tool is not None)

    def faults(self) -> tuple[str, ...]:
        """Faults of the library: tools that cannot be read, and tools changed by hand."""
        return tuple(fault for _, fault in self._all() if fault)

    def is_unreadable(self, name: str) -> bool:
        """Whether the current version exists and cannot be read."""
        number = self.current_version(name)
        if not number:
            return False
        try:
            self._read(name, number)
        except LibraryError:
            return True
        return False

    def fallback(self, name: str) -> BuiltTool | None:
        """The newest proved version up to the current one, which may be the current one before an edit."""
        for number in reversed([n for n in self.versions(name) if n <= self.current_version(name)]):
            for folder in (self.folder(name, number), self._kept(name, number)):
                try:
                    tool = records.read(folder, name, number)
                except records.UnreadableVersion:
                    continue
                if not tool.edited:
                    return tool
        return None

    def folder(self, name: str, version: int) -> Path:
        """The folder of a version."""
        return self.root / name / f"v{version}"

    # --- keeping

    def add(
        self,
        spec: ToolSpec,
        source: str,
        report: TrialReport,
        origin: Origin,
        suite: Suite = Suite(cases=()),  # noqa: B008  (frozen)
    ) -> BuiltTool:
        """Keep a proved tool as its next version; an identical one adds nothing.

        Raises:
            LibraryError: the trial did not pass, or the folder cannot be written.
            ToolQuarantined: it is the very version that is in quarantine.
        """
        return self.keep(
            BuiltTool(
                name=spec.name,
                version=1,
                spec=spec,
                suite=suite,
                source=source,
                sha256=records.sha256(source.encode()),
                functions=(),
                trial=report,
                origin=origin,
                created=self.now(),
            )
        )

    def keep(self, tool: BuiltTool) -> BuiltTool:
        """The same for a whole tool, whose version, hash and time are replaced."""
        spec, report = tool.spec, tool.trial
        tried = {result.title for result in report.results}
        if not report.passed or not tried or not tried >= {case.title for case in tool.suite.of(spec)}:
            raise LibraryError(
                f"The tool '{spec.name}' has not passed all its cases; only proved tools are kept."
            )
        with self._lock(spec.name, "write"):
            counts = self.current_version(spec.name)
            if counts and (same := self._same(spec, tool.suite, tool.source, counts)):
                return same
            taken = (*self.versions(spec.name), *_numbers(self.root / spec.name / ".proved"))
            version, digest = 1 + max(taken, default=0), records.sha256(tool.source.encode())
            given = {"name": spec.name, "version": version, "sha256": digest, "created": self.now()}
            self._write(tool.model_copy(update=given))
            return self._read(spec.name, version)

    def restore(self, name: str, version: int) -> None:
        """Restore a version's files as they were proved, if there is a copy. Raises `LibraryError`."""
        with self._lock(name, "write"):
            try:
                tool = records.read(self._kept(name, version), name, version)
            except records.UnreadableVersion:
                return
            if not tool.edited:
                self._write(tool, copy=False)

    @contextmanager
    def build_lock(self, name: str, *, patience_s: float = _PATIENCE_S) -> Iterator[None]:
        """Held while `name` is built, so that a second builder waits and finds the tool.

        The lock ends with its process, however that ends.

        Raises:
            LibraryError: another process has held it for `patience_s` seconds.
        """
        with self._lock(name, "build", patience_s):
            yield

    # --- deciding; all raise `LibraryError`, also if there is no such tool

    def record_use(
        self, tool: BuiltTool, judgement: Judgement, seconds: float, run: str = ""
    ) -> ToolStatus | None:
        """Record a call; returns the resulting status, or None if the tool was removed."""
        use = Used(
            at=self.now(),
            version=tool.version,
            outcome=judgement.outcome,
            error=judgement.error,
            seconds=round(seconds, 3),
            run=run,
        )
        return self.note(tool.name, use)

    def record_trial(self, name: str, version: int, *, passed: bool) -> None:
        """Record that a version's trial was run again."""
        self.note(name, Tried(at=self.now(), version=version, passed=passed))

    def disable(self, name: str, reason: str = "") -> None:
        """Take a tool out of use until it is enabled."""
        self._check(name)
        self.note(name, Disabled(at=self.now(), reason=reason))

    def enable(self, name: str) -> bool:
        """Bring a tool back into use; False if it was in use.

        Raises:
            ToolQuarantined: no trial of it has passed since it failed.
        """
        self._check(name)
        status, version = self.status(name), self.current_version(name)
        failures = status.quarantine(version)
        if failures and version not in status.passed:
            raise ToolQuarantined(name, version, failures)
        if status.disabled is None and not failures:
            return False
        self.note(name, Enabled(at=self.now(), version=version))
        return True

    def roll_back(self, name: str, version: int | None = None, reason: str = "") -> BuiltTool:
        """Make another version current, by default the one before, until a newer one is added."""
        self._check(name)
        found, now = self.versions(name), self.current_version(name)
        target = max((n for n in found if n < now), default=0) if version is None else version
        if not target:
            raise LibraryError(f"The tool '{name}' v{now} has no earlier version to go back to.")
        tool = self.version(name, target)
        if target == now:
            raise LibraryError(f"The tool '{name}' v{now} is the current version already.")
        self.note(name, RolledBack(at=self.now(), version=target, newest=max(found), reason=reason))
        return tool

    def remove(self, name: str) -> Path:
        """Move a tool with all its versions into the trash; returns the folder there."""
        place = self.root / ".trash" / f"{name}-{self.now():%Y%m%dT%H%M%S.%f}"
        self.move(name, place)
        return place

    def move(self, name: str, place: Path) -> None:
        """Move a tool with all its versions to a free place on the same disk."""
        self._check(name)
        with self._lock(name, "build"), self._lock(name, "write"), self._lock(name, "history"):
            try:
                place.parent.mkdir(exist_ok=True)
                (self.root / name).rename(place)
                sync_folder(self.root)
            except OSError as exc:
                raise LibraryError(f"The tool '{name}' could not be moved to {place}: {exc}.") from exc

    def note(self, name: str, entry: Entry) -> ToolStatus | None:
        """Add an entry to a tool's history; see `ToolHistory.add`."""
        with self._history(name, "written") as history:
            return history.add(entry)

    # --- files

    def _same(self, spec: ToolSpec, suite: Suite, source: str, version: int) -> BuiltTool | None:
        try:
            tool = self._read(spec.name, version)
        except LibraryError:
            return None
        if tool.edited or (tool.spec, tool.suite, tool.source) != (spec, suite, source):
            return None
        if failures := self.status(tool.name).quarantine(version):
            raise ToolQuarantined(tool.name, version, failures)
        return tool

    def _all(self) -> Iterator[tuple[BuiltTool | None, str]]:
        for name in self._names():
            try:
                tool = self.edited(name)
            except LibraryError as exc:
                yield None, str(exc)
                continue
            if tool is not None and tool.edited:
                yield tool, str(ToolEdited(name, tool.version, str(self.folder(name, tool.version))))
            else:
                yield tool, ""

    def _names(self) -> tuple[str, ...]:
        try:
            entries = [entry.name for entry in self.root.iterdir() if entry.is_dir()]
        except FileNotFoundError:
            return ()
        return tuple(sorted(name for name in entries if not name.startswith(".")))

    def _check(self, name: str) -> None:
        if not self.versions(name):
            raise LibraryError(f"The library has no tool '{name}'.\n{self._there(name)}")

    def _there(self, name: str) -> str:
        numbers: Sequence[int] = self.versions(name)
        if numbers:
            return f"It has {', '.join(f'v{number}' for number in numbers)}."
        names = self._names()
        return f"It has {', '.join(names[:20])}{', …' if names[20:] else ''}." if names else "It is empty."

    def _kept(self, name: str, version: int) -> Path:
        return self.root / name / ".proved" / f"v{version}"

    @contextmanager
    def _history(self, name: str, done: str = "read") -> Iterator[ToolHistory]:
        file = self.root / name / "history.jsonl"
        try:
            yield ToolHistory(file, lambda: self._lock(name, "history"))
        except OSError as exc:
            raise LibraryError(f"The history of the tool '{name}' cannot be {done}: {exc}.") from exc

    def _read(self, name: str, version: int) -> BuiltTool:
        try:
            return records.read(self.folder(name, version), name, version)
        except records.UnreadableVersion as exc:
            raise LibraryError(
                f"The tool '{name}' v{version} cannot be read: {exc}\n"
                f"Restore or delete {self.folder(name, version)}."
            ) from exc

    def _write(self, tool: BuiltTool, *, copy: bool = True) -> None:
        place, record = self.folder(tool.name, tool.version), records.record_of(tool)
        places = [self._kept(tool.name, tool.version), place] if copy else [place]
        try:
            for left in (*place.parent.glob(".v*"), *place.parent.glob(".proved/.v*")):
                shutil.rmtree(left)  # by a process that died here: the lock is ours now
            for folder in places:
                scratch = folder.with_name(f".{folder.name}-{secrets.token_hex(4)}")
                records.write(folder, scratch, record, tool.source)
            sync_folder(self.root)
        except OSError as exc:
            raise LibraryError(
                f"The tool could not be written to {place}: {exc}. Free space or rights?"
            ) from exc

    @contextmanager
    def _lock(self, name: str, purpose: str, patience_s: float = 60.0) -> Iterator[None]:
        file = self.root / ".locks" / f"{name}.{purpose}"
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            # A history is held for a millisecond, and a build for minutes.
            poll_s = 0.005 if purpose == "history" else 0.05
            lock = acquire(file, wait_s=patience_s, poll_s=poll_s)
        except LockTimeout as exc:
            raise LibraryError(
                f"Another builder has held {file} for {patience_s:g} s.\nWait for it or end it."
            ) from exc
        except OSError as exc:
            raise LibraryError(f"The library cannot be locked with {file}: {exc}.") from exc
        with lock:
            yield


def _numbers(folder: Path) -> tuple[int, ...]:
    try:
        entries = [entry.name for entry in folder.iterdir()]
    except (FileNotFoundError, NotADirectoryError):
        return ()
    return tuple(sorted(int(entry[1:]) for entry in entries if re.fullmatch("v[1-9][0-9]*", entry)))
