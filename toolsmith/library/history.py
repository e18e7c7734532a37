"""What befell a tool, as lines of JSON in its folder: `ROOT/count_words/history.jsonl`.

A line is appended whole, under a lock, and read without one. What `add` has returned from survives
`kill -9` of any process; a line that a killed process left half written is closed off and passed over.
Decisions are brought to the disk before they count; a use is not, so a power cut may cost the last few. A
file that has grown long is replaced by one in which old uses are added up.

Lines that a later version of this program wrote, and lines that cannot be read, are passed over, and stay
until the file is made shorter.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, suppress
from pathlib import Path

from pydantic import TypeAdapter

from orchestrator_cli.durable.files import append_line, read_records, write_atomic
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
        return tuple(self._read())

    def standing(self) -> Standing:
        return standing_of(self.entries())

    def chosen(self) -> Standing:
        """The standing as far as it says which version counts; for that few lines are looked at."""
        found = self._read(containing=b"rolled_back")
        return standing_of(entry for entry in found if isinstance(entry, RolledBack))

    def add(self, entry: Entry) -> Standing | None:
        """Keep one more, and say what the standing is then; None where the tool's folder is gone."""
        with self._lock():
            if not self._file.parent.is_dir():
                return None
            # A use may be lost in a power cut; a decision may not.
            sync = not isinstance(entry, Used | Uses)
            if append_line(self._file, entry.model_dump_json().encode(), sync=sync) > MAX_BYTES:
                self._shorten()
            return self.standing()

    def _read(self, *, containing: bytes = b"") -> Iterator[Entry]:
        with suppress(FileNotFoundError, NotADirectoryError):
            yield from read_records(self._file, _ENTRY.validate_json, containing=containing)

    def _shorten(self) -> None:
        lines = (f"{entry.model_dump_json()}\n" for entry in compacted(self.entries()))
        write_atomic(self._file, "".join(lines), scratch=self._file.with_name(f".{self._file.name}"))
