"""Wakes what the host has stopped, as the user who runs this, and prints what became of it, as JSON by way.

Code inside cannot send the signal that wakes it, so this sends it from outside, as a user can.

Arguments: a folder and a backend.
"""

import contextlib
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from toolsmith.sandbox import Backend, Limits, SandboxError, SandboxUnavailable, choose_backend
from toolsmith.sandbox.processes import tree
from toolsmith.sandbox.removal import remove
from toolsmith.sandbox.session import SandboxSession
from toolsmith.sandbox.wire import MAX_FRAME

PATIENCE_S = 8.0
THREAD = """
import os, signal, threading, time
signal.signal(signal.SIGCONT, lambda *_: None)
kept = "kept"
def in_a_thread(work):
    def begin():
        while not os.path.exists("go"):
            time.sleep(0.005)
        work()
    threading.Thread(target=begin, daemon=True).start()
def tick():
    for i in range(5000):
        open("ticks", "a").write("x")
        time.sleep(0.005)
def memory():
    for _ in range(4):
        if os.fork() == 0:
            while not os.path.exists("go"):
                time.sleep(0.005)
            held = bytearray(b"x") * (90 << 20)
            tick()
def disk():
    for i in range(10):
        open(f"part{i}", "wb").write(bytes(10 << 20))
    tick()
def forks():
    while os.fork():
        open("forked", "a").write("x")
    time.sleep(9)
"""
ENDS = {
    "runs on": "in_a_thread(tick)",
    "takes memory": "memory()",
    "takes disk": "in_a_thread(disk)",
    "starts processes": "in_a_thread(forks)",
}


@contextlib.contextmanager
def woken(top: int) -> Iterator[None]:
    """Wakes all of the sandbox again and again, meanwhile."""
    over = threading.Event()

    def wake() -> None:
        while not over.wait(0.002):
            wake_once(top)

    thread = threading.Thread(target=wake)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def wake_once(top: int) -> None:
    for pid in tree(top)[1:]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


class Stopped:
    """A session whose processes are woken, with a folder of its own."""

    def __init__(self, folder: Path, backend: Backend) -> None:
        self.folder = folder
        folder.mkdir()
        limits = Limits(wall_s=15, memory_mb=200, disk_mb=20, processes=8)
        self.session = SandboxSession(folder, limits=limits, backend=backend, writable=True)

    def __enter__(self) -> "Stopped":
        return self

    def __exit__(self, *_: object) -> None:
        self.session.close()
        remove(self.folder)

    @property
    def top(self) -> int:
        worker = self.session._worker
        return worker.processes.top if worker is not None else 0

    def run(self, code: str) -> Any:
        """The step's value, or why it failed."""
        try:
            return self.session.request({"t": "run", "number": 0, "code": code}).value
        except SandboxError as error:
            return str(error)

    def wake(self) -> float:
        """Wakes the processes until they have ended; the seconds that took."""
        began, top = time.monotonic(), self.top
        (self.folder / "go").touch()
        with woken(top):
            while tree(top)[1:] and time.monotonic() < began + PATIENCE_S:
                time.sleep(0.01)
        return time.monotonic() - began

    def has_forked(self) -> bool:
        return (self.folder / "forked").exists()

    def moves(self) -> bool:
        """Whether code inside writes."""
        ticks = self.folder / "ticks"
        before = ticks.stat().st_size if ticks.exists() else 0
        time.sleep(0.3)
        return ticks.exists() and ticks.stat().st_size > before


def between_steps(stopped: Stopped, work: str) -> list[Any]:
    stopped.run(THREAD + work)
    ended = stopped.wake() < PATIENCE_S
    return [ended, stopped.has_forked(), stopped.run("1")]


def during_a_tool(stopped: Stopped, work: str) -> list[Any]:
    ended: list[bool] = []
    stopped.session.bindings.host = {"tool": lambda: ended.append(stopped.wake() < PATIENCE_S)}
    stopped.session.bind()
    why = stopped.run(f"{THREAD}{work}\ntool()")
    return [*ended, stopped.has_forked(), why]


def woken_once(stopped: Stopped) -> list[Any]:
    """By accident: the sandbox is kept, and what runs is stopped again."""
    stopped.run(f"{THREAD}in_a_thread(tick)")
    (stopped.folder / "go").touch()
    wake_once(stopped.top)
    time.sleep(0.5)
    return [stopped.moves(), stopped.run("kept")]


def not_sent(stopped: Stopped) -> list[Any]:
    """A request that is too large to send wakes nothing."""
    stopped.run(f"{THREAD}in_a_thread(tick)")
    (stopped.folder / "go").touch()
    failure = stopped.run("#" * (MAX_FRAME + 1))
    return [stopped.moves(), "MB can be passed" in str(failure), stopped.run("kept")]


def main(folder: str, name: str) -> None:
    found: dict[str, Any] = {}
    try:
        backend = choose_backend(name)
    except SandboxUnavailable as error:
        found = {"unavailable": str(error)}
    else:

        def tried(*way: Any) -> list[Any]:
            attempt: Callable[..., list[Any]] = way[0]
            with Stopped(Path(folder, "workspace"), backend) as stopped:
                return attempt(stopped, *way[1:])

        for work, code in ENDS.items():
            found[f"{work} between steps"] = tried(between_steps, code)
            found[f"{work} during a tool"] = tried(during_a_tool, code)
        found["woken once"] = tried(woken_once)
        found["not sent"] = tried(not_sent)
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
