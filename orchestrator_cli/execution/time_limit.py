"""The time that a run may take."""

import contextlib
import threading
from collections.abc import Iterator

from orchestrator_cli.cancellation import Cancellation
from orchestrator_cli.errors import RunTimedOut
from orchestrator_cli.settings import Settings


@contextlib.contextmanager
def time_limit(
    settings: Settings, cancellation: Cancellation, *, run: str = "", spent_s: float = 0.0
) -> Iterator[None]:
    """Cancel after the run's time; `spent_s` is what earlier processes of the same run took of it."""
    seconds = settings.timeout
    if seconds is None:
        yield
        return
    remedy = f"Go on with more: orch resume {run} --timeout {2 * seconds:g}" if run else ""
    reason = RunTimedOut(
        f"The run took longer than its {seconds:g} s.{settings.set_by('timeout')}",
        remedy or "Give it more with ORCH_TIMEOUT.",
    )
    timer = threading.Timer(max(0.0, seconds - spent_s), cancellation.cancel, [reason])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
