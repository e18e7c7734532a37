"""The seccomp filters of the sandbox.

The rules are an explicit deny-list, on top of file and process isolation: kernel interfaces with a long
history of bugs, all ways to sockets (except those that the host gives out), namespaces and mounts, memory and
disk that no limit counts, ways to wake what the host has stopped, and numbers that all programs of a user or
of the machine share. Calls newer than this table fail with ENOSYS, so that programs fall back to older ones.

A second filter asks the host (SECCOMP_RET_USER_NOTIF) before a process or a thread starts, and for each
internet stream socket if connections are granted; see listener.py.

Not covered: the filter sees numbers only, never memory that an argument points to. 32-bit programs are
killed. Machines other than x86_64 and aarch64 are refused.
"""

import os
import struct
from dataclasses import dataclass

EPERM, EINVAL, ENOSYS, ENOTSUP = 1, 22, 38, 95
NEWER_THAN_TABLE = 463  # setxattrat, the first call that this table does not know
MACHINES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}

_LOAD, _RETURN, _EQUAL, _AT_LEAST, _ANY_BIT, _MASK = 0x20, 0x06, 0x15, 0x35, 0x45, 0x54
_ALLOW, _KILL, _ERRNO, _ASK = 0x7FFF0000, 0x80000000, 0x00050000, 0x7FC00000
_NR_OFFSET, _ARCH_OFFSET, _ARGS_OFFSET = 0, 4, 16

# name: number on x86_64, number on aarch64; None if the machine lacks the call.
Table = dict[str, tuple[int | None, int | None]]

DENIED: Table = {
    # other processes' memory
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "process_madvise": (440, 440),
    "kcmp": (312, 272),
    "pidfd_getfd": (438, 438),
    # mounts and namespaces
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "unshare": (272, 97),
    "setns": (308, 268),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    "mknod": (133, None),
    "mknodat": (259, 33),
    # kernel interfaces that steps have no use for
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "keyctl": (250, 219),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "fanotify_init": (300, 262),
    "lookup_dcookie": (212, 18),
    "personality": (135, 92),
    "migrate_pages": (256, 238),
    "move_pages": (279, 239),
    "nfsservctl": (180, 42),
    "uselib": (134, None),
    "ustat": (136, None),
    "modify_ldt": (154, None),
    "iopl": (172, None),
    "ioperm": (173, None),
    "vhangup": (153, 58),
    # the machine
    "reboot": (169, 142),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "acct": (163, 89),
    "syslog": (103, 116),
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    "settimeofday": (164, 170),
    "clock_settime": (227, 112),
    "adjtimex": (159, 171),
    "clock_adjtime": (305, 266),
    # memory that belongs to no process, so that no limit would count it, and queues of other programs
    "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
    "shmget": (29, 194),
    "shmat": (30, 196),
    "shmctl": (31, 195),
    "shmdt": (67, 197),
    "msgget": (68, 186),
    "msgsnd": (69, 189),
    "msgrcv": (70, 188),
    "msgctl": (71, 187),
    "semget": (64, 190),
    "semop": (65, 193),
    "semtimedop": (220, 192),
    "semctl": (66, 191),
    "mq_open": (240, 180),
    "mq_unlink": (241, 181),
    "mq_notify": (244, 184),
    # sockets; pairs of connected ones stay, see CONDITIONAL
    "socket": (41, 198),
    "connect": (42, 203),
    "bind": (49, 200),
    "listen": (50, 201),
    "accept": (43, 202),
    "accept4": (288, 242),
}

