"""Runs of `orch` without the seconds that its imports take: each is a fork of one process that has made them.

Everything from the command line on is the real thing, in a process and session of its own. What
is not: start-up, which tests of a cold start and of signals run for themselves (`Orch.start`).
"""

import atexit
import gc
import json
import os
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

SERVER_GONE = "TEST_SERVER_GONE"
"""A variable for runs whose server is gone, or soon will be."""


class Warm:
    """The process that forks. One run at a time."""

    def __init__(self, url: str, home: Path) -> None:
        """`url` and `home` are those of the one Prefect server: Prefect reads them at import."""
        self._process = subprocess.Popen(
            [sys.executable, __file__, url, str(home)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env={**os.environ, "PREFECT_HOME": str(home / "prefect")},
        )

    @property
    def pid(self) -> int:
        """Of the process whose children the runs are."""
        return self._process.pid

    def prepare(self, env: Mapping[str, str]) -> dict[str, str]:
        """The environment of commands that are started otherwise: they have no resident."""
        return {"ORCH_RESIDENT": "never", **env}

    def host(self, process: int) -> int:
        """The process that runs a command which was started otherwise."""
        return process

    def run(
        self,
        args: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: Path,
        streams: Mapping[str, Path],
        timeout: float,
    ) -> int:
        """Run `orch` with these arguments; `streams` are the files stdin, stdout, stderr. The exit code."""
        order = {"args": list(args), "env": dict(env), "cwd": str(cwd), "timeout": timeout}
        order["streams"] = {name: str(path) for name, path in streams.items()}
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps(order), file=self._process.stdin, flush=True)
        return int(self._process.stdout.readline())

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(timeout=60)
        self._process.stdout.close()


def serve(url: str, home: Path) -> None:
    """Import what a resident imports, then fork a run per line of standard input and write its exit code."""
    from orchestrator_cli.resident.preload import preload

    preload(url, home)
    for line in sys.stdin:
        order = json.loads(line)
        child = os.fork()
        if child == 0:
            _become(order)
        sys.stdout.write(f"{_wait(child, order['timeout'])}\n")
        sys.stdout.flush()


def _become(order: dict[str, Any]) -> None:
    """Turn into the command, as a fresh process would find its streams, folder and environment."""
    from disk_faults import break_disk

    from orchestrator_cli import environment
    from orchestrator_cli.cli import app

    gc.enable()
    os.setsid()
    os.chdir(order["cwd"])
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        opened = os.open(order["streams"][name], os.O_RDONLY if number == 0 else os.O_WRONLY)
        os.dup2(opened, number)
        os.close(opened)
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - the process's own
    home = sys.argv[2]
    environment.forget_taken()
    os.environ.clear()
    os.environ.update(order["env"])
    sys.argv = ["orch", *order["args"]]
    break_disk(order["env"])
    be_patient(order["env"], home)
    try:
        app.main()
    except SystemExit as exc:
        # As an interpreter ends, but without taking apart all that was imported, which takes 0.2 s.
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        app.leave(exc.code)


def be_patient(env: Mapping[str, str], home: str) -> None:
    """Wait at the end for the server of the tests, which look at what it was sent, on a busy machine too."""
    from orchestrator_cli.engine import flow_run, outbox

    is_of_tests = env.get("ORCH_PREFECT_HOME") == home and "PREFECT_API_URL" not in env
    if is_of_tests and SERVER_GONE not in env:
        flow_run.CLOSING_S = outbox.CLOSING_S = outbox.STALLED_S = 30.0


def _wait(child: int, timeout: float) -> int:
    import signal
    import time

    deadline = time.monotonic() + timeout
    while True:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > deadline:
            os.kill(child, signal.SIGINT)
            deadline += 5
        time.sleep(0.005)


if __name__ == "__main__":
    serve(sys.argv[1], Path(sys.argv[2]))
