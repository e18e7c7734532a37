"""A console of rich whose threads write one after the other, and a live view on it.

rich counts the lines of the live view that a print erases before it renders the next one, and locks only the
write. If another thread draws in between, the count is that of an older view, and lines of it stay. Here a
thread has the console from the first step of a print to its last. It takes the console before the lock of
the live view, always in this order, so no two threads wait for each other.
"""

import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from rich.console import Console, RenderableType
from rich.live import Live


class WholeWrites(Console):
    """Each print, and each block of `with console`, is a whole for other threads."""

    def __init__(self, **options: Any) -> None:
        self._one_thread = threading.RLock()
        super().__init__(**options)

    def __enter__(self) -> Self:
        self._one_thread.acquire()
        try:
            super().__enter__()
        except BaseException:
            self._one_thread.release()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            super().__exit__(kind, exc, trace)
        finally:
            self._one_thread.release()


class WholeLive(Live):
    """A live view that is removed at its end. A thread draws it `per_second` times; nothing waits for it."""

    def __init__(
        self, shown: Callable[[], RenderableType], console: WholeWrites, per_second: float, **options: Any
    ) -> None:
        # The thread of rich takes the lock of the view before the console.
        super().__init__(console=console, get_renderable=shown, auto_refresh=False, transient=True, **options)
        self._over = threading.Event()
        self._pause_s = 1 / per_second

    def start(self, refresh: bool = False) -> None:
        with self.console:
            super().start(refresh)
        threading.Thread(target=self._draw, name="orch: live view", daemon=True).start()

    def stop(self) -> None:
        self._over.set()
        with self.console:
            super().stop()

    def refresh(self) -> None:
        with self.console:
            super().refresh()

    def _draw(self) -> None:
        while not self._over.wait(self._pause_s):
            with self.console:
                if not self._over.is_set():
                    self.refresh()
