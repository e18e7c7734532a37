"""What can go wrong between a caller and the sandbox.

RuntimeError
├── SandboxUnavailable   no backend works on this system; the text holds the remedy
└── SandboxError         a step failed; the text is what the agent is told
    └── SandboxClosed    the sandbox was interrupted or cleaned up
"""


class SandboxUnavailable(RuntimeError):
    """No backend could prove itself on this system; `str()` says what to install or allow."""


class SandboxError(RuntimeError):
    """A step failed. `str()` holds no path of the host and is the same on every backend."""


class SandboxClosed(SandboxError):
    """The sandbox was interrupted or cleaned up; neither a running nor a later step will finish."""
