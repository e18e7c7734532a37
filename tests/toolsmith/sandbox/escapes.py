"""Attempts to break out, as code that runs inside the sandbox (and, for comparison, outside of it).

Each attempt is a function named for what it tries. It is given the surroundings, a dictionary of paths, ports
and process ids on the host, and returns what it got hold of; nothing, or an OSError, means it was stopped.
All attempts leave the host as it was, so that they can be made without a sandbox too.

The test reads this file and ships it: standard library only.
"""
# Attempts are made with plain system calls.
# ruff: noqa: PTH101, PTH104, PTH108, PTH110, PTH115, PTH116, PTH118, PTH120, PTH208

import contextlib
import ctypes
import errno
import fcntl
import os
import resource
import signal
import socket
import stat
import struct
import sys
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

Surroundings = dict[str, Any]
Attempt = Callable[[Surroundings], object]

CALLS = {
    "x86_64": {
        **{"ptrace": 101, "process_vm_readv": 310, "mount": 165, "unshare": 272, "setns": 308, "chroot": 161},
        **{"bpf": 321, "perf_event_open": 298, "userfaultfd": 323, "keyctl": 250, "open_by_handle_at": 304},
        **{"kcmp": 312, "memfd_create": 319, "shmget": 29, "msgget": 68, "semget": 64, "mq_open": 240},
        **{"clone": 56, "capget": 125, "pidfd_open": 434, "pidfd_getfd": 438, "io_uring_setup": 425},
        **{"inotify_init1": 294, "inotify_add_watch": 254, "kexec_load": 246, "init_module": 175},
        **{"fallocate": 285, "io_setup": 206, "io_destroy": 207, "timer_create": 222, "timer_delete": 226},
        **{"rt_sigqueueinfo": 129, "rt_tgsigqueueinfo": 297, "pidfd_send_signal": 424, "prctl": 157},
        **{"tkill": 200, "tgkill": 234},
    },
    "aarch64": {
        **{"ptrace": 117, "process_vm_readv": 270, "mount": 40, "unshare": 97, "setns": 268, "chroot": 51},
        **{"bpf": 280, "perf_event_open": 241, "userfaultfd": 282, "keyctl": 219, "open_by_handle_at": 265},
        **{"kcmp": 272, "memfd_create": 279, "shmget": 194, "msgget": 186, "semget": 190, "mq_open": 180},
        **{"clone": 220, "capget": 90, "pidfd_open": 434, "pidfd_getfd": 438, "io_uring_setup": 425},
        **{"inotify_init1": 26, "inotify_add_watch": 27, "kexec_load": 104, "init_module": 105},
        **{"fallocate": 47, "io_setup": 0, "io_destroy": 1, "timer_create": 107, "timer_delete": 111},
        **{"rt_sigqueueinfo": 138, "rt_tgsigqueueinfo": 240, "pidfd_send_signal": 424, "prctl": 167},
        **{"tkill": 130, "tgkill": 131},
    },
}[os.uname().machine]
LIBC = ctypes.CDLL(None, use_errno=True)
TIOCSTI = 0x5412


def call(name: str, *arguments: Any) -> int:
    """The system call's result. Raises OSError."""
    result = int(LIBC.syscall(CALLS[name], *arguments))
    if result < 0:
        raise OSError(ctypes.get_errno(), name)
    return result


def reached(name: str, *arguments: Any) -> bool:
    """Whether the call got past the filter to the kernel's own checks."""
    try:
        result = call(name, *arguments)
    except OSError as error:
        return error.errno not in (errno.EPERM, errno.ENOSYS)
    if result > 2:
        with contextlib.suppress(OSError):
            os.close(result)
    return True


def successes(actions: Iterable[tuple[str, Callable[[], object]]]) -> list[str]:
    done = []
    for name, action in actions:
        with contextlib.suppress(OSError, ValueError):
            action()
            done.append(name)
    return done


def _open(path: str, flags: int) -> None:
    os.close(os.open(path, flags))


