"""The sandbox's errors.

RuntimeError
├── SandboxUnavailable   no backend works on this system
└── SandboxError         a step failed
    └── SandboxClosed    the sandbox was interrupted or cleaned up
"""


class SandboxUnavailable(RuntimeError):
    """No backend works on this system; `str()` says what to install or allow."""


class SandboxError(RuntimeError):
    """A step failed; `str()` is what the agent reads: no host paths, the same text on every backend."""


class SandboxClosed(SandboxError):
    """The sandbox was interrupted or cleaned up; neither a running nor a later step will finish."""
