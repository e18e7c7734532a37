"""The folder of built tools, readable by a person and shared by processes.

    ROOT/count_words/v1/tool.py      the module
                       /tool.json    specification, trial, origin, hash of tool.py, seal of the record
    ROOT/.locks/count_words.build    held while a tool is being built, so that it is built once
                           .write    held while a version is added

A version is written into a temporary folder beside its place, synced, and renamed: it is there whole or not
at all, also after `kill -9`. Versions are never changed; the highest one counts.

A hand edit is noticed by hash. `get` raises ToolEdited, because running a tool that no case has proved
would break what the library promises; `list` shows it with `edited=True`, because looking must always work;
`adopt_edit` in `toolsmith.build` proves it and makes it the next version.

Similarity in this version is the name alone: case, `-`, `_` and blanks do not count. Not covered: removing
tools (delete the folder), comparing what tools do, and an edit that also repairs hash and seal: they
notice, they do not defend. Locks work between processes of one machine; on a network file system they are
as good as its `flock`."""

import hashlib
import json
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from toolsmith.built import BuiltTool, Origin, TrialReport
from toolsmith.checker import functions
from toolsmith.errors import LibraryError, ToolEdited
from toolsmith.names import folded
from toolsmith.spec import Need, ToolSpec

_FORMAT = 1
_PATIENCE_S = 900.0


