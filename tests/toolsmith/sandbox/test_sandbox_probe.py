"""Choosing a backend, and what is told when there is none."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from toolsmith.sandbox import SandboxUnavailable, choose_backend, probe
from toolsmith.sandbox.bubblewrap import Bubblewrap
from toolsmith.sandbox.remedy import Facts, read_facts, remedy


def test_the_choice_is_made_once() -> None:
    assert choose_backend() is choose_backend()


def test_an_unknown_backend_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown sandbox backend 'docker'; known are bubblewrap, landlock"):
        choose_backend("docker")


@pytest.mark.parametrize("program", ["/bin/false", "/no/such/program"])
def test_a_program_that_does_not_shut_in_is_found_out(program: str) -> None:
    with pytest.raises(SandboxUnavailable):
        probe.prove(Bubblewrap(program, "0"))


def test_a_program_that_only_runs_the_command_is_found_out(tmp_path: Path) -> None:
    """A "bubblewrap" that isolates nothing must not pass, whatever it calls itself."""
    pretender = tmp_path / "bwrap"
    pretender.write_text('#!/bin/sh\nwhile [ "$1" != "--" ]; do shift; done\nshift\nexec "$@"\n')
    pretender.chmod(0o755)
    with pytest.raises(SandboxUnavailable):
        probe.prove(Bubblewrap(str(pretender), "0"))


def test_a_sandbox_without_network_namespace_or_filter_is_found_out(tmp_path: Path) -> None:
    if shutil.which("bwrap") is None:
        pytest.skip("bubblewrap is not installed")
    weaker = tmp_path / "bwrap"
    weaker.write_text(
        "#!/usr/bin/env python3\n"
        "import os, sys\n"
        "words = sys.argv[1:]\n"
        "at = words.index('--seccomp'); del words[at:at + 2]\n"
        "words.insert(words.index('--unshare-all') + 1, '--share-net')\n"
        "os.execv('/usr/bin/bwrap', ['bwrap', *words])\n"
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
            Facts(FORBIDDEN, userns_switched_off="sudo sysctl -w a=1"),
            "Allow user namespaces: sudo sysctl -w a=1",
        ),
        (Facts(FORBIDDEN, container=True), "--security-opt seccomp=unconfined"),
        (Facts(FORBIDDEN), "bwrap --ro-bind / / --unshare-all true"),
        (Facts({"landlock": "ABI 3 is older than 6"}), "Use bubblewrap instead"),
        (Facts(MISSING, system="Darwin"), "Linux virtual machine"),
        (Facts(MISSING, machine="riscv64"), "Run orch on x86_64 or aarch64"),
    ],
)
def test_the_remedy_fits_the_system(facts: Facts, advice: str) -> None:
    told = remedy(facts)
    assert advice in told
    assert all(why in told.splitlines()[0] for why in facts.failures.values())


def test_the_facts_of_this_system_can_be_read() -> None:
    assert read_facts(MISSING).system == "Linux"
