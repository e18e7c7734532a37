"""A fork of the resident becomes the command, as if its process had been started by the client."""

import atexit
import contextlib
import gc
import io
import os
import resource
import signal
import socket
import sys
import tempfile
import threading
import time
import types
from typing import Any, NoReturn, cast

from orchestrator_cli import afterwards, environment, signals
from orchestrator_cli.cli import app
from orchestrator_cli.resident.frames import Hungup, receive, send

PATIENCE_S = 10.0


def become(connection: socket.socket) -> NoReturn:
    """Read the order of a client, run it, and end this process."""
    os.setsid()
    connection.settimeout(PATIENCE_S)
    try:
        # A client that hears nothing has sent no streams, which would wait here, open.
        send(connection, {"pid": os.getpid()})
        order, files = receive(connection, 4)
    except (OSError, Hungup):
        os._exit(1)
    connection.settimeout(None)
    _take_over(order, files)
    ended = threading.Event()
    _end_with(connection, ended)

    def end(code: int) -> NoReturn:
        ended.set()
        with contextlib.suppress(OSError):  # the resident, too, says how this process ended
            send(connection, {"code": code})
        _leave_streams()
        afterwards.finish()
        os._exit(code)

    gc.enable()
    afterwards.leave_to_caller()
    try:
        app.main(end)
    except SystemExit as exc:
        # As an interpreter ends, but without taking apart what was imported.
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        app.leave(exc.code, end)
    except BaseException:
        sys.excepthook(*sys.exc_info())
        app.leave(1, end)
    end(0)


def _take_over(order: dict[str, Any], files: list[int]) -> None:
    *streams, folder = files
    for number, opened in enumerate(streams):
        os.dup2(opened, number, inheritable=True)
        os.close(opened)
    # The objects of the streams are those of the resident, and now lead to the client's.
    cast(io.TextIOWrapper, sys.stdout).reconfigure(line_buffering=sys.stdout.isatty())
    with contextlib.suppress(OSError):
        os.fchdir(folder)
    os.close(folder)
    os.umask(order["umask"])
    signals.take_over(order["ignored"], order["blocked"])
    for which, soft, hard in order["limits"]:
        with contextlib.suppress(ValueError, OSError):  # a limit that the resident cannot raise
            resource.setrlimit(which, (soft, hard))
    with contextlib.suppress(OSError):
        os.nice(max(0, order["nice"] - os.nice(0)))
    if order["processors"]:
        with contextlib.suppress(OSError):
            os.sched_setaffinity(0, order["processors"])
    sys.argv, sys.modules["__main__"] = list(order["argv"]), types.ModuleType("__main__")
    os.environ.clear()
    os.environ.update(order["environment"])
    environment.forget_taken()
    tempfile.tempdir = None  # it is found again, with this environment
    time.tzset()


def _leave_streams() -> None:
    """Let who reads what the command writes see its end, and the terminal be of the next command."""
    with contextlib.suppress(OSError):
        nowhere = os.open(os.devnull, os.O_RDWR)
        for number in range(3):
            os.dup2(nowhere, number)


def _end_with(connection: socket.socket, ended: threading.Event) -> None:
    """End as on a hang-up when the client is gone."""

    def watch() -> None:
        with contextlib.suppress(OSError, Hungup):
            receive(connection)
        if not ended.is_set():
            is_ignored = signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
            os.kill(os.getpid(), signal.SIGKILL if is_ignored else signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()
