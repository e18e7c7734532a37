"""The filter program, run by a small interpreter of its instructions: so both machines are tested on one."""

import struct

import pytest

from toolsmith.sandbox.seccomp import DENIED, MACHINES, asking_program, filter_program

ALLOW, KILL, ASK = "allow", "kill", "ask the host"
X86, ARM = "x86_64", "aarch64"


def judge(program: bytes, machine: str, number: int, *arguments: int, arch: int | None = None) -> str | int:
    """What the kernel would do with the call: "allow", "kill", "ask the host" or the error number."""
    padded = [*arguments, *[0] * (6 - len(arguments))]
    data = struct.pack("=IIQ6Q", number, MACHINES[machine][1] if arch is None else arch, 0, *padded)
    code = list(struct.iter_unpack("=HBBI", program))
    position, register = 0, 0
    while True:
        operation, if_true, if_false, value = code[position]
        position += 1
        if operation == 0x20:
            register = int(struct.unpack_from("=I", data, value)[0])
        elif operation == 0x54:
            register &= value
        elif operation == 0x15:
            position += if_true if register == value else if_false
        elif operation == 0x35:
            position += if_true if register >= value else if_false
        elif operation == 0x06:
            answers: dict[int, str | int] = {0x7FFF0000: ALLOW, 0x80000000: KILL, 0x7FC00000: ASK}
            return answers.get(value, int(value) & 0xFFFF)
        else:
            raise AssertionError(f"unknown instruction {operation:#x}")


@pytest.mark.parametrize("machine", [X86, ARM])
@pytest.mark.parametrize("namespaces", [True, False])
def test_every_call_of_the_list_is_denied_and_ordinary_ones_are_not(machine: str, namespaces: bool) -> None:
    program = filter_program(namespaces=namespaces, machine=machine)
    column = MACHINES[machine][0]
    for name, numbers in DENIED.items():
        if (number := numbers[column]) is not None:
            assert judge(program, machine, number) == 1, name
    ordinary = {
        X86: (0, 1, 3, 9, 39, 59, 60, 202, 231, 262),
        ARM: (63, 64, 57, 222, 172, 221, 93, 98, 94, 79),
    }
    for number in ordinary[machine]:
        assert judge(program, machine, number, 1, 2, 3) == ALLOW


@pytest.mark.parametrize("machine", [X86, ARM])
def test_other_conventions_are_killed_and_newer_calls_unknown(machine: str) -> None:
    program = filter_program(namespaces=True, machine=machine)
    assert judge(program, machine, 0, arch=0x40000003) == KILL
    assert judge(program, machine, 463) == 38
    assert judge(program, machine, 0x40000000 + 59) == 38
    assert judge(program, machine, 435) == 38, "clone3"


@pytest.mark.parametrize(("machine", "clone", "ioctl"), [(X86, 56, 16), (ARM, 220, 29)])
def test_arguments_decide_where_the_call_alone_does_not(machine: str, clone: int, ioctl: int) -> None:
    program = filter_program(namespaces=True, machine=machine)
    assert judge(program, machine, clone, 0x1200011) == ALLOW, "fork"
    assert judge(program, machine, clone, 0x3D0F00) == ALLOW, "thread"
    assert judge(program, machine, clone, 0x3D0B00) == 1, "thread with descriptors of its own"
    for flag in (0x10000000, 0x20000000, 0x00020000, 0x40000000, 0x04000000, 0x08000000, 0x02000000, 0x80):
        assert judge(program, machine, clone, flag | 17) == 1, hex(flag)
    assert judge(program, machine, ioctl, 0, 0x5401) == ALLOW
    assert judge(program, machine, ioctl, 0, 0x5412) == 1
    assert judge(program, machine, ioctl, 0, 0x541C) == 1


@pytest.mark.parametrize(("machine", "socketpair"), [(X86, 53), (ARM, 199)])
def test_only_pairs_that_stay_connected_are_allowed(machine: str, socketpair: int) -> None:
    program = filter_program(namespaces=True, machine=machine)
    cloexec = 0o2000000
    assert judge(program, machine, socketpair, 1, 1 | cloexec) == ALLOW
    assert judge(program, machine, socketpair, 1, 5) == ALLOW
    others = [kind for kind in range(16) if kind not in (1, 5)]
    assert {judge(program, machine, socketpair, 1, kind | cloexec) for kind in others} == {1}
    assert {judge(program, machine, socketpair, family, 1) for family in (0, 2, 10, 16, 30, 40)} == {1}


