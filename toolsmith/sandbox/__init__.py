"""Runs model-written code without network or secrets, in one writable folder, within hard limits.

    backend = choose_backend()                       # tries each backend, the strongest first
    with SandboxExecutor(folder, backend=backend) as run:
        run("x = 1")
        assert run("x + 1").output == 2              # Python state lasts between steps

Importing this package does not import smolagents; only the first use of `SandboxExecutor` does.

Not covered: the sandbox shares the host's kernel, so a kernel bug can be a way out. Code inside can use the
processor for as long as its time limit allows.
"""

from typing import TYPE_CHECKING, Any

from toolsmith.sandbox.spec import Limits, SandboxClosed, SandboxError, SandboxUnavailable, SelfTestFault

if TYPE_CHECKING:
    from toolsmith.sandbox.executor import SandboxExecutor
    from toolsmith.sandbox.probe import choose_backend
    from toolsmith.sandbox.spec import Backend

__all__ = [
    "Backend",
    "Limits",
    "SandboxClosed",
    "SandboxError",
    "SandboxExecutor",
    "SandboxUnavailable",
    "SelfTestFault",
    "choose_backend",
]

_LOADED_ON_USE = {"Backend": "spec", "SandboxExecutor": "executor", "choose_backend": "probe"}


def __getattr__(name: str) -> Any:
    if name not in _LOADED_ON_USE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_LOADED_ON_USE[name]}"), name)
