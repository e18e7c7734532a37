"""Chooses the backend by running one, because a system may forbid what a version promises.

A probe starts a real worker and makes the attempts of escapes.py against real targets: listening sockets, a
file in the home folder and a process with a secret in its environment, which are made for the test and
removed after it. Bubblewrap comes first, then Landlock, then macOS's sandbox-exec; if none holds, the sandbox
refuses and says how to change that. It never falls back to running without one: `unsafe` has to be asked for
by name. The verdict can be kept for later processes (see verdicts.py).
"""

import contextlib
import os
import secrets
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from types import MappingProxyType
from typing import Any

from toolsmith.sandbox import confinement, verdicts
from toolsmith.sandbox.backends import SANDBOX_EXEC, Bubblewrap, Landlock, Seatbelt, Unconfined
from toolsmith.sandbox.bootstrap import source_of
from toolsmith.sandbox.confinement import NEEDED_ABI
from toolsmith.sandbox.session import SandboxSession
from toolsmith.sandbox.spec import (
    Backend,
    Limits,
    SandboxError,
    SandboxUnavailable,
    SelfTestFault,
    environment,
)

WALL_S = 10.0
_REQUIRED = ("write the workspace",)
# By bubblewrap, shells and locale coercion.
_SET_BY_LAUNCHERS = ("PWD", "OLDPWD", "SHLVL", "_", "HOSTNAME", "LC_CTYPE", "__CF_USER_TEXT_ENCODING")

Run = Callable[[Path, dict[str, Any], str], dict[str, bool]]
"""Runs code in a sandbox on a workspace, with variables set, and returns the value of its last line."""


@dataclass(frozen=True)
class SelfTest:
    """The attempts by outcome."""

    blocked: tuple[str, ...]
    escaped: tuple[str, ...]
    missing: tuple[str, ...] = ()
    """What code inside has to be able to do, and could not."""

    @property
    def passed(self) -> bool:
        return not self.escaped and not self.missing

    def __str__(self) -> str:
        return f"self-test {len(self.blocked)}/{len(self.blocked) + len(self.escaped)} blocked"


def self_test(backend: Backend) -> SelfTest:
    """Makes all attempts in a sandbox of `backend`. Raises SandboxError, SandboxUnavailable."""

    def run(workspace: Path, variables: dict[str, Any], code: str) -> dict[str, bool]:
        session = SandboxSession(workspace, limits=Limits(wall_s=WALL_S), backend=backend, writable=True)
        session.bindings.variables = variables
        try:
            found: dict[str, bool] = session.request({"t": "run", "number": 0, "code": code}).value
            return found
        finally:
            session.close()

    return attempt_all(run)


def attempt_all(run: Run) -> SelfTest:
    """Makes all attempts through `run`. Raises SelfTestFault, and what `run` does."""
    try:
        with selftest_env() as (workspace, at):
            succeeded = run(workspace, {"at": at}, f"{source_of('escapes')}\ntry_all(at)")
    except OSError as exc:
        raise SelfTestFault(exc) from exc
    escapes = [name for name in succeeded if name not in _REQUIRED]
    return SelfTest(
        blocked=tuple(name for name in escapes if not succeeded[name]),
        escaped=tuple(name for name in escapes if succeeded[name]),
        missing=tuple(name for name in _REQUIRED if not succeeded.get(name)),
    )


@contextmanager
def selftest_env() -> Iterator[tuple[Path, dict[str, Any]]]:
    """A workspace, and the targets around it. The listeners need not accept for a connection to succeed."""
    canary = secrets.token_hex(8)
    with ExitStack() as stack:
        outside = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="orch-probe-"))).resolve()
        workspace = outside / "workspace"
        workspace.mkdir()
        (outside / "secret").write_text(canary)
        tcp = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        udp = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        udp.bind(("127.0.0.1", 0))
        datagrams = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
        datagrams.bind(str(outside / "datagrams"))
        addresses = [str(outside / "socket"), *(["\0" + canary] if sys.platform == "linux" else [])]
        for address in addresses:
            listener = stack.enter_context(socket.socket(socket.AF_UNIX))
            listener.bind(address)
            listener.listen()
        victim = stack.enter_context(_process({"CANARY": canary}))
        yield (
            workspace,
            {
                "tcp": tcp.getsockname()[1],
                "udp": udp.getsockname()[1],
                **{"socket": addresses[0], "datagrams": datagrams.getsockname()},
                **{"abstract": canary, "canary": canary},
                **{"secret": str(outside / "secret"), "planted": str(outside / "planted")},
                "home": _folder_at_home(stack, outside),
                "names": [*environment("/tmp"), *_SET_BY_LAUNCHERS],
                **{"pid": victim.pid, "started": _start_time(victim.pid)},
            },
        )


