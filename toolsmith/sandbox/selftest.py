"""The self-test: the attempts of escapes.py, made in a sandbox against real targets.

The targets are listening sockets, a file in the home folder and a process with a secret in its environment.
They are made for the test and removed after it.
"""

import contextlib
import os
import secrets
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from toolsmith.sandbox.bootstrap import source_of
from toolsmith.sandbox.session import SandboxSession
from toolsmith.sandbox.spec import Backend, Limits, environment

WALL_S = 10.0
_REQUIRED = ("write the workspace",)
# By bubblewrap, shells and locale coercion.
_SET_BY_LAUNCHERS = ("PWD", "OLDPWD", "SHLVL", "_", "HOSTNAME", "LC_CTYPE", "__CF_USER_TEXT_ENCODING")

Run = Callable[[Path, dict[str, Any], str], dict[str, bool]]
"""Runs code in a sandbox on a workspace, with variables set, and returns the value of its last line."""


@dataclass(frozen=True)
class SelfTest:
    """The attempts by outcome."""

    blocked: tuple[str, ...]
    escaped: tuple[str, ...]
    missing: tuple[str, ...] = ()
    """What code inside has to be able to do, and could not."""

    @property
    def passed(self) -> bool:
        return not self.escaped and not self.missing

    def __str__(self) -> str:
        return f"self-test {len(self.blocked)}/{len(self.blocked) + len(self.escaped)} blocked"


def self_test(backend: Backend) -> SelfTest:
    """Makes all attempts in a sandbox of `backend`. Raises SandboxError, SandboxUnavailable."""

    def run(workspace: Path, variables: dict[str, Any], code: str) -> dict[str, bool]:
        session = SandboxSession(workspace, limits=Limits(wall_s=WALL_S), backend=backend, writable=True)
        session.bindings.variables = variables
        try:
            found: dict[str, bool] = session.request({"t": "run", "number": 0, "code": code}).value
            return found
        finally:
            session.close()

    return attempt_all(run)


def attempt_all(run: Run) -> SelfTest:
    """Makes all attempts through `run`."""
    with selftest_env() as (workspace, at):
        succeeded = run(workspace, {"at": at}, f"{source_of('escapes')}\ntry_all(at)")
    escapes = [name for name in succeeded if name not in _REQUIRED]
    return SelfTest(
        blocked=tuple(name for name in escapes if not succeeded[name]),
        escaped=tuple(name for name in escapes if succeeded[name]),
        missing=tuple(name for name in _REQUIRED if not succeeded.get(name)),
    )


@contextmanager
def selftest_env() -> Iterator[tuple[Path, dict[str, Any]]]:
    """A workspace, and the targets around it. The listeners need not accept for a connection to succeed."""
    canary = secrets.token_hex(8)
    with ExitStack() as stack:
        outside = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="orch-probe-"))).resolve()
        workspace = outside / "workspace"
        workspace.mkdir()
        (outside / "secret").write_text(canary)
        tcp = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        udp = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        udp.bind(("127.0.0.1", 0))
        addresses = [str(outside / "socket"), *(["\0" + canary] if sys.platform == "linux" else [])]
        for address in addresses:
            listener = stack.enter_context(socket.socket(socket.AF_UNIX))
            listener.bind(address)
            listener.listen()
        victim = stack.enter_context(_process({"CANARY": canary}))
        yield (
            workspace,
            {
                "tcp": tcp.getsockname()[1],
                "udp": udp.getsockname()[1],
                **{"socket": addresses[0], "abstract": canary, "canary": canary},
                **{"secret": str(outside / "secret"), "planted": str(outside / "planted")},
                "home": _folder_at_home(stack, outside),
                "names": [*environment("/tmp"), *_SET_BY_LAUNCHERS],
                **{"pid": victim.pid, "started": _start_time(victim.pid)},
            },
        )


@contextmanager
def _process(env: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    # It reads from our pipe, so it ends with this process even if that is killed.
    with subprocess.Popen(
        ["cat"], env={**env, "PATH": os.defpath}, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def _start_time(pid: int) -> str:
    """Distinguishes two processes with the same id; empty without /proc."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").split()[21]
    return ""


def _folder_at_home(stack: ExitStack, otherwise: Path) -> str:
    """A folder with a file below the home folder; `otherwise` if the user's home is not writable."""
    try:
        folder = stack.enter_context(
            tempfile.TemporaryDirectory(prefix=".orch-probe-", dir=Path.home(), ignore_cleanup_errors=True)
        )
    except (OSError, RuntimeError):
        return str(otherwise)
    Path(folder, "key").write_text("canary")
    return folder
