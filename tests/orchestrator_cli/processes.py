"""The processes that have to do with a folder, by what they hold of it."""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path


def processes_in(*folders: Path) -> dict[int, str]:
    """Those that have one of the folders in their command line, work in it or have a file of it open; their
    command lines by id, without this process.
    """
    found = {}
    for process in Path("/proc").iterdir():
        with suppress(OSError):  # it has ended
            if process.name.isdigit() and int(process.name) != os.getpid():
                command = (process / "cmdline").read_bytes().decode(errors="replace").replace("\0", " ")
                if any(str(folder) in held for held in (command, *_held(process)) for folder in folders):
                    found[int(process.name)] = command
    return found


def _held(process: Path) -> Iterator[str]:
    for link in (process / "cwd", *(process / "fd").iterdir()):
        with suppress(OSError):
            yield str(link.readlink())
