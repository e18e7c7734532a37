"""What a process still does when its command has ended: no one waits for it but the process.

A command that has said how it ended may still have to send a copy of that elsewhere. It runs beside, within
limits of its own, and `finish` waits for it. A process of its own calls that before it ends; the worker of a
resident does so when its client has ended already.
"""

import atexit
import threading

_under_way: list[threading.Event] = []


def register(ended: threading.Event) -> None:
    """Have the end of this process wait for `ended`, which something that runs beside sets in time."""
    _under_way[:] = [*(one for one in _under_way if not one.is_set()), ended]


def finish() -> None:
    """Wait for all that was registered."""
    while _under_way:
        _under_way.pop().wait()


atexit.register(finish)


def leave_to_caller() -> None:
    """The interpreter's end does not wait: the caller calls `finish` itself."""
    atexit.unregister(finish)