@pytest.mark.parametrize(
    ("machine", "number", "mode_at"), [(X86, 90, 1), (X86, 91, 1), (X86, 268, 2), (ARM, 52, 1), (ARM, 53, 2)]
)
def test_set_id_bits_cannot_be_given(machine: str, number: int, mode_at: int) -> None:
    arguments = [0, 0, 0]
    for namespaces, ordinary in ((True, ALLOW), (False, 0)):
        program = filter_program(namespaces=namespaces, machine=machine)
        arguments[mode_at] = 0o755
        assert judge(program, machine, number, *arguments) == ordinary
        for bits in (0o4755, 0o2755, 0o6000):
            arguments[mode_at] = bits
            assert judge(program, machine, number, *arguments) == 1


@pytest.mark.parametrize(("machine", "openat"), [(X86, 257), (ARM, 56)])
def test_a_file_cannot_be_created_with_set_id_bits(machine: str, openat: int) -> None:
    program = filter_program(namespaces=True, machine=machine)
    directory = {X86: 0o200000, ARM: 0o40000}[machine]
    unnamed = 0o20000000 | directory | 2  # O_TMPFILE | O_RDWR, which linkat gives a name later
    assert judge(program, machine, openat, 0, 0, unnamed, 0o600) == ALLOW
    assert [judge(program, machine, openat, 0, 0, unnamed, bits) for bits in (0o4755, 0o2755)] == [1, 1]
    if machine == X86:
        assert judge(program, machine, 2, 0, unnamed, 0o4755) == 1, "open"
        assert judge(program, machine, 85, 0, 0o4755) == 1, "creat"
    assert judge(program, machine, openat, 0, 0, 0o101, 0o644) == ALLOW
    assert judge(program, machine, openat, 0, 0, 0o101, 0o4755) == 1
    assert judge(program, machine, openat, 0, 0, 0o1, 0o4755) == ALLOW, "no O_CREAT: the mode means nothing"


@pytest.mark.parametrize(("machine", "mmap"), [(X86, 9), (ARM, 222)])
def test_shared_memory_without_a_file_is_denied(machine: str, mmap: int) -> None:
    program = filter_program(namespaces=True, machine=machine)
    shared, private, validated, anonymous = 1, 2, 3, 0x20
    assert judge(program, machine, mmap, 0, 4096, 3, private | anonymous) == ALLOW
    assert judge(program, machine, mmap, 0, 4096, 3, shared) == ALLOW, "of a file"
    for kind in (shared, validated):
        assert judge(program, machine, mmap, 0, 4096, 3, kind | anonymous) == 1


@pytest.mark.parametrize(("machine", "fallocate", "ioctl"), [(X86, 285, 16), (ARM, 47, 29)])
def test_disk_that_no_size_shows_is_not_supported(machine: str, fallocate: int, ioctl: int) -> None:
    program = filter_program(namespaces=True, machine=machine)
    assert judge(program, machine, fallocate, 3, 0, 0, 4096) == ALLOW, "as posix_fallocate does"
    assert judge(program, machine, fallocate, 3, 0x3, 0, 4096) == ALLOW, "a hole"
    others = (0x1, 0x8, 0x10, 0x11, 0x20, 0x40, 0x41, 0x80, 0x100)
    assert {judge(program, machine, fallocate, 3, mode, 0, 4096) for mode in others} == {95}
    assert judge(program, machine, ioctl, 3, 0x40305828) == 95


@pytest.mark.parametrize(("machine", "calls"), [(X86, (206, 253, 294)), (ARM, (0, 26))])
@pytest.mark.parametrize("namespaces", [True, False])
def test_what_all_users_share_is_not_there(machine: str, calls: tuple[int, ...], namespaces: bool) -> None:
    program = filter_program(namespaces=namespaces, machine=machine)
    assert {judge(program, machine, number, 1) for number in calls} == {38}


@pytest.mark.parametrize(("machine", "sendfile", "timer_create"), [(X86, 40, 222), (ARM, 71, 107)])
def test_programs_do_without_what_the_kernel_may_lack(machine: str, sendfile: int, timer_create: int) -> None:
    program = filter_program(namespaces=True, machine=machine)
    assert {judge(program, machine, number, 1) for number in (sendfile, timer_create)} == {38}


@pytest.mark.parametrize(("machine", "seccomp", "prctl"), [(X86, 317, 157), (ARM, 277, 167)])
def test_no_rules_can_be_added_after_the_last_filter(machine: str, seccomp: int, prctl: int) -> None:
    first = filter_program(namespaces=True, asks_host=True, machine=machine)
    assert judge(first, machine, seccomp, 1, 8) == ALLOW, "the worker's second filter"
    for program in (
        filter_program(namespaces=True, machine=machine),
        asking_program(connections=True, machine=machine),
    ):
        assert judge(program, machine, seccomp, 1, 0) == 38
        assert judge(program, machine, prctl, 22, 2) == 22
        assert judge(program, machine, prctl, 21) == ALLOW, "PR_GET_SECCOMP"
    assert {judge(first, machine, number) for number in (444, 445, 446)} == {38}, "Landlock"


