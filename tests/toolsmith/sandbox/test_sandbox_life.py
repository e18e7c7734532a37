"""From the start of a sandbox to its end, also when the end is not regular."""

import gc
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from toolsmith.sandbox import Backend, Limits, SandboxClosed, SandboxError, SandboxExecutor
from toolsmith.sandbox.processes import tree

PYTHONPATH = os.pathsep.join([str(Path(__file__).parents[3]), os.environ.get("PYTHONPATH", "")])


def children() -> list[int]:
    return tree(os.getpid())[1:]


def gone(pids: list[int], within_s: float) -> bool:
    deadline = time.monotonic() + within_s
    while any(tree(pid)[:1] == [pid] for pid in pids):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def test_an_interrupt_from_another_thread_ends_a_running_step(sandbox: SandboxExecutor) -> None:
    sandbox("x = 1")
    timer = threading.Timer(0.2, sandbox.interrupt)
    timer.start()
    began = time.monotonic()
    with pytest.raises(SandboxClosed):
        sandbox("while True:\n    try:\n        while True: pass\n    except BaseException: pass")
    assert time.monotonic() - began < 2
    timer.join()
    with pytest.raises(SandboxClosed):
        sandbox("x")


def test_an_interrupt_before_the_first_step_counts(sandbox: SandboxExecutor) -> None:
    sandbox.interrupt()
    with pytest.raises(SandboxClosed):
        sandbox("1")


def test_cleanup_leaves_no_process_and_can_be_repeated(make_sandbox: Any) -> None:
    before = children()
    sandbox = make_sandbox()
    sandbox("1")
    assert len(children()) > len(before)
    sandbox.cleanup()
    assert children() == before
    sandbox.cleanup()
    with pytest.raises(SandboxClosed):
        sandbox("1")


def test_cleanup_during_a_step_of_another_thread_ends_it(sandbox: SandboxExecutor) -> None:
    raised: list[BaseException] = []

    def run() -> None:
        try:
            sandbox("import time\ntime.sleep(8)")
        except SandboxClosed as error:
            raised.append(error)

    before = children()
    thread = threading.Thread(target=run)
    thread.start()
    while len(children()) < len(before) + 3:
        time.sleep(0.01)
    sandbox.cleanup()
    thread.join(3)
    assert len(raised) == 1
    assert gone([pid for pid in children() if pid not in before], 1)


def test_a_sandbox_is_a_context_manager(backend: Backend, workspace: Path) -> None:
    with SandboxExecutor(workspace, backend=backend) as sandbox:
        assert sandbox("1").output == 1
    with pytest.raises(SandboxClosed):
        sandbox("1")


def test_second_thread_gets_a_busy_error(sandbox: SandboxExecutor) -> None:
    sandbox("1")
    other: list[str] = []

    def meanwhile() -> None:
        with pytest.raises(SandboxError) as caught:
            sandbox("2")
        other.append(str(caught.value))

    def tool() -> None:
        thread = threading.Thread(target=meanwhile)
        thread.start()
        thread.join()

    sandbox.send_tools({"tool": tool})
    sandbox("tool()")
    assert other == ["the sandbox is busy with another step; use one sandbox for each agent"]


def test_a_sandbox_outlives_the_thread_that_started_it(sandbox: SandboxExecutor) -> None:
    thread = threading.Thread(target=lambda: sandbox("x = 'still here'"))
    thread.start()
    thread.join()
    time.sleep(0.1)
    assert sandbox("x").output == "still here"


def test_sandboxes_work_side_by_side(backend: Backend, workspace: Path) -> None:
    def work(number: int) -> int:
        with SandboxExecutor(workspace, backend=backend) as sandbox:
            sandbox.send_tools({"add": lambda x: x + number})
            for _ in range(5):
                sandbox("x = add(x) if 'x' in globals() else 0")
            return int(sandbox("x").output)

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(work, range(8))) == [4 * number for number in range(8)]


def test_nothing_runs_between_two_steps(sandbox: SandboxExecutor, workspace: Path) -> None:
    code = """
    import threading, time
    def tick():
        while True:
            open("ticks", "a").write("x")
            time.sleep(0.005)
    threading.Thread(target=tick, daemon=True).start()
    """
    sandbox(dedent(code))
    time.sleep(0.05)
    size = (workspace / "ticks").stat().st_size
    time.sleep(0.2)
    assert (workspace / "ticks").stat().st_size == size