# --- secrets ----------------------------------------------------------------------------------------------


def read_the_password_hashes(at: Surroundings) -> object:
    return Path("/etc/shadow").read_text()[:20]


def read_a_key_in_the_home_folder(at: Surroundings) -> object:
    return Path(at["home"], at["key"]).read_text()


def list_the_home_folder(at: Surroundings) -> object:
    return [name for name in os.listdir(at["home"]) if at["key"].startswith(name)]


def read_the_environment(at: Surroundings) -> object:
    found = [os.environ.get("ORCH_CANARY_KEY")]
    with contextlib.suppress(OSError):
        found.append("canary" if b"canary-env" in Path("/proc/self/environ").read_bytes() else None)
    return [text for text in found if text]


def read_other_processes_through_proc(at: Surroundings) -> object:
    found = []
    for pid in (at["host_pid"], at["victim"]):
        for name in ("environ", "cmdline", "maps"):
            with contextlib.suppress(OSError):
                if Path(f"/proc/{pid}/{name}").read_bytes():
                    found.append(f"{pid}/{name}")
        with contextlib.suppress(OSError):
            os.close(os.open(f"/proc/{pid}/mem", os.O_RDWR))
            found.append(f"{pid}/mem")
    return found


def read_through_a_link_into_the_home_folder(at: Surroundings) -> object:
    link = Path(at["workspace"], "link")
    with contextlib.suppress(FileExistsError):
        link.symlink_to(Path(at["home"], at["key"]))
    return link.read_text()


def read_through_another_processes_root(at: Surroundings) -> object:
    return [pid for pid in (1, at["host_pid"]) if os.path.exists(f"/proc/{pid}/root/{at['outside']}/file")]


def watch_a_folder_outside(at: Surroundings) -> object:
    watch = call("inotify_init1", 0)
    return call("inotify_add_watch", watch, os.fsencode(at["outside"]), 0x100)


# --- what no limit of the sandbox counts --------------------------------------------------------------------


def take_disk_beyond_the_size_of_a_file(at: Surroundings) -> object:
    """By `fallocate` with its modes and by `ioctl`; each leaves the size of the file, or grows it unseen."""
    path = Path(at["workspace"], "reserved")
    fd = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
    os.write(fd, bytes(8192))
    modes = {"KEEP_SIZE": 0x1, "ZERO_RANGE": 0x11, "INSERT_RANGE": 0x20, "UNSHARE_RANGE": 0x41}
    requests = {"RESVSP": 0x40305828, "RESVSP64": 0x4030582A, "ZERO_RANGE ioctl": 0x40305839}
    room = struct.pack("hhqqiI4i", 0, 0, 0, 8192, *[0] * 6)
    start, length = ctypes.c_long(4096), ctypes.c_long(8192)
    try:
        return successes(
            [
                *(
                    (name, partial(call, "fallocate", fd, mode, start, length))
                    for name, mode in modes.items()
                ),
                *((name, partial(fcntl.ioctl, fd, number, room)) for name, number in requests.items()),
            ]
        )
    finally:
        os.close(fd)
        path.unlink()


def use_up_the_events_of_the_machine(at: Surroundings) -> object:
    context = ctypes.c_ulong(0)
    call("io_setup", 1, ctypes.byref(context))
    call("io_destroy", context)
    return "fs.aio-nr"


def use_up_the_watchers_of_the_user(at: Surroundings) -> object:
    os.close(call("inotify_init1", 0))
    return "fs.inotify.max_user_instances"


def use_up_the_timers_of_the_user(at: Surroundings) -> object:
    timers = [ctypes.c_int(0) for _ in range(1000)]
    for timer in timers:
        call("timer_create", 1, None, ctypes.byref(timer))
    for timer in timers:
        call("timer_delete", timer)
    return "RLIMIT_SIGPENDING"


