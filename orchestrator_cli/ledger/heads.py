"""How far each log had come when it was last written to, kept beside the runs.

    HOME/logs/ID.json      path of the log, and place and hash of its last block

The log itself cannot tell that its end is missing, nor that somebody wrote the whole chain anew;
this can. It is written after the log, under the log's lock, whole or not at all, so that after
a kill it may be one block behind and is never ahead.

What is not covered: somebody who changes these files too.
"""

import json
import uuid
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

FOLDER = "logs"


@dataclass(frozen=True)
class Head:
    """The last block of a log, as it was last written."""

    log: str
    path: str
    place: int
    hash: str


def note_head(home: Path, head: Head) -> None:
    """Remember it in place of what was known. Raises `OSError`."""
    folder = home / FOLDER
    scratch = folder / f"{uuid.uuid4().hex}.tmp"
    text = json.dumps(asdict(head), ensure_ascii=True)
    try:
        scratch.write_text(text, encoding="utf-8")
    except FileNotFoundError:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        scratch.write_text(text, encoding="utf-8")
    scratch.replace(folder / f"{head.log}.json")


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
        return Head(**json.loads(path.read_text(encoding="utf-8")))
    return None
