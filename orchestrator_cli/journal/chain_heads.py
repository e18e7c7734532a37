"""How far each log had come when it was last written to, kept beside the runs.

    HOME/logs/ID.json      path of the log, place and hash of its last block, and from where on which
                           state of the program worded the entries

The log itself cannot tell that its end is missing, nor that somebody wrote the whole chain anew;
this can. It is written after the log, under the log's lock and in one piece, so that after a kill
it may be one block behind and is never ahead.

What is not covered: somebody who changes these files too; and a loss of power, after which one
may be some blocks behind, or unreadable and so unknown.
"""

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from orchestrator_cli.durable.files import write_atomic

FOLDER = "logs"
WIDTH = 256
"""Bytes of all but the path."""


@dataclass(frozen=True)
class Head:
    """The last block of a log, as it was last written."""

    log: str
    path: str
    place: int
    hash: str
    forms: tuple[tuple[int, str], ...] = ()
    """From which place on the entries were worded by which state of the program."""

    def form_at(self, place: int) -> str:
        """How the entry at a place was worded; empty where that is not known."""
        return next((form for first, form in reversed(self.forms) if first <= place), "")


def note_head(home: Path, head: Head, form: str) -> None:
    """Remember it in place of what was known; the last entry was worded in `form`. Raises `OSError`."""
    path = home / FOLDER / f"{head.log}.json"
    known = _read(path)
    forms = known.forms if known is not None else ()
    if not forms or forms[-1][1] != form:
        # The head of a log has no words that could differ.
        forms = (*forms, (head.place if head.place > 1 else 0, form))
    head = replace(head, forms=forms)
    # As long for every place, so that one write in place is all: a new file for each entry would cost more
    # than the entry itself.
    text = json.dumps(asdict(head), ensure_ascii=True).ljust(WIDTH + 6 * len(head.path))
    try:
        file = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_atomic(path, text, sync=False)
        return
    try:
        os.ftruncate(file, os.pwrite(file, text.encode(), 0))
    finally:
        os.close(file)


def head_of(homes: Iterable[Path], log: str) -> Head | None:
    """What any of the homes knows of a log; of several the one that saw most of it."""
    found = [head for home in homes if (head := _read(home / FOLDER / f"{log}.json")) is not None]
    return max(found, key=lambda head: head.place, default=None)


def newest_at(homes: Iterable[Path], path: Path) -> Head | None:
    """The log that was last written to at this path."""
    found = [
        (place.stat().st_mtime_ns, head)
        for place in _files(homes)
        if (head := _read(place)) is not None and head.path == str(path)
    ]
    return max(found, key=lambda pair: pair[0], default=(0, None))[1]


def _files(homes: Iterable[Path]) -> Iterator[Path]:
    for home in homes:
        yield from (home / FOLDER).glob("*.json")


def _read(path: Path) -> Head | None:
    with suppress(OSError, ValueError, TypeError):
        row = json.loads(path.read_text(encoding="utf-8"))
        forms = tuple((int(place), str(form)) for place, form in row.pop("forms", ()))
        return Head(**row, forms=forms)
    return None
