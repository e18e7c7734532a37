"""The command at the terminal, if a resident runs it. A person waits for what is imported here."""

import contextlib
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from orchestrator_cli import signals
from orchestrator_cli.resident import address
from orchestrator_cli.resident.frames import Hungup, is_same, receive, send

PATIENCE_S = 5.0
"""For a worker to begin. After that the command runs in its own process."""
PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGWINCH, signal.SIGUSR1)
LIMITS = tuple(sorted(getattr(resource, name) for name in dir(resource) if name.startswith("RLIMIT_")))


def run() -> int | None:
    """The exit code of the command; None if no resident has begun it."""
    try:
        connection = _connected(address.folder() / f"{address.key()}.sock")
    except OSError:
        return None
    with connection:
        connection.settimeout(PATIENCE_S)
        try:
            worker = receive(connection)[0]["pid"]
            folder = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                send(connection, _order(), [0, 1, 2, folder])
            finally:
                os.close(folder)
        except (OSError, Hungup, KeyError):
            return None
        # A Ctrl-C before this ends the client, and with its connection the worker.
        _pass_signals_on(worker)
        connection.settimeout(None)
        return _ended(connection)


def start_next() -> None:
    """Start a resident for the commands after this one, if there is none."""
    command = [sys.executable, "-P", "-m", "orchestrator_cli.resident.server", address.key()]
    with contextlib.suppress(OSError):
        subprocess.Popen(
            command,
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )


def _connected(path: Path) -> socket.socket:
    """Raises `OSError`."""
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.settimeout(PATIENCE_S)
        # The kernel takes about 100 bytes; a path by way of the folder is short.
        there = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            if os.fstat(there).st_uid != os.geteuid():
                raise PermissionError
            connection.connect(f"/proc/self/fd/{there}/{path.name}" if sys.platform == "linux" else str(path))
        finally:
            os.close(there)
        if not is_same(connection):  # who would be given the keys
            raise PermissionError
    except OSError:
        connection.close()
        raise
    return connection


def _order() -> dict[str, object]:
    mask = os.umask(0o077)
    os.umask(mask)
    return {
        "argv": sys.argv,
        "environment": dict(os.environ),
        "umask": mask,
        "ignored": signals.ignored(),
        "blocked": signals.blocked(),
        "limits": [(which, *resource.getrlimit(which)) for which in LIMITS],
        "nice": os.nice(0),
        "processors": [*os.sched_getaffinity(0)] if hasattr(os, "sched_getaffinity") else [],
    }


def _pass_signals_on(worker: int) -> None:
    """Let the worker have the signals of this process from now on, also those of the terminal.

    It ignores what this process ignores.
    """

    def stop(*_: object) -> None:
        _signal(worker, signal.SIGSTOP)
        os.kill(os.getpid(), signal.SIGSTOP)
        # Here the shell has woken this process.
        _signal(worker, signal.SIGCONT)
        _signal(worker, signal.SIGWINCH)

    for number in PASSED_ON:
        signals.handle(number, lambda number, _: _signal(worker, number))
    signals.handle(signal.SIGTSTP, stop)
    signals.handle(signal.SIGCONT, lambda *_: _signal(worker, signal.SIGCONT))


def _signal(worker: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(worker, number)


def _ended(connection: socket.socket) -> int:
    """The worker's exit code; below 0 for a signal that ended it."""
    try:
        return int(receive(connection)[0]["code"])
    except (OSError, Hungup, KeyError):
        sys.stderr.write("error: The process that ran this command was ended.\n")
        sys.stderr.write("  A run that it worked on can go on: orch resume last\n")
        return 1


def end(code: int) -> None:
    """End this process as the worker ended."""
    if code < 0:
        with contextlib.suppress(OSError):  # SIGKILL has no handler
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
        time.sleep(1.0)
    os._exit(code if code >= 0 else 128 - code)
