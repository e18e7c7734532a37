"""The files of one tool: a version as two files in a folder, and the history. See `folder`.

`tool.json` holds the hash of `tool.py`, and a seal: a hash over the rest of the record. The sha256 of the
module identifies it in the record, in the journal and in the log of every run that used it.

The history is `ROOT/count_words/history.jsonl`, a line of JSON per entry. A line is appended whole, under a
lock, and read without one. What `add` has returned from survives `kill -9` of any process. Decisions are
synced to disk before they take effect; uses are not, so a power cut may cost the last few. When the file has
grown long, a shorter one replaces it in which old uses are summed. Lines that a later version of this program
wrote, and unreadable lines, are skipped, and stay until the file is shortened.

Not covered: an edit that also repairs hash and seal. They detect mistakes, not attacks.
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from orchestrator_cli.durable.files import append_line, read_records, sync_folder, write_atomic, write_synced
from orchestrator_cli.durable.text import truncate
from toolsmith.built import BuiltTool, Origin, TrialReport
from toolsmith.library.status import Entry, RolledBack, ToolStatus, Used, Uses, compacted, status_of
from toolsmith.proof.cases import Suite
from toolsmith.proof.checker import functions
from toolsmith.reader import validation_faults
from toolsmith.spec import ToolSpec

FORMAT = 2
"""In the format 1 the cases stood in the specification, and there were no examples and no properties."""
MODULE, RECORD = "tool.py", "tool.json"


class UnreadableVersion(Exception):
    """The folder holds no readable version of a tool; the text says why, in one line."""


def read(folder: Path, name: str, version: int) -> BuiltTool:
    """The version in a folder. Raises `UnreadableVersion`."""
    try:
        source = (folder / MODULE).read_bytes()
        record = json.loads((folder / RECORD).read_bytes())
        if (record["name"], record["version"]) != (name, version):
            raise ValueError(f"tool.json says that it is '{record['name']}' v{record['version']}")
        if record["spec"]["name"] != name:
            raise ValueError(f"its specification is that of '{record['spec']['name']}'")
        edited = record.get("sha256") != sha256(source) or record.get("seal") != seal(record)
        return _built(record, source.decode(), edited=edited)
    except ValidationError as exc:
        place, colon, what = next(validation_faults(exc)).partition(": ")
        raise UnreadableVersion(f"{truncate(place, 80)}{colon}{truncate(what, 300)}") from exc
    # The last two are the parsers' for what is nested too deeply.
    except (
        OSError,
        ValueError,
        LookupError,
        AttributeError,
        TypeError,
        SyntaxError,
        RecursionError,
        MemoryError,
    ) as exc:
        raise UnreadableVersion(str(exc).splitlines()[0] if str(exc) else type(exc).__name__) from exc


def fingerprint(folder: Path) -> str:
    """A hash over both files as they are now."""
    parts = []
    for name in (MODULE, RECORD):
        try:
            parts.append(sha256((folder / name).read_bytes()))
        except OSError:
            parts.append("")
    return sha256("\n".join(parts).encode())


def record_of(tool: BuiltTool) -> dict[str, Any]:
    """What `tool.json` holds of a tool, without the seal."""
    return {
        "format": FORMAT,
        "name": tool.name,
        "version": tool.version,
        "created": tool.created.isoformat(),
        "sha256": tool.sha256,
        "origin": tool.origin.model_dump(mode="json"),
        "trial": tool.trial.model_dump(mode="json"),
        "spec": tool.spec.model_dump(mode="json"),
        **tool.suite.model_dump(mode="json"),
    }


def write(place: Path, scratch: Path, record: dict[str, Any], source: str) -> None:
    """Write a version by way of the folder `scratch` beside it, synced: it appears whole or not at all."""
    text = json.dumps({**record, "seal": seal(record)}, ensure_ascii=False, indent=2) + "\n"
    place.parent.mkdir(parents=True, exist_ok=True)
    scratch.mkdir()
    write_synced(scratch / MODULE, source)
    write_synced(scratch / RECORD, text)
    sync_folder(scratch)
    if place.exists():
        shutil.rmtree(place)
    scratch.rename(place)
    sync_folder(place.parent)


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def seal(record: dict[str, Any]) -> str:
    """A hash over the whole record, so that an edit of the cases is noticed too."""
    sealed = {key: value for key, value in record.items() if key != "seal"}
    return sha256(json.dumps(sealed, ensure_ascii=False, sort_keys=True).encode())


def _built(record: dict[str, Any], source: str, *, edited: bool) -> BuiltTool:
    if record["format"] not in (1, FORMAT):
        raise ValueError(f"tool.json has the format {record['format']}, and this version reads {FORMAT}")
    spec = dict(record["spec"])
    cases = spec.pop("cases") if record["format"] == 1 else record["cases"]
    return BuiltTool(
        name=record["name"],
        version=record["version"],
        spec=ToolSpec.model_validate(spec),
        suite=Suite.model_validate({"cases": cases, "properties": record.get("properties", ())}),
        source=source,
        sha256=sha256(source.encode()),
        functions=() if edited else functions(source),
        trial=TrialReport.model_validate(record["trial"]),
        origin=Origin.model_validate(record["origin"]),
        created=record["created"],
        edited=edited,
    )


# --- history


MAX_BYTES = 32 * 1024

_ENTRY: TypeAdapter[Entry] = TypeAdapter(Entry)


class ToolHistory:
    """The entries in one file. Raises OSError if it cannot be read or written."""

    def __init__(self, file: Path, lock: Callable[[], AbstractContextManager[None]]) -> None:
        """`lock` gives the lock between processes that is held while a line is written."""
        self._file = file
        self._lock = lock

    def entries(self) -> tuple[Entry, ...]:
        """All entries, oldest first."""
        return tuple(self._read())

    def status(self) -> ToolStatus:
        return status_of(self.entries())

    def chosen(self) -> ToolStatus:
        """The status as far as the current version depends on it, from few lines."""
        found = self._read(containing=b"rolled_back")
        return status_of(entry for entry in found if isinstance(entry, RolledBack))

    def add(self, entry: Entry) -> ToolStatus | None:
        """Append an entry; returns the resulting status, or None if the tool's folder no longer exists."""
        with self._lock():
            if not self._file.parent.is_dir():
                return None
            # A use may be lost in a power cut; a decision may not.
            sync = not isinstance(entry, Used | Uses)
            if append_line(self._file, entry.model_dump_json().encode(), sync=sync) > MAX_BYTES:
                lines = (f"{entry.model_dump_json()}\n" for entry in compacted(self.entries()))
                write_atomic(self._file, "".join(lines), scratch=self._file.with_name(f".{self._file.name}"))
            return self.status()

    def _read(self, *, containing: bytes = b"") -> Iterator[Entry]:
        with suppress(FileNotFoundError, NotADirectoryError):
            yield from read_records(self._file, _ENTRY.validate_json, containing=containing)