# Without namespaces of its own, code could change what Landlock does not protect: attributes of files that it
# may not write, and the priorities and limits of the user's other processes.
DENIED_WITHOUT_NAMESPACES: Table = {
    "chown": (92, None),
    "fchown": (93, 55),
    "lchown": (94, None),
    "fchownat": (260, 54),
    "removexattr": (197, 14),
    "lremovexattr": (198, 15),
    "fremovexattr": (199, 16),
    "setpriority": (141, 140),
}
# These return success and do nothing: shutil.copy and tarfile fail when they are refused.
IGNORED_WITHOUT_NAMESPACES: Table = {
    "chmod": (90, None),
    "fchmod": (91, 52),
    "fchmodat": (268, 53),
    "fchmodat2": (452, 452),
    "utime": (132, None),
    "utimes": (235, None),
    "futimesat": (261, None),
    "utimensat": (280, 88),
}
# Some file systems let a file have attributes of any size, and no limit counts them.
SETS_ATTRIBUTES: Table = {
    "setxattr": (188, 5),
    "lsetxattr": (189, 6),
    "fsetxattr": (190, 7),
}
# Landlock does not cover these, which take a path. The answer is that of a file system without attributes.
WITHOUT_ATTRIBUTES: Table = {
    "getxattr": (191, 8),
    "lgetxattr": (192, 9),
    "listxattr": (194, 11),
    "llistxattr": (195, 12),
}
OWN_PROCESS_ONLY: Table = {  # first argument: a process, 0 for oneself
    "prlimit64": (302, 261),
    "sched_setparam": (142, 118),
    "sched_setscheduler": (144, 119),
    "sched_setaffinity": (203, 122),
    "sched_setattr": (314, 274),
}
ENDED_BY_ENOSYS: Table = {
    # their arguments are in memory
    "clone3": (435, 435),
    "openat2": (437, 437),
    # a page in a pipe or a socket keeps the whole block of memory that it was part of
    "sendfile": (40, 71),
    "splice": (275, 76),
    "tee": (276, 77),
    "vmsplice": (278, 75),
    # programs of the host draw on the same number, of the machine's events and of the user's watchers
    "io_setup": (206, 0),
    "inotify_init": (253, None),
    "inotify_init1": (294, 26),
    # its signal, which is in memory, can be SIGCONT, see WAKES_THE_STOPPED
    "timer_create": (222, 107),
    # megabytes of rules for each descriptor; the worker has entered its own rules before
    "landlock_create_ruleset": (444, 444),
    "landlock_add_rule": (445, 445),
    "landlock_restrict_self": (446, 446),
}


@dataclass(frozen=True)
class Test:
    """A condition on the low 32 bits of one argument: `value & mask` is, or is not, `equals`."""

    argument: int
    mask: int
    equals: int = 0
    negated: bool = False


@dataclass(frozen=True)
class Rule:
    """Answers call `number` with `errno` if all tests hold; the first rule that holds decides.

    `ask_host`: the host answers instead, through a listener. Without one the call fails with ENOSYS.
    """

    number: int
    errno: int
    tests: tuple[Test, ...] = ()
    ask_host: bool = False


_NEW_NAMESPACES = 0x7E020080  # CLONE_NEW*
_SET_ID_BITS = 0o6000
_MAKES_A_FILE = 0o100 | 0o20000000  # O_CREAT, __O_TMPFILE
_SHARES_FILES, _NEW_THREAD = 0x400, 0x10000  # CLONE_FILES, CLONE_THREAD
_PUNCH_HOLE = 0x3  # FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE
_SHARED_ANONYMOUS = 0x21  # MAP_SHARED or MAP_SHARED_VALIDATE, and MAP_ANONYMOUS
_SOL_SOCKET = 1
_HOLDS_MEMORY = (7, 8, 32, 33, 26, 50, 51, 52)  # SO_SNDBUF, SO_RCVBUF, both with FORCE, SO_ATTACH_*
_ALL = 0xFFFFFFFF
_SIGCONT = 18

