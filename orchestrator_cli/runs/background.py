"""Runs in the background: each is a process of its own, which outlives the command that started it.

Such a run has no terminal. What it would print is in `output.log` of its folder, its questions make it pause,
and `background.json` says how to go on with it. Its events are in the journal, as those of every run.
"""

import contextlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import IO

from orchestrator_cli.approvals.deadlines import Patience
from orchestrator_cli.durable.files import make_folders, read_regular, write_atomic
from orchestrator_cli.environment import for_another_orch
from orchestrator_cli.errors import OrchError, RunFailed, UsageError
from orchestrator_cli.journal.followed_runs import follow
from orchestrator_cli.journal.journal import lock_owner
from orchestrator_cli.notify_settings import NotifyEvent
from orchestrator_cli.plan import FrozenModel
from orchestrator_cli.runs.beginnings import newest_first
from orchestrator_cli.runs.find import PastRun

FILE = "background.json"
OUTPUT = "output.log"
START_S = 120.0
"""For a process to begin its run, on a slow machine."""
SAID_BYTES = 2000
MAX_BYTES = 1 << 20
"""Of `background.json`; a prompt is not in it."""
LOOKED_AT = 500


class BackgroundRun(FrozenModel):
    """How a run was started that has no terminal."""

    arguments: tuple[str, ...] = ()
    """The options of `orch ask` that `orch resume` takes too, such as its limits."""
    patience: Patience | None = None
    """How long its questions are open; not in a command, which other users can read."""
    schedule: str = ""
    """The schedule that started it; empty if a person did."""
    flow_run: str = ""
    """The flow run of the schedule that it is. What the server says of other runs gives this one nothing."""
    due: datetime | None = None
    """The time of the schedule that it was begun for; None if no time started it."""
    occasion: str = ""
    """What set it off besides a time, such as the body of a request: foreign text."""
    notify: tuple[NotifyEvent, ...] | None = None
    """What of it its user is notified of; None if the settings say that."""
    is_settled: bool = False
    """Whether `orch up` has dealt with its end, and started what comes after it."""


class NotStarted(OrchError):
    """The process of a run ended before the run began, with this message, remedy and exit code."""

    def __init__(self, message: str, remedy: str, exit_code: int) -> None:
        super().__init__(message, remedy)
        self.exit_code = exit_code  # type: ignore[misc]  # that of the process


def begin(
    past: PastRun, command: Sequence[str], prompt: str, about: BackgroundRun
) -> "subprocess.Popen[bytes]":
    """Start a new run in the background, and return at once.

    Args:
        past: its id, home and workspace, with the mark of that.
        command: of `orch`, with its options.
        prompt: what the command reads from standard input.

    Raises `UsageError` if there is a run of this id, and `OSError`.
    """
    reserve(past, about)
    return begin_reserved(past, command, prompt)


def reserve(past: PastRun, about: BackgroundRun) -> None:
    """Keep what a run will be before anything else learns of it. Raises as `begin` does."""
    if past.journal.exists():
        raise UsageError(f"There is a run {past.run} already.", f"Go on with it: orch resume {past.run}")
    make_folders(past.folder, 0o700)
    write_background(past, about)


def withdraw(past: PastRun) -> None:
    """Forget a run that was reserved and is not begun."""
    with contextlib.suppress(OSError):
        (past.folder / FILE).unlink(missing_ok=True)
        past.folder.rmdir()


def begin_reserved(past: PastRun, command: Sequence[str], prompt: str) -> "subprocess.Popen[bytes]":
    """Start the process of a run that was reserved. Raises `OSError`."""
    # Not in the command, which other users can read.
    with tempfile.TemporaryFile() as given:
        given.write(prompt.encode())
        given.seek(0)
        return _process(past, (*command, "--background", past.run, f"--mark={past.mark}"), given)


def go_on(
    past: PastRun, arguments: Sequence[str] = (), patience: Patience | None = None
) -> "subprocess.Popen[bytes]":
    """Resume a run in the background, and return at once. Raises `OSError`.

    Args:
        arguments: options of `orch resume`, instead of those that it was started with.
        patience: instead of that which it was started with.
    """
    about = background_of(past) or BackgroundRun()
    if patience is not None:
        about = about.model_copy(update={"patience": patience})
        write_background(past, about)
    if arguments or background_of(past) is None:
        about = about.model_copy(update={"arguments": tuple(arguments)})
        write_background(past, about)
    # Without it, the folder counts as named by the user, and may be another one.
    background = ("--background", past.run) if past.mark else ()
    return _process(past, ("resume", past.run, *about.arguments, *background), subprocess.DEVNULL)


def background_of(past: PastRun) -> BackgroundRun | None:
    """How a run in the background was started; None for any other run."""
    try:
        return BackgroundRun.model_validate_json(read_regular(past.folder / FILE, MAX_BYTES))
    except (OSError, ValueError):
        return None


def last_of_schedules(home: Path) -> dict[str, PastRun]:
    """The newest run of each schedule, by its name, among the last `LOOKED_AT` runs in the background."""
    found: dict[str, PastRun] = {}
    runs = (PastRun(path.parent.name, home, Path()) for path in (home / "runs").glob(f"*/{FILE}"))
    journals = newest_first(past.journal for past in runs if past.journal.exists())
    for journal in journals[:LOOKED_AT]:
        past = PastRun(journal.parent.name, home, Path())
        about = background_of(past)
        if about is not None and about.schedule:
            found.setdefault(about.schedule, past)
    return found


def write_background(past: PastRun, about: BackgroundRun) -> None:
    write_atomic(past.folder / FILE, about.model_dump_json(), mode=0o600)


def _process(past: PastRun, command: Sequence[str], given: IO[bytes] | int) -> "subprocess.Popen[bytes]":
    argv = [sys.executable, "-P", "-m", "orchestrator_cli", *command, "-C", str(past.root)]
    follow(past.journal)
    with (past.folder / OUTPUT).open("wb") as output:
        return subprocess.Popen(
            argv, stdin=given, stdout=output, stderr=output, env=for_another_orch(), start_new_session=True
        )


def await_beginning(past: PastRun, process: "subprocess.Popen[bytes]", before: int = 0) -> None:
    """Return when a run goes on whose process was just started, or has ended.

    `before`: the size of its journal until then. Raises `NotStarted` if the process ends without it.
    """
    until = time.monotonic() + START_S
    while process.poll() is None:
        if journal_size(past) > before and lock_owner(past.folder) is not None:
            return
        if time.monotonic() > until:
            raise RunFailed(f"Run {past.run} has not begun within {START_S:g} s.", f"See {_output(past)}")
        time.sleep(0.02)
    if journal_size(past) <= before:
        raise not_started(past, process.returncode)


def not_started(past: PastRun, code: int) -> NotStarted:
    """Why a process ended before its run began, as it said."""
    said = ""
    with contextlib.suppress(OSError):
        said = read_regular(_output(past), MAX_BYTES)[-SAID_BYTES:].decode(errors="replace").strip()
    message, _, remedy = said.removeprefix("error: ").partition("\n")
    remedy = "\n".join(line.strip() for line in remedy.split("\n"))
    return NotStarted(message or "The run ended before it began.", remedy, code)


def journal_size(past: PastRun) -> int:
    return past.journal.stat().st_size if past.journal.exists() else 0


def _output(past: PastRun) -> Path:
    return past.folder / OUTPUT
