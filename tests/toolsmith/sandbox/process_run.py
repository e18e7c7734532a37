"""Steps whose processes look as if they had ended, or hide, as the user who runs this; prints JSON by way.

Arguments: a folder and a backend.
"""

import json
import sys
import threading
import time
from pathlib import Path

from toolsmith.sandbox import Backend, Limits, SandboxError, SandboxUnavailable, choose_backend
from toolsmith.sandbox.session import SandboxSession

LONE = """
import ctypes, os, threading, time
libc = ctypes.CDLL(None)
EXIT = {"x86_64": 60, "aarch64": 93}[os.uname().machine]
def lone(work):
    "Starts a process whose main thread ends, and leaves the work to another."
    if os.fork() == 0:
        def go_on():
            time.sleep(0.1)
            work()
            os._exit(0)
        threading.Thread(target=go_on, daemon=True).start()
        libc.syscall(EXIT, 0)
def hold():
    held = os.urandom(1 << 16) * (150 * 16)
    time.sleep(6)
"""
TICK = """
def tick():
    for i in range(1500):
        open("ticks", "a").write("x")
        time.sleep(0.01)
lone(tick)
"""
ENDED = {
    "memory": "for i in range(4): lone(hold)\ntime.sleep(5)",
    "memory of a process that hides": """
for i in range(4):
    if os.fork() == 0:
        libc.prctl(4, 0, 0, 0, 0)
        hold()
time.sleep(5)
""",
    "processes": "for i in range(60):\n    lone(lambda: time.sleep(5))\n    time.sleep(0.01)\ntime.sleep(5)",
}


def ending(workspace: Path, backend: Backend, code: str) -> str:
    """Why the step was ended."""
    limits = Limits(wall_s=15, memory_mb=256, processes=32)
    session = SandboxSession(workspace, limits=limits, backend=backend, writable=True)
    try:
        session.request({"t": "run", "number": 0, "code": LONE + code})
    except SandboxError as error:
        return str(error)
    finally:
        session.close()
    return ""


def left_over(workspace: Path, backend: Backend, *, interrupted: bool) -> bool:
    """Whether a process writes after its sandbox has ended."""
    session = SandboxSession(workspace, limits=Limits(wall_s=15), backend=backend, writable=True)
    ticks = workspace / "ticks"
    ticks.write_text("")
    raised: list[SandboxError] = []

    def step() -> None:
        try:
            session.request({"t": "run", "number": 0, "code": f"{LONE}{TICK}time.sleep(12)"})
        except SandboxError as error:
            raised.append(error)

    thread = threading.Thread(target=step)
    thread.start()
    while ticks.stat().st_size < 10:
        time.sleep(0.01)
    if interrupted:
        session.interrupt()
        thread.join()
    session.close()
    thread.join()
    size = ticks.stat().st_size
    time.sleep(0.5)
    return ticks.stat().st_size > size


def main(folder: str, name: str) -> None:
    workspace = Path(folder, "workspace")
    workspace.mkdir()
    found: dict[str, object]
    try:
        backend = choose_backend(name)
    except SandboxUnavailable as error:
        found = {"unavailable": str(error)}
    else:
        found = {way: ending(workspace, backend, code) for way, code in ENDED.items()}
        found["interrupted"] = left_over(workspace, backend, interrupted=True)
        found["closed"] = left_over(workspace, backend, interrupted=False)
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
