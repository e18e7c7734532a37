"""How much one sandbox may use.

A *hard* limit cannot be passed, because the kernel refuses. A *polled* limit is measured by the host while
a step runs, so a step can overshoot it for a moment before it is ended.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """The bounds of one sandbox. A step that passes one is ended; the Python state goes back to before it."""

    wall_s: float = 30.0
    """Seconds per step, without the time that host tools take. Hard, with a second of grace to stop in."""

    memory_mb: int = 2048
    """Hard as address space of each process; polled, every 150 ms, as the sum over all processes."""

    processes: int = 64
    """Hard under bubblewrap for ordinary users; polled, every 30 ms, for root and under Landlock."""

    disk_mb: int = 512
    """Hard as the size of each file; polled as growth of the workspace since the sandbox was made.

    The private temporary folder is a memory file system of at most 64 MB under bubblewrap; under Landlock it
    counts as part of the workspace.
    """

    output_chars: int = 50_000
    """Hard: what a step and its child processes print beyond this is dropped, and the cut is marked."""

    calls: int = 50
    """Hard: calls of host tools per step."""

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value <= 0:
                raise ValueError(f"limit {name} must be above zero, not {value!r}")