def use_up_the_queued_signals_of_the_user(at: Surroundings) -> object:
    """To a child that takes none of them, and so ends with them."""
    number = signal.SIGRTMIN + 6
    child = os.fork()
    if not child:
        signal.pthread_sigmask(signal.SIG_BLOCK, [number])
        with contextlib.suppress(OSError):
            for _ in range(1000):
                call("rt_sigqueueinfo", os.getpid(), number, struct.pack("iii116x", number, 0, -1))
            os._exit(0)
        os._exit(1)
    return os.waitpid(child, 0)[1] == 0


def have_what_is_stopped_continued(at: Surroundings) -> object:
    """By signals to this process, which runs, so that nothing changes: at once, later, or in the end."""
    own, number = os.getpid(), signal.SIGCONT
    queued = struct.pack("iii116x", number, 0, -1)
    reader, writer = os.pipe()
    folder, itself = os.open(at["workspace"], os.O_RDONLY), os.pidfd_open(own)

    def later() -> None:
        timer = ctypes.c_int(0)
        call("timer_create", 1, struct.pack("Qii48x", 0, number, 0), ctypes.byref(timer))
        call("timer_delete", timer)

    def as_a_parent_ends() -> None:
        call("prctl", 1, int(number), 0, 0, 0)
        call("prctl", 1, 0, 0, 0, 0)

    def as_a_child_ends() -> None:
        if (child := call("clone", int(number), 0, 0, 0, 0)) == 0:
            os._exit(0)
        os.waitpid(child, 0x40000000)

    def owned(request: int) -> None:
        fcntl.ioctl(reader, request, struct.pack("i", own))

    try:
        return successes(
            [
                ("kill", lambda: os.kill(own, number)),
                ("tkill", lambda: call("tkill", own, int(number))),
                ("tgkill", lambda: call("tgkill", own, own, int(number))),
                ("sigqueue", lambda: call("rt_sigqueueinfo", own, int(number), queued)),
                ("thread's sigqueue", lambda: call("rt_tgsigqueueinfo", own, own, int(number), queued)),
                ("pidfd", lambda: call("pidfd_send_signal", itself, int(number), 0, 0)),
                ("timer", later),
                ("parent", as_a_parent_ends),
                ("child", as_a_child_ends),
                ("F_SETSIG", lambda: fcntl.fcntl(reader, 10, number)),
                ("F_NOTIFY", lambda: fcntl.fcntl(folder, fcntl.F_NOTIFY, 0)),
                ("F_SETOWN", lambda: fcntl.fcntl(reader, fcntl.F_SETOWN, own)),
                ("F_SETOWN_EX", lambda: fcntl.fcntl(reader, 15, struct.pack("ii", 1, own))),
                ("FIOSETOWN", partial(owned, 0x8901)),
            ]
        )
    finally:
        for fd in (reader, writer, folder, itself):
            os.close(fd)


def hold_blocks_of_memory_by_pages_in_a_pipe(at: Surroundings) -> object:
    path = Path(at["workspace"], "pinned")
    path.write_bytes(bytes(8192))
    reader, writer = os.pipe()
    try:
        with path.open() as file:
            return os.sendfile(writer, file.fileno(), 4096, 1)
    finally:
        os.close(reader)
        os.close(writer)
        path.unlink()


def have_others_wait_for_a_file(at: Surroundings) -> object:
    """A lease keeps all who open a file to write it waiting; any that the user owns can have one."""
    path = Path(at["workspace"], "leased")
    path.write_text("x")
    with path.open() as file:
        fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    path.unlink()
    return "leased"


def give_a_file_attributes(at: Surroundings) -> object:
    """Some file systems let them have any size."""
    path = Path(at["workspace"], "attributed")
    path.write_text("x")
    os.setxattr(path, "user.filler", bytes(1000))
    path.unlink()
    return "user.filler"


# --- writing ----------------------------------------------------------------------------------------------


