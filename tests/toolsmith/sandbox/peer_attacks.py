"""Attacks that the test suites of other sandboxes make, rewritten: what each is after, in our own words.

The themes come from smolagents (roundabout ways to `os`), Anthropic's sandbox-runtime and Codex's Linux
sandbox (programs, links, helpers and first processes), and nsjail (paths that change under way). A way to
`os` is no escape here, where code may import what it likes: each attack goes on to something of the host.

As in escapes.py each is given the surroundings and returns what it got hold of; some return nothing, and the
host looks afterwards whether something changed. Standard library only; shipped as text.
"""
# Attacks are made with plain calls, on purpose, and in roundabout ways.
# ruff: noqa: PTH103, PTH104, PTH108, PTH109, PTH112, PTH116, PTH118, PTH120, PTH123, PTH211, SIM115

import asyncio
import contextlib
import ctypes
import doctest
import fcntl
import fileinput
import functools
import gc
import importlib
import io
import linecache
import mmap
import os
import pickle
import random
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tarfile
import threading
import time
import tokenize
import types
import warnings
from collections.abc import Callable
from typing import Any

At = dict[str, Any]
LIBC = ctypes.CDLL(None, use_errno=True)
CALLS = {
    "x86_64": {
        **{"open_tree": 428, "fsopen": 430, "clone3": 435, "process_vm_writev": 311, "io_uring_enter": 426},
        **{"pidfd_open": 434, "pidfd_send_signal": 424, "tgkill": 234, "personality": 135, "pivot_root": 155},
        **{"name_to_handle_at": 303, "mount_setattr": 442, "fanotify_init": 300, "umount2": 166},
    },
    "aarch64": {
        **{"open_tree": 428, "fsopen": 430, "clone3": 435, "process_vm_writev": 271, "io_uring_enter": 426},
        **{"pidfd_open": 434, "pidfd_send_signal": 424, "tgkill": 131, "personality": 92, "pivot_root": 41},
        **{"name_to_handle_at": 264, "mount_setattr": 442, "fanotify_init": 262, "umount2": 39},
    },
}[os.uname().machine]


def passed_the_filter(name: str, *arguments: Any) -> bool:
    """Whether the kernel itself answered, with whatever error."""
    result = LIBC.syscall(CALLS[name], *arguments)
    number = ctypes.get_errno()
    if result > 2:
        os.close(result)
    return result >= 0 or number not in (1, 38)  # EPERM, ENOSYS


def text_of(found: Any, at: At) -> str:
    """The secret, read with an `os` that was come by in some way."""
    descriptor = found.open(at["secret"], found.O_RDONLY)
    try:
        return str(found.read(descriptor, 100), "ascii")
    finally:
        found.close(descriptor)


# --- roundabout ways to the file system -------------------------------------------------------------------


def by_the_table_of_modules(at: At) -> object:
    return text_of(sys.modules["os"], at)


def by_importing_at_run_time(at: At) -> object:
    return text_of(importlib.import_module("".join(["o", "s"])), at)


def by_what_a_module_imported_for_itself(at: At) -> object:
    return text_of(vars(random)["_os"], at)


def by_a_module_of_a_module_of_a_module(at: At) -> object:
    return text_of(doctest.inspect.os, at)  # type: ignore[attr-defined]


def by_a_subprocess_of_asyncio(at: At) -> object:
    run = asyncio.base_events.events.subprocess.run  # type: ignore[attr-defined]
    return run(["cat", at["secret"]], capture_output=True, check=False).stdout


def by_attributes_that_are_fetched_indirectly(at: At) -> object:
    (found,) = map(functools.partial(getattr, warnings), ["sys"])
    return text_of(found.modules["os"], at)


def by_the_builtins_of_a_frame(at: At) -> object:
    return text_of(sys._getframe().f_builtins["__import__"]("os"), at)


def by_the_frame_of_a_traceback(at: At) -> object:
    try:
        raise LookupError
    except LookupError as error:
        frame = error.__traceback__.tb_frame  # type: ignore[union-attr]
    return text_of(frame.f_builtins["__import__"]("os"), at)


