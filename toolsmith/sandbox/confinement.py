"""Landlock, seccomp and the other restrictions that a process can put on itself; runs inside the worker.

`confine` is one-way and covers the calling process and all it starts. It needs no privilege.

Not covered by Landlock, and so left to the seccomp filter: sockets other than TCP, file attributes, and calls
that name another process, except signals. `stat`, `access` and `readlink` of paths outside stay possible.
"""

import binascii
import os
import stat
import struct
from typing import Any

NEEDED_ABI = 6  # the first that keeps signals and abstract sockets inside

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_PATH_BENEATH = 1
_READ_WRITE_ALL = 0xFFFF
_READ_ONLY = 0x000D  # execute, read file, read folder
_LIST_ONLY = 0x0008
_FILE_RIGHTS = 0xC007  # execute, write, read, truncate, ioctl: what a single file can be given
_TCP = 0b11
_SCOPES = 0b11  # abstract unix sockets, signals
_RIGHTS = {"write": _READ_WRITE_ALL, "read": _READ_ONLY, "list": _LIST_ONLY}

_PR_SET_DUMPABLE, _PR_SET_SECCOMP, _PR_SET_CHILD_SUBREAPER, _PR_SET_NO_NEW_PRIVS = 4, 22, 36, 38
_SECCOMP_MODE_FILTER = 2
_SECCOMP = {"x86_64": 317, "aarch64": 277}
_SECCOMP_SET_MODE_FILTER, _NEW_LISTENER = 1, 8
_CAPSET = {"x86_64": 126, "aarch64": 91}
_CAPABILITY_VERSION_3 = 0x20080522


def abi() -> int:
    """The kernel's Landlock version; 0 if it is missing, switched off or hidden."""
    return max(0, int(_libc().syscall(_CREATE_RULESET, None, 0, 1)))


def become_subreaper() -> None:
    """Orphaned descendants become children of this process, so that none can leave its tree."""
    _check(_libc().prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), "become the subreaper")


def hide_memory() -> None:
    """Keeps other processes of the same user from opening this one's memory through /proc."""
    _check(_libc().prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0), "hide the memory")


def confine(rules: list[tuple[str, str]], filter_base64: str) -> None:
    """Confines this process. `rules`: pairs of a path and "read", "write" or "list". Raises OSError."""
    if abi() < NEEDED_ABI:
        raise OSError(f"Landlock ABI {abi()} is older than {NEEDED_ABI}")
    libc = _libc()
    attributes = struct.pack("=QQQ", _READ_WRITE_ALL, _TCP, _SCOPES)
    ruleset = _check(libc.syscall(_CREATE_RULESET, attributes, len(attributes), 0), "make a Landlock ruleset")
    for path, right in rules:
        _allow(libc, ruleset, path, _RIGHTS[right])
    _forbid_new_privileges(libc)
    # Root would otherwise keep the capability to raise its limits again.
    header = struct.pack("=Ii", _CAPABILITY_VERSION_3, 0)
    _check(libc.syscall(_CAPSET[os.uname().machine], header, bytes(24)), "drop capabilities")
    _check(libc.syscall(_RESTRICT_SELF, ruleset, 0), "enter the Landlock ruleset")
    os.close(ruleset)
    install_filter(binascii.a2b_base64(filter_base64))


def _allow(libc: Any, ruleset: int, path: str, rights: int) -> None:
    try:
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    if not stat.S_ISDIR(os.fstat(fd).st_mode):
        rights &= _FILE_RIGHTS
    rule = struct.pack("=Qi", rights, fd)
    _check(libc.syscall(_ADD_RULE, ruleset, _PATH_BENEATH, rule, 0), f"allow {path}")
    os.close(fd)


def install_filter(program: bytes) -> None:
    """Has the kernel filter this process's system calls with `program` from now on. Raises OSError."""
    import ctypes

    libc = _libc()
    _forbid_new_privileges(libc)
    code = ctypes.create_string_buffer(program, len(program))
    pointer = struct.pack("HxxxxxxQ", len(program) // 8, ctypes.addressof(code))
    _check(libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, pointer, 0, 0), "install the seccomp filter")


def ask_host(control: int, filter_base64: str) -> None:
    """Has the host answer the calls that this filter asks about, by sending it the filter's listener.

    `control`: one end of a pair of unix sockets; this closes it. Raises OSError.
    """
    import ctypes
    import socket

    program = binascii.a2b_base64(filter_base64)
    code = ctypes.create_string_buffer(program, len(program))
    pointer = struct.pack("HxxxxxxQ", len(program) // 8, ctypes.addressof(code))
    libc = _libc()
    _forbid_new_privileges(libc)
    number = _SECCOMP[os.uname().machine]
    listener = libc.syscall(number, _SECCOMP_SET_MODE_FILTER, _NEW_LISTENER, pointer)
    _check(listener, "let the host answer calls")
    with socket.socket(fileno=control) as channel:
        socket.send_fds(channel, [b"x"], [listener])
    os.close(listener)


def _forbid_new_privileges(libc: Any) -> None:
    _check(libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "forbid new privileges")


def _libc() -> Any:
    import ctypes  # not at the top: under bubblewrap it would cost each start for nothing

    return ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> int:
    if result < 0:
        import ctypes

        number = ctypes.get_errno()
        raise OSError(number, f"cannot {what}: {os.strerror(number)}")
    return result
