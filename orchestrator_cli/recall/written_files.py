"""Files and folders that a command writes under a name that the user gave.

One rule for all of them: `-o`, `--speak`, exports of memory and exports of tools. It is that of `named_files`
for what is read: a link on the way does not lead out of the folder that holds it. The name itself must not be
a link, because what is written through one replaces another file than the user named; nor a pipe or a device,
nor a file of the machine's.

A file is replaced in one step by one beside it, which gets its permissions, so a hard link keeps the old
content. Not covered: a folder that another takes the place of between the look and the writing.
"""

import os
import re
import stat
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

from orchestrator_cli.durable.files import write_atomic
from orchestrator_cli.durable.followed_links import real_path
from orchestrator_cli.durable.foreign import on_one_line
from orchestrator_cli.errors import UsageError, storage_fault
from orchestrator_cli.recall.named_files import NamedFiles
from orchestrator_cli.settings import Settings
from orchestrator_cli.tools.file_rules import machine_keeps

ANOTHER = "Name another file."
PRINTED = "Leave -o out: it is printed then, and > or | take it from there."
_STREAMS = re.compile(r"-|/dev/(?:std(?:in|out|err)|fd/\d+|tty)|/proc/(?:self|\d+)/fd/\d+")


def check_written(path: Path, settings: Settings, *, is_folder: bool = False, instead: str = ANOTHER) -> Path:
    """The real place of what is to be written. Raises `UsageError` if nothing may be written there.

    Args:
        is_folder: a folder may be there, and the caller says what it makes of what is.
        instead: what helps if there is no file.
    """
    if _STREAMS.fullmatch(str(path)):
        raise UsageError(f"{path} is not the name of a file.", instead)
    place = real_path(path.absolute().parent) / path.name
    try:
        mode = os.lstat(place).st_mode
    except FileNotFoundError:
        mode = 0
    except OSError as exc:
        raise UsageError(f"{path} cannot be written: {exc.strerror}.", ANOTHER) from exc
    if found := NamedFiles(settings).way_out(place.parent if stat.S_ISLNK(mode) else path):
        raise UsageError(f"{path} is not written: {found.why}.", found.remedy)
    if kept := machine_keeps(str(place)):
        raise UsageError(f"{path} is not written: {kept.why}.", ANOTHER)
    if stat.S_ISLNK(mode):
        raise UsageError(
            f"{path} is not written: it is a link.",
            f"Remove the link, or name what it leads to: {on_one_line(str(real_path(path)))}",
        )
    if mode and not stat.S_ISREG(mode) and not is_folder:
        raise UsageError(f"{path} is not written: it is not a regular file.", instead)
    return place


def write_named(
    path: Path,
    content: bytes | str,
    settings: Settings,
    *,
    mode: int = 0o666,
    is_new: bool = False,
    instead: str = ANOTHER,
) -> None:
    """Write a file, in place of one that is there. Text is UTF-8.

    Args:
        mode: permissions of a new file, less the umask.
        is_new: whether a file that is there is an error.
        instead: what helps if there is no file.

    Raises `UsageError` if it cannot be written, and an `OSError` that is the storage's.
    """
    place = check_written(path, settings, instead=instead)
    try:
        if is_new:
            place.touch(mode=mode, exist_ok=False)
        try:
            scratch = place.with_name(f".orch-{uuid4().hex}.tmp")
            write_atomic(place, content, mode=mode, keep_mode=True, scratch=scratch)
        except BaseException:
            if is_new:
                with suppress(OSError):
                    place.unlink()
            raise
    except FileExistsError as exc:
        raise UsageError(f"{path} already exists.", "Name a new file.") from exc
    except OSError as exc:
        if isinstance(exc, PermissionError) and place.exists() and os.access(place, os.W_OK):
            raise UsageError(
                f"{path} cannot be replaced: no file may be made in its folder.",
                f"Allow that (chmod u+w {on_one_line(str(place.parent))}), or name a file in another folder.",
            ) from exc
        if storage_fault(exc):
            raise
        raise UsageError(f"{path} cannot be written: {exc.strerror}.", ANOTHER) from exc