def write_outside_the_workspace(at: Surroundings) -> object:
    folders = [
        at["outside"],
        at["home"],
        "/etc",
        "/usr/local/bin",
        "/var/tmp",
        os.path.dirname(sys.executable),
    ]
    folders += [path for path in sys.path if path.endswith("site-packages")]

    def plant(folder: str) -> None:
        Path(folder, at["planted"]).write_text("x")
        os.unlink(os.path.join(folder, at["planted"]))

    return successes((folder, partial(plant, folder)) for folder in folders)


def change_attributes_outside(at: Surroundings) -> object:
    """Also through a descriptor; the mode is read back, because a call may claim to have worked."""
    path = f"{at['outside']}/file"
    before = os.stat(path)
    with contextlib.suppress(OSError):
        os.chmod(path, before.st_mode ^ 0o001)
    with contextlib.suppress(OSError):
        os.utime(path, (1, 1))
    with contextlib.suppress(OSError):
        os.setxattr(path, "user.planted", b"x")
    after = os.stat(path)
    changed = [after.st_mode != before.st_mode, after.st_mtime != before.st_mtime, bool(os.listxattr(path))]
    return any(changed)


def link_or_move_a_file_from_outside(at: Surroundings) -> object:
    outside, inside = f"{at['outside']}/file", f"{at['workspace']}/taken"

    def link() -> None:
        os.link(outside, inside)
        os.unlink(inside)

    def move() -> None:
        os.rename(outside, inside)
        os.rename(inside, outside)

    return successes([("link", link), ("rename", move)])


def make_special_files(at: Surroundings) -> object:
    workspace = at["workspace"]

    def set_id_at_creation() -> None:
        path = f"{workspace}/suid"
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o4755))
        mode = os.stat(path).st_mode
        os.unlink(path)
        if not mode & 0o4000:
            raise PermissionError

    def set_id_later() -> None:
        path = Path(workspace, "suid")
        path.touch()
        os.chmod(path, 0o4755)
        mode = path.stat().st_mode
        path.unlink()
        if not mode & 0o4000:
            raise PermissionError

    def fifo() -> None:
        os.mkfifo(f"{workspace}/fifo")
        os.unlink(f"{workspace}/fifo")

    return successes([("set-id", set_id_at_creation), ("chmod", set_id_later), ("fifo", fifo)])


def open_kernel_settings_and_devices(at: Surroundings) -> object:
    paths = ["/proc/sys/kernel/core_pattern", "/proc/sys/vm/drop_caches", "/proc/sysrq-trigger"]
    paths += ["/dev/kvm", "/dev/mem", "/dev/fuse", "/sys/fs/cgroup/cgroup.procs", "/sys/kernel/uevent_helper"]
    actions = [(path, partial(_open, path, os.O_WRONLY)) for path in paths]
    return successes([*actions, ("/proc/kcore", partial(_open, "/proc/kcore", os.O_RDONLY))])


def read_and_change_what_proc_shows_of_the_machine(at: Surroundings) -> object:
    """All but what programs need to know of it; under `/proc/sys` a few, and only to write."""
    known = {"cpuinfo", "filesystems", "loadavg", "meminfo", "mounts", "stat", "uptime", "version"}
    found = []
    for folder, folders, names in os.walk("/proc"):
        if folder == "/proc":
            folders[:] = [name for name in folders if not name.isdigit() and name not in ("self", "sys")]
            names = [name for name in names if name not in known]
        for name in names:
            for flags in (os.O_RDONLY, os.O_WRONLY):
                with contextlib.suppress(OSError):
                    os.close(os.open(f"{folder}/{name}", flags | os.O_NONBLOCK))
                    found.append(name)
    own = (
        "self/oom_score_adj",
        "self/comm",
        "self/coredump_filter",
        "sys/kernel/hostname",
        "sys/vm/swappiness",
    )
    return found + successes((name, partial(_open, f"/proc/{name}", os.O_WRONLY)) for name in own)


# --- network ----------------------------------------------------------------------------------------------


