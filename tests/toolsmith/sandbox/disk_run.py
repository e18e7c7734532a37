"""Steps that take disk in hidden ways, as the user who runs this; prints what ended each, as JSON.

Arguments: a folder and a backend.
"""

import json
import sys
from pathlib import Path

from toolsmith.sandbox import Backend, Limits, SandboxError, SandboxUnavailable, choose_backend
from toolsmith.sandbox.removal import remove
from toolsmith.sandbox.session import SandboxSession

FILL = """
import contextlib, ctypes, os, socket, threading, time
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
def full(name, folder=None, flags=os.O_CREAT | os.O_RDWR):
    fd = os.open(name, flags, 0o600, dir_fd=folder)
    os.posix_fallocate(fd, 0, 8 << 20)
    return fd
def unlinked(name):
    fd = full(name)
    os.unlink(name)
    return fd
"""
LOST = "bit by bit, by steps that lose their worker"
WAYS = {
    "open and without a name": "held = [unlinked(f'u{i}') for i in range(6)]",
    "never with a name": "held = [full('.', flags=os.O_TMPFILE | os.O_RDWR) for i in range(6)]",
    "held by children": """
for i in range(3):
    if os.fork() == 0:
        held = [unlinked(f'u{i}{j}') for j in range(2)]
        time.sleep(9)
time.sleep(5)
""",
    "mapped and closed": """
for i in range(30):
    fd = unlinked(f'u{i}')
    assert libc.mmap(None, 4096, 1, 1, fd, 0) not in (None, 2**64 - 1)
    os.close(fd)
""",
    "on its way through a socket": """
ends = socket.socketpair()
for i in range(30):
    fd = unlinked(f'u{i}')
    socket.send_fds(ends[0], [b'x'], [fd])
    os.close(fd)
""",
    "behind a long path": """
for i in range(1100):
    os.mkdir('x' * 200)
    os.chdir('x' * 200)
for i in range(6):
    os.close(full(f'u{i}'))
""",
    "in a folder that cannot be read": """
os.mkdir('d', 0o300)
for i in range(6):
    os.close(full(f'd/u{i}'))
os.chmod('d', 0)
""",
    "in a folder that can only be listed": """
os.mkdir('d')
for i in range(6):
    os.close(full(f'd/u{i}'))
os.chmod('d', 0o600)
""",
    "in a process that hides": """
if os.fork() == 0:
    libc.prctl(4, 0, 0, 0, 0)
    held = [unlinked(f'u{i}') for i in range(6)]
    time.sleep(9)
time.sleep(5)
""",
    LOST: """
os.close(full(f'u{time.time()}'))
for fd in range(3, 20):
    with contextlib.suppress(OSError):
        os.write(fd, b'\\xff' * 64)
time.sleep(5)
""",
    "links that come too fast": "for i in range(5000): os.symlink('x', f'l{i}')",
    "little": "held = unlinked('u'), full('v')",
}


def outcome(folder: Path, backend: Backend, way: str) -> str:
    folder.mkdir()
    bounds = Limits(wall_s=15, disk_mb=20, files=2000)
    session = SandboxSession(folder, limits=bounds, backend=backend, writable=True)
    for code in [FILL + WAYS[way]] * 3 + ["1"] if way == LOST else [FILL + WAYS[way]]:
        message = ""
        try:
            session.request({"t": "run", "number": 0, "code": code})
        except SandboxError as error:
            message = str(error)
    session.close()
    remove(folder)
    return "it cannot be deleted" if folder.exists() else message


def main(folder: str, name: str) -> None:
    try:
        backend = choose_backend(name)
    except SandboxUnavailable as error:
        found = {"unavailable": str(error)}
    else:
        found = {way: outcome(Path(folder, "workspace"), backend, way) for way in WAYS}
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
