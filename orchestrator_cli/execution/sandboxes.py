"""The sandboxes of built tools with network, secrets or packages: one each, apart from the agent's.

In one sandbox with an agent's code they would share what they were given with that code. Each is
made with the first call, on the attempt's checkout, with just what its tool was allowed; a tool
whose specification says that it touches no file gets an empty folder instead of the checkout.
"""

import shutil
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from toolsmith.built import BuiltTool
from toolsmith.permissions import Permissions
from toolsmith.sandbox.executor import SandboxExecutor


class Makes(Protocol):
    """Makes a sandbox on the checkout, or on another `folder`."""

    def __call__(self, folder: Path | None, *, writable: bool, given: Permissions) -> SandboxExecutor: ...


class Apart:
    """The sandboxes of one attempt. `interrupt` from any thread."""

    def __init__(self, permit: Callable[[BuiltTool], Permissions], make: Makes) -> None:
        self._permit = permit
        self._make = make
        self._lock = threading.Lock()
        self._made: dict[str, SandboxExecutor] = {}
        self._empty: Path | None = None
        self._ended = False

    def of(self, tool: BuiltTool) -> SandboxExecutor:
        """The sandbox of a tool. Raises what `permit` and `make` raise."""
        if tool.name not in self._made:
            given = self._permit(tool)
            with self._lock:
                folder = self._nothing() if tool.spec.workspace == "none" else None
                made = self._make(folder, writable=tool.spec.workspace == "write", given=given)
                self._made[tool.name] = made
                if self._ended:
                    made.interrupt()
        return self._made[tool.name]

    def interrupt(self) -> None:
        """End what runs, and whatever begins later."""
        with self._lock:
            self._ended = True
            for executor in self._made.values():
                executor.interrupt()

    def close(self) -> None:
        with self._lock:
            for executor in self._made.values():
                executor.cleanup()
            if self._empty is not None:
                shutil.rmtree(self._empty, ignore_errors=True)

    def _nothing(self) -> Path:
        if self._empty is None:
            self._empty = Path(tempfile.mkdtemp(prefix="orch-apart-"))
        return self._empty
