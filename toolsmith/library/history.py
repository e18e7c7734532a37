"""What befell a tool, as lines of JSON in its folder: `ROOT/count_words/history.jsonl`.

A line is appended whole, under a lock, and read without one. What `add` has returned from survives
`kill -9` of any process; a line that a killed process left half written is closed off and passed over.
Decisions are brought to the disk before they count; a use is not, so a power cut may cost the last few. A
file that has grown long is replaced by one in which old uses are added up.

Lines that a later version of this program wrote, and lines that cannot be read, are passed over, and stay
until the file is made shorter.
"""

import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from toolsmith.library.standing import Entry, RolledBack, Standing, Used, Uses, compacted, standing_of

MAX_BYTES = 32 * 1024

_ENTRY: TypeAdapter[Entry] = TypeAdapter(Entry)


class History:
    """The entries in one file. Raises OSError where it cannot be read or written."""

    def __init__(self, file: Path, lock: Callable[[], AbstractContextManager[None]]) -> None:
        """`lock` is held while a line is written, by whichever process."""
        self._file = file
        self._lock = lock

    def entries(self) -> tuple[Entry, ...]:
        """All there is, oldest first."""
        return tuple(entry for line in self._lines() if (entry := _read(line)) is not None)

    def standing(self) -> Standing:
        return standing_of(self.entries())

    def chosen(self) -> Standing:
        """The standing as far as it says which version counts; for that few lines are looked at."""
        found = (_read(line) for line in self._lines() if b"rolled_back" in line)
        return standing_of(entry for entry in found if isinstance(entry, RolledBack))

    def add(self, entry: Entry) -> Standing | None:
        """Keep one more, and say what the standing is then; None where the tool's folder is gone."""
        with self._lock():
            if not self._file.parent.is_dir():
                return None
            if _append(self._file, entry) > MAX_BYTES:
                self._shorten()
            return self.standing()

    def _lines(self) -> list[bytes]:
        try:
            return [line for line in self._file.read_bytes().split(b"\n") if line.strip()]
        except (FileNotFoundError, NotADirectoryError):
            return []

    def _shorten(self) -> None:
        scratch = self._file.with_name(f".{self._file.name}")
        with scratch.open("wb") as out:
            out.writelines(_line(entry) for entry in compacted(self.entries()))
            out.flush()
            os.fsync(out.fileno())
        scratch.replace(self._file)


def _append(file: Path, entry: Entry) -> int:
    """Append a line; how long the file is then."""
    handle = os.open(file, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        size = os.fstat(handle).st_size
        torn = size > 0 and os.pread(handle, 1, size - 1) != b"\n"
        line = (b"\n" if torn else b"") + _line(entry)
        if os.write(handle, line) != len(line):
            os.ftruncate(handle, size)
            raise OSError(f"{file} could not be written whole; is the disk full?")
        if not isinstance(entry, Used | Uses):
            os.fsync(handle)
        return size + len(line)
    finally:
        os.close(handle)


def _line(entry: Entry) -> bytes:
    return entry.model_dump_json().encode() + b"\n"


def _read(line: bytes) -> Entry | None:
    try:
        return _ENTRY.validate_json(line)
    except ValidationError:
        return None
