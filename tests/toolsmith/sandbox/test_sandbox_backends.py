"""macOS's backend, as far as Linux can test it, and the one that confines nothing."""

import os
import signal
import subprocess
from itertools import pairwise
from pathlib import Path

import pytest

from toolsmith.sandbox import (
    Backend,
    Limits,
    SandboxError,
    SandboxExecutor,
    SandboxUnavailable,
    choose_backend,
    probe,
)
from toolsmith.sandbox.backends import Seatbelt, profile
from toolsmith.sandbox.probe import self_test
from toolsmith.sandbox.processes import parse_ps, tree
from toolsmith.sandbox.spec import SandboxSpec


def pairs(arguments: tuple[str, ...]) -> set[tuple[str, str]]:
    return set(pairwise(arguments))


@pytest.fixture
def spec(workspace: Path) -> SandboxSpec:
    return SandboxSpec(workspace, writable=True, limits=Limits(memory_mb=1024, processes=30))


# --- macOS ------------------------------------------------------------------------------------------------


def test_macos_profile_denies_by_default_and_contains_no_user_path(spec: SandboxSpec) -> None:
    rules = profile(3, writable=True).splitlines()
    assert rules[:3] == ["(version 1)", "(deny default)", "(deny network*)"]
    assert not any("allow network" in rule or "allow default" in rule for rule in rules)
    assert str(spec.workspace) not in "".join(rules)
    assert all(rule.count("(") == rule.count(")") for rule in rules)


def test_macos_profile_allows_writing_the_workspace_only_if_writable() -> None:
    def writes(writable: bool) -> str:
        return next(rule for rule in profile(1, writable=writable).splitlines() if "file-write*" in rule)

    assert '(param "WORKSPACE")' in writes(True)
    assert '(param "WORKSPACE")' not in writes(False)


def test_macos_paths_are_parameters_of_the_profile(tmp_path: Path) -> None:
    odd = tmp_path / 'a")(allow default)'
    arguments = Seatbelt().arguments(SandboxSpec(odd, writable=True, limits=Limits()), tmp_path, 5, 6)
    assert ("-D", f"WORKSPACE={odd}") in pairs(arguments)
    assert "allow default" not in arguments[arguments.index("-p") + 1]
    assert arguments[0] == "/usr/bin/sandbox-exec"
    assert arguments[-2:] == ("5", "6")


def test_sandbox_exec_on_linux_says_that_it_needs_macos() -> None:
    with pytest.raises(SandboxUnavailable, match="sandbox-exec: needs macOS"):
        choose_backend("sandbox-exec")


def test_ps_listing_is_parsed() -> None:
    assert parse_ps("  1     0 Ss     1024\n 42     1 R+   2048\n") == {
        1: (0, "Ss", 1 << 20),
        42: (1, "R+", 2 << 20),
    }


@pytest.mark.parametrize("engine", ["docker", "podman"])
def test_container_engines_are_not_backends(engine: str) -> None:
    with pytest.raises(ValueError, match=f"unknown sandbox backend '{engine}'"):
        choose_backend(engine)


# --- unsafe ------------------------------------------------------------------------------------------------


def test_unsafe_has_to_be_asked_for_by_name() -> None:
    assert "unsafe" not in probe.NAMES
    backend = choose_backend("unsafe")
    assert "NO SANDBOX: NOTHING IS CONFINED" in backend.detail


@pytest.fixture
def unsafe() -> Backend:
    return choose_backend("unsafe")


def test_unsafe_runs_steps_as_a_sandbox_does(unsafe: Backend, workspace: Path) -> None:
    with SandboxExecutor(workspace, limits=Limits(wall_s=3), backend=unsafe) as sandbox:
        sandbox.send_tools({"double": lambda x: 2 * x})
        sandbox("import os\nx = double(4)\nopen('made', 'w').close()")
        with pytest.raises(SandboxError, match="the step crashed \\(SIGSEGV\\)"):
            sandbox("x = 2\nimport ctypes\nctypes.string_at(0)")
        assert sandbox("x, os.getcwd()").output == (8, "/workspace")
        assert (workspace / "made").exists()


def test_unsafe_ends_only_its_own_processes(unsafe: Backend, workspace: Path) -> None:
    with subprocess.Popen(["sleep", "60"]) as bystander:
        with SandboxExecutor(workspace, backend=unsafe) as sandbox:
            sandbox("import subprocess\nchild = subprocess.Popen(['sleep', '60'])")
            pid = sandbox("child.pid").output
            assert tree(pid) == []
        assert bystander.poll() is None
        os.kill(bystander.pid, signal.SIGKILL)


def test_self_test_reports_that_unsafe_confines_nothing(unsafe: Backend) -> None:
    found = self_test(unsafe)
    assert not found.passed
    assert {"connect to the host over TCP", "read a file outside", "signal other processes"} <= set(
        found.escaped
    )