CONDITIONAL: list[tuple[tuple[int | None, int | None], tuple[Test, ...]]] = [
    ((56, 220), (Test(0, _NEW_NAMESPACES, negated=True),)),  # clone into new namespaces
    # a thread with descriptors of its own, which those of its process do not show
    ((56, 220), (Test(0, _NEW_THREAD | _SHARES_FILES, _NEW_THREAD),)),
    ((72, 25), (Test(1, _ALL, 1024),)),  # fcntl F_SETLEASE: all who open the file would have to wait
    ((72, 25), (Test(1, _ALL, 1031),)),  # fcntl F_SETPIPE_SZ: a pipe would hold more than counts for it
    ((16, 29), (Test(1, _ALL, 0x5412),)),  # ioctl TIOCSTI: typing into the terminal
    ((16, 29), (Test(1, _ALL, 0x541C),)),  # ioctl TIOCLINUX
    # setsockopt: buffers larger than those that count, and filters, which are memory too
    *(((54, 208), (Test(1, _ALL, _SOL_SOCKET), Test(2, _ALL, option))) for option in _HOLDS_MEMORY),
    # socketpair: only of the kinds that stay connected, streams and packets in order. Any other unix pair is
    # of datagrams, whatever its name, and could be pointed at another address.
    ((53, 199), (Test(0, _ALL, 1, negated=True),)),
    ((53, 199), tuple(Test(1, 0xF, kind, negated=True) for kind in (1, 5))),
    ((90, None), (Test(1, _SET_ID_BITS, negated=True),)),  # chmod, fchmod, fchmodat, fchmodat2
    ((91, 52), (Test(1, _SET_ID_BITS, negated=True),)),
    ((268, 53), (Test(2, _SET_ID_BITS, negated=True),)),
    ((452, 452), (Test(2, _SET_ID_BITS, negated=True),)),
    ((85, None), (Test(1, _SET_ID_BITS, negated=True),)),  # creat
    ((2, None), (Test(1, _MAKES_A_FILE, negated=True), Test(2, _SET_ID_BITS, negated=True))),  # open
    ((257, 56), (Test(2, _MAKES_A_FILE, negated=True), Test(3, _SET_ID_BITS, negated=True))),  # openat
    # mmap: what is unmapped of such memory stays, and no process seems to hold it.
    ((9, 222), (Test(3, _SHARED_ANONYMOUS, _SHARED_ANONYMOUS),)),
]
# What the host has stopped must stay stopped, so nothing inside can have SIGCONT sent, at once or later.
WAKES_THE_STOPPED: list[tuple[tuple[int | None, int | None], tuple[Test, ...]]] = [
    ((62, 129), (Test(1, _ALL, _SIGCONT),)),  # kill
    ((200, 130), (Test(1, _ALL, _SIGCONT),)),  # tkill
    ((234, 131), (Test(2, _ALL, _SIGCONT),)),  # tgkill
    ((129, 138), (Test(1, _ALL, _SIGCONT),)),  # rt_sigqueueinfo
    ((297, 240), (Test(2, _ALL, _SIGCONT),)),  # rt_tgsigqueueinfo
    ((424, 424), (Test(1, _ALL, _SIGCONT),)),  # pidfd_send_signal
    ((157, 167), (Test(0, _ALL, 1), Test(1, _ALL, _SIGCONT))),  # prctl PR_SET_PDEATHSIG
    ((56, 220), (Test(0, 0xFF, _SIGCONT),)),  # clone: what the parent gets as the child ends
    # fcntl F_SETSIG and F_NOTIFY choose a signal, F_SETOWN and F_SETOWN_EX who gets it
    *(((72, 25), (Test(1, _ALL, command),)) for command in (10, 1026, 8, 15)),
    *(((16, 29), (Test(1, _ALL, request),)) for request in (0x8901, 0x8902)),  # ioctl FIOSETOWN, SIOCSPGRP
]
# Disk that the limit of a file's size does not see. The answer is that of a file system that lacks the call.
UNCOUNTED_DISK: list[tuple[tuple[int | None, int | None], tuple[Test, ...]]] = [
    # fallocate: besides the mode that the limit does see, only the one that gives room back
    ((285, 47), (Test(1, _ALL, 0, negated=True), Test(1, _ALL, _PUNCH_HOLE, negated=True))),
    # ioctl FS_IOC_RESVSP, FS_IOC_RESVSP64, FS_IOC_ZERO_RANGE; FS_IOC_FSSETXATTR, how much a first byte takes
    *(((16, 29), (Test(1, _ALL, request),)) for request in (0x40305828, 0x4030582A, 0x40305839, 0x401C5820)),
]


def filter_program(
    *, namespaces: bool, connections: bool = False, asks_host: bool = False, machine: str | None = None
) -> bytes:
    """The filter as an array of `struct sock_filter`.

    `namespaces`: whether the code has process and mount namespaces of its own; without them more is denied.
    `connections`: whether the host is asked for internet stream sockets; all other sockets stay denied.
    `asks_host`: whether `asking_program` is still to be installed; otherwise no filter can be after this one.
    Raises OSError on a machine without a table.
    """
    column, arch = _machine(machine)
    newer_calls = [  # and x32 calls, whose numbers are high
        _instruction(_AT_LEAST, NEWER_THAN_TABLE, if_false=1),
        _instruction(_RETURN, _ERRNO | ENOSYS),
    ]
    granted = _connection_rules(column) if connections else []
    last = [] if asks_host else _no_more_filters(column)
    return _program(_opening(arch) + newer_calls, last + granted + _rules(column, namespaces))


def asking_program(*, connections: bool, machine: str | None = None) -> bytes:
    """The filter whose listener the host receives: it asks about each new process and thread.

    `connections`: also about internet stream sockets. It is the last one. Raises OSError as above.
    """
    column, _ = _machine(machine)
    rules = [Rule(number, 0, ask_host=True) for number in process_calls(machine)]
    rules += _connection_rules(column)[:1] if connections else []
    return assembled(rules + _no_more_filters(column), machine=machine)


