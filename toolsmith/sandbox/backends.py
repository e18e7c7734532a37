"""The backends: bubblewrap, Landlock, macOS's sandbox-exec, and none at all.

Not covered by any of them: kernel bugs, since the kernel is shared. Each class says what else it leaves open.
"""

import binascii
import mimetypes
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from toolsmith.sandbox.bootstrap import interpreter_links, path_aliases, python_folders, worker_argv
from toolsmith.sandbox.seccomp import filter_program
from toolsmith.sandbox.spec import (
    SHOWN_WORKSPACE,
    TOOL_PACKAGES,
    Enforcement,
    Launch,
    SandboxSpec,
    enforcement_by_rlimits,
    environment,
    rlimits,
)

Connections = Literal["granted", "never", "open"]

TMPFS_BYTES = 64 << 20
_TMPFS = ("/tmp", "/dev/shm")
SANDBOX_EXEC = "/usr/bin/sandbox-exec"
_ETC = (
    *("ld.so.cache", "alternatives", "localtime", "ssl/certs", "fonts"),
    # The standard library opens each of them that exists, and under Landlock they do.
    *(name.removeprefix("/etc/") for name in map(str, mimetypes.knownfiles) if name.startswith("/etc/")),
)
_SHOWN_IN_PROC = ("cpuinfo", "filesystems", "loadavg", "meminfo", "stat", "sys", "uptime", "version")
"""Besides processes and links to what they see."""
_READABLE_ON_LINUX = (
    *("/usr", "/lib", "/lib64", "/bin", "/sbin"),
    *(f"/etc/{name}" for name in _ETC),
    *("/dev/urandom", "/dev/random"),
)
_READABLE_ON_MACOS = (
    *("/usr", "/bin", "/System", "/Library/Frameworks"),
    *("/private/etc/ssl", "/private/var/db/timezone"),
)
_DEVICES_ON_MACOS = ("/dev/random", "/dev/urandom", "/dev/zero")


@dataclass(frozen=True)
class Bubblewrap:
    """The first choice: namespaces through bubblewrap at `program`, with our seccomp filter.

    The root inside is an allow-list: /usr, the interpreter, the user's packages, the workspace at /workspace.
    Everything else is absent, secrets included, and /proc can only be read. Code sees only its own processes
    and has no network interface and no capability. `disable_userns` needs version 0.8 and only doubles what
    seccomp denies.

    Not covered: /proc/self/mountinfo shows the workspace's real path to code that looks for it. Nothing is
    ever mounted below the workspace (CVE-2026-87766).
    """

    program: str
    version: str
    disable_userns: bool = True
    hard_processes: bool = True
    name: str = "bubblewrap"
    connections: Connections = "granted"
    weaknesses: tuple[str, ...] = ()

    @property
    def detail(self) -> str:
        return f"bubblewrap {self.version} at {self.program}"

    @property
    def enforcement(self) -> tuple[Enforcement, ...]:
        return enforcement_by_rlimits(hard_processes=self.hard_processes)

    def launch(self, spec: SandboxSpec, rx: int, tx: int) -> Launch:
        connections = spec.network is not None
        asks_host = self.hard_processes or connections
        program = filter_program(namespaces=True, connections=connections, asks_host=asks_host)
        seccomp = _memory_file("seccomp", program)
        # Arguments in a file, because other users can see the command line.
        given = "".join(f"--setenv\0{name}\0{value}\0" for name, value in spec.environment.items())
        arguments = _memory_file("environment", given.encode(errors="surrogateescape"))
        # A file and not a pipe: if the host dies meanwhile, writing to a pipe would end bubblewrap's first
        # process, and its second one would wait for the first for ever.
        report = os.memfd_create("report")
        return Launch(
            argv=self._arguments(spec, rx, tx, (seccomp, arguments, report)),
            env={},
            settings={
                "pid_namespace": True,
                "alone": True,
                "confine": None,
                "rlimits": rlimits(spec.limits, own_count=True),
                "scratch": None,
            },
            workspace=SHOWN_WORKSPACE,
            packages=TOOL_PACKAGES if spec.packages else None,
            passed_fds=(seccomp, arguments, report),
            pid_report=os.dup(report),
            aliases=path_aliases(spec),
            mounts=_TMPFS,
            asks_host=asks_host,
        )

    def _arguments(self, spec: SandboxSpec, rx: int, tx: int, fds: tuple[int, int, int]) -> tuple[str, ...]:
        seccomp, arguments, report = map(str, fds)
        return (
            self.program,
            *("--unshare-all", "--unshare-user"),
            *(("--disable-userns",) if self.disable_userns else ()),
            *("--new-session", "--as-pid-1", "--cap-drop", "ALL"),
            *("--uid", "1000", "--gid", "1000", "--hostname", "sandbox", "--clearenv"),
            *_system_mounts(),
            *(word for folder in python_folders() for word in ("--ro-bind", folder, folder)),
            *(word for link, target in interpreter_links().items() for word in ("--symlink", target, link)),
            *(("--ro-bind", str(spec.packages), TOOL_PACKAGES) if spec.packages else ()),
            *(("--ro-bind", str(spec.readable), str(spec.readable)) if spec.readable else ()),
            *("--bind" if spec.writable else "--ro-bind", str(spec.workspace), SHOWN_WORKSPACE),
            *("--remount-ro", "/", "--chdir", SHOWN_WORKSPACE),
            *(word for pair in environment("/tmp").items() for word in ("--setenv", *pair)),
            *("--args", arguments, "--seccomp", seccomp, "--info-fd", report, "--"),
            *worker_argv(rx, tx),
        )


