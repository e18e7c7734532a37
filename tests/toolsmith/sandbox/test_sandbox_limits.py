"""Limits: each ends the step, and the state from before it is still there."""

import time
from pathlib import Path
from typing import Any

import pytest

from toolsmith.sandbox import Limits, SandboxError, SandboxExecutor

ROLLED_BACK = "The Python state is as it was before this step; files it wrote remain."


def ended(sandbox: SandboxExecutor, code: str) -> str:
    sandbox("marker = 'before'")
    with pytest.raises(SandboxError) as caught:
        sandbox(f"marker = 'after'\n{code}")
    return str(caught.value)


def test_a_step_that_takes_too_long_is_interrupted_and_keeps_its_variables(make_sandbox: Any) -> None:
    sandbox = make_sandbox(wall_s=0.3)
    message = ended(sandbox, "while True: pass")
    assert message == "TimeoutError: the step took longer than 0.3 s; variables set so far are kept"
    assert sandbox("marker").output == "after"


SWALLOWS = "while True:\n    try:\n        while True: {}\n    except BaseException: pass"


@pytest.mark.slow
@pytest.mark.parametrize(
    "code",
    [
        SWALLOWS.format("sum(range(1000))"),
        "sum(range(10**12))",
        "import os\n" + SWALLOWS.format("os.write(1, b'x')"),
    ],
    ids=["swallows everything", "stuck in C", "floods and swallows everything"],
)
def test_a_step_that_cannot_be_interrupted_is_ended(make_sandbox: Any, code: str) -> None:
    sandbox = make_sandbox(wall_s=0.3)
    began = time.monotonic()
    message = ended(sandbox, code)
    assert message == f"the step took longer than 0.3 s and could not be interrupted. {ROLLED_BACK}"
    assert time.monotonic() - began < 4
    assert sandbox("marker").output == "before"


def test_the_memory_of_one_process_is_limited(make_sandbox: Any) -> None:
    sandbox = make_sandbox(memory_mb=256)
    assert ended(sandbox, "bytearray(512 << 20)").endswith("MemoryError")
    assert sandbox("marker").output == "after"


@pytest.mark.slow
def test_the_memory_of_all_processes_together_is_limited(make_sandbox: Any) -> None:
    sandbox = make_sandbox(memory_mb=256)
    code = """
import os, time
for i in range(4):
    if os.fork() == 0:
        held = os.urandom(1 << 16) * (150 * 16)
        time.sleep(8)
        os._exit(0)
time.sleep(8)
"""
    message = ended(sandbox, code)
    assert message == f"the step's processes together held more than 256 MB of memory. {ROLLED_BACK}"
    assert sandbox("marker").output == "before"


@pytest.mark.parametrize(
    "code",
    [
        "import os, time\nfor i in range(400):\n    if os.fork() == 0:\n        time.sleep(8)\ntime.sleep(8)",
        "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass",
    ],
    ids=["400 sleepers", "fork bomb"],
)
def test_the_number_of_processes_is_limited(make_sandbox: Any, code: str) -> None:
    """Polled, the limit ends the step; hard, it fails the fork.

    A bomb goes on until its time is up if the limit is hard, or if it starves the poll on a busy machine. It
    may take the saved state with it, and then the sandbox is restarted.
    """
    sandbox = make_sandbox(processes=32, wall_s=1)
    message = ended(sandbox, code)
    if "while True" in code and message.startswith("TimeoutError: the step took longer than 1 s"):
        pass
    elif sandbox.backend.hard_processes:
        assert "Resource temporarily unavailable" in message
    else:
        assert message.startswith("the step started more than 32 processes. ")
    assert sandbox("1 + 1").output == 2


def test_the_size_of_one_file_is_limited(make_sandbox: Any, workspace: Path) -> None:
    sandbox = make_sandbox(disk_mb=8)
    assert "File too large" in ended(sandbox, "open('big', 'wb').write(bytes(16 << 20))")
    assert (workspace / "big").stat().st_size <= 8 << 20


@pytest.mark.slow
def test_the_growth_of_the_workspace_is_limited(make_sandbox: Any, workspace: Path) -> None:
    (workspace / "was there before").write_bytes(bytes(20 << 20))
    sandbox = make_sandbox(disk_mb=16)
    code = """
import time
for i in range(100):
    open(f"part{i}", "wb").write(bytes(2 << 20))
    time.sleep(0.02)
"""
    assert ended(sandbox, code) == f"the workspace grew by more than 16 MB. {ROLLED_BACK}"
    assert sandbox("marker").output == "before"


def test_temporary_files_are_limited_too(make_sandbox: Any) -> None:
    sandbox = make_sandbox(disk_mb=100, wall_s=5)
    code = """
import tempfile, time
for i in range(60):
    open(f"{tempfile.gettempdir()}/part{i}", "wb").write(bytes(5 << 20))
    time.sleep(0.02)
"""
    assert "No space left" in (message := ended(sandbox, code)) or "grew by more than" in message


@pytest.mark.slow
def test_many_small_files_do_not_slow_the_next_step_down(make_sandbox: Any) -> None:
    sandbox = make_sandbox()
    sandbox("import os\nos.mkdir('many')\nfor i in range(5000):\n    open(f'many/{i}', 'w').close()")
    began = time.monotonic()
    assert sandbox("len(os.listdir('many'))").output == 5000
    assert time.monotonic() - began < 1


@pytest.mark.slow
def test_a_large_flood_of_output_is_dropped_and_the_step_goes_on(make_sandbox: Any) -> None:
    sandbox = make_sandbox()
    result = sandbox("import sys\nfor i in range(100): sys.stdout.write('y' * (1 << 20))\n'end'")
    assert result.output == "end"
    assert len(result.logs) < 51_000


def test_output_is_cut(make_sandbox: Any) -> None:
    sandbox = make_sandbox(output_chars=1000)
    logs = sandbox("for i in range(2000): print('y' * 1000)").logs
    assert logs == ("y" * 1000 + "\n")[:1000] + "\n[output cut after 1000 characters]"
    assert sandbox("print('next')").logs == "next\n"


def test_a_flood_of_output_does_not_keep_the_time_limit_from_working(make_sandbox: Any) -> None:
    sandbox = make_sandbox(wall_s=0.3)
    code = "import os\nwhile True:\n    os.write(1, b'x' * 65536)"
    assert "TimeoutError" in ended(sandbox, code)


@pytest.mark.parametrize("name", ["wall_s", "memory_mb", "processes", "disk_mb", "output_chars", "calls"])
def test_a_limit_of_zero_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"limit {name} must be above zero"):
        Limits(**{name: 0})
