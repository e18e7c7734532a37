"""The time that a run may take."""

import contextlib
import threading
from collections.abc import Callable, Iterator

from orchestrator_cli.cancellation import Cancellation
from orchestrator_cli.errors import RunTimedOut
from orchestrator_cli.settings import Settings


@contextlib.contextmanager
def time_limit(
    settings: Settings, cancellation: Cancellation, *, run: Callable[[], str] = str, spent_s: float = 0.0
) -> Iterator[None]:
    """Cancel after the run's time.

    `run` returns the id of the run, or "" if there is none to resume; `spent_s` is what was taken of its time
    already, such as by earlier processes.
    """
    seconds = settings.timeout
    if seconds is None:
        yield
        return

    def cancel() -> None:
        begun = run()
        remedy = f"Go on with more: orch resume {begun} --timeout {2 * seconds:g}" if begun else ""
        reason = RunTimedOut(
            f"The run took longer than its {seconds:g} s.{settings.set_by('timeout')}",
            remedy or "Give it more with ORCH_TIMEOUT.",
        )
        cancellation.cancel(reason)

    timer = threading.Timer(max(0.0, seconds - spent_s), cancel)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
