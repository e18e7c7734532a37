"""What to do when no sandbox works here: facts about the system, and the advice that follows from them."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from toolsmith.sandbox.container import IMAGE
from toolsmith.sandbox.landlock import NEEDED_ABI

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


@dataclass(frozen=True)
class Facts:
    """What the advice depends on."""

    failures: Mapping[str, str]
    """Why each backend that was tried does not work, by its name."""
    system: str = "Linux"
    machine: str = "x86_64"
    distributions: tuple[str, ...] = ()
    """The distribution and those it descends from, as /etc/os-release names them."""
    container: bool = False
    apparmor_restricts: bool = False
    userns_switched_off: str | None = None
    """The command that allows user namespaces, where a sysctl forbids them."""


def read_facts(failures: Mapping[str, str]) -> Facts:
    """The facts about this system."""
    uname = os.uname()
    return Facts(
        failures=dict(failures),
        system=uname.sysname,
        machine=uname.machine,
        distributions=_distributions(),
        container=any(Path(mark).exists() for mark in ("/.dockerenv", "/run/.containerenv")),
        apparmor_restricts=_sysctl("kernel/apparmor_restrict_unprivileged_userns") == "1",
        userns_switched_off=_userns_switch(),
    )


def remedy(facts: Facts) -> str:
    """What happened and what to do: the reasons on the first line, the remedy after it."""
    reasons = "; ".join(f"{name}: {why}" for name, why in facts.failures.items())
    return f"No sandbox works on this system ({reasons}).\n{advice(facts)}"


def advice(facts: Facts) -> str:
    """What to do so that a better sandbox works here."""
    if facts.system != "Linux":
        return (
            f"Start Docker or Podman with the image {IMAGE}, or run orch on Linux: on Windows in WSL 2, "
            "on macOS in a Linux virtual machine."
        )
    if facts.machine not in ("x86_64", "aarch64"):
        return f"Run orch on x86_64 or aarch64: there is no system call table for {facts.machine}."
    why = facts.failures.get("bubblewrap", "")
    if why == "not installed":
        return f"Install bubblewrap: {_install(facts.distributions)}"
    if facts.userns_switched_off:
        return f"Allow user namespaces: {facts.userns_switched_off}"
    if facts.container:
        return (
            "This is a container that forbids user namespaces: start it with "
            f"--security-opt seccomp=unconfined, or on a kernel with Landlock ABI {NEEDED_ABI} (Linux 6.12)."
        )
    if facts.apparmor_restricts:
        return f"Allow bubblewrap to make user namespaces:\n{_APPARMOR}"
    if not why:
        return f"Use bubblewrap instead, or Linux 6.12 or newer with Landlock (ABI {NEEDED_ABI}) switched on."
    return f"See `bwrap --ro-bind / / --unshare-all true`, or use Linux 6.12 (Landlock ABI {NEEDED_ABI})."


def _install(distributions: tuple[str, ...]) -> str:
    known = [_INSTALL[name] for name in distributions if name in _INSTALL]
    return known[0] if known else "with your system's package manager (package bubblewrap, program bwrap)"


def _distributions() -> tuple[str, ...]:
    try:
        lines = Path("/etc/os-release").read_text(encoding="utf-8").splitlines()
    except OSError:
        return ()
    fields = dict(line.split("=", 1) for line in lines if "=" in line)
    names = [fields.get("ID", ""), *fields.get("ID_LIKE", "").strip('"').split()]
    return tuple(name.strip('"') for name in names if name)


def _userns_switch() -> str | None:
    if _sysctl("kernel/unprivileged_userns_clone") == "0":
        return "sudo sysctl -w kernel.unprivileged_userns_clone=1"
    if _sysctl("user/max_user_namespaces") == "0":
        return "sudo sysctl -w user.max_user_namespaces=15000"
    return None


def _sysctl(name: str) -> str | None:
    try:
        return Path("/proc/sys", name).read_text(encoding="ascii").strip()
    except OSError:
        return None