# Calls that take a signal, and at which argument.
SIGNALLING = {
    X86: {62: 1, 200: 1, 234: 2, 129: 1, 297: 2, 424: 1},
    ARM: {129: 1, 130: 1, 131: 2, 138: 1, 240: 2, 424: 1},
}


@pytest.mark.parametrize(("machine", "clone", "prctl", "fcntl"), [(X86, 56, 157, 72), (ARM, 220, 167, 25)])
def test_nothing_inside_can_have_sigcont_sent(machine: str, clone: int, prctl: int, fcntl: int) -> None:
    program = filter_program(namespaces=True, machine=machine)
    stop, cont = 19, 18
    for number, at in SIGNALLING[machine].items():
        arguments = [cont - 1] * at
        assert judge(program, machine, number, *arguments, cont) == 1
        assert judge(program, machine, number, *arguments, stop) == ALLOW
    assert judge(program, machine, prctl, 1, cont) == 1, "as the parent ends"
    assert judge(program, machine, prctl, 1, 9) == ALLOW
    assert judge(program, machine, prctl, 4, cont) == ALLOW, "not PR_SET_PDEATHSIG"
    assert judge(program, machine, clone, 0x1200000 | cont) == 1, "as the child ends"
    assert {judge(program, machine, fcntl, 3, command) for command in (10, 1026, 8, 15)} == {1}
    assert {judge(program, machine, fcntl, 3, command) for command in (1, 2, 3, 4, 9, 1030)} == {ALLOW}


@pytest.mark.parametrize(("machine", "calls"), [(X86, (191, 192, 194, 195)), (ARM, (8, 9, 11, 12))])
def test_without_namespaces_no_path_has_attributes(machine: str, calls: tuple[int, ...]) -> None:
    program = filter_program(namespaces=False, machine=machine)
    assert {judge(program, machine, number) for number in calls} == {95}
    assert judge(filter_program(namespaces=True, machine=machine), machine, calls[0]) == ALLOW


@pytest.mark.parametrize(("machine", "starts"), [(X86, (56, 57, 58)), (ARM, (220,))])
@pytest.mark.parametrize("connections", [True, False])
def test_the_host_is_asked_before_a_process_starts(
    machine: str, starts: tuple[int, ...], connections: bool
) -> None:
    program = asking_program(connections=connections, machine=machine)
    assert {judge(program, machine, number, 0x1200011) for number in starts} == {ASK}
    socket = {X86: 41, ARM: 198}[machine]
    assert judge(program, machine, socket, 2, 1) == (ASK if connections else ALLOW)
    assert judge(program, machine, 1 if machine == X86 else 64) == ALLOW


@pytest.mark.parametrize(("machine", "prlimit"), [(X86, 302), (ARM, 261)])
def test_without_namespaces_only_the_own_process_can_be_limited(machine: str, prlimit: int) -> None:
    program = filter_program(namespaces=False, machine=machine)
    assert judge(program, machine, prlimit, 0, 7) == ALLOW
    assert judge(program, machine, prlimit, 1234, 7) == 1


@pytest.mark.parametrize(("machine", "socket", "connect"), [(X86, 41, 42), (ARM, 198, 203)])
@pytest.mark.parametrize("namespaces", [True, False])
def test_with_a_grant_the_host_is_asked_for_internet_streams_only(
    machine: str, socket: int, connect: int, namespaces: bool
) -> None:
    program = filter_program(namespaces=namespaces, connections=True, machine=machine)
    asks = asking_program(connections=True, machine=machine)
    flags = 0o2004000  # close on exec, not blocking
    for family, kind in ((2, 1), (10, 1), (2, 1 | flags)):
        assert judge(program, machine, socket, family, kind) == ASK
        assert judge(asks, machine, socket, family, kind) == ASK
    for family, kind in ((2, 2), (2, 3), (10, 2), (1, 1), (1, 2), (16, 3), (17, 3), (40, 1), (38, 5), (0, 1)):
        assert judge(program, machine, socket, family, kind) == 1
        assert judge(asks, machine, socket, family, kind) == ALLOW, "what the other filter denies"
    assert judge(program, machine, connect, 3) == 0, "says that it worked, and does nothing"
    without = filter_program(namespaces=namespaces, machine=machine)
    assert judge(without, machine, socket, 2, 1) == 1
    assert judge(without, machine, connect, 3) == 1


def test_an_unknown_machine_is_refused() -> None:
    with pytest.raises(OSError, match="no seccomp table for riscv64"):
        filter_program(namespaces=True, machine="riscv64")