def _memory_file(name: str, content: bytes) -> int:
    """A descriptor of an unnamed file, positioned at its beginning."""
    fd = os.memfd_create(name)
    os.write(fd, content)
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


def _system_mounts() -> tuple[str, ...]:
    words = ["--ro-bind", "/usr", "/usr", *_proc_mounts()]
    # Not `--dev`: its folder has no limit, its terminals take memory, and so does mapping /dev/zero.
    words += ["--tmpfs", "/dev", "--symlink", "/proc/self/fd", "/dev/fd"]
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        words += ["--symlink", f"/proc/self/fd/{number}", f"/dev/{name}"]
    for name in ("null", "random", "urandom"):
        words += ["--dev-bind", f"/dev/{name}", f"/dev/{name}"]
    for folder in _TMPFS:
        words += ["--perms", "1777", "--size", str(TMPFS_BYTES), "--tmpfs", folder]
    words += ["--remount-ro", "/dev"]
    for folder in ("bin", "sbin", "lib", "lib64"):
        if Path("/", folder).is_symlink():
            words += ["--symlink", f"usr/{folder}", f"/{folder}"]
        else:
            words += ["--ro-bind-try", f"/{folder}", f"/{folder}"]
    for name in _ETC:
        words += ["--ro-bind-try", f"/etc/{name}", f"/etc/{name}"]
    return tuple(words)


def _proc_mounts() -> tuple[str, ...]:
    """A /proc for reading only, with nothing of the machine that is not in `_SHOWN_IN_PROC`.

    Root outside keeps its rights to all of it, sysctls and interrupts among them: only mounts remove them.
    """
    words = ["--proc", "/proc"]
    for entry in sorted(Path("/proc").iterdir()):
        if entry.name in _SHOWN_IN_PROC or entry.name.isdigit() or entry.is_symlink():
            continue
        if entry.is_dir():
            words += ["--perms", "0555", "--size", "4096", "--tmpfs", str(entry), "--remount-ro", str(entry)]
        else:
            words += ["--ro-bind", "/dev/null", str(entry)]  # a device that cannot be opened
    return (*words, "--remount-ro", "/proc")


@dataclass(frozen=True)
class Landlock:
    """The second choice: the kernel's Landlock, at version `abi`, and seccomp; nothing to install.

    The worker confines itself before it runs any code (see confinement.py). It can read /usr, the interpreter
    and the user's packages; it can write the workspace and a private temporary folder. Landlock stops
    signals, abstract sockets and TCP; seccomp denies sockets, namespaces, file attributes and other
    processes.

    Not covered: see `weaknesses`.
    """

    abi: int
    hard_processes: bool = True
    name: str = "landlock"
    connections: Connections = "granted"
    weaknesses: tuple[str, ...] = (
        "The workspace has its real path inside.",
        "Code can ask whether a path outside exists, for its size and times, and where a link leads.",
        "Code can list the ids of the host's processes, but read nothing about them.",
        "chmod and utime do nothing.",
    )

    @property
    def detail(self) -> str:
        return f"Landlock ABI {self.abi} with seccomp"

    @property
    def enforcement(self) -> tuple[Enforcement, ...]:
        return enforcement_by_rlimits(hard_processes=self.hard_processes)

    def launch(self, spec: SandboxSpec, rx: int, tx: int) -> Launch:
        scratch = _scratch_folder("orch-sandbox-")
        connections = spec.network is not None
        asks_host = self.hard_processes or connections
        program = filter_program(namespaces=False, connections=connections, asks_host=asks_host)
        rules = [(path, "read") for path in (*_READABLE_ON_LINUX, *_python_and_packages(spec))]
        rules.append((str(spec.workspace), "write" if spec.writable else "read"))
        rules += [(str(scratch), "write"), ("/dev/null", "write"), ("/proc", "list")]
        confine = {"rules": rules, "filter_base64": binascii.b2a_base64(program).decode()}
        limits = rlimits(spec.limits, own_count=False)
        launch = _launch_in_place(spec, scratch, worker_argv(rx, tx), limits, confine)
        return replace(launch, asks_host=asks_host)


