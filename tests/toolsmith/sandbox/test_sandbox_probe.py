"""Choosing a backend, and the hint if there is none."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from toolsmith.sandbox import SandboxUnavailable, choose_backend, probe
from toolsmith.sandbox.backends import Bubblewrap
from toolsmith.sandbox.probe import Facts, read_facts, unavailable_message

needs_bubblewrap = pytest.mark.skipif(shutil.which("bwrap") is None, reason="bubblewrap is not installed")


def test_choice_lasts_for_the_process() -> None:
    assert choose_backend() is choose_backend()


def test_an_unknown_backend_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown sandbox backend 'chroot'; known are bubblewrap, landlock"):
        choose_backend("chroot")


@pytest.mark.parametrize("program", ["/bin/false", "/no/such/program"])
def test_program_that_is_not_bubblewrap_is_refused(program: str) -> None:
    with pytest.raises(SandboxUnavailable):
        probe.prove(Bubblewrap(program, "0"))


def test_program_that_only_runs_the_command_is_refused(tmp_path: Path) -> None:
    """A "bubblewrap" that isolates nothing must not pass, whatever it calls itself."""
    pretender = tmp_path / "bwrap"
    pretender.write_text('#!/bin/sh\nwhile [ "$1" != "--" ]; do shift; done\nshift\nexec "$@"\n')
    pretender.chmod(0o755)
    with pytest.raises(SandboxUnavailable):
        probe.prove(Bubblewrap(str(pretender), "0"))


def test_bubblewrap_without_network_namespace_or_filter_is_refused(tmp_path: Path) -> None:
    program = shutil.which("bwrap")
    if program is None:
        pytest.skip("bubblewrap is not installed")
    weaker = tmp_path / "bwrap"
    weaker.write_text(
        "#!/usr/bin/env python3\n"
        "import os, sys\n"
        "words = sys.argv[1:]\n"
        "at = words.index('--seccomp'); del words[at:at + 2]\n"
        "words.insert(words.index('--unshare-all') + 1, '--share-net')\n"
        f"os.execv({program!r}, ['bwrap', *words])\n"
    )
    weaker.chmod(0o755)
    with pytest.raises(SandboxUnavailable, match="could connect to the host"):
        probe.prove(Bubblewrap(str(weaker), "0"))


MISSING = {"bubblewrap": "not installed", "landlock": "the kernel does not offer it"}
FORBIDDEN = {**MISSING, "bubblewrap": "setting up uid map: Permission denied"}


@pytest.mark.parametrize(
    ("facts", "advice"),
    [
        (Facts(MISSING, distributions=("debian",)), "Install bubblewrap: sudo apt install bubblewrap"),
        (Facts(MISSING, distributions=("pop", "ubuntu", "debian")), "sudo apt install bubblewrap"),
        (Facts(MISSING, distributions=("fedora",)), "sudo dnf install bubblewrap"),
        (Facts(MISSING, distributions=("unheard",)), "with your system's package manager"),
        (Facts(FORBIDDEN, apparmor_restricts=True), "/etc/apparmor.d/bwrap"),
        (
            Facts(FORBIDDEN, allow_userns="sudo sysctl -w a=1"),
            "Allow user namespaces: sudo sysctl -w a=1",
        ),
        (Facts(FORBIDDEN, container=True), "--security-opt seccomp=unconfined"),
        (Facts(FORBIDDEN), "bwrap --ro-bind / / --unshare-all true"),
        (Facts({"landlock": "ABI 3 is older than 6"}), "Use bubblewrap instead"),
        (Facts(MISSING, system="Darwin"), "Linux virtual machine"),
        (Facts(MISSING, machine="riscv64"), "Run orch on x86_64 or aarch64"),
    ],
)
def test_hint_fits_the_system(facts: Facts, advice: str) -> None:
    message = unavailable_message(facts)
    assert advice in message
    assert all(why in message.splitlines()[0] for why in facts.failures.values())


def test_the_facts_of_this_system_can_be_read() -> None:
    assert read_facts(MISSING).system == "Linux"


SWITCHED_OFF = 'echo 0 > /proc/sys/user/max_user_namespaces && exec "$@"'
FILTERED = """
import os, sys
from toolsmith.sandbox import confinement
from toolsmith.sandbox.seccomp import Rule, Test, assembled
new_user = (Test(0, 0x10000000, negated=True),)
rules = [Rule(272, 1), Rule(97, 1), Rule(435, 38), Rule(56, 1, new_user), Rule(220, 1, new_user)]
confinement.install_filter(assembled(rules))
os.execv(sys.argv[1], sys.argv[1:])
"""
WORLDS = {
    "a sysctl": ["unshare", "--user", "--map-root-user", "sh", "-c", SWITCHED_OFF, "sh"],
    "a filter, as container engines set it": [sys.executable, "-c", FILTERED],
}


def in_a_world_without_user_namespaces(code: str, world: str = "a sysctl") -> str:
    """Runs `code` in a world without user namespaces, as on hardened systems."""
    command = [*WORLDS[world], sys.executable, "-c", code]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[3]), *sys.path])}
    ran = subprocess.run(command, capture_output=True, text=True, env=env, timeout=60, check=False)
    if "unshare" in ran.stderr or "max_user_namespaces" in ran.stderr.splitlines()[:1]:
        pytest.skip(f"cannot set the scene: {ran.stderr.strip()}")
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


@pytest.fixture
def _landlock() -> None:
    try:
        choose_backend("landlock")
    except SandboxUnavailable as error:
        pytest.skip(str(error))


@pytest.mark.usefixtures("_landlock")
@pytest.mark.parametrize("world", WORLDS)
def test_landlock_takes_over_if_user_namespaces_are_forbidden(world: str) -> None:
    code = """
