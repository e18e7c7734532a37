"""Runs one command and ends everything it started: `python -I -S supervisor.py PIPE COMMAND …`.

PIPE is the reading end of a pipe whose other end the parent process holds. When that end is closed,
deliberately or by the parent's death, the command and all that it started are ended: by SIGTERM, half
a second later by SIGKILL. Processes that are left when the command has ended by itself are ended
likewise. The exit code is the command's, or 128 plus the number of the signal that ended it.

It is a program of its own, started without site packages, and imports nothing of ours. On Linux it
also finds processes that started a session of their own; elsewhere, only the command's group.
"""

import contextlib
import ctypes
import os
import select
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

GRACE_S = 0.5
FORCED_S = 5.0
SUBREAPER = 36
"""prctl's PR_SET_CHILD_SUBREAPER: orphans become our children instead of those of process 1."""
CANNOT_RUN = 127


def main(pipe: int, command: list[str]) -> int:
    os.set_inheritable(pipe, False)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(SUBREAPER, 1, 0, 0, 0)
    child = os.fork()
    if child == 0:
        become(command)
    code = wait_for(child, pipe)
    end_all(child)
    return code


def become(command: list[str]) -> None:
    """Turn into the command; does not return."""
    try:
        os.setpgid(0, 0)
        os.execvp(command[0], command)
    except OSError as exc:
        os.write(2, f"{command[0]} cannot be run: {exc.strerror}\n".encode())
    os._exit(CANNOT_RUN)


def wait_for(child: int, pipe: int) -> int:
    """Wait until the command has ended, or the pipe is closed; its exit code."""
    while True:
        for pid, status in reaped():
            if pid == child:
                code = os.waitstatus_to_exitcode(status)
                return code if code >= 0 else 128 - code
        if select.select([pipe], [], [], 0.02)[0]:
            return 128 + signal.SIGTERM


def end_all(child: int) -> None:
    """End all that is left, first by SIGTERM, then by SIGKILL."""
    for sign, patience in ((signal.SIGTERM, GRACE_S), (signal.SIGKILL, FORCED_S)):
        deadline, signalled = time.monotonic() + patience, set[int]()
        if group_lives(child):
            os.killpg(child, sign)
        while time.monotonic() < deadline:
            for pid in set(descendants(os.getpid())) - signalled:
                signalled.add(pid)
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, sign)
            for _ in reaped():
                pass
            if is_childless() and not group_lives(child):
                return
            time.sleep(0.01)


def group_lives(child: int) -> bool:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child, 0)
        return True
    return False


def is_childless() -> bool:
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return True
    return False


def reaped() -> Iterator[tuple[int, int]]:
    """The children that have ended since the last call, each with its status."""
    with contextlib.suppress(ChildProcessError):
        while (found := os.waitpid(-1, os.WNOHANG))[0]:
            yield found


def descendants(pid: int) -> Iterator[int]:
    """The processes below one, as far as the system lists them."""
    # Each thread lists the children that it started, and the main thread may have ended before the others.
    for listing in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for child in map(int, listing.read_text().split()):
                yield child
                yield from descendants(child)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2:]))
