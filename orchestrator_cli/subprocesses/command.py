"""Commands on the host that end, with everything they started, when this process says so or dies.

They run below `supervisor`, a small program that watches a pipe of this process. `run_command`
runs a command to its end; `open_process` keeps one open for a dialogue.

Not covered: what a command has another process start for it, such as a service manager or a
container engine, which outlives the command.
"""

import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

from orchestrator_cli.cancellation import Cancellation
from orchestrator_cli.environment import for_programs

if TYPE_CHECKING:
    from anyio.abc import Process

OUT_BYTES = 1 << 20
ERR_BYTES = 8_000
LET_GO_S = 2.0
"""How long to read on from a pipe that an escaped process keeps open."""


@dataclass(frozen=True)
class CommandResult:
    code: int
    out: str
    """The first `OUT_BYTES` of its standard output."""
    cut: bool
    """Whether it printed more."""
    err: str
    """The last `ERR_BYTES` of its standard error."""


def run_command(
    argv: Sequence[str],
    *,
    cwd: Path | None,
    given: str,
    env: Mapping[str, str],
    cancellation: Cancellation,
) -> CommandResult:
    """Run a command to its end.

    `given` is written to its standard input; `env` is added to this process's environment.
    After a cancellation, raises its reason when no process of the command is left.
    """
    cancellation.check()
    far, near = os.pipe()
    lifeline = _Lifeline(near)
    try:
        process = subprocess.Popen(
            _supervised(far, argv),
            cwd=cwd,
            env=_environment(env),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=(far,),
            start_new_session=True,
        )
    except BaseException:
        lifeline.cut()
        raise
    finally:
        os.close(far)
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    out, err = _Head(process.stdout), _Tail(process.stderr)
    threading.Thread(target=_feed, args=(process.stdin, given), daemon=True).start()
    try:
        with cancellation.calling(lifeline.cut):
            process.wait()
    finally:
        lifeline.cut()
        process.wait()
        for reader in (out, err):
            reader.join(LET_GO_S)
    cancellation.check()
    return CommandResult(process.returncode, out.text, out.cut, err.text)


@asynccontextmanager
async def open_process(
    argv: Sequence[str],
    *,
    cwd: Path | str | None = None,
    env: Mapping[str, str] | None = None,
    stderr: int | IO[bytes] = subprocess.DEVNULL,
) -> "AsyncIterator[Process]":
    """A running process with open standard input and output; `env` None passes on this process's.

    Leaving the block ends it: by SIGTERM, half a second later by SIGKILL. Raises `OSError` if even
    the supervisor cannot be started; a program that does not exist ends with exit code 127.
    """
    import anyio

    far, near = os.pipe()
    try:
        process = await anyio.open_process(
            _supervised(far, argv),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            cwd=cwd,
            env=env,
            start_new_session=True,
            pass_fds=(far,),
        )
    except BaseException:
        os.close(near)
        raise
    finally:
        os.close(far)
    try:
        yield process
    finally:
        os.close(near)
        with anyio.CancelScope(shield=True):
            # A process that waits for us to read could not end otherwise.
            for stream in (process.stdin, process.stdout):
                if stream is not None:
                    with contextlib.suppress(OSError, anyio.BrokenResourceError, anyio.ClosedResourceError):
                        await stream.aclose()
            await process.wait()
            await process.aclose()


def _supervised(lifeline: int, argv: Sequence[str]) -> list[str]:
    supervisor = Path(__file__).with_name("supervisor.py")
    return [sys.executable, "-I", "-S", str(supervisor), str(lifeline), *argv]


class _Lifeline:
    """Our end of the pipe that keeps a command alive."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._lock = threading.Lock()

    def cut(self) -> None:
        with self._lock:
            if self._fd >= 0:
                os.close(self._fd)
                self._fd = -1


class _Head(threading.Thread):
    """Reads a pipe to its end and keeps the beginning."""

    def __init__(self, pipe: IO[bytes]) -> None:
        super().__init__(daemon=True)
        self._pipe = pipe
        self._kept = b""
        self.cut = False
        self.start()

    def run(self) -> None:
        with contextlib.suppress(OSError, ValueError), self._pipe as pipe:
            while piece := pipe.read1(65_536):  # type: ignore[attr-defined]
                self._keep(piece)

    def _keep(self, piece: bytes) -> None:
        left = OUT_BYTES - len(self._kept)
        self._kept += piece[:left]
        self.cut = self.cut or len(piece) > left

    @property
    def text(self) -> str:
        return self._kept.decode(errors="replace")


class _Tail(_Head):
    """Keeps the end."""

    def _keep(self, piece: bytes) -> None:
        self._kept = (self._kept + piece)[-ERR_BYTES:]


def _feed(pipe: IO[bytes], text: str) -> None:
    # A command may ignore its input.
    with contextlib.suppress(OSError), pipe:
        pipe.write(text.encode())


def _environment(more: Mapping[str, str]) -> dict[str, str]:
    return {**for_programs(), **more}
