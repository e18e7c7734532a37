"""Chooses the backend by running one: what a version promises, a system may forbid.

A probe starts a real worker and has it try what it must not be able to do. Bubblewrap comes first, Landlock
second; when neither proves itself the sandbox refuses, and says how to change that. There is no fallback to
running without one.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from toolsmith.sandbox import landlock
from toolsmith.sandbox.backend import Backend
from toolsmith.sandbox.bubblewrap import Bubblewrap
from toolsmith.sandbox.confined import Landlock
from toolsmith.sandbox.errors import SandboxError, SandboxUnavailable
from toolsmith.sandbox.limits import Limits
from toolsmith.sandbox.remedy import Facts, read_facts, remedy
from toolsmith.sandbox.session import Session

NAMES = ("bubblewrap", "landlock")
_SYSTEM_PROGRAM = Path("/usr/bin/bwrap")  # where distributions' AppArmor profiles expect it

_ATTEMPTS = """
import os, socket
def works(action):
    try:
        action()
    except OSError:
        return False
    return True
def write(path):
    open(path, "w").close()
{
    "connect to the host": works(lambda: socket.create_connection(("127.0.0.1", port), 1)),
    "read a file outside": works(lambda: open(secret).read()),
    "write a file outside": works(lambda: write(outside)),
    "see the environment": works(lambda: open(f"/proc/{host}/environ").read()),
    "signal the host": works(lambda: os.kill(host, 0)),
    "write the workspace": works(lambda: write("probe")),
}
"""
_WANTED = {"write the workspace"}

_chosen: dict[str | None, Backend] = {}
_choosing = threading.Lock()


def choose_backend(prefer: str | None = None) -> Backend:
    """The first backend that proves itself, or the one named `prefer`; the choice lasts for the process.

    Raises SandboxUnavailable, with the remedy, when none does; ValueError for an unknown name.
    """
    if prefer is not None and prefer not in NAMES:
        raise ValueError(f"unknown sandbox backend {prefer!r}; known are {', '.join(NAMES)}")
    with _choosing:
        if prefer not in _chosen:
            _chosen[prefer] = _choose(NAMES if prefer is None else (prefer,), read_facts)
        return _chosen[prefer]


def _choose(names: tuple[str, ...], facts: Callable[[dict[str, str]], Facts]) -> Backend:
    failures: dict[str, str] = {}
    for name in names:
        for candidate in _candidates(name, failures):
            try:
                prove(candidate)
            except (SandboxError, SandboxUnavailable) as error:
                failures[name] = str(error)
            else:
                return candidate
    raise SandboxUnavailable(remedy(facts(failures)))


def _candidates(name: str, failures: dict[str, str]) -> Iterator[Backend]:
    """Backends worth a try; the reason for none goes to `failures`."""
    if name == "landlock":
        if os.uname().sysname == "Linux" and landlock.abi() >= landlock.NEEDED_ABI:
            yield Landlock(landlock.abi())
        else:
            failures[name] = _old_landlock()
        return
    program = str(_SYSTEM_PROGRAM) if _SYSTEM_PROGRAM.exists() else shutil.which("bwrap")
    if program is None:
        failures[name] = "not installed"
        return
    version = _version(program)
    yield Bubblewrap(program, version)
    yield Bubblewrap(program, version, disable_userns=False)


def _old_landlock() -> str:
    if os.uname().sysname != "Linux":
        return "needs Linux"
    found = landlock.abi()
    return f"ABI {found} is older than {landlock.NEEDED_ABI}" if found else "the kernel does not offer it"


def _version(program: str) -> str:
    try:
        told = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return "of unknown version"
    return told.stdout.removeprefix("bubblewrap").strip()


def prove(backend: Backend) -> None:
    """Starts a worker and has it try to break out. Raises SandboxUnavailable or SandboxError."""
    with tempfile.TemporaryDirectory(prefix="orch-probe-") as folder, socket.socket() as listener:
        outside, workspace = Path(folder), Path(folder, "workspace")
        workspace.mkdir()
        (outside / "secret").write_text("canary")
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        session = Session(workspace, limits=Limits(wall_s=10), backend=backend, writable=True)
        session.bindings.variables = {
            "port": listener.getsockname()[1],
            "secret": str(outside / "secret"),
            "outside": str(outside / "planted"),
            "host": os.getpid(),
        }
        try:
            did = session.request({"t": "run", "number": 0, "code": _ATTEMPTS}).value
        finally:
            session.close()
    wrong = [what for what, worked in did.items() if worked is not (what in _WANTED)]
    if wrong:
        could = ", ".join(f"could not {what}" if what in _WANTED else f"could {what}" for what in wrong)
        raise SandboxUnavailable(f"{backend.detail} does not hold: code inside {could}")
