"""The resident: imports everything once, then forks a worker for each client.

It has one thread and no connection of its own, because a fork copies neither. It leaves after `IDLE_S`
without a worker, when its code was changed, when its socket is not there any more, and when `MOST` others of
the same data folder were used after it. Its workers end their commands first.
"""

import contextlib
import errno
import fcntl
import os
import selectors
import signal
import socket
import sys
import threading
import time
from pathlib import Path

from orchestrator_cli.resident import address
from orchestrator_cli.resident.frames import is_same, send
from orchestrator_cli.resident.preload import preload

IDLE_S = 30 * 60.0
FIRST_S = 30.0
"""How long it leaves the processor to the command that started it."""
MOST = 2
"""So many residents of one data folder stay; each holds some hundred megabytes."""
LOOK_S = 30.0
"""How often it looks whether it is still wanted."""
ELSEWHERE = "http://127.0.0.1:9/api"
"""Prefect's settings are those of no server, so that each worker takes its own."""


def main() -> None:
    """Serve until nothing wants it; at once if another resident of the same key does."""
    folder, started_by = address.folder(), os.getppid()
    if not folder.parent.is_dir():
        _await_end(started_by)  # it may make the data folder
    if not _is_own(folder.parent):
        return
    folder.mkdir(mode=0o700, exist_ok=True)
    if not _is_own(folder):
        return
    os.chdir(folder)  # paths of sockets are short
    name = sys.argv[1]
    with Path(f"{name}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        with Path(f"{name}.log").open("w") as log:
            os.dup2(log.fileno(), 2)
        _await_end(started_by)  # it imports the same now
        code = _Code()
        preload(ELSEWHERE, folder.parent)
        if threading.active_count() == 1 and code.is_unchanged():
            _Resident(Path(f"{name}.sock"), code).serve()


def _await_end(started_by: int) -> None:
    """Wait until the command that has started this process has ended, but not for ever."""
    until = time.monotonic() + FIRST_S
    while os.getppid() == started_by and time.monotonic() < until:
        time.sleep(0.1)


def _is_own(folder: Path) -> bool:
    """Whether a folder is there and this user's: as another user, such as root, nothing is made in it."""
    return folder.is_dir() and folder.stat().st_uid == os.geteuid()


def is_recent(socket: Path) -> bool:
    """Whether fewer than `MOST` other sockets of its folder were used, which changes their time, after it."""
    own, newer = socket.stat().st_mtime_ns, 0
    for other in socket.parent.glob("*.sock"):
        with contextlib.suppress(OSError):
            newer += other.name != socket.name and other.stat().st_mtime_ns > own
    return newer < MOST


class _Code:
    """The files of the packages, as they were when this was made."""

    def __init__(self) -> None:
        roots = (address.PACKAGE, *(address.PACKAGE.parent / name for name in ("memory", "toolsmith")))
        found = (path for root in roots for path in root.rglob("*"))
        self._files = [str(path) for path in found if path.suffix in (".py", ".md", ".yml")]
        self._times = self._now()

    def is_unchanged(self) -> bool:
        try:
            return self._now() == self._times
        except OSError:
            return False

    def _now(self) -> list[int]:
        return [os.stat(file).st_mtime_ns for file in self._files]  # noqa: PTH116 (a command waits)


class _Resident:
    def __init__(self, path: Path, code: _Code) -> None:
        self._path, self._code = path, code
        self._workers: dict[int, socket.socket] = {}
        """The connection of the client of each worker."""
        path.unlink(missing_ok=True)
        self._listener = socket.socket(socket.AF_UNIX)
        mask = os.umask(0o177)
        self._listener.bind(str(path))
        os.umask(mask)
        self._listener.listen(64)
        self._listener.setblocking(False)
        self._own = path.stat()
        self._woken, waker = os.pipe()
        for end in (self._woken, waker):
            os.set_blocking(end, False)
        signal.set_wakeup_fd(waker)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self._waker = waker

    def serve(self) -> None:
        selector = selectors.DefaultSelector()
        for file in (self._listener, self._woken):
            selector.register(file, selectors.EVENT_READ)
        used, looked = time.monotonic(), time.monotonic()
        while self._workers or time.monotonic() - used < IDLE_S:
            ready = {key.fileobj for key, _ in selector.select(LOOK_S)}
            if self._listener in ready:
                self._mark_used()
            if self._woken in ready:
                self._reap()
                self._mark_used()
                used = time.monotonic()
            if time.monotonic() - looked > LOOK_S or self._listener in ready:
                looked = time.monotonic()
                if not self._is_wanted():
                    break
            if self._listener in ready:
                self._accept(selector)
                used = time.monotonic()
        if self._is_there():
            self._path.unlink()
        self._listener.close()  # the client of a connection that waits runs its command itself
        while self._workers:
            selector.select(LOOK_S)
            self._reap()

    def _is_there(self) -> bool:
        try:
            return os.path.samestat(self._path.stat(), self._own)
        except OSError:
            return False

    def _is_wanted(self) -> bool:
        return self._is_there() and self._code.is_unchanged() and is_recent(self._path)

    def _mark_used(self) -> None:
        if self._is_there():
            with contextlib.suppress(OSError):
                os.utime(self._path)

    def _accept(self, selector: selectors.BaseSelector) -> None:
        try:
            connection, _ = self._listener.accept()
        except OSError:
            return
        if not is_same(connection):
            connection.close()
            return
        connection.setblocking(True)
        try:
            worker = os.fork()
        except OSError:  # too many processes; the command runs in the client's
            connection.close()
            return
        if worker == 0:
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGCHLD, signal.SIGHUP):
                signal.signal(number, signal.SIG_DFL)
            selector.close()
            self._listener.close()
            for other in self._workers.values():
                other.close()
            for file in (self._woken, self._waker):
                os.close(file)
            from orchestrator_cli.resident.worker import become

            become(connection)
        self._workers[worker] = connection

    def _reap(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while os.read(self._woken, 4096):
                pass
        for worker in [*self._workers]:
            ended, status = os.waitpid(worker, os.WNOHANG)
            if ended:
                with self._workers.pop(worker) as connection, contextlib.suppress(OSError):
                    connection.setblocking(False)
                    send(connection, {"code": os.waitstatus_to_exitcode(status)})


if __name__ == "__main__":
    try:
        main()
    except OSError as exc:
        if exc.errno not in (errno.ENOSPC, errno.EACCES, errno.EROFS):
            raise
        sys.exit(1)
