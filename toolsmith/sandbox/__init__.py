"""Where code written by a model runs: no network, no secrets, one writable folder, hard limits.

    backend = choose_backend()                       # bubblewrap first; each proves itself, or is refused
    with SandboxExecutor(folder, backend=backend) as run:
        run("x = 1")
        assert run("x + 1").output == 2              # the Python state lasts

Importing this package does not import smolagents; only `SandboxExecutor` does, when it is first used.

What is not covered: the kernel is shared with the host, so a fault of the kernel can be a way out. Code
inside can use the processor for as long as its time limit allows.
"""

from typing import TYPE_CHECKING, Any

from toolsmith.sandbox.errors import SandboxClosed, SandboxError, SandboxUnavailable
from toolsmith.sandbox.limits import Limits

if TYPE_CHECKING:
    from toolsmith.sandbox.backend import Backend
    from toolsmith.sandbox.executor import SandboxExecutor
    from toolsmith.sandbox.probe import choose_backend

__all__ = [
    "Backend",
    "Limits",
    "SandboxClosed",
    "SandboxError",
    "SandboxExecutor",
    "SandboxUnavailable",
    "choose_backend",
]

_HOMES = {"Backend": "backend", "SandboxExecutor": "executor", "choose_backend": "probe"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