def process_calls(machine: str | None = None) -> tuple[int, ...]:
    """The calls that start a process or a thread, `clone` first. Raises OSError as above."""
    return ((56, 57, 58), (220,))[_machine(machine)[0]]  # clone, fork, vfork


def _no_more_filters(column: int) -> list[Rule]:
    """A filter is memory that no limit counts. The answers are those of a kernel without filters."""
    seccomp, prctl = ((317, 157), (277, 167))[column]
    return [Rule(seccomp, ENOSYS), Rule(prctl, EINVAL, (Test(0, _ALL, 22),))]  # PR_SET_SECCOMP


def _connection_rules(column: int) -> list[Rule]:
    """The host hands out connected sockets, so `connect` has nothing left to do."""
    socket, connect, setsockopt = ((41, 42, 54), (198, 203, 208))[column]
    internet = Test(0, _ALL ^ 0x8, 2)  # AF_INET is 2, AF_INET6 is 10
    stream, of_tcp = Test(1, 0xF, 1), Test(1, _ALL, 6)
    return [
        Rule(socket, 0, (internet, stream), ask_host=True),
        Rule(connect, 0),
        Rule(setsockopt, 0, (of_tcp,)),  # such as TCP_NODELAY, which these sockets lack
    ]


def assembled(rules: list[Rule], *, machine: str | None = None) -> bytes:
    """A filter of only these rules; all other calls are allowed. Raises OSError as above."""
    return _program(_opening(_machine(machine)[1]), rules)


def _machine(name: str | None) -> tuple[int, int]:
    name = name or os.uname().machine
    if name not in MACHINES:
        raise OSError(ENOSYS, f"no seccomp table for {name}; only x86_64 and aarch64 have one")
    return MACHINES[name]


def _program(opening: list[bytes], rules: list[Rule]) -> bytes:
    program = list(opening)
    for rule in rules:
        program += _assemble(rule)
    return b"".join([*program, _instruction(_RETURN, _ALLOW)])


def _rules(column: int, namespaces: bool) -> list[Rule]:
    def simple(table: Table, errno: int, *tests: Test) -> list[Rule]:
        numbers = [numbers[column] for numbers in table.values()]
        return [Rule(number, errno, tests) for number in numbers if number is not None]

    rules = simple(DENIED, EPERM) + simple(ENDED_BY_ENOSYS, ENOSYS)
    rules += simple(SETS_ATTRIBUTES, ENOTSUP)
    for table, errno in ((CONDITIONAL, EPERM), (WAKES_THE_STOPPED, EPERM), (UNCOUNTED_DISK, ENOTSUP)):
        for numbers, tests in table:
            if (number := numbers[column]) is not None:
                rules.append(Rule(number, errno, tests))
    if not namespaces:
        rules += simple(DENIED_WITHOUT_NAMESPACES, EPERM)
        rules += simple(IGNORED_WITHOUT_NAMESPACES, 0)
        rules += simple(WITHOUT_ATTRIBUTES, ENOTSUP)
        rules += simple(OWN_PROCESS_ONLY, EPERM, Test(0, _ALL, 0, negated=True))
        ioprio_set = (251, 30)[column]
        rules.append(Rule(ioprio_set, EPERM, (Test(1, _ALL, 0, negated=True),)))
    return rules


def _opening(arch: int) -> list[bytes]:
    """Kills processes that use other call conventions, and leaves the call's number loaded."""
    return [
        _instruction(_LOAD, _ARCH_OFFSET),
        _instruction(_EQUAL, arch, if_true=1),
        _instruction(_RETURN, _KILL),
        _instruction(_LOAD, _NR_OFFSET),
    ]


def _assemble(rule: Rule) -> list[bytes]:
    """The rule's instructions; they leave the call's number loaded for the rule that follows."""
    answer = _instruction(_RETURN, _ASK if rule.ask_host else _ERRNO | rule.errno)
    if not rule.tests:
        return [_instruction(_EQUAL, rule.number, if_false=1), answer]
    body: list[bytes] = []
    for index, test in enumerate(rule.tests):
        beyond = 3 * (len(rule.tests) - index - 1) + 1  # past the tests that follow, and the answer
        body.append(_instruction(_LOAD, _ARGS_OFFSET + 8 * test.argument))
        body.append(_instruction(_MASK, test.mask))
        jump = {"if_true": beyond} if test.negated else {"if_false": beyond}
        body.append(_instruction(_EQUAL, test.equals, **jump))
    body += [answer, _instruction(_LOAD, _NR_OFFSET)]
    return [_instruction(_EQUAL, rule.number, if_false=len(body)), *body]


def _instruction(code: int, value: int, *, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, value)