from toolsmith.sandbox import choose_backend
from toolsmith.sandbox.probe import rejected_backends
from toolsmith.sandbox.probe import self_test
print(choose_backend().name, *rejected_backends())
print(self_test(choose_backend()))
"""
    output = in_a_world_without_user_namespaces(code, world)
    assert output == "landlock bubblewrap\nself-test 20/20 blocked\n"


@needs_bubblewrap
@pytest.mark.slow
@pytest.mark.usefixtures("_landlock")
def test_the_doctor_says_what_changes_without_bubblewrap(tmp_path: Path) -> None:
    code = f"""
from pathlib import Path
from orchestrator_cli.cli.commands.doctor import examine, report_lines
from orchestrator_cli.settings import Settings
settings = Settings(home=Path({str(tmp_path)!r}), workspace=Path({str(tmp_path)!r}))
print("\\n".join(report_lines([one for one in examine(settings) if one.name == "sandbox"])))
"""
    lines = [line.strip() for line in in_a_world_without_user_namespaces(code).splitlines()]
    assert "Landlock ABI" in lines[0]
    assert "self-test 20/20 blocked" in lines[0]
    assert lines[1].startswith("bubblewrap cannot be used: the sandbox did not start")
    assert lines[2] == "Allow user namespaces: sudo sysctl -w user.max_user_namespaces=15000"
    assert lines[3] == "What changes under landlock:"
    assert any(line.split()[:3] == ["processes", "64", "hard"] for line in lines)


@needs_bubblewrap
def test_requested_backend_is_never_replaced() -> None:
    code = """
from toolsmith.sandbox import SandboxUnavailable, choose_backend
try:
    choose_backend("bubblewrap")
except SandboxUnavailable as error:
    print(error)
"""
    output = in_a_world_without_user_namespaces(code)
    assert output.startswith("No sandbox works on this system (bubblewrap: the sandbox did not start")
    assert output.endswith("Allow user namespaces: sudo sysctl -w user.max_user_namespaces=15000\n")
