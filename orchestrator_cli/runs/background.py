"""Runs in the background: each is a process of its own, which outlives the command that started it.

Such a run has no terminal. What it would print is in `output.log` of its folder, its questions make it pause,
and `background.json` says how to go on with it. Its events are in the journal, as those of every run.
"""

import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from orchestrator_cli.durable.files import make_folders, read_regular, write_atomic
from orchestrator_cli.errors import OrchError, RunFailed
from orchestrator_cli.journal.journal import lock_owner
from orchestrator_cli.plan import FrozenModel
from orchestrator_cli.runs.find import PastRun

FILE = "background.json"
OUTPUT = "output.log"
START_S = 120.0
"""For a process to begin its run, on a slow machine."""
SAID_BYTES = 2000


class BackgroundRun(FrozenModel):
    """How a run was started that has no terminal."""

    arguments: tuple[str, ...] = ()
    """The options of `orch ask` that `orch resume` takes too, such as its limits."""
    schedule: str = ""
    """The schedule that started it; empty if a person did."""


class NotStarted(OrchError):
    """The process of a run ended before the run began, with this message, remedy and exit code."""

    def __init__(self, message: str, remedy: str, exit_code: int) -> None:
        super().__init__(message, remedy)
        self.exit_code = exit_code  # type: ignore[misc]  # that of the process


def start(
    past: PastRun, command: Sequence[str], prompt: str, about: BackgroundRun
) -> "subprocess.Popen[bytes]":
    """Start a new run in the background, and return when it has begun.

    Args:
        past: its id, home and workspace.
        command: of `orch`, with its options.
        prompt: what the command reads from standard input.

    Raises `NotStarted` and `OSError`.
    """
    make_folders(past.folder, 0o700)
    write_atomic(past.folder / FILE, about.model_dump_json(), mode=0o600)
    # Not in the command, which other users can read.
    with tempfile.TemporaryFile() as given:
        given.write(prompt.encode())
        given.seek(0)
        return _started(past, (*command, "--background", past.run), given)


def go_on(past: PastRun, arguments: Sequence[str] = ()) -> "subprocess.Popen[bytes]":
    """Resume a run in the background, and return when it goes on. Raises as `start`.

    `arguments`: options of `orch resume`, instead of those that it was started with.
    """
    about = background_of(past) or BackgroundRun()
    if arguments or background_of(past) is None:
        about = about.model_copy(update={"arguments": tuple(arguments)})
        write_atomic(past.folder / FILE, about.model_dump_json(), mode=0o600)
    # Without it, the folder counts as named by the user, and may be another one.
    background = ("--background", past.run) if past.mark else ()
    return _started(past, ("resume", past.run, *about.arguments, *background), subprocess.DEVNULL)


def background_of(past: PastRun) -> BackgroundRun | None:
    """How a run in the background was started; None for any other run."""
    try:
        return BackgroundRun.model_validate_json(read_regular(past.folder / FILE))
    except (OSError, ValueError):
        return None


def _started(past: PastRun, command: Sequence[str], given: IO[bytes] | int) -> "subprocess.Popen[bytes]":
    before = _size(past.journal)
    argv = [sys.executable, "-P", "-m", "orchestrator_cli", *command, "-C", str(past.root)]
    with (past.folder / OUTPUT).open("ab") as output:
        begin = output.tell()
        process = subprocess.Popen(argv, stdin=given, stdout=output, stderr=output, start_new_session=True)
    until = time.monotonic() + START_S
    while process.poll() is None and time.monotonic() < until:
        if _size(past.journal) > before and lock_owner(past.folder) is not None:
            return process
        time.sleep(0.02)
    if _size(past.journal) > before:
        return process  # it has ended already
    said = read_regular(past.folder / OUTPUT)[begin:][-SAID_BYTES:].decode(errors="replace").strip()
    if process.returncode is None:
        raise RunFailed(
            f"Run {past.run} has not begun within {START_S:g} s.", f"See: orch runs -C {past.root}"
        )
    message, _, remedy = said.removeprefix("error: ").partition("\n")
    remedy = "\n".join(line.strip() for line in remedy.split("\n"))
    raise NotStarted(message or "The run ended before it began.", remedy, process.returncode)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