class Library:
    """The tools under `root`, which is made when the first one is added."""

    def __init__(self, root: Path, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self.root = root
        self._now = now

    def get(self, name: str) -> BuiltTool | None:
        """The latest version of the tool with exactly this name; None when there is none.

        Raises:
            ToolEdited: its files were changed by hand.
            LibraryError: its files cannot be read.
        """
        tool = self._latest(name)
        if tool is not None and tool.edited:
            raise ToolEdited(name, tool.version, str(self._folder(name, tool.version)))
        return tool

    def edited(self, name: str) -> BuiltTool | None:
        """The latest version even when it was changed by hand; None when there is none."""
        return self._latest(name)

    def find_similar(self, need: Need) -> BuiltTool | None:
        """The tool that a need means: by its exact name, else by the same name written differently.

        Raises: as `get` does.
        """
        names = sorted(self._names(), key=lambda name: (name != need.tool_name, name))
        alike = (name for name in names if folded(name) == folded(need.tool_name))
        return next((tool for name in alike if (tool := self.get(name)) is not None), None)

    def list(self) -> tuple[BuiltTool, ...]:
        """The latest version of every readable tool, by name; `edited` says which were changed by hand."""
        return tuple(tool for tool, _ in self._all() if tool is not None)

    def faults(self) -> tuple[str, ...]:
        """What is wrong in the library: tools that cannot be read, and tools that were changed by hand."""
        return tuple(fault for _, fault in self._all() if fault)

    def add(self, spec: ToolSpec, source: str, report: TrialReport, origin: Origin) -> BuiltTool:
        """Keep a proved tool as its next version; the same specification and module again add nothing.

        Raises:
            LibraryError: the report says that it did not pass, or the folder cannot be written.
        """
        if not report.passed or len(report.results) != len(spec.cases):
            raise LibraryError(
                f"The tool '{spec.name}' has not passed all its cases; only proved tools are kept."
            )
        with self._lock(spec.name, "write"):
            last = max(self._versions(spec.name), default=0)
            if last and (same := self._same(spec, source, last)):
                return same
            record = {
                "format": _FORMAT,
                "name": spec.name,
                "version": last + 1,
                "created": self._now().isoformat(),
                "sha256": _sha256(source.encode()),
                "origin": origin.model_dump(mode="json"),
                "trial": report.model_dump(mode="json"),
                "spec": spec.model_dump(mode="json"),
            }
            self._write(record, source)
            return self._read(spec.name, last + 1)

    @contextmanager
    def building(self, name: str, *, patience_s: float = _PATIENCE_S) -> Iterator[None]:
        """Held while `name` is built, so that a second builder waits and finds the tool.

        The lock ends with its process, however that ends.

        Raises:
            LibraryError: somebody else has held it for `patience_s` seconds.
        """
        with self._lock(name, "build", patience_s):
            yield

    def _latest(self, name: str) -> BuiltTool | None:
        numbers = self._versions(name)
        return self._read(name, numbers[-1]) if numbers else None

    def _same(self, spec: ToolSpec, source: str, version: int) -> BuiltTool | None:
        try:
            tool = self._read(spec.name, version)
        except LibraryError:
            return None
        return tool if not tool.edited and (tool.spec, tool.source) == (spec, source) else None

    def _all(self) -> Iterator[tuple[BuiltTool | None, str]]:
        for name in self._names():
            try:
                tool = self._latest(name)
            except LibraryError as exc:
                yield None, str(exc)
                continue
            if tool is not None and tool.edited:
                yield tool, str(ToolEdited(name, tool.version, str(self._folder(name, tool.version))))
            else:
                yield tool, ""

    def _names(self) -> tuple[str, ...]:
        try:
            entries = [entry.name for entry in self.root.iterdir() if entry.is_dir()]
        except FileNotFoundError:
            return ()
        return tuple(sorted(name for name in entries if not name.startswith(".")))

    def _versions(self, name: str) -> tuple[int, ...]:
        try:
            entries = [entry.name for entry in (self.root / name).iterdir()]
        except (FileNotFoundError, NotADirectoryError):
            return ()
        return tuple(sorted(int(entry[1:]) for entry in entries if re.fullmatch("v[1-9][0-9]*", entry)))

    def _folder(self, name: str, version: int) -> Path:
        return self.root / name / f"v{version}"

    def _read(self, name: str, version: int) -> BuiltTool:
        folder = self._folder(name, version)
        try:
            source = (folder / "tool.py").read_bytes()
            record = json.loads((folder / "tool.json").read_bytes())
            if (record["name"], record["version"]) != (name, version):
                raise ValueError(f"tool.json says that it is '{record['name']}' v{record['version']}")
            edited = record.get("sha256") != _sha256(source) or record.get("seal") != _seal(record)
            return _built(record, source.decode(), edited=edited)
        except (
            OSError,
            ValueError,
            KeyError,
            AttributeError,
            TypeError,
            SyntaxError,
            ValidationError,
        ) as exc:
            reason = str(exc).splitlines()[0] if str(exc) else type(exc).__name__
            raise LibraryError(
                f"The tool '{name}' v{version} cannot be read: {reason}\nRestore or delete {folder}."
            ) from exc

    def _write(self, record: dict[str, Any], source: str) -> None:
        place = self._folder(record["name"], record["version"])
        scratch = place.with_name(f".{place.name}-{secrets.token_hex(4)}")
        text = json.dumps({**record, "seal": _seal(record)}, ensure_ascii=False, indent=2) + "\n"
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            for left in place.parent.glob(".v*"):
                shutil.rmtree(left)  # by a process that died here: the lock is ours now
            scratch.mkdir()
            _write_synced(scratch / "tool.py", source)
            _write_synced(scratch / "tool.json", text)
            _sync_folder(scratch)
            scratch.rename(place)
            _sync_folder(place.parent)
            _sync_folder(self.root)
        except OSError as exc:
            raise LibraryError(
                f"The tool could not be written to {place}: {exc}. Free space or rights?"
            ) from exc

    @contextmanager
    def _lock(self, name: str, purpose: str, patience_s: float = 60.0) -> Iterator[None]:
        import portalocker

        file = self.root / ".locks" / f"{name}.{purpose}"
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            lock = portalocker.Lock(file, mode="a", timeout=patience_s, check_interval=0.05)
            lock.acquire()
        except portalocker.exceptions.AlreadyLocked as exc:
            raise LibraryError(
                f"Another builder has held {file} for {patience_s:g} s.\nWait for it or end it."
            ) from exc
        except (OSError, portalocker.exceptions.LockException) as exc:
            raise LibraryError(f"The library cannot be locked with {file}: {exc}.") from exc
        try:
            yield
        finally:
            lock.release()


def _built(record: dict[str, Any], source: str, *, edited: bool) -> BuiltTool:
    if record["format"] != _FORMAT:
        raise ValueError(f"tool.json has the format {record['format']}, and this version reads {_FORMAT}")
    return BuiltTool(
        name=record["name"],
        version=record["version"],
        spec=ToolSpec.model_validate(record["spec"]),
        source=source,
        sha256=_sha256(source.encode()),
        functions=() if edited else functions(source),
        trial=TrialReport.model_validate(record["trial"]),
        origin=Origin.model_validate(record["origin"]),
        created=record["created"],
        edited=edited,
    )


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _seal(record: dict[str, Any]) -> str:
    """A hash over the whole record, so that an edit of the cases is noticed as an edit of the code is."""
    told = {key: value for key, value in record.items() if key != "seal"}
    return _sha256(json.dumps(told, ensure_ascii=False, sort_keys=True).encode())


def _write_synced(file: Path, text: str) -> None:
    with file.open("w", encoding="utf-8", newline="") as out:
        out.write(text)
        out.flush()
        os.fsync(out.fileno())


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
