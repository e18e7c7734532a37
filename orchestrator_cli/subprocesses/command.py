"""One command on the host, with what it prints kept within bounds, and ended with all that it started.

It runs beneath `guard`, which ends it when the work is cancelled and also when this process is
killed. What its children leave running is ended with it.

Not covered: a command that has itself started by somebody else, such as a service manager or a
container engine; what is started so outlives it.
"""

import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from orchestrator_cli.cancellation import Cancellation

OUT_BYTES = 1 << 20
ERR_BYTES = 8_000
LET_GO_S = 2.0
"""For a pipe that something keeps open which has escaped."""


@dataclass(frozen=True)
class Ended:
    code: int
    out: str
    """What it printed, up to `OUT_BYTES`."""
    cut: bool
    """Whether it printed more."""
    err: str
    """The end of what it said on standard error."""


def run_command(
    argv: Sequence[str],
    *,
    cwd: Path | None,
    given: str,
    env: Mapping[str, str],
    cancellation: Cancellation,
) -> Ended:
    """Run a command to its end.

    `given` is written to its standard input; `env` is added to this process's environment.
    Raises the reason of the cancellation, when nothing of it runs any more.
    """
    cancellation.check()
    far, near = os.pipe()
    link = _Link(near)
    try:
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(Path(__file__).with_name("guard.py")), str(far), *argv],
            cwd=cwd,
            env=_environment(env),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=(far,),
            start_new_session=True,
        )
    except BaseException:
        link.cut()
        raise
    finally:
        os.close(far)
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    out, err = _Head(process.stdout), _Tail(process.stderr)
    threading.Thread(target=_feed, args=(process.stdin, given), daemon=True).start()
    try:
        with cancellation.calling(link.cut):
            process.wait()
    finally:
        link.cut()
        process.wait()
        for reader in (out, err):
            reader.join(LET_GO_S)
    cancellation.check()
    return Ended(process.returncode, out.text, out.cut, err.text)


class _Link:
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
    # A command that does not read what it is given is none the worse for it.
    with contextlib.suppress(OSError), pipe:
        pipe.write(text.encode())


def _environment(more: Mapping[str, str]) -> dict[str, str]:
    return {**os.environ, **more}
