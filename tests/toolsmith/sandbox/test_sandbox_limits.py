"""Limits: each ends the step, and the state from before it is still there."""

import dataclasses
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from toolsmith.sandbox import Backend, Limits, SandboxError, SandboxExecutor, worker_process
from toolsmith.sandbox.disk import usage

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


SLEEPERS = (
    "import os, time\nfor i in range(400):\n    if os.fork() == 0:\n        time.sleep(8)\ntime.sleep(8)"
)
BOMB = """
import os, time
end = time.monotonic() + 4
while time.monotonic() < end:
    try:
        if os.fork() == 0 and {leaves}:
            os.setsid()
    except OSError: pass
"""
THREADS = """
import threading, time
threading.stack_size(1 << 16)
for i in range(400):
    threading.Thread(target=time.sleep, args=(3,), daemon=True).start()
"""
CROWDED = "the step started more than 32 processes, or 128 threads. "


@pytest.mark.parametrize(
    "code",
    [SLEEPERS, BOMB.format(leaves=False), BOMB.format(leaves=True), THREADS],
    ids=["400 sleepers", "fork bomb", "fork bomb of sessions", "400 threads"],
)
def test_the_number_of_processes_and_threads_is_limited(make_sandbox: Any, code: str) -> None:
    """A step is ended as it asks for one too many, also root's, and however busy the machine is."""
    sandbox = make_sandbox(processes=32)
    assert sandbox.backend.hard_processes
    message = ended(sandbox, code)
    assert message.startswith(CROWDED)
    assert sandbox("1 + 1").output == 2


def test_processes_may_come_and_go(make_sandbox: Any) -> None:
    sandbox = make_sandbox(processes=4)
    code = "import subprocess\n[subprocess.run(['true']).returncode for i in range(40)].count(0)"
    assert sandbox(code).output == 40
    assert ended(sandbox, "held = [subprocess.Popen(['sleep', '9']) for i in range(5)]").startswith(
        "the step started more than 4 processes"
    )
    assert sandbox("subprocess.run(['true']).returncode").output == 0


def test_without_a_listener_processes_are_polled(backend: Backend, workspace: Path) -> None:
    polled = dataclasses.replace(backend, hard_processes=False)  # type: ignore[type-var]
    grades = {each.limit: each.grade for each in polled.enforcement}
    assert grades["processes"] == "polled"
    with SandboxExecutor(workspace, backend=polled, limits=Limits(wall_s=10, processes=32)) as sandbox:
        assert ended(sandbox, SLEEPERS).startswith(CROWDED)


def test_memory_cannot_be_held_where_no_process_maps_it(sandbox: SandboxExecutor) -> None:
    """What is unmapped of shared memory stays, and so does a page's whole block if a pipe holds it."""
    code = """
import ctypes, mmap, os
def made(action):
    try:
        action()
    except OSError:
        return False
    return True
libc = ctypes.CDLL(None, use_errno=True)
reader, writer = os.pipe()
def splice():
    if libc.vmsplice(writer, (ctypes.c_uint64 * 2)(ctypes.addressof(ctypes.c_int(1)), 4), 1, 0) < 0:
        raise OSError
def zero(flags):
    return lambda: mmap.mmap(os.open("/dev/zero", flags), 4096, prot=mmap.PROT_READ)
actions = [lambda: mmap.mmap(-1, 4096), splice, zero(os.O_RDONLY), zero(os.O_RDWR)]
[made(action) for action in actions], len(mmap.mmap(-1, 4096, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))
"""
    assert sandbox(code).output == ([False] * 4, 4096)


def test_rules_of_the_kernel_cannot_be_made(sandbox: SandboxExecutor) -> None:
    """No limit sees the memory that they take."""
    code = """
import ctypes, os, struct
libc = ctypes.CDLL(None, use_errno=True)
def errors(*calls):
    return [libc.syscall(*call) < 0 and ctypes.get_errno() for call in calls]
code = ctypes.create_string_buffer(struct.pack("HBBI", 6, 0, 0, 0x7FFF0000))
program = struct.pack("HxxxxxxQ", 1, ctypes.addressof(code))
attributes = struct.pack("QQQ", 0, 3, 0)
seccomp, prctl = {"x86_64": (317, 157), "aarch64": (277, 167)}[os.uname().machine]
errors((444, attributes, len(attributes), 0), (seccomp, 1, 0, program), (prctl, 22, 2, program, 0, 0))
"""
    assert sandbox(code).output == [38, 38, 22]


