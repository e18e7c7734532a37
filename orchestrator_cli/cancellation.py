"""One signal that ends a run, or one attempt of it: Ctrl-C, a time limit, `orch cancel`.

Code that waits (for a model, a sandbox, a lock) waits through it, so that the work ends at once
and not when the other side answers. Work that cannot be interrupted (an import, a call without a
time limit) runs in a thread that is abandoned.
"""

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

T = TypeVar("T")


class Cancellation:
    """Set from any thread with the error that ends the work, which `check` then raises.

    It stays set, unless all that it ended has ended and `lift` allows what comes after. A child is
    cancelled with its parent, but not the parent with its child.
    """

    def __init__(self) -> None:
        self._set = threading.Event()
        self._lock = threading.Lock()
        self._reason: Exception | None = None
        self._callbacks: list[Callable[[], None]] = []

    def cancel(self, reason: Exception) -> None:
        """End the work with `reason`; only the first call counts."""
        with self._lock:
            if self._reason is not None:
                return
            self._reason = reason
            self._set.set()
            callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback()

    def lift(self, kind: type[Exception]) -> None:
        """Take back a cancellation for a reason of this kind; any other stays."""
        with self._lock:
            if isinstance(self._reason, kind):
                self._reason = None
                self._set.clear()

    @property
    def reason(self) -> Exception | None:
        """Why the work has to end, or None while it may continue."""
        return self._reason

    def check(self) -> None:
        """Raise the reason, if there is one."""
        if self._reason is not None:
            raise self._reason

    def wait(self, seconds: float) -> None:
        """Sleep, but raise the reason as soon as there is one."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            # Short waits, because the main thread takes Ctrl-C only between them on some systems.
            self._set.wait(min(left, 0.2))
            self.check()

    def waiting_for(self, function: Callable[[], T]) -> T:
        """The result of a function that cannot be interrupted: it runs in a thread of its own."""
        ended: queue.SimpleQueue[Callable[[], T]] = queue.SimpleQueue()
        run_beside(lambda: ended.put(_captured(function)))
        while True:
            self.check()
            with contextlib.suppress(queue.Empty):
                return ended.get(timeout=0.1)()

    @contextlib.contextmanager
    def calling(self, callback: Callable[[], None]) -> Iterator[None]:
        """Call `callback` once, from the thread that cancels, if that happens within the block."""
        with self._lock:
            pending = self._reason is None
            if pending:
                self._callbacks.append(callback)
        if not pending:
            callback()
        try:
            yield
        finally:
            with self._lock, contextlib.suppress(ValueError):
                self._callbacks.remove(callback)

    @contextlib.contextmanager
    def limited(self, seconds: float | None, reason: Callable[[], Exception]) -> "Iterator[Cancellation]":
        """A child that is also cancelled after `seconds`, with the error that `reason` returns."""
        child = Cancellation()
        timer = None if seconds is None else threading.Timer(seconds, lambda: child.cancel(reason()))
        if timer is not None:
            timer.daemon = True
            timer.start()
        try:
            with self.calling(lambda: child.cancel(self._reason or RuntimeError("cancelled"))):
                yield child
        finally:
            if timer is not None:
                timer.cancel()


def _captured(function: Callable[[], T]) -> Callable[[], T]:
    """Call a function; returns one that returns or raises the same."""
    try:
        value = function()
    except Exception as exc:
        error = exc  # the name of an except clause ends with it

        def fail() -> T:
            raise error

        return fail
    return lambda: value


BESIDE = "orch: beside"


def run_beside(target: Callable[..., object], *args: object) -> None:
    """Run something in a thread that does not keep the process from ending."""
    threading.Thread(target=target, args=args, name=BESIDE, daemon=True).start()


def something_runs_beside() -> bool:
    """Whether such a thread is still running.

    It may hold one of the interpreter's import locks. The interpreter imports modules when it shuts
    down, and would wait for that lock for ever: the process must then exit without a shutdown.
    """
    return any(thread.name == BESIDE for thread in threading.enumerate())
