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


@dataclass(frozen=True)
class Kept:
    """How one backend keeps one limit; an empty text where it does not do it that way."""

    limit: str
    """The field of `Limits`."""
    hard: str = ""
    """What is refused as soon as it passes the limit."""
    polled: str = ""
    """What is measured while a step runs, and ends it a moment later."""

    @property
    def grade(self) -> str:
        return " and ".join(word for word in ("hard", "polled") if getattr(self, word)) or "not kept"

    def __str__(self) -> str:
        if self.hard and self.polled:
            return f"hard: {self.hard}; polled: {self.polled}"
        return self.hard or self.polled


def kept_with_rlimits(*, hard_processes: bool) -> tuple[Kept, ...]:
    """How limits are kept where the kernel's limits of single processes are all there is."""
    counted, every_30_ms = "by the kernel, for this user", "every 30 ms"
    return (
        *kept_by_the_host(),
        Kept("memory_mb", hard="each process", polled="all together, every 150 ms"),
        Kept("processes", hard=counted) if hard_processes else Kept("processes", polled=every_30_ms),
        Kept("disk_mb", hard="each file", polled="growth of the workspace, at least every 2 s"),
    )


def kept_by_the_host() -> tuple[Kept, ...]:
    """The limits that need nothing of a backend."""
    return (
        Kept("wall_s", hard="interrupted, and ended after a second of grace"),
        Kept("output_chars", hard="the rest is dropped"),
        Kept("calls", hard="further calls are refused"),
    )
