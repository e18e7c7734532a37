"""Chooses the backend by running one: what a version promises, a system may forbid.

A probe starts a real worker and has it try what it must not be able to do. Bubblewrap comes first, then
Landlock, a container of Docker or Podman, and macOS's sandbox-exec; when none proves itself the sandbox
refuses, and says how to change that. There is no fallback to running without one: `unsafe` is used only where
it is asked for by that name.
"""

import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from toolsmith.sandbox import landlock
from toolsmith.sandbox.backend import Backend
from toolsmith.sandbox.bubblewrap import Bubblewrap
from toolsmith.sandbox.confined import Landlock
from toolsmith.sandbox.container import IMAGE, Container
from toolsmith.sandbox.errors import SandboxError, SandboxUnavailable
from toolsmith.sandbox.limits import Limits
from toolsmith.sandbox.remedy import Facts, advice, read_facts, remedy
from toolsmith.sandbox.seatbelt import PROGRAM as SEATBELT
from toolsmith.sandbox.seatbelt import Seatbelt
from toolsmith.sandbox.session import Session
from toolsmith.sandbox.surroundings import WALL_S, attempt_all
from toolsmith.sandbox.unsafe import UnsafeBackend

NAMES = ("bubblewrap", "landlock", "docker", "podman", "sandbox-exec")
_UNSAFE = "unsafe"
_ENGINES = ("docker", "podman")
_SYSTEM_PROGRAM = Path("/usr/bin/bwrap")  # where distributions' AppArmor profiles expect it

_chosen: dict[str | None, tuple[Backend, Mapping[str, str]]] = {}
_choosing = threading.Lock()


def choose_backend(prefer: str | None = None) -> Backend:
    """The first backend that proves itself, or the one named `prefer`; the choice lasts for the process.

    "unsafe" confines nothing, and is the only name that is taken at its word.
    Raises SandboxUnavailable, with the remedy, when none does; ValueError for an unknown name.
    """
    if prefer == _UNSAFE:
        return UnsafeBackend()
    if prefer is not None and prefer not in NAMES:
        raise ValueError(f"unknown sandbox backend {prefer!r}; known are {', '.join((*NAMES, _UNSAFE))}")
    return _choice(prefer)[0]


def passed_over(prefer: str | None = None) -> Mapping[str, str]:
    """Why each backend that comes before the chosen one does not work here, by its name. Raises as above."""
    return {} if prefer == _UNSAFE else _choice(prefer)[1]


def advice_for(failures: Mapping[str, str]) -> str:
    """What to do so that a backend that was passed over works here."""
    return advice(read_facts(failures))


def _choice(prefer: str | None) -> tuple[Backend, Mapping[str, str]]:
    with _choosing:
        if prefer not in _chosen:
            _chosen[prefer] = _choose(NAMES if prefer is None else (prefer,), read_facts)
        return _chosen[prefer]


def _choose(
    names: tuple[str, ...], facts: Callable[[dict[str, str]], Facts]
) -> tuple[Backend, Mapping[str, str]]:
    failures: dict[str, str] = {}
    for name in names:
        for candidate in _candidates(name, failures):
            try:
                prove(candidate)
            except (SandboxError, SandboxUnavailable) as error:
                failures[name] = str(error)
            else:
                failures.pop(name, None)  # an earlier candidate of the same name is no loss
                return candidate, MappingProxyType(failures)
    raise SandboxUnavailable(remedy(facts(failures)))


def _candidates(name: str, failures: dict[str, str]) -> Iterator[Backend]:
    """Backends worth a try; the reason for none goes to `failures`."""
    if name == "landlock":
        if os.uname().sysname == "Linux" and landlock.abi() >= landlock.NEEDED_ABI:
            yield Landlock(landlock.abi())
        else:
            failures[name] = _old_landlock()
        return
    if name in _ENGINES:
        yield from _containers(name, failures)
        return
    if name == "sandbox-exec":
        if Path(SEATBELT).exists():
            yield Seatbelt()
        else:
            failures[name] = "needs macOS"
        return
    program = str(_SYSTEM_PROGRAM) if _SYSTEM_PROGRAM.exists() else shutil.which("bwrap")
    if program is None:
        failures[name] = "not installed"
        return
    version = _version(program)
    yield Bubblewrap(program, version)
    yield Bubblewrap(program, version, disable_userns=False)


def _containers(engine: str, failures: dict[str, str]) -> Iterator[Backend]:
    program = shutil.which(engine)
    if program is None:
        failures[engine] = "not installed"
        return
    version, silence = _ask(program, "version", "--format", "{{.Server.Version}}")
    if not version:
        failures[engine] = f"its engine does not answer ({silence})"
        return
    image, _ = _ask(program, "image", "inspect", "--format", "{{.Id}}", IMAGE)
    if not image:
        failures[engine] = f"the image is missing: {engine} pull {IMAGE}"
        return
    yield Container(engine, program, version)


def _ask(program: str, *words: str) -> tuple[str, str]:
    """What the client of a container engine answers, and what it complains of."""
    try:
        told = subprocess.run([program, *words], capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return "", str(error)
    complaint = told.stderr.strip().splitlines() or [f"exit status {told.returncode}"]
    return (told.stdout.strip(), "") if told.returncode == 0 else ("", complaint[0])


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

    def run(workspace: Path, variables: dict[str, Any], code: str) -> dict[str, bool]:
        session = Session(workspace, limits=Limits(wall_s=WALL_S), backend=backend, writable=True)
        session.bindings.variables = variables
        try:
            found: dict[str, bool] = session.request({"t": "run", "number": 0, "code": code}).value
            return found
        finally:
            session.close()

    found = attempt_all(run)
    if not found.passed:
        could = [f"could {what}" for what in found.escaped] + [f"could not {what}" for what in found.missing]
        raise SandboxUnavailable(f"{backend.detail} does not hold: code inside {', '.join(could)}")