def connect_to_a_service_on_the_loopback(at: Surroundings) -> object:
    with socket.create_connection(("127.0.0.1", at["tcp"]), 1):
        return "connected"


def connect_to_the_hosts_own_address(at: Surroundings) -> object:
    with socket.create_connection((at["address"], at["tcp_any"]), 1):
        return "connected"


def send_a_datagram(at: Surroundings) -> object:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        return sender.sendto(b"canary", ("127.0.0.1", at["udp"]))


def connect_to_a_socket_in_the_workspace(at: Surroundings) -> object:
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(f"{at['workspace']}/host.sock")
        return "connected"


def connect_to_an_abstract_socket(at: Surroundings) -> object:
    with socket.socket(socket.AF_UNIX) as client:
        client.connect("\0" + at["abstract"])
        return "connected"


def point_a_socket_pair_at_another_socket(at: Surroundings) -> object:
    """A pair needs no `socket` call, and a datagram one, whatever its name, takes a new address."""

    def send(kind: int) -> None:
        one, other = socket.socketpair(socket.AF_UNIX, kind)
        with one, other:
            one.sendto(b"canary", f"{at['workspace']}/datagram.sock")
            other.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                other.recv(9)
                raise PermissionError

    return successes((str(kind), partial(send, kind)) for kind in range(16))


def make_sockets_of_unusual_families(at: Surroundings) -> object:
    families = {"vsock": 40, "netlink": 16, "packet": 17, "alg": 38, "bluetooth": 31, "inet6": 10}

    def make(family: int, kind: int) -> None:
        socket.socket(family, kind).close()

    return successes(
        (f"{name}/{kind}", partial(make, family, kind))
        for name, family in families.items()
        for kind in (1, 2, 3, 5)
    )


# --- other processes --------------------------------------------------------------------------------------


def signal_other_processes(at: Surroundings) -> object:
    return successes((str(pid), partial(os.kill, pid, 0)) for pid in (at["victim"], at["host_pid"]))


def trace_another_process(at: Surroundings) -> object:
    attach, detach = 16, 17
    call("ptrace", attach, at["victim"], 0, 0)
    os.waitpid(at["victim"], 0x40000000)
    LIBC.syscall(CALLS["ptrace"], detach, at["victim"], 0, 0)
    return "attached"


def take_a_descriptor_of_another_process(at: Surroundings) -> object:
    return call("pidfd_getfd", call("pidfd_open", at["victim"], 0), 1, 0)


def lower_the_limits_of_another_process(at: Surroundings) -> object:
    return resource.prlimit(at["victim"], resource.RLIMIT_NOFILE)


def lower_the_priority_of_another_process(at: Surroundings) -> object:
    return successes(
        [
            ("affinity", lambda: os.sched_setaffinity(at["victim"], os.sched_getaffinity(0))),
            ("priority", lambda: os.setpriority(os.PRIO_PROCESS, at["victim"], 1)),
        ]
    )


def type_into_the_terminal(at: Surroundings) -> object:
    """Only whether the filter lets the call through: without a terminal the kernel says ENOTTY."""
    reader, writer = os.pipe()
    try:
        fcntl.ioctl(reader, TIOCSTI, b"x")
    except OSError as error:
        return error.errno not in (errno.EPERM, errno.ENOSYS)
    finally:
        os.close(reader)
        os.close(writer)
    return True


def find_descriptors_of_the_host(at: Surroundings) -> object:
    harmless = ("pipe:", "/dev/null", "/proc/", "anon_inode:")
    links, channels = [], 0
    for number in range(256):
        with contextlib.suppress(OSError):
            link = os.readlink(f"/proc/self/fd/{number}")
            is_channel = link.startswith("socket:") and _is_unnamed(number)
            channels += is_channel
            if (not is_channel or channels > 2) and not _is_lock(number):
                links.append(link)
    return [link for link in links if not link.startswith(harmless)]


