"""Twenty attempts to escape, which the self-test has a backend stop, and one that has to work.

Runs inside as a step, sent as text, so it uses the standard library only. Each attempt returns whether it
succeeded; an OSError means that it was stopped. No attempt changes anything if it succeeds, because backends
that do not hold run them too.

Not covered: kernel bugs, and everything subtler than asking for what is forbidden.
"""
# The attempts use plain system calls.
# ruff: noqa: PTH101, PTH108, PTH116, PTH120, PTH123, PTH208, PTH211, SIM115

import contextlib
import ctypes
import fcntl
import mmap
import os
import posix
import socket
import struct
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

At = dict[str, Any]  # targets: paths, ports and process ids on the host

_SEIZE = 0x4206  # PTRACE_SEIZE, which does not stop the process it is used on
_NEW_USER = 0x10000000
_TIOCSTI = 0x5412
_FS_IOC_RESVSP = 0x40305828
_CONNECTED = (socket.SOCK_STREAM, socket.SOCK_SEQPACKET)  # pairs that send to their other end only
_MANY_TIMERS = 300
_REFUSED = (1, 38)  # EPERM, ENOSYS


def over_tcp(at: At) -> bool:
    with socket.create_connection(("127.0.0.1", at["tcp"]), 1):
        return True


def over_udp(at: At) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        return sender.sendto(b"canary", ("127.0.0.1", at["udp"])) > 0


def over_unix_sockets(at: At) -> bool:
    return _any(
        lambda: _dial("\0" + at["abstract"]),
        lambda: _dial(at["socket"]),
        *(partial(_send_from_a_pair, kind, at["datagrams"]) for kind in range(16) if kind not in _CONNECTED),
    )


def home_folder(at: At) -> bool:
    return bool(os.listdir(at["home"]))


def environment(at: At) -> bool:
    return any(os.fsdecode(name) not in at["names"] for name in posix.environ)


def read_outside(at: At) -> bool:
    return bool(open(at["secret"]).read())


def write_outside(at: At) -> bool:
    return _any(lambda: _make(at["planted"]), lambda: bool(os.open(at["secret"], os.O_WRONLY)))


def read_processes(at: At) -> bool:
    pid = at["pid"]
    if _is_ours(at):
        return False
    return _any(
        lambda: at["canary"] in open(f"/proc/{pid}/environ", errors="replace").read(),
        lambda: bool(os.open(f"/proc/{pid}/mem", os.O_RDONLY)),
        lambda: bool(os.listdir(f"/proc/{pid}/root{os.path.dirname(at['secret'])}")),
    )


def signal_processes(at: At) -> bool:
    os.kill(at["pid"], 0)
    return not _is_ours(at)


def trace_processes(at: At) -> bool:
    libc = ctypes.CDLL(None, use_errno=True)
    return _in_a_child(lambda: libc.ptrace(_SEIZE, at["pid"], 0, 0)) and not _is_ours(at)


def namespaces_and_mounts(_: At) -> bool:
    """Mounts on a folder that does not exist: past the filter, the kernel reports that first."""
    libc = ctypes.CDLL(None, use_errno=True)
    if _in_a_child(lambda: libc.unshare(_NEW_USER)):
        return True
    libc.mount(b"none", b"/no/such/folder", b"tmpfs", 0, 0)
    return ctypes.get_errno() not in _REFUSED


def set_id_files(_: At) -> bool:
    made = []
    with contextlib.suppress(OSError):
        os.close(os.open("set-id", os.O_CREAT | os.O_WRONLY, 0o4755))
        made.append(os.stat("set-id").st_mode & 0o4000)
    with contextlib.suppress(OSError, AttributeError):
        unnamed = os.open(".", os.O_TMPFILE | os.O_WRONLY, 0o4755)  # linkat could give it a name
        made.append(os.fstat(unnamed).st_mode & 0o4000)
        os.close(unnamed)
    with contextlib.suppress(OSError):
        os.chmod("set-id", 0o4755)
        made.append(os.stat("set-id").st_mode & 0o4000)
    return any(made)


def hold_memory_that_is_not_counted(_: At) -> bool:
    """Other systems than Linux measure memory in other ways."""
    return sys.platform == "linux" and _any(
        lambda: bool(mmap.mmap(-1, mmap.PAGESIZE)),
        lambda: bool(os.memfd_create("canary")),
        lambda: bool(mmap.mmap(os.open("/dev/zero", os.O_RDONLY), mmap.PAGESIZE, prot=mmap.PROT_READ)),
    )


def fill_the_device_folder(_: At) -> bool:
    os.close(os.open("/dev", os.O_TMPFILE | os.O_WRONLY, 0o600))
    return True