@pytest.mark.parametrize("hard", [True, False])
def test_no_filter_follows_the_last_one(backend: Backend, workspace: Path, hard: bool) -> None:
    chosen = dataclasses.replace(backend, hard_processes=hard)  # type: ignore[type-var]
    code = "import ctypes\nlibc = ctypes.CDLL(None, use_errno=True)\nlibc.prctl(22, 2, 0), ctypes.get_errno()"
    with SandboxExecutor(workspace, backend=chosen, limits=Limits(wall_s=10)) as sandbox:
        assert sandbox(code).output == (-1, 22)


MAPS = """
import ctypes, os, time
libc = ctypes.CDLL(None)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
private, there = 0x22, 0x100022
"""
MANY_MAPPINGS = """
start = libc.mmap(None, 40000 * 4096, 0, private, -1, 0)
for at in range(0, 40000, 2):
    libc.mprotect(ctypes.c_void_p(start + at * 4096), 4096, 1)
for child in range(16):
    if os.fork() == 0:
        break
time.sleep(8)
"""
FAR_APART = """
for at in range(20000):
    ctypes.c_char.from_address(libc.mmap((at + 1) << 30, 4096, 1, there, -1, 0)).value
time.sleep(8)
"""


@pytest.mark.parametrize(
    ("code", "most"), [(MANY_MAPPINGS, 256), (FAR_APART, 128)], ids=["many", "far apart"]
)
def test_memory_of_the_kernel_for_mappings_is_counted(make_sandbox: Any, code: str, most: int) -> None:
    """It grows with their number, the forks that they came through, and their distance."""
    assert f"held more than {most} MB" in ended(make_sandbox(memory_mb=most), MAPS + code)


@pytest.mark.slow
def test_memory_in_pipes_is_counted(make_sandbox: Any) -> None:
    """Each counts for what it may hold, which code inside cannot raise."""
    sandbox = make_sandbox(memory_mb=256)
    with pytest.raises(SandboxError, match="PermissionError"):
        sandbox("import fcntl, os\nfcntl.fcntl(os.pipe()[0], 1031, 1 << 20)")
    code = """
import os, time
for child in range(50):
    if os.fork() == 0:
        pipes = [os.pipe() for i in range(100)]
        break
time.sleep(8)
"""
    assert "held more than 256 MB" in ended(sandbox, code)


@pytest.mark.slow
def test_memory_in_sockets_is_counted(make_sandbox: Any) -> None:
    """No process maps it, so each descriptor beyond a few counts for as much as a socket may hold."""
    sandbox = make_sandbox(memory_mb=512)
    code = """
import os, socket, time
for i in range(20):
    if os.fork() == 0:
        held = [socket.socketpair() for i in range(100)]
        time.sleep(6)
        os._exit(0)
time.sleep(6)
"""
    assert "held more than 512 MB" in ended(sandbox, code)


def test_a_socket_cannot_be_made_to_hold_more(sandbox: SandboxExecutor) -> None:
    code = """
import socket
one, other = socket.socketpair()
def refused(option):
    try:
        one.setsockopt(socket.SOL_SOCKET, option, 1 << 20)
    except PermissionError:
        return True
one.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
before = one.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
[refused(option) for option in (7, 8, 32, 33, 26, 50)], one.getsockopt(1, socket.SO_SNDBUF) == before
"""
    assert sandbox(code).output == ([True] * 6, True)


@pytest.mark.slow
def test_memory_in_few_sockets_of_many_processes_is_counted(make_sandbox: Any) -> None:
    sandbox = make_sandbox(memory_mb=256, wall_s=20)
    code = """
import os, socket, time
for i in range(48):
    if os.fork() == 0:
        held = [socket.socketpair() for i in range(12)]
        time.sleep(16)
        os._exit(0)
time.sleep(16)
"""
    assert "held more than 256 MB" in ended(sandbox, code)


REFUSED = """
import signal, sys
signal.signal(signal.SIGALRM, signal.SIG_IGN)
frame = sys._getframe()
while not hasattr(frame.f_locals.get("self"), "_call_host"):
    frame = frame.f_back
call = frame.f_locals["self"]._call_host
while True:
    try:
        call({!r}, [], {{'$': 'dict', 'v': []}})
    except RuntimeError:
        pass
"""


@pytest.mark.parametrize("name", ["tool", "other"])
def test_refused_calls_take_time_of_the_step(
    make_sandbox: Any, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_process, "MAX_REFUSED", 10**9)
    sandbox = make_sandbox(wall_s=1.0, calls=1)
    sandbox.send_tools({"tool": lambda: None})
    timer = threading.Timer(6, sandbox.interrupt)
    timer.start()
    assert "longer than 1 s" in ended(sandbox, REFUSED.format(name))
    timer.cancel()


