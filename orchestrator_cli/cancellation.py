"""One signal that ends a run: Ctrl-C, a time limit, a cancel from another screen.

Whoever waits (for a model, a sandbox, a lock) waits through it, so that the run ends at once
and not when the other side answers.
"""

import threading
import time

from orchestrator_cli.errors import OrchError, RunTimedOut


class Cancellation:
    """Set once, from any thread, with the error that ends the run; `check` raises it everywhere."""

    def __init__(self, timeout: float | None = None) -> None:
        self._set = threading.Event()
        self._reason: OrchError | None = None
        self._timeout = timeout
        self._deadline = None if timeout is None else time.monotonic() + timeout

    def cancel(self, reason: OrchError) -> None:
        """End the run with `reason`; a later reason does not replace the first."""
        if not self._set.is_set():
            self._reason = reason
            self._set.set()

    @property
    def reason(self) -> OrchError | None:
        """Why the run has to end, or None while it may go on."""
        if self._deadline is not None and time.monotonic() > self._deadline:
            self.cancel(
                RunTimedOut(
                    f"The run took longer than its {self._timeout:g} s.",
                    "Give it more with --timeout SECONDS.",
                )
            )
        return self._reason

    def check(self) -> None:
        """Raise the reason where there is one."""
        if (reason := self.reason) is not None:
            raise reason

    def wait(self, seconds: float) -> None:
        """Sleep, but raise the reason as soon as there is one."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self._set.wait(min(left, 0.2))
            self.check()