def take_disk_that_is_not_counted(_: At) -> bool:
    """Asks for room beyond the end of a file, and inside of one."""
    libc = ctypes.CDLL(None, use_errno=True)
    file = os.open("room", os.O_CREAT | os.O_RDWR, 0o600)
    os.write(file, bytes(8192))
    keep_size, insert_range = 1, 0x20
    reserve = struct.pack("hhqqiI4i", 0, 0, 0, 8192, *[0] * 6)
    made = _any(
        lambda: libc.fallocate(file, keep_size, ctypes.c_long(0), ctypes.c_long(16384)) == 0,
        lambda: libc.fallocate(file, insert_range, ctypes.c_long(4096), ctypes.c_long(4096)) == 0,
        lambda: bool(fcntl.ioctl(file, _FS_IOC_RESVSP, reserve)),
    )
    os.unlink("room")
    return made


def use_up_what_all_users_share(_: At) -> bool:
    if sys.platform != "linux":
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    setup, destroy = {"x86_64": (206, 207), "aarch64": (0, 1)}[os.uname().machine]

    def events() -> bool:
        context = ctypes.c_ulong(0)
        return bool(libc.syscall(setup, 1, ctypes.byref(context)) == 0 and not libc.syscall(destroy, context))

    def watchers() -> bool:
        if (watcher := libc.inotify_init()) >= 0:
            os.close(watcher)
        return bool(watcher >= 0)

    def timers() -> bool:
        made = []
        for _ in range(_MANY_TIMERS):
            timer = ctypes.c_void_p()
            if libc.timer_create(1, None, ctypes.byref(timer)):
                break
            made.append(timer)
        for timer in made:
            libc.timer_delete(timer)
        return len(made) == _MANY_TIMERS

    return _any(events, watchers, timers)


def read_attributes_outside(at: At) -> bool:
    return os.listxattr(at["secret"]) is not None


def queues_of_other_programs(_: At) -> bool:
    """Asks for a queue that does not exist: past the filter, the kernel reports that."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.msgrcv(0x7FFFFFFF, ctypes.create_string_buffer(16), 8, 0, 0)
    return sys.platform == "linux" and ctypes.get_errno() not in _REFUSED


def type_into_the_terminal(_: At) -> bool:
    """Passes an address that the kernel cannot read, so that nothing is typed."""
    terminal = os.open("/dev/tty", os.O_RDWR)
    try:
        ctypes.CDLL(None, use_errno=True).ioctl(terminal, _TIOCSTI, 0)
        return ctypes.get_errno() not in _REFUSED
    finally:
        os.close(terminal)


def follow_a_link(at: At) -> bool:
    with contextlib.suppress(FileExistsError):
        os.symlink(at["secret"], "way-out")
    return bool(open("way-out").read())


def write_the_workspace(_: At) -> bool:
    return _make("made")


ATTEMPTS: dict[str, Callable[[At], bool]] = {
    "connect to the host over TCP": over_tcp,
    "send the host a datagram": over_udp,
    "connect to a unix socket of the host": over_unix_sockets,
    "read the home folder": home_folder,
    "see the environment": environment,
    "read a file outside": read_outside,
    "write a file outside": write_outside,
    "read other processes": read_processes,
    "signal other processes": signal_processes,
    "trace other processes": trace_processes,
    "make namespaces and mounts": namespaces_and_mounts,
    "make set-id files": set_id_files,
    "hold memory that is not counted": hold_memory_that_is_not_counted,
    "fill the folder of devices": fill_the_device_folder,
    "take disk that is not counted": take_disk_that_is_not_counted,
    "use up what all users share": use_up_what_all_users_share,
    "read attributes of a file outside": read_attributes_outside,
    "use queues of other programs": queues_of_other_programs,
    "type into the terminal": type_into_the_terminal,
    "follow a link out of the workspace": follow_a_link,
    "write the workspace": write_the_workspace,
}


def try_all(at: At) -> dict[str, bool]:
    """Whether each attempt succeeded, by its name."""
    return {name: _any(partial(attempt, at)) for name, attempt in ATTEMPTS.items()}


def _any(*actions: Callable[[], bool]) -> bool:
    def works(action: Callable[[], bool]) -> bool:
        try:
            return action()
        except (OSError, AttributeError):  # AttributeError: the libc lacks the call
            return False

    return any([works(action) for action in actions])


def _in_a_child(call: Callable[[], int]) -> bool:
    """Whether a call works that would change this process permanently."""
    child = os.fork()
    if not child:
        os._exit(0 if call() == 0 else 1)
    return os.waitpid(child, 0)[1] == 0


def _dial(address: str) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(address)
        return True


def _send_from_a_pair(kind: int, address: str) -> bool:
    one, other = socket.socketpair(socket.AF_UNIX, kind)
    with one, other:
        return one.sendto(b"canary", address) > 0


def _make(path: str) -> bool:
    os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o644))
    return True


def _is_ours(at: At) -> bool:
    """Whether the id names a process in here, since a namespace has ids of its own."""
    try:
        fields = open(f"/proc/{at['pid']}/stat").read().rpartition(")")[2].split()
    except OSError:
        return False
    return bool(fields[19] != at["started"])
