"""A machine on which no local port is free: what cannot be tested is neither trusted nor a traceback."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
OWN = "9.9.9.9"
"""A public address, which is the machine's own in there."""

WITHOUT_PORTS = f"""
import ctypes, fcntl, os, socket, struct, sys
users = 0 if os.geteuid() == 0 else 0x10000000
if ctypes.CDLL(None).unshare(0x40000000 | users):
    sys.exit(77)
with socket.socket() as control:
    own = struct.pack("16sHH4s8x", b"lo:1", socket.AF_INET, 0, socket.inet_aton({OWN!r}))
    fcntl.ioctl(control, 0x8916, own)  # SIOCSIFADDR
    fcntl.ioctl(control, 0x8914, struct.pack("16sh14x", b"lo", 0x41))  # SIOCSIFFLAGS: up and running
with open("/proc/sys/net/ipv4/ip_local_port_range", "w") as file:
    file.write("60000 60001")
held = []
for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
    for port in (60000, 60001):
        one = socket.socket(socket.AF_INET, kind)
        one.bind(("0.0.0.0", port))
        one.set_inheritable(True)
        held.append(one)
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""
"""A network of its own, in which every port that the system would choose is taken."""


def without_ports(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    ran = subprocess.run(
        [sys.executable, "-c", WITHOUT_PORTS, *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT), **env},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    if ran.returncode == 77:
        pytest.skip("this system gives no network of one's own")
    return ran


def test_an_own_address_stays_out_of_reach() -> None:
    code = (
        f"from toolsmith.sandbox.addresses import reachable\nprint(reachable({OWN!r}), reachable('1.1.1.1'))"
    )
    ran = without_ports("-c", code)
    assert ran.stdout == "False True\n", ran.stderr


@pytest.mark.slow
def test_a_command_says_what_to_do(workspace: Path, tmp_path: Path) -> None:
    ran = without_ports(
        *("-m", "orchestrator_cli", "ask", "-C", str(workspace), "hello"),
        ORCH_HOME=str(tmp_path / "home"),
        ORCH_MODEL="openai/none",
        OPENAI_API_KEY="none",
    )
    assert (ran.returncode, "Traceback" in ran.stderr) == (3, False), ran.stderr
    assert "no local port is free" in ran.stderr
    assert "ip_local_port_range" in ran.stderr
