"""Runs of `orch` through client, resident and worker: the whole command line with `--resident`.

A resident takes seconds to import, so the tests do not have one for each of their homes: a home gets links to
the socket of one that has the same environment at import, but for `HOME`.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from orchestrator_cli.resident import address

COMMAND = (sys.executable, "-m", "orchestrator_cli")
PROGRAM = Path(sys.executable).with_name("orch")
MOST = 3
"""So many residents at once; each holds a quarter of a gigabyte."""


class Residents:
    """Takes the place of `forkserver.Warm`."""

    def __init__(self, engine_home: Path, folder: Path) -> None:
        """`engine_home`: of the Prefect server of the tests. `folder`: for the data folders of residents."""
        self._engine_home = engine_home
        self._folder = folder
        self._running: dict[tuple[tuple[str, str], ...], tuple[subprocess.Popen[bytes], Path]] = {}
        self._homes: dict[Path, str] = {}
        self._keys: dict[tuple[tuple[str, str], ...], str] = {}
        self._last = 0

    @property
    def pid(self) -> int:
        """Of the process whose children the runs are: of the resident that was last used."""
        return self._last

    def prepare(self, env: Mapping[str, str]) -> dict[str, str]:
        """The environment of a command that a resident runs. It has to be the whole environment."""
        home = Path(env.get("ORCH_HOME", "."))
        if "ORCH_RESIDENT" in env or not (home.is_absolute() and home.is_dir()):
            return dict(env)
        sockets = home / "resident"
        sockets.mkdir(mode=0o700, exist_ok=True)
        if (socket := self._resident(env)) is not None:
            link = sockets / f"{self._key(env)}.sock"
            link.unlink(missing_ok=True)
            link.symlink_to(socket)
        self._homes[sockets] = os.environ.get("PYTEST_CURRENT_TEST", "")
        return {**env, "ORCH_RESIDENT": "always"}

    def host(self, process: int) -> int:
        """The process that runs the command of another: the only worker that there is."""
        deadline = time.monotonic() + 60
        while not (workers := _children(self._last)):
            assert time.monotonic() < deadline, "it ran by itself"
            time.sleep(0.01)
        (worker,) = workers
        return worker

    def run(
        self,
        args: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: Path,
        streams: Mapping[str, Path],
        timeout: float,
    ) -> int:
        known = _children(self._last)
        # No terminal of the tests' own comes of it.
        opened = {
            name: os.open(path, (os.O_RDONLY if name == "stdin" else os.O_WRONLY) | os.O_NOCTTY)
            for name, path in streams.items()
        }
        try:
            process = subprocess.Popen(  # type: ignore[call-overload]
                [PROGRAM, *args],
                env=env,
                cwd=cwd,
                start_new_session=True,
                preexec_fn=_take_terminal if os.isatty(opened["stdin"]) else None,
                **opened,
            )
        finally:
            for file in opened.values():
                os.close(file)
        while True:
            try:
                code = process.wait(timeout)
                break
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGINT)
                timeout = 5.0
        # A worker may still tell Prefect's server of its run, where tests look next.
        # It leaves the streams before; those of other commands have others.
        own = {os.devnull, *(os.path.realpath(path) for path in streams.values())}
        while any(_output(worker) in own for worker in _children(self._last) - known):
            time.sleep(0.01)
        return code

    def close(self) -> None:
        """Ends all residents. Commands that ran by themselves have left a lock."""
        for process, _ in self._running.values():
            process.terminate()
        for process, _ in self._running.values():
            process.wait(timeout=60)
        alone = {test for sockets, test in self._homes.items() if [*sockets.glob("*.lock")]}
        if alone and sys.__stderr__:
            rows = "\n  ".join(sorted(alone))
            sys.__stderr__.write(f"\nCommands of these tests ran by themselves:\n  {rows}\n")

    def _key(self, env: Mapping[str, str]) -> str:
        """The key of a command's resident: its interpreter is part of it, and not that of the tests."""
        read = tuple(sorted(address.read_at_import(env).items()))
        if read not in self._keys:
            code = "from orchestrator_cli.resident import address; print(address.key(), end='')"
            self._keys[read] = subprocess.check_output([sys.executable, "-c", code], env=env, text=True)
        return self._keys[read]

    def _resident(self, env: Mapping[str, str]) -> Path | None:
        """The socket of a resident for an environment; None if nothing can be imported with it."""
        read = {name: value for name, value in address.read_at_import(env).items() if name != "HOME"}
        key = tuple(sorted(read.items()))
        found = self._running.pop(key, None)
        if found is None or found[0].poll() is not None or not found[1].exists():
            while len(self._running) >= MOST:
                oldest, _ = self._running.pop(next(iter(self._running)))
                oldest.terminate()
                oldest.wait(timeout=60)
            if (found := self._start(read)) is None:
                return None
        self._running[key] = found
        self._last = found[0].pid
        return found[1]

    def _start(self, read: Mapping[str, str]) -> tuple["subprocess.Popen[bytes]", Path] | None:
        home = self._folder / str(len([*self._folder.iterdir()]))
        home.mkdir(mode=0o700)
        env = {"PATH": os.environ["PATH"], "HOME": str(home), **read, "ORCH_HOME": str(home)}
        process = subprocess.Popen(
            [sys.executable, __file__, "shared", str(self._engine_home)],
            env=env,
            cwd="/",
            start_new_session=True,
        )
        socket = home / "resident" / "shared.sock"
        deadline = time.monotonic() + 90
        while not socket.exists():
            if process.poll() is not None:
                return None
            assert time.monotonic() < deadline, "no resident"
            time.sleep(0.02)
        return process, socket


def _children(pid: int) -> set[int]:
    with contextlib.suppress(OSError):
        return {int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}
    return set()


def _output(worker: int) -> str:
    """Where the standard output of a process goes; empty if it has ended."""
    try:
        return os.readlink(f"/proc/{worker}/fd/1")  # noqa: PTH115 - a pipe is no path
    except OSError:
        return ""


def _take_terminal() -> None:
    import fcntl
    import termios

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def serve(engine_home: str) -> None:
    """A resident whose workers have what tests ask for by variables: a broken disk, and patience."""
    from disk_faults import break_disk
    from forkserver import be_patient

    from orchestrator_cli.resident import server, worker

    take_over = worker._take_over

    def prepared(order: dict[str, Any], files: list[int]) -> None:
        take_over(order, files)
        break_disk(order["environment"])
        be_patient(order["environment"], engine_home)

    worker._take_over = prepared
    server.FIRST_S = 0.0
    server.main()


if __name__ == "__main__":
    serve(sys.argv[2])
