"""Turns: at most so many runs work at once on one data folder, and the others wait.

Each run at work holds the lock of one of `limit` files, so a turn ends with its process. What a run
starts needs no turn of its own.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from orchestrator_cli.cancellation import Cancellation
from orchestrator_cli.durable.locks import LockTimeout, acquire
from orchestrator_cli.environment import is_within_a_run, mark_what_is_started

LOOK_S = 0.2
SILENT_S = 1.0
"""A shorter wait is not worth a line."""


@contextmanager
def turn(
    folder: Path, limit: int, cancellation: Cancellation, notice: Callable[[str], None]
) -> Iterator[None]:
    """Wait for a turn, and hold it. `notice` says so if that takes longer; raises what cancels the run."""
    if is_within_a_run():
        yield
        return
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with ExitStack() as held:
        began, said = time.monotonic(), False
        while not _took(folder, limit, held):
            if not said and time.monotonic() - began > SILENT_S:
                said = True
                notice(f"{limit} runs are at work, which is max_runs; this one waits until one of them ends.")
            cancellation.wait(LOOK_S)
        mark_what_is_started()
        yield


def _took(folder: Path, limit: int, held: ExitStack) -> bool:
    for number in range(limit):
        try:
            held.enter_context(acquire(folder / f"{number}.lock", wait_s=0))
        except LockTimeout:
            continue
        return True
    return False
