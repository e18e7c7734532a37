"""What is worth reaching from inside, and what came of trying: attempts.py, made against real things.

The surroundings are real: sockets that listen, a file in the home folder, a process with a secret in its
environment. They are made for the test and taken away after it.
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

from toolsmith.sandbox.backend import environment
from toolsmith.sandbox.shipping import attempts_source

WALL_S = 10.0
_WANTED = ("write the workspace",)
# By bubblewrap, shells and locale coercion; and by the container backend and the image it uses.
_SET_BY_LAUNCHERS = (
    *("PWD", "OLDPWD", "SHLVL", "_", "HOSTNAME", "LC_CTYPE", "__CF_USER_TEXT_ENCODING"),
    *("PYTHONPATH", "PYTHON_VERSION", "PYTHON_SHA256", "GPG_KEY"),
)

Run = Callable[[Path, dict[str, Any], str], dict[str, bool]]
"""Runs code in a sandbox on a workspace, with variables set, and returns the value of its last line."""


@dataclass(frozen=True)
class SelfTest:
    """What came of the attempts, by their names."""

    blocked: tuple[str, ...]
    escaped: tuple[str, ...]
    missing: tuple[str, ...] = ()
    """What code inside has to be able to do, and could not."""

    @property
    def passed(self) -> bool:
        return not self.escaped and not self.missing

    def __str__(self) -> str:
        return f"self-test {len(self.blocked)}/{len(self.blocked) + len(self.escaped)} blocked"


def attempt_all(run: Run) -> SelfTest:
    """Makes all attempts through `run`."""
    with surroundings() as (workspace, at):
        worked = run(workspace, {"at": at}, f"{attempts_source()}\ntry_all(at)")
    ways_out = [name for name in worked if name not in _WANTED]
    return SelfTest(
        blocked=tuple(name for name in ways_out if not worked[name]),
        escaped=tuple(name for name in ways_out if worked[name]),
        missing=tuple(name for name in _WANTED if not worked.get(name)),
    )


@contextmanager
def surroundings() -> Iterator[tuple[Path, dict[str, Any]]]:
    """A workspace, and what lies around it. The listeners need not accept: connections are made anyway."""
    canary = secrets.token_hex(8)
    with ExitStack() as stack:
        outside = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="orch-probe-"))).resolve()
        workspace = outside / "workspace"
        workspace.mkdir()
        (outside / "secret").write_text(canary)
        tcp = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        udp = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        udp.bind(("127.0.0.1", 0))
        unix = _listen(stack, str(outside / "socket"))
        if sys.platform == "linux":
            _listen(stack, "\0" + canary)
        victim = stack.enter_context(_process({"CANARY": canary}))
        yield (
            workspace,
            {
                "tcp": tcp.getsockname()[1],
                "udp": udp.getsockname()[1],
                **{"socket": unix, "abstract": canary, "canary": canary},
                **{"secret": str(outside / "secret"), "planted": str(outside / "planted")},
                "home": _file_at_home(stack, outside),
                "names": [*environment("/tmp"), *_SET_BY_LAUNCHERS],
                **{"pid": victim.pid, "started": _started(victim.pid)},
            },
        )


def _listen(stack: ExitStack, address: str) -> str:
    listener = stack.enter_context(socket.socket(socket.AF_UNIX))
    listener.bind(address)
    listener.listen()
    return address


@contextmanager
def _process(env: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    # It reads from a pipe of ours, so it ends with us even when we are killed.
    with subprocess.Popen(
        ["cat"], env={**env, "PATH": os.defpath}, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def _started(pid: int) -> str:
    """Tells two processes with the same id apart."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").split()[21]
    return ""


def _file_at_home(stack: ExitStack, otherwise: Path) -> str:
    """A folder below the home folder; some users have none that can be written."""
    try:
        folder = stack.enter_context(
            tempfile.TemporaryDirectory(prefix=".orch-probe-", dir=Path.home(), ignore_cleanup_errors=True)
        )
    except (OSError, RuntimeError):
        return str(otherwise)
    Path(folder, "key").write_text("canary")
    return folder