def test_a_host_with_very_many_open_files_can_use_it(sandbox: SandboxExecutor) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 2048:
        pytest.skip("this system allows too few open files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (2048, hard))
    held = [os.open("/dev/null", os.O_RDONLY) for _ in range(1100)]
    try:
        assert sandbox("1").output == 1
        sandbox.cleanup()
    finally:
        for fd in held:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_no_descriptor_of_the_host_is_lost(make_sandbox: Any) -> None:
    make_sandbox()("1")
    gc.collect()  # what earlier tests left may be closed at any time
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(3):
        sandbox = make_sandbox()
        sandbox("1")
        sandbox.cleanup()
    assert len(list(Path("/proc/self/fd").iterdir())) <= before


def test_the_private_temporary_folder_is_deleted(
    make_sandbox: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    sandbox = make_sandbox()
    sandbox("import tempfile\ntempfile.mkdtemp()")
    sandbox.cleanup()
    assert [path.name for path in tmp_path.iterdir()] == ["workspace"]


DIGS = """
import os, tempfile, time
os.chdir(tempfile.gettempdir())
os.mkdir("closed", 0)
for _ in range(1500):
    os.mkdir("deep")
    os.chdir("deep")
time.sleep(99)
"""
HOLDS_ITS_CHANNELS = """
import os, sys, time
held = []
for name in {*sys.argv[1:3], *os.listdir("/proc/self/fd")}:
    for flags in (os.O_RDONLY, os.O_WRONLY, os.O_RDWR):
        try:
            held.append(os.open(f"/proc/self/fd/{name}", flags | os.O_NONBLOCK))
        except OSError:
            pass
time.sleep(99)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "when",
    [
        *("during a step", "between steps", "during a fork bomb", "with its channels opened again"),
        "with folders that are deep and closed",
    ],
)
def test_when_the_host_is_killed_nothing_is_left_within_two_seconds(
    backend: Backend, workspace: Path, when: str, tmp_path: Path
) -> None:
    step = {
        "during a step": "import os, time\nos.fork() or os.setsid()\ntime.sleep(99)",
        "between steps": "1",
        "during a fork bomb": "import os, time\nfor i in range(40):\n    os.fork() or time.sleep(99)",
        "with its channels opened again": HOLDS_ITS_CHANNELS,
        "with folders that are deep and closed": DIGS,
    }[when]
    host = f"""
import sys, threading, time
from pathlib import Path
from toolsmith.sandbox import Limits, SandboxExecutor, choose_backend
backend = choose_backend({backend.name!r})
sandbox = SandboxExecutor(Path({str(workspace)!r}), limits=Limits(wall_s=90), backend=backend)
sandbox("1")
print("ready", flush=True)
sandbox({step!r})
time.sleep(99)
"""
    env = {**os.environ, "PYTHONPATH": PYTHONPATH, "TMPDIR": str(tmp_path)}
    with subprocess.Popen([sys.executable, "-c", host], stdout=subprocess.PIPE, env=env) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        time.sleep(0.4)
        descendants = tree(process.pid)[1:]
        assert len(descendants) >= 2
        os.kill(process.pid, signal.SIGKILL)
        assert gone(descendants[1:], within_s=2)
        assert gone(descendants, within_s=2 if step != DIGS else 20), "the first has folders to delete"
    assert [path.name for path in tmp_path.iterdir()] == ["workspace"]


def test_importing_the_sandbox_does_not_import_smolagents() -> None:
    code = (
        "import sys, toolsmith.sandbox as s; s.choose_backend, s.Limits(); print('smolagents' in sys.modules)"
    )
    env = {**os.environ, "PYTHONPATH": PYTHONPATH}
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env)
    assert ran.stdout == "False\n"


def test_construction_starts_nothing(backend: Backend, workspace: Path) -> None:
    before = children()
    SandboxExecutor(workspace, limits=Limits(), backend=backend)
    assert children() == before


DIES_WHILE_STARTING = """
import os, pathlib, signal, sys, time
from toolsmith.sandbox import Limits, choose_backend
from toolsmith.sandbox.spec import SandboxSpec
from toolsmith.sandbox.worker_process import WorkerProcess

backend = choose_backend(sys.argv[1])
time.sleep(0.1)  # what the probe has started is gone
WorkerProcess(backend, SandboxSpec(pathlib.Path(sys.argv[2]), True, Limits()))
time.sleep(float(sys.argv[3]))
os.kill(os.getpid(), signal.SIGKILL)
"""


def naming(folder: Path) -> list[int]:
    """The processes with a folder in their command line."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and os.fsencode(folder) in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
        except OSError:
            continue  # it ended meanwhile
    return found


def test_a_host_killed_while_the_sandbox_starts_leaves_no_process(backend: Backend, workspace: Path) -> None:
    environment = os.environ | {"PYTHONPATH": PYTHONPATH}
    for moment in range(16):
        after = f"{moment / 4000}"
        command = [sys.executable, "-c", DIES_WHILE_STARTING, backend.name, str(workspace), after]
        done = subprocess.run(command, env=environment, check=False, timeout=60)
        assert done.returncode == -signal.SIGKILL
    assert gone(naming(workspace), within_s=2)


def test_the_interpreter_may_be_called_by_a_path_with_dots(backend: Backend, workspace: Path) -> None:
    code = """
import sys
from pathlib import Path
from toolsmith.sandbox import SandboxExecutor, choose_backend
with SandboxExecutor(Path(sys.argv[1]), backend=choose_backend(sys.argv[2])) as sandbox:
    print(sandbox("40 + 2").output)
"""
    folder = Path(sys.executable).parent
    python = f"{folder}/../{folder.name}/{Path(sys.executable).name}"
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    command = [python, "-c", code, str(workspace), backend.name]
    ran = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert ran.stdout == "42\n", ran.stderr


def test_lower_limits_of_the_user_stay(backend: Backend, workspace: Path) -> None:
    code = """
import resource, sys
from pathlib import Path
from toolsmith.sandbox import SandboxExecutor, choose_backend
lower = {resource.RLIMIT_NOFILE: 200, resource.RLIMIT_SIGPENDING: 100}
for kind, most in lower.items():
    resource.setrlimit(kind, (most, most))
with SandboxExecutor(Path(sys.argv[1]), backend=choose_backend(sys.argv[2])) as sandbox:
    print(sandbox(f"import resource\\n[resource.getrlimit(kind)[1] for kind in {list(lower)}]").output)
"""
    env = {**os.environ, "PYTHONPATH": PYTHONPATH}
    command = [sys.executable, "-c", code, str(workspace), backend.name]
    ran = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert ran.stdout == "[200, 100]\n", ran.stderr