def _is_unnamed(number: int) -> bool:
    """Whether a descriptor is one end of a pair: the worker reads from one, and writes to another."""
    with socket.socket(fileno=os.dup(number)) as end:
        return end.family == socket.AF_UNIX and not end.getsockname() and not end.getpeername()


def _is_lock(number: int) -> bool:
    """Whether a descriptor is of an empty file without a name, which steps lock to call one at a time."""
    found = os.fstat(number)
    return stat.S_ISREG(found.st_mode) and not (found.st_nlink or found.st_size)


# --- the kernel -------------------------------------------------------------------------------------------


def make_namespaces(at: Surroundings) -> object:
    new_user, child_ended = 0x10000000, 17

    def in_a_child(action: Callable[[], object]) -> None:
        child = os.fork()
        if not child:
            try:
                action()
            except OSError:
                os._exit(1)
            os._exit(0)
        if os.waitpid(child, 0)[1]:
            raise PermissionError

    def clone() -> None:
        if call("clone", new_user | child_ended, 0, 0, 0, 0) == 0:
            os._exit(0)

    return successes(
        [
            ("unshare", lambda: in_a_child(lambda: call("unshare", new_user))),
            ("clone", lambda: in_a_child(clone)),
        ]
    )


def mount_and_change_root(at: Surroundings) -> object:
    """Arguments that the kernel refuses after its first look, so that nothing happens."""
    nowhere = b"/no/such/folder"
    return reached("mount", b"none", nowhere, b"tmpfs", 0, 0) or reached("chroot", nowhere)


def reach_calls_with_a_history(at: Surroundings) -> object:
    buffer = ctypes.create_string_buffer(256)
    calls: dict[str, tuple[Any, ...]] = {
        "io_uring_setup": (4, buffer),
        "bpf": (9999, 0, 0),
        "perf_event_open": (buffer, 0, -1, -1, 0),
        "userfaultfd": (1 << 30,),
        "keyctl": (9999, 0, 0),
        "open_by_handle_at": (-1, 0, 0),
        "kcmp": (os.getpid(), os.getpid(), 0, 0, 1),
        "process_vm_readv": (os.getpid(), 0, 0, 0, 0, 0),
        "setns": (-1, 0),
        "init_module": (0, 0, 0),
        "kexec_load": (0, 0, 0, 1 << 20),
    }
    return [name for name, arguments in calls.items() if reached(name, *arguments)]


def hold_memory_that_no_process_owns(at: Surroundings) -> object:
    private, create = 0, 0o1600

    def shared_memory() -> None:
        ctl, remove = {"x86_64": 31, "aarch64": 195}[os.uname().machine], 0
        LIBC.syscall(ctl, call("shmget", private, 4096, create), remove, 0)

    return successes(
        [
            ("memfd", lambda: os.close(call("memfd_create", b"x", 0))),
            ("shm", shared_memory),
        ]
    )


def have_capabilities(at: Surroundings) -> object:
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    data = (ctypes.c_uint32 * 6)()
    call("capget", header, data)
    return any(data)


def raise_the_own_limits(at: Surroundings) -> object:
    hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
    resource.setrlimit(resource.RLIMIT_CORE, (0, hard))
    if hard == 0:
        resource.setrlimit(resource.RLIMIT_CORE, (4096, 4096))
    resource.setrlimit(resource.RLIMIT_AS, (-1, -1))
    return "raised"


def become_another_user(at: Surroundings) -> object:
    """Root can: in a child, because there is no way back."""
    child = os.fork()
    if not child:
        try:
            os.setgroups([])
            os.setresuid(4242, 4242, 4242)
        except OSError:
            os._exit(1)
        os._exit(0)
    return os.waitpid(child, 0)[1] == 0


def attempt(name: str, at: Surroundings) -> str:
    """What came of it: "escaped: ..." or "stopped: ..."."""
    try:
        got = globals()[name](at)
    except (OSError, ValueError) as error:
        return f"stopped: {type(error).__name__}: {error}"
    return f"escaped: {got!r}"[:200] if got else "stopped: got nothing"