def by_the_family_of_all_classes(at: At) -> object:
    (found,) = [one for one in object.__subclasses__() if one.__name__ == "_wrap_close"]
    return found.__init__.__globals__["popen"](f"cat {at['secret']}").read()


def by_the_globals_of_a_function(at: At) -> object:
    return text_of(shutil.copyfile.__globals__["os"], at)


def by_code_made_from_text(at: At) -> object:
    code = compile("def read(path):\n    return open(path).read()", "made", "exec")
    function = types.FunctionType(code.co_consts[0], {"__builtins__": __builtins__})
    return function(at["secret"])


def by_unpickling(at: At) -> object:
    class Trap:
        def __reduce__(self) -> Any:
            return subprocess.getoutput, (f"cat {at['secret']}",)

    text = str(pickle.loads(pickle.dumps(Trap())))
    return text if at["canary"] in text else ""


def by_the_c_library(at: At) -> object:
    buffer = ctypes.create_string_buffer(100)
    descriptor = LIBC.open(os.fsencode(at["secret"]), 0)
    return LIBC.read(descriptor, buffer, 100) > 0


def by_every_library_that_opens_files(at: At) -> object:
    secret = at["secret"]

    def mapped() -> bytes:
        with open(secret, "rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as view:
            return view[:]

    def sent() -> int:
        with open(secret, "rb") as file, open("copied", "wb") as copy:
            return os.sendfile(copy.fileno(), file.fileno(), 0, 100)

    def packed() -> int:
        with tarfile.open("packed.tar", "w") as archive:
            archive.add(secret)
            return archive.getmembers()[0].size

    ways: list[Callable[[], object]] = [
        mapped,
        sent,
        packed,
        lambda: io.FileIO(secret).read(),
        lambda: linecache.getlines(secret),
        lambda: list(fileinput.input(secret)),
        lambda: tokenize.open(secret).read(),
        lambda: shutil.copy(secret, "copied"),
        lambda: sqlite3.connect(f"file:{secret}?mode=ro", uri=True).execute("select 1 from x").fetchall(),
    ]
    return [way.__name__ for way in ways if came_of(way)]


def came_of(way: Callable[[], object]) -> object:
    try:
        return way()
    except (OSError, sqlite3.OperationalError):
        return None
    except sqlite3.DatabaseError:  # it was read, and is no database
        return True


# --- paths ------------------------------------------------------------------------------------------------


def around_by_proc(at: At) -> object:
    # Under /proc each of these is a link that the kernel follows by itself.
    paths = [f"/proc/self/root{at['secret']}", "/proc/self/cwd/../secret", f"/proc/1/root{at['secret']}"]
    paths += [f"/proc/{at['host_pid']}/root{at['secret']}", f"/proc/{at['victim']}/cwd/secret"]
    return [path for path in paths if came_of(lambda path=path: at["canary"] in open(path).read())]  # type: ignore[misc]


def up_from_the_workspace(at: At) -> object:
    folder = os.open("..", os.O_RDONLY | os.O_DIRECTORY)
    try:
        return at["canary"] in open(os.open("secret", os.O_RDONLY, dir_fd=folder)).read()
    finally:
        os.close(folder)


def by_links_in_the_middle_of_a_path(at: At) -> object:
    outside = os.path.dirname(at["secret"])
    deep = os.path.join("deep", "deeper")
    os.makedirs(deep, exist_ok=True)
    found = []
    for number, target in enumerate(
        (outside, os.path.relpath(outside, os.path.realpath(deep)), "/proc/self/root")
    ):
        link = os.path.join(deep, f"link{number}")
        with contextlib.suppress(FileExistsError):
            os.symlink(target, link)
        name = "secret" if number < 2 else at["secret"].lstrip("/")
        if came_of(lambda link=link, name=name: at["canary"] in open(os.path.join(link, name)).read()):  # type: ignore[misc]
            found.append(target)
    return found


def write_through_a_link(at: At) -> object:
    with contextlib.suppress(FileExistsError):
        os.symlink(at["plant"], "through")
    with open("through", "w") as file:
        return file.write("planted")


def win_a_race_with_a_link(at: At) -> object:
    """A folder is swapped for a link to the outside while files are made in it."""
    outside, stop = os.path.dirname(at["plant"]), threading.Event()
    os.makedirs("real", exist_ok=True)
    with contextlib.suppress(FileExistsError):
        os.symlink(outside, "link")

    def swap() -> None:
        while not stop.is_set():
            with contextlib.suppress(OSError):
                os.rename("real", "aside")
                os.rename("link", "real")
                os.rename("real", "link")
                os.rename("aside", "real")

    swapper = threading.Thread(target=swap)
    swapper.start()
    deadline = time.monotonic() + 2
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            os.close(os.open("real/planted", os.O_CREAT | os.O_WRONLY, 0o600))
        if os.path.lexists(at["plant"]):
            break
    stop.set()
    swapper.join()
    return os.path.lexists(at["plant"])


def leave_files_where_the_host_finds_them(at: At) -> object:
    """The host looks for the name afterwards: the private /tmp of a sandbox is no escape."""
    for folder in ("/tmp", "/dev/shm", "/var/tmp", "/run", at["home"]):
        with contextlib.suppress(OSError):
            open(os.path.join(folder, at["stray"]), "w").close()
    return None


def change_what_python_starts_with(at: At) -> object:
    places = [path for path in sys.path if path and os.path.isdir(path) and not path.startswith(os.getcwd())]
    # A checkout below /tmp has its way there remade in a private /tmp: writing to that reaches nothing.
    private = os.stat("/tmp").st_dev if os.path.ismount("/tmp") else None
    places = [path for path in places if os.stat(path).st_dev != private]
    places += [at["home"]]
    return [place for place in places if came_of(lambda place=place: made(place, "sitecustomize-test.pth"))]  # type: ignore[misc]


def made(folder: str, name: str) -> bool:
    path = os.path.join(folder, name)
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    os.unlink(path)
    return True


# --- the network, by other programs -----------------------------------------------------------------------


def by_the_shells_own_sockets(at: At) -> object:
    return ran_well("bash", "-c", f"exec 3<>/dev/tcp/127.0.0.1/{at['tcp']}")


def by_another_interpreter(at: At) -> object:
    code = f"import socket; socket.create_connection(('127.0.0.1', {at['tcp']}), 2)"
    return ran_well(sys.executable, "-S", "-c", code)


def by_perl(at: At) -> object:
    code = f"exit !IO::Socket::INET->new(PeerAddr => '127.0.0.1:{at['tcp']}')"
    return ran_well("perl", "-MIO::Socket::INET", "-e", code)


def by_a_socket_outside(at: At) -> object:
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(at["socket"])
        return "connected"


def by_a_datagram_of_a_pair(at: At) -> object:
    one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with one, other:
        one.connect(at["datagrams"])
        return one.send(b"canary")


def ran_well(*words: str) -> bool:
    return subprocess.run(words, capture_output=True, timeout=10, check=False).returncode == 0


# --- other processes --------------------------------------------------------------------------------------


def signal_by_a_descriptor_of_a_process(at: At) -> object:
    descriptor = LIBC.syscall(CALLS["pidfd_open"], at["victim"], 0)
    return descriptor >= 0 and LIBC.syscall(CALLS["pidfd_send_signal"], descriptor, signal.SIGTERM, 0, 0) == 0


def signal_a_thread(at: At) -> object:
    return LIBC.syscall(CALLS["tgkill"], at["victim"], at["victim"], int(signal.SIGTERM)) == 0


def signal_a_group(at: At) -> object:
    os.killpg(at["victim"], signal.SIGTERM)
    return "sent"


def signal_by_what_happens_on_a_pipe(at: At) -> object:
    """The kernel signals the owner of a descriptor; who sets the owner is not checked again."""
    reader, writer = os.pipe()
    try:
        fcntl.fcntl(reader, fcntl.F_SETOWN, at["victim"])
        fcntl.fcntl(reader, 10, int(signal.SIGTERM))  # F_SETSIG
        fcntl.fcntl(reader, fcntl.F_SETFL, os.O_ASYNC | os.O_NONBLOCK)
        os.write(writer, b"x")
    finally:
        os.close(reader)
        os.close(writer)
    return None  # the host looks whether the victim lives


def write_into_the_memory_of_others(at: At) -> object:
    found = [pid for pid in (1, at["victim"]) if came_of(lambda pid=pid: opened(f"/proc/{pid}/mem"))]  # type: ignore[misc]
    return found + [1] * passed_the_filter("process_vm_writev", at["victim"], 0, 0, 0, 0, 0)


def opened(path: str) -> bool:
    os.close(os.open(path, os.O_RDWR))
    return True


def read_the_environment_of_forefathers(at: At) -> object:
    found, pid = [], os.getppid()
    for _ in range(8):
        with contextlib.suppress(OSError):
            if at["canary"].encode() in open(f"/proc/{pid}/environ", "rb").read():
                found.append(pid)
        try:
            pid = int(open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[1])
        except OSError:
            break
    return found


def leave_a_process_behind(at: At) -> object:
    """The host looks for it when the step is over."""
    subprocess.Popen(
        ["setsid", "sleep", at["stray_seconds"]], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    return None


def call_a_tool_that_was_not_granted(at: At) -> object:
    """Through the worker's own objects, in memory that the code shares with it."""
    for one in gc.get_objects():
        if type(one).__name__ == "Generation":
            try:
                return one._call_host("shell", [], {})
            except RuntimeError as error:
                raise PermissionError(error) from error
    return open(at["secret"]).read()  # no sandbox: nothing has to be asked


# --- the kernel -------------------------------------------------------------------------------------------


def by_the_newer_calls_for_mounts(at: At) -> object:
    calls: dict[str, tuple[Any, ...]] = {
        "open_tree": (-100, b"/no/such", 0),
        "fsopen": (b"nosuchfs", 0),
        "mount_setattr": (-100, b"/no/such", 0, 0, 0),
        "pivot_root": (b"/no/such", b"/no/such"),
        "umount2": (b"/no/such", 0),
    }
    return [name for name, arguments in calls.items() if passed_the_filter(name, *arguments)]


def by_newer_ways_to_clone(at: At) -> object:
    return passed_the_filter("clone3", 0, 0)


def by_handles_of_files(at: At) -> object:
    return passed_the_filter("name_to_handle_at", -100, b"/no/such", 0, 0, 0)


def by_rings_that_were_left_open(at: At) -> object:
    return passed_the_filter("io_uring_enter", 99, 0, 0, 0, 0, 0)


def by_watching_all_files(at: At) -> object:
    return passed_the_filter("fanotify_init", 0xFFFF, 0)


def by_another_personality(at: At) -> object:
    before = LIBC.personality(0xFFFFFFFF)
    return before >= 0 and LIBC.personality(before) >= 0


def by_the_32_bit_convention(at: At) -> object:
    """The filter judges numbers of the 64-bit table; `int 0x80` takes those of another."""
    if os.uname().machine != "x86_64":
        return None
    child = os.fork()
    if not child:
        own, rights = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC
        page = mmap.mmap(-1, 4096, flags=own, prot=rights)
        page.write(b"\xb8\x14\x00\x00\x00\xcd\x80\xc3")  # mov eax, getpid; int 0x80; ret
        address = ctypes.addressof(ctypes.c_char.from_buffer(page))
        os._exit(0 if ctypes.CFUNCTYPE(ctypes.c_int)(address)() > 0 else 1)
    return os.waitpid(child, 0)[1] == 0


def make_a_device(at: At) -> object:
    os.mknod("device", 0o020666, os.makedev(1, 3))
    os.unlink("device")
    return "made"


def become_root_with_other_programs(at: At) -> object:
    words = (["sudo", "-n", "true"], ["su", "-c", "true", "root"])
    return [line for line in words if shutil.which(line[0]) and ran_well(*line)]


# --- how it is done ---------------------------------------------------------------------------------------


def attempt(name: str, at: At) -> str:
    """What came of it: "escaped: ..." or "stopped: ..."."""
    try:
        got = globals()[name](at)
    except (OSError, ValueError) as error:
        return f"stopped: {type(error).__name__}: {error}"
    return f"escaped: {got!r}"[:200] if got else "stopped: got nothing"
