"""Calls a pure function on foreign data in a process of its own, with limits on time and memory.

What parses foreign data may take time or memory out of proportion to it. In a process of its own it can be
ended: at a limit, or when the run is. The process is a fresh interpreter, by default without an environment.
It imports the function by its name and gets JSON, so nothing that it is sent or sends is code.

Not covered: what the function may read or write. It is ours; this is no sandbox.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from orchestrator_cli.cancellation import Cancellation
from orchestrator_cli.subprocesses.limited_worker import MAX_REPLY_BYTES

_START = "from orchestrator_cli.subprocesses.limited_worker import main; main()"


class Uncomputed(ValueError):
    """A call met a limit, or the function raised; the message says which, without foreign text."""


@dataclass(frozen=True)
class CallLimits:
    """What calls may take. Results have at most `MAX_REPLY_BYTES` as JSON."""

    call_s: float
    """Seconds for a call, on the clock."""
    whole_s: float
    """Seconds for all calls together, on the clock; beyond it, every call fails."""
    cpu_s: int
    """Seconds of a processor for a process, which may serve many calls."""
    memory_mb: int


class LimitedCalls:
    """Calls of one function. A process is started by the first call, and again after one met a limit.

    As a context manager, leaving it ends the process. For one thread at a time.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        limits: CallLimits,
        cancellation: Cancellation | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """
        Args:
            function: one of a module of ours, which is imported by its name; takes and returns JSON.
            cancellation: ends a call at once.
            environment: of the process; by default, one that says nothing of the user.
        """
        self._function = function
        self._limits = limits
        self._cancellation = cancellation or Cancellation()
        self._environment = environment or {"LANG": "C.UTF-8", "PATH": os.defpath}
        self._left_s = limits.whole_s
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()

    def __call__(self, *arguments: Any) -> Any:
        """The function's result. Raises `Uncomputed`, or the reason of a cancellation."""
        self._cancellation.check()
        began = time.monotonic()
        seconds = min(self._limits.call_s, self._left_s)
        if seconds <= 0:
            raise Uncomputed(f"took longer than {self._limits.whole_s:g} s in all")
        late = Uncomputed(f"took longer than {seconds:.3g} s")
        try:
            with self._cancellation.limited(seconds, lambda: late) as limit, limit.calling(self._kill):
                process = self._process = self._process or self._started()
                limit.check()  # what ends it from now on finds the process
                reply = self._reply(process, json.dumps(arguments).encode())
            limit.check()
        except BaseException:
            self.close()
            raise
        finally:
            self._left_s -= time.monotonic() - began
        if "error" in reply:
            raise Uncomputed(str(reply["error"]))
        return reply["value"]

    def _reply(self, process: "subprocess.Popen[bytes]", request: bytes) -> dict[str, Any]:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(request + b"\n")
            process.stdin.flush()
            line = process.stdout.readline(MAX_REPLY_BYTES + 1)
        except OSError:
            line = b""
        if not line.endswith(b"\n"):
            self.close()
            return {"error": f"needs more than {self._limits.memory_mb} MB, or {self._limits.cpu_s} s"}
        reply: dict[str, Any] = json.loads(line)
        return reply

    def _started(self) -> "subprocess.Popen[bytes]":
        name = (self._function.__module__, self._function.__qualname__)
        limits = (str(self._limits.memory_mb << 20), str(self._limits.cpu_s))
        try:
            return subprocess.Popen(
                [sys.executable, "-I", "-c", _START, *name, *limits],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                cwd="/",
                env=self._environment,
                start_new_session=True,
            )
        except OSError as exc:
            raise Uncomputed(f"no process could be started: {exc.strerror}") from exc

    def _kill(self) -> None:
        with self._lock:
            # Its number is not used again before it is waited for, which needs the lock.
            if self._process is not None and self._process.poll() is None:
                os.killpg(self._process.pid, signal.SIGKILL)
                self._process.wait()

    def close(self) -> None:
        """End the process. Idempotent."""
        self._kill()
        process, self._process = self._process, None
        for pipe in (process.stdin, process.stdout) if process is not None else ():
            if pipe is not None:
                with contextlib.suppress(OSError):  # the rest of a request that it did not read
                    pipe.close()

    def __enter__(self) -> "LimitedCalls":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