@pytest.mark.parametrize("name", ["tool", "other"])
def test_a_step_with_very_many_refused_calls_is_ended(make_sandbox: Any, name: str) -> None:
    sandbox = make_sandbox(wall_s=60)
    sandbox.send_tools({"tool": lambda: None})
    assert "went on calling tools" in ended(sandbox, REFUSED.format(name))
    assert sandbox("marker").output == "before"


def test_no_folder_takes_more_than_its_limit(make_sandbox: Any, workspace: Path) -> None:
    """Every mounted file system is either read-only, bounded, or the workspace."""
    sandbox = make_sandbox(disk_mb=200, wall_s=20)
    code = """
import contextlib, os
folders = {"/", "/dev", "/dev/shm", "/dev/pts", "/dev/mqueue", "/tmp", "/run", "/var/tmp", "/sys"}
folders.add(os.environ["HOME"])
with contextlib.suppress(OSError):
    mounts = {line.split()[4] for line in open("/proc/self/mountinfo")}
    folders |= set(filter(os.path.isdir, mounts))
found = {}
for folder in sorted(folders):
    path = os.path.join(folder, "filler")
    if os.path.realpath(folder) == os.getcwd():
        continue
    try:
        with open(path, "wb", buffering=0) as file:
            found[folder] = 0
            for i in range(100):
                found[folder] += file.write(bytes(1 << 20))
    except OSError:
        pass
    with contextlib.suppress(OSError):
        os.unlink(path)
{folder: size >> 20 for folder, size in found.items()}
"""
    found = sandbox(code).output
    if sandbox.backend.name == "bubblewrap":
        assert found == {"/dev/shm": 64, "/tmp": 64}
    else:
        assert set(found.values()) == {100}
        assert len(found) == 1, "the temporary folder, which counts as part of the workspace"


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
    deletes = "import glob, os\nfor name in glob.glob('part*'): os.unlink(name)\nmarker"
    assert sandbox(deletes).output == "before"


def test_a_sparse_file_counts_with_all_of_its_size(make_sandbox: Any) -> None:
    """It takes no room before the workspace is committed, and then all of it."""
    sandbox = make_sandbox(disk_mb=16)
    holes = "for i in range(3):\n    with open(f'hole{i}', 'wb') as file: file.truncate(8 << 20)"
    assert ended(sandbox, holes).startswith("the workspace grew by more than 16 MB. ")
    with pytest.raises(SandboxError, match="grew by more than 16 MB"):
        sandbox("1 + 1")
    assert sandbox("import os\nos.unlink('hole0')\n'deleted'").output == "deleted"


def test_the_number_of_files_is_limited(make_sandbox: Any) -> None:
    sandbox = make_sandbox(files=300)
    code = "import os\nfor i in range({}):\n    os.mkdir(f'{}/{{i}}')"
    assert sandbox(code.format(100, ".")).output is None
    assert ended(sandbox, code.format(250, "0")).startswith("the workspace grew by more than 300 files. ")


@pytest.mark.slow
def test_a_folder_that_is_dug_deeper_while_it_is_measured_is_counted(make_sandbox: Any) -> None:
    sandbox = make_sandbox(files=2000, wall_s=60)
    code = "import os\nwhile True:\n    os.mkdir('x' * 200)\n    os.chdir('x' * 200)"
    timer = threading.Timer(15, sandbox.interrupt)
    timer.start()
    assert ended(sandbox, code).startswith("the workspace grew by more than 2000 files. ")
    timer.cancel()
    deletes = "import subprocess\nsubprocess.run(['rm', '-rf', 'x' * 200], check=True).returncode"
    assert sandbox(deletes).output == 0


def test_folders_count_with_their_size(tmp_path: Path) -> None:
    before = usage([tmp_path]).size
    for number in range(100):
        (tmp_path / f"{number}").mkdir()
    assert usage([tmp_path]).size - before >= sum(each.stat().st_size for each in tmp_path.iterdir()) > 0


def test_the_number_of_temporary_files_is_limited(make_sandbox: Any) -> None:
    sandbox = make_sandbox(files=300)
    code = """
import os, tempfile, time
for i in range(400):
    os.mkdir(f"{tempfile.gettempdir()}/{i}")
time.sleep(1)
"""
    assert "more than 300 files" in ended(sandbox, code)


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


@pytest.mark.parametrize(
    "name", ["wall_s", "memory_mb", "processes", "disk_mb", "files", "output_chars", "calls"]
)
def test_a_limit_of_zero_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"limit {name} must be above zero"):
        Limits(**{name: 0})
