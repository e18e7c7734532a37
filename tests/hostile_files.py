"""Files that a stranger may put where a file of text is expected, and a limit that holds if they are read."""

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

KINDS = ("endless", "pipe", "folder", "sparse")


def make(kind: str, path: Path) -> None:
    match kind:
        case "endless":
            path.symlink_to("/dev/zero")
        case "pipe":
            os.mkfifo(path)
        case "folder":
            path.mkdir()
        case "sparse":
            with path.open("wb") as file:
                file.truncate(1 << 33)


@contextmanager
def little_memory(more: int = 1 << 30) -> Iterator[None]:
    """A `MemoryError` if more than `more` bytes are taken, instead of a full machine."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + more, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
