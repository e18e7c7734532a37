"""A command on the host: its output, and that no process of it is left."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator_cli.cancellation import Cancellation
from orchestrator_cli.errors import Interrupted
from orchestrator_cli.subprocesses.command import ERR_BYTES, OUT_BYTES, CommandResult, run_command

STUBBORN = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
open(sys.argv[1], "w").write(str(os.getpid()))
time.sleep(600)
"""
FAMILY = f"""
import os, subprocess, sys, time
subprocess.Popen([sys.executable, "-c", {STUBBORN!r}, "child"])
subprocess.Popen([sys.executable, "-c", {STUBBORN!r}, "escaped"], start_new_session=True)
open("parent", "w").write(str(os.getpid()))
while not (os.path.exists("child") and os.path.exists("escaped")): time.sleep(0.01)
os.rename("parent", "all")
"""
"""A command with a child, and one in a session of its own; both pass over the request to end."""
NAMES = ("all", "child", "escaped")


def run(
    folder: Path, program: str, *, given: str = "", cancellation: Cancellation | None = None, **env: str
) -> CommandResult:
    return run_command(
        [sys.executable, "-c", program],
        cwd=folder,
        given=given,
        env=env,
        cancellation=cancellation or Cancellation(),
    )


def until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def living(folder: Path) -> list[str]:
    """Those of the family that live."""
    found = []
    for name in NAMES:
        pid = int((folder / name).read_text())
        try:
            stat = Path(f"/proc/{pid}/stat").read_text()
        except (FileNotFoundError, ProcessLookupError):  # the second where it ends while it is being read
            continue
        if stat.rpartition(")")[2].split()[0] != "Z":
            found.append(name)
    return found


def test_command_gets_input_folder_and_variables(tmp_path: Path) -> None:
    program = (
        "import os, sys; print(sys.stdin.read(), os.getcwd(), os.environ['KEY']); sys.stderr.write('aside')"
    )
    ended = run(tmp_path, program, given="in", KEY="k")
    assert (ended.code, ended.out, ended.err) == (0, f"in {tmp_path} k\n", "aside")


def test_exit_codes_follow_shell_conventions(tmp_path: Path) -> None:
    assert run(tmp_path, "raise SystemExit(3)").code == 3
    assert run(tmp_path, "import os; os.kill(os.getpid(), 9)").code == 128 + 9
    ended = run_command(["no-such-program"], cwd=tmp_path, given="", env={}, cancellation=Cancellation())
    assert (ended.code, ended.err) == (127, "no-such-program cannot be run: No such file or directory\n")


def test_output_is_limited(tmp_path: Path) -> None:
    program = f"import sys; print('x' * {OUT_BYTES + 5}); sys.stderr.write('a' * {ERR_BYTES} + 'end')"
    ended = run(tmp_path, program, given="not read" * 100_000)
    assert (len(ended.out), ended.cut, len(ended.err)) == (OUT_BYTES, True, ERR_BYTES)
    assert ended.err.endswith("end")


@pytest.mark.skipif(sys.platform != "linux", reason="finds what has left the group on Linux only")
def test_processes_left_behind_are_ended(tmp_path: Path) -> None:
    assert run(tmp_path, FAMILY).code == 0
    assert living(tmp_path) == []


@pytest.mark.skipif(sys.platform != "linux", reason="as above")
def test_cancellation_ends_everything_it_started(tmp_path: Path) -> None:
    cancellation = Cancellation()

    def cancel() -> None:
        until((tmp_path / "all").exists)
        cancellation.cancel(Interrupted("enough"))

    threading.Thread(target=cancel).start()
    with pytest.raises(Interrupted):
        run(tmp_path, f"{FAMILY}\ntime.sleep(600)", cancellation=cancellation)
    assert living(tmp_path) == []


@pytest.mark.skipif(sys.platform != "linux", reason="as above")
def test_processes_of_every_thread_are_asked_to_end(tmp_path: Path) -> None:
    child = """
import os, signal, time
signal.signal(signal.SIGTERM, lambda *_: (open("asked", "w").close(), os._exit(0)))
open("ready", "w").close()
time.sleep(600)
"""
    program = f"""
import signal, subprocess, sys, threading
signal.signal(signal.SIGTERM, signal.SIG_IGN)
start = lambda: subprocess.run([sys.executable, "-c", {child!r}], start_new_session=True)
threading.Thread(target=start).start()
"""
    cancellation = Cancellation()

    def cancel() -> None:
        until((tmp_path / "ready").exists)
        cancellation.cancel(Interrupted("enough"))

    threading.Thread(target=cancel).start()
    with pytest.raises(Interrupted):
        run(tmp_path, program, cancellation=cancellation)
    assert (tmp_path / "asked").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="as above")
def test_command_ends_when_its_parent_is_killed(tmp_path: Path) -> None:
    program = (
        "import json, sys; from pathlib import Path; from orchestrator_cli.cancellation import Cancellation; "
        "from orchestrator_cli.subprocesses.command import run_command; "
        "command, folder = json.loads(sys.argv[1]); "
        "run_command(command, cwd=Path(folder), given='', env={}, cancellation=Cancellation())"
    )
    command = [sys.executable, "-c", f"{FAMILY}\ntime.sleep(600)"]
    runner = subprocess.Popen([sys.executable, "-c", program, json.dumps([command, str(tmp_path)])])
    until((tmp_path / "all").exists)
    os.kill(runner.pid, signal.SIGKILL)
    runner.wait()
    until(lambda: living(tmp_path) == [], seconds=5)
