"""Runs one command and ends with it all that it started: `python -I -S guard.py LINK COMMAND …`.

LINK is the reading end of a pipe whose other end its maker holds. When that end is closed, because the
work is to end or because its maker was killed, the command and all that it started are ended:
asked first, forced half a second later. The same becomes of what is left when the command itself
has ended. The exit code is the command's, or 128 and the number of the signal that ended it.

It is a program of its own, started without site packages, and imports nothing of ours. On Linux
what has made itself a session of its own is found too; elsewhere only the command's group is.
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
"""prctl's PR_SET_CHILD_SUBREAPER: what loses its parent becomes our child, and not the first process's."""
CANNOT_RUN = 127


def main(link: int, command: list[str]) -> int:
    os.set_inheritable(link, False)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(SUBREAPER, 1, 0, 0, 0)
    child = os.fork()
    if child == 0:
        become(command)
    code = watch(child, link)
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


def watch(child: int, link: int) -> int:
    """Wait until the command has ended, or is to be; its exit code."""
    while True:
        for pid, status in reaped():
            if pid == child:
                code = os.waitstatus_to_exitcode(status)
                return code if code >= 0 else 128 - code
        if select.select([link], [], [], 0.02)[0]:
            return 128 + signal.SIGTERM


def end_all(child: int) -> None:
    """End all that is left: with a request first, and by force after that."""
    for sign, patience in ((signal.SIGTERM, GRACE_S), (signal.SIGKILL, FORCED_S)):
        deadline, told = time.monotonic() + patience, set[int]()
        if group_lives(child):
            os.killpg(child, sign)
        while time.monotonic() < deadline:
            for pid in set(descendants(os.getpid())) - told:
                told.add(pid)
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, sign)
            for _ in reaped():
                pass
            if childless() and not group_lives(child):
                return
            time.sleep(0.01)


def group_lives(child: int) -> bool:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child, 0)
        return True
    return False


def childless() -> bool:
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return True
    return False


def reaped() -> Iterator[tuple[int, int]]:
    """The children that have ended since, each with its status."""
    with contextlib.suppress(ChildProcessError):
        while (found := os.waitpid(-1, os.WNOHANG))[0]:
            yield found


def descendants(pid: int) -> Iterator[int]:
    """The processes below one, as far as the system tells."""
    try:
        children = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return
    for child in children:
        yield child
        yield from descendants(child)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2:]))