@contextmanager
def _process(env: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    # It reads from our pipe, so it ends with this process even if that is killed.
    with subprocess.Popen(
        ["cat"], env={**env, "PATH": os.defpath}, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def _start_time(pid: int) -> str:
    """Distinguishes two processes with the same id; empty without /proc."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").split()[21]
    return ""


def _folder_at_home(stack: ExitStack, otherwise: Path) -> str:
    """A folder with a file below the home folder; `otherwise` if the user's home is not writable."""
    try:
        folder = stack.enter_context(
            tempfile.TemporaryDirectory(prefix=".orch-probe-", dir=Path.home(), ignore_cleanup_errors=True)
        )
    except (OSError, RuntimeError):
        return str(otherwise)
    Path(folder, "key").write_text("canary")
    return folder


NAMES = ("bubblewrap", "landlock", "sandbox-exec")
_UNSAFE = "unsafe"

_INSTALL = {
    "debian": "sudo apt install bubblewrap",
    "ubuntu": "sudo apt install bubblewrap",
    "fedora": "sudo dnf install bubblewrap",
    "rhel": "sudo dnf install bubblewrap",
    "arch": "sudo pacman -S bubblewrap",
    "suse": "sudo zypper install bubblewrap",
    "opensuse": "sudo zypper install bubblewrap",
    "alpine": "sudo apk add bubblewrap",
    "nixos": "nix-env -iA nixos.bubblewrap",
}
_APPARMOR = """\
sudo tee /etc/apparmor.d/bwrap >/dev/null <<'EOF'
abi <abi/4.0>,
include <tunables/global>
profile bwrap /usr/bin/bwrap flags=(unconfined) {
  userns,
}
EOF
sudo systemctl reload apparmor"""

_chosen: dict[str | None, tuple[Backend, Mapping[str, str]]] = {}
_choosing = threading.Lock()


def choose_backend(prefer: str | None = None, kept: Path | None = None) -> Backend:
    """The first backend that holds, or the one named `prefer`; the choice lasts for the process.

    "unsafe" confines nothing and is the only one that is not tested.

    Args:
        kept: a file of the user's own with the verdict of an earlier process, which is taken if it still
            counts; else that of this one is written to it.

    Raises SandboxUnavailable, with a hint, if none holds; SelfTestFault; ValueError for an unknown name.
    """
    if prefer == _UNSAFE:
        return Unconfined()
    if prefer is not None and prefer not in NAMES:
        raise ValueError(f"unknown sandbox backend {prefer!r}; known are {', '.join((*NAMES, _UNSAFE))}")
    return _choice(prefer, kept)[0]


def choose_afresh(prefer: str | None = None, kept: Path | None = None) -> Backend:
    """As `choose_backend`, but tests now, whatever was found before."""
    with _choosing:
        _chosen.clear()
    if kept is not None:
        kept.unlink(missing_ok=True)
    return choose_backend(prefer, kept)


def rejected_backends(prefer: str | None = None) -> Mapping[str, str]:
    """Why each backend before the chosen one does not work here, by its name. Raises as `choose_backend`."""
    return {} if prefer == _UNSAFE else _choice(prefer)[1]


def _choice(prefer: str | None, kept: Path | None = None) -> tuple[Backend, Mapping[str, str]]:
    names = NAMES if prefer is None else (prefer,)
    with _choosing:
        if verdicts.take_doubt():
            _chosen.clear()
        if prefer not in _chosen:
            found = _kept_choice(kept, names) if kept is not None else None
            _chosen[prefer] = found or _choose(names)
            if kept is not None and found is None:
                _keep(kept, names, *_chosen[prefer])
        return _chosen[prefer]


def _kept_choice(kept: Path, names: tuple[str, ...]) -> tuple[Backend, Mapping[str, str]] | None:
    """The backend that an earlier process has chosen, if it is one of those that are here now."""
    if (verdict := verdicts.read(kept, " ".join(names))) is None:
        return None
    here = (candidate for name in names for candidate in _candidates(name, {}))
    found = next((candidate for candidate in here if repr(candidate) == verdict.backend), None)
    return (found, MappingProxyType(verdict.failures)) if found is not None else None


def _keep(kept: Path, names: tuple[str, ...], backend: Backend, failures: Mapping[str, str]) -> None:
    best = next((candidate for name in names for candidate in _candidates(name, {})), None)
    # What failed before it may have done so because the machine was busy.
    lasts_s = verdicts.LASTS_S if best == backend else verdicts.SECOND_BEST_S
    verdict = verdicts.Verdict(repr(backend), dict(failures), lasts_s)
    verdicts.keep(kept, " ".join(names), verdict)


def _choose(names: tuple[str, ...]) -> tuple[Backend, Mapping[str, str]]:
    failures: dict[str, str] = {}
    for name in names:
        for candidate in _candidates(name, failures):
            try:
                prove(candidate)
            except SelfTestFault:
                raise
            except (SandboxError, SandboxUnavailable) as exc:
                failures[name] = str(exc)
            else:
                failures.pop(name, None)  # an earlier candidate of the same name
                return candidate, MappingProxyType(failures)
    raise SandboxUnavailable(unavailable_message(read_facts(failures)))


def _candidates(name: str, failures: dict[str, str]) -> Iterator[Backend]:
    """Backends worth a try; if there is none, the reason goes to `failures`."""
    linux = os.uname().sysname == "Linux"
    if name == "bubblewrap":
        program = verdicts.bubblewrap_program()
        if program is None:
            failures[name] = "not installed"
            return
        version = _bubblewrap_version(program)
        for hard, disable in product((True, False), (True, False)):
            yield Bubblewrap(program, version, disable_userns=disable, hard_processes=hard)
    elif name == "landlock":
        abi = confinement.abi() if linux else 0
        if abi >= NEEDED_ABI:
            yield Landlock(abi)
            yield Landlock(abi, hard_processes=False)
        elif abi:
            failures[name] = f"ABI {abi} is older than {NEEDED_ABI}"
        else:
            failures[name] = "the kernel does not offer it" if linux else "needs Linux"
    elif Path(SANDBOX_EXEC).exists():
        yield Seatbelt()
    else:
        failures[name] = "needs macOS"


def _bubblewrap_version(program: str) -> str:
    try:
        ran = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return "of unknown version"
    return ran.stdout.removeprefix("bubblewrap").strip()


def prove(backend: Backend) -> None:
    """Raises SandboxUnavailable or SandboxError unless `backend` starts and passes the self-test."""
    found = self_test(backend)
    if not found.passed:
        could = [f"could {what}" for what in found.escaped] + [f"could not {what}" for what in found.missing]
        raise SandboxUnavailable(f"{backend.detail} does not hold: code inside {', '.join(could)}")


# --- hints ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Facts:
    """What a hint depends on."""

    failures: Mapping[str, str]
    """Why each backend that was tried does not work, by its name."""
    system: str = "Linux"
    machine: str = "x86_64"
    distributions: tuple[str, ...] = ()
    """The distribution and those it descends from, as /etc/os-release names them."""
    container: bool = False
    apparmor_restricts: bool = False
    allow_userns: str | None = None
    """The command that allows user namespaces, if a sysctl forbids them."""


def hint_for(failures: Mapping[str, str]) -> str:
    """What to do so that a rejected backend works here."""
    return hint(read_facts(failures))


def read_facts(failures: Mapping[str, str]) -> Facts:
    """The facts about this system."""
    uname = os.uname()
    allow_userns = None
    if _sysctl("kernel/unprivileged_userns_clone") == "0":
        allow_userns = "sudo sysctl -w kernel.unprivileged_userns_clone=1"
    elif _sysctl("user/max_user_namespaces") == "0":
        allow_userns = "sudo sysctl -w user.max_user_namespaces=15000"
    return Facts(
        failures=dict(failures),
        system=uname.sysname,
        machine=uname.machine,
        distributions=_distributions(),
        container=any(Path(mark).exists() for mark in ("/.dockerenv", "/run/.containerenv")),
        apparmor_restricts=_sysctl("kernel/apparmor_restrict_unprivileged_userns") == "1",
        allow_userns=allow_userns,
    )


def unavailable_message(facts: Facts) -> str:
    """The reasons on the first line, the hint after it."""
    reasons = "; ".join(f"{name}: {why}" for name, why in facts.failures.items())
    return f"No sandbox works on this system ({reasons}).\n{hint(facts)}"


def hint(facts: Facts) -> str:
    """What to do so that a better sandbox works on a system like this."""
    if facts.system != "Linux":
        return "Run orch on Linux: on Windows in WSL 2, on macOS in a Linux virtual machine."
    if facts.machine not in ("x86_64", "aarch64"):
        return f"Run orch on x86_64 or aarch64: there is no system call table for {facts.machine}."
    why = facts.failures.get("bubblewrap", "")
    if why == "not installed":
        known = [_INSTALL[name] for name in facts.distributions if name in _INSTALL]
        otherwise = "with your system's package manager (package bubblewrap, program bwrap)"
        return f"Install bubblewrap: {known[0] if known else otherwise}"
    if facts.allow_userns:
        return f"Allow user namespaces: {facts.allow_userns}"
    if facts.container:
        return (
            "This container forbids user namespaces: start it with "
            f"--security-opt seccomp=unconfined, or on a kernel with Landlock ABI {NEEDED_ABI} (Linux 6.12)."
        )
    if facts.apparmor_restricts:
        return f"Allow bubblewrap to make user namespaces:\n{_APPARMOR}"
    if not why:
        return f"Use bubblewrap instead, or Linux 6.12 or newer with Landlock (ABI {NEEDED_ABI}) switched on."
    return f"See `bwrap --ro-bind / / --unshare-all true`, or use Linux 6.12 (Landlock ABI {NEEDED_ABI})."


def _distributions() -> tuple[str, ...]:
    try:
        lines = Path("/etc/os-release").read_text(encoding="utf-8").splitlines()
    except OSError:
        return ()
    fields = dict(line.split("=", 1) for line in lines if "=" in line)
    names = [fields.get("ID", ""), *fields.get("ID_LIKE", "").strip('"').split()]
    return tuple(name.strip('"') for name in names if name)


def _sysctl(name: str) -> str | None:
    try:
        return Path("/proc/sys", name).read_text(encoding="ascii").strip()
    except OSError:
        return None