@dataclass(frozen=True)
class Seatbelt:
    """For macOS: `sandbox-exec` with a profile that denies by default.

    Code can read the system, the interpreter and the user's packages, and write the workspace and a private
    temporary folder; there is no network, and signals stay inside.

    Not covered: this never ran, because it needs macOS; tests cover its profile and its arguments. The probe
    refuses it if it does not hold, as on systems on which Apple has switched `sandbox-exec` off. Memory and
    processes are polled through `ps`; see `weaknesses`.
    """

    name: str = "sandbox-exec"
    detail: str = "macOS sandbox-exec"
    hard_processes: bool = False
    connections: Connections = "never"
    enforcement: tuple[Enforcement, ...] = enforcement_by_rlimits(hard_memory=False)
    weaknesses: tuple[str, ...] = (
        "A step that crashes or is ended loses the Python state.",
        "There are no namespaces and no filter of system calls.",
        "A process that leaves its family (two forks) is not counted or ended, though it stays confined.",
    )

    def launch(self, spec: SandboxSpec, rx: int, tx: int) -> Launch:
        scratch = _scratch_folder("orch-sandbox-")
        limits = rlimits(spec.limits, own_count=False)
        del limits["RLIMIT_AS"]  # macOS counts address space that no code asked for
        return _launch_in_place(spec, scratch, self.arguments(spec, scratch, rx, tx), limits)

    def arguments(self, spec: SandboxSpec, scratch: Path, rx: int, tx: int) -> tuple[str, ...]:
        """The command. Paths are parameters of the profile, so that none of them can change its meaning."""
        readable = (*_READABLE_ON_MACOS, *_python_and_packages(spec))
        given = {"WORKSPACE": str(spec.workspace), "SCRATCH": str(scratch)}
        given |= {f"READ{number}": path for number, path in enumerate(readable)}
        parameters = (word for pair in given.items() for word in ("-D", "=".join(pair)))
        rules = profile(len(readable), writable=spec.writable)
        return (SANDBOX_EXEC, *parameters, "-p", rules, *worker_argv(rx, tx))


def profile(readable: int, *, writable: bool) -> str:
    """The rules, in the language of sandbox-exec; `readable` counts the parameters READ0, READ1, …"""
    reads = " ".join(f'(subpath (param "READ{number}"))' for number in range(readable))
    devices = " ".join(f'(literal "{path}")' for path in _DEVICES_ON_MACOS)
    writes = '(subpath (param "SCRATCH"))' + (' (subpath (param "WORKSPACE"))' if writable else "")
    return "\n".join(
        [
            "(version 1)",
            "(deny default)",
            "(deny network*)",
            "(allow process-fork process-exec)",
            "(allow signal (target same-sandbox))",
            "(allow sysctl-read)",
            '(allow file-read-metadata (literal "/") (subpath "/private/var") (subpath "/usr"))',
            f'(allow file-read* {reads} {devices} (subpath (param "WORKSPACE")))',
            f'(allow file-read* file-write* {writes} (literal "/dev/null"))',
        ]
    )


@dataclass(frozen=True)
class Unconfined:
    """No sandbox, only for `choose_backend("unsafe")`: the same worker and limits, without confinement.

    Not covered: everything. Code inside can read and change all that the user can, secrets and this program
    among them, and can use the network. Limits are for accidents: code can evade them.
    """

    name: str = "unsafe"
    detail: str = "NO SANDBOX: NOTHING IS CONFINED, code written by a model has all your rights"
    hard_processes: bool = False
    connections: Connections = "open"
    enforcement: tuple[Enforcement, ...] = enforcement_by_rlimits()
    weaknesses: tuple[str, ...] = ("NOTHING IS CONFINED.",)

    def launch(self, spec: SandboxSpec, rx: int, tx: int) -> Launch:
        limits = rlimits(spec.limits, own_count=False)
        return _launch_in_place(spec, _scratch_folder("orch-unsafe-"), worker_argv(rx, tx), limits)


def _scratch_folder(prefix: str) -> Path:
    return Path(tempfile.mkdtemp(prefix=prefix)).resolve()


def _python_and_packages(spec: SandboxSpec) -> list[str]:
    return [*python_folders(), *(str(folder) for folder in (spec.packages, spec.readable) if folder)]


def _launch_in_place(
    spec: SandboxSpec,
    scratch: Path,
    argv: tuple[str, ...],
    limits: Mapping[str, int],
    confine: Mapping[str, Any] | None = None,
) -> Launch:
    """A launch without namespaces: paths inside are those of the host."""
    return Launch(
        argv=argv,
        env={**environment(str(scratch)), **spec.environment},
        settings={
            "pid_namespace": False,
            "alone": confine is not None,
            "confine": confine,
            "rlimits": limits,
            "scratch": str(scratch),
        },
        workspace=str(spec.workspace),
        packages=str(spec.packages) if spec.packages else None,
        cwd=spec.workspace,
        scratch=scratch,
        aliases={**path_aliases(spec), str(scratch): "/tmp"},
    )
