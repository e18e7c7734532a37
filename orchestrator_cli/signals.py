"""Signals: one that is ignored as this process starts stays ignored, as `nohup` and `trap '' INT` ask for.

Not covered: the signals that Python itself ignores, SIGPIPE and SIGXFSZ.
"""

import signal
from collections.abc import Callable, Iterable, Sequence
from types import FrameType

Handler = Callable[[int, FrameType | None], object]


def handle(number: int, handler: Handler) -> None:
    """Handle a signal, unless it is ignored."""
    if signal.getsignal(number) is not signal.SIG_IGN:
        signal.signal(number, handler)


def ignored() -> list[int]:
    """The signals that are ignored, by number."""
    return [int(number) for number in signal.valid_signals() if signal.getsignal(number) is signal.SIG_IGN]


def blocked() -> list[int]:
    """The signals that wait, by number."""
    return [int(number) for number in signal.pthread_sigmask(signal.SIG_BLOCK, ())]


def take_over(are_ignored: Sequence[int], are_blocked: Iterable[int]) -> None:
    """Have the signals of another process: those that it ignores and blocks, and the others as at a start."""
    for number in signal.valid_signals():
        if number in are_ignored:
            signal.signal(number, signal.SIG_IGN)
        elif signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL if number != signal.SIGINT else signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_SETMASK, are_blocked)
