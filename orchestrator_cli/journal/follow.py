"""A journal that another process writes, read as it grows."""

import contextlib
from pathlib import Path

from orchestrator_cli.events import Event
from orchestrator_cli.journal.journal import BlobMissing, blobs_of, event_of


class JournalFollower:
    """Reads the events of a journal that were written since it last looked.

    A line that is not complete yet is read when it is; one that cannot be read is skipped, as by
    `read_journal`.
    """

    def __init__(self, journal: Path) -> None:
        self._journal = journal
        self._blobs = blobs_of(journal)
        self._read = 0

    def new(self) -> list[Event]:
        """The events since the last call, or from the beginning. Raises `OSError`."""
        with self._journal.open("rb") as file:
            file.seek(self._read)
            whole, end, _ = file.read().rpartition(b"\n")
        self._read += len(whole) + len(end)
        found = []
        for line in whole.split(b"\n"):
            with contextlib.suppress(ValueError, LookupError, TypeError, RecursionError, BlobMissing):
                found.append(event_of(self._blobs, line))
        return found
