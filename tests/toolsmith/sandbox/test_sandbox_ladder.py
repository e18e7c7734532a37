"""The lower backends, as far as they can be tried without Docker and macOS, and the unsafe one."""

import os
import shutil
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

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
from toolsmith.sandbox.backend import Room
from toolsmith.sandbox.container import IMAGE, Container
from toolsmith.sandbox.proctree import parsed, tree
from toolsmith.sandbox.seatbelt import Seatbelt, profile


def pairs(arguments: tuple[str, ...]) -> set[tuple[str, str]]:
    return set(pairwise(arguments))


@pytest.fixture
def room(workspace: Path) -> Room:
    return Room(workspace, writable=True, limits=Limits(memory_mb=1024, processes=30))


# --- containers -------------------------------------------------------------------------------------------


def test_a_container_has_no_network_no_capability_and_hard_limits(room: Room) -> None:
    arguments = Container("docker", "/usr/bin/docker", "27").arguments(room, "orch-1")
    assert arguments[:2] == ("/usr/bin/docker", "run")
    assert {"--rm", "--interactive", "--read-only"} <= set(arguments)
    assert {
        ("--network", "none"),
        ("--cap-drop", "ALL"),
        ("--security-opt", "no-new-privileges"),
        ("--memory", "1024m"),
        ("--memory-swap", "1024m"),
        ("--pids-limit", "32"),
        ("--pull", "never"),
        ("--user", f"{os.getuid()}:{os.getgid()}"),
        ("--mount", f"type=bind,source={room.workspace},target=/workspace"),
    } <= pairs(arguments)
    assert not any(word in {"--privileged", "--cap-add", "--volume", "-v"} for word in arguments)
    assert (
        arguments[arguments.index(IMAGE) :][:4] == (IMAGE, "-c", arguments[-11], "sh") or IMAGE in arguments
    )


def test_a_container_gets_a_workspace_for_reading_only_where_that_is_asked(workspace: Path) -> None:
    room = Room(workspace, writable=False, limits=Limits())
    mounts = [
        two for one, two in pairs(Container("podman", "p", "5").arguments(room, "n")) if one == "--mount"
    ]
    assert all(mount.endswith(",readonly") for mount in mounts)


def test_a_path_that_would_change_the_meaning_of_a_mount_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "a,readonly=false"
    folder.mkdir()
    with pytest.raises(OSError, match="holds a comma"):
        Container("docker", "d", "27").arguments(Room(folder, writable=False, limits=Limits()), "n")


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A `docker` that confines with bubblewrap."""
    try:
        choose_backend("bubblewrap")
    except SandboxUnavailable as error:
        pytest.skip(str(error))
    state, programs = tmp_path / "engine", tmp_path / "bin"
    state.mkdir()
    programs.mkdir()
    root = Path(__file__).parents[3]
    script = Path(__file__).with_name("engine.py")
    program = programs / "docker"
    program.write_text(f'#!/bin/sh\nPYTHONPATH={root} exec {sys.executable} {script} {state} "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setattr(probe, "_chosen", {})
    return str(program)


def test_an_engine_that_answers_is_proved_and_chosen(engine: str) -> None:
    backend = choose_backend("docker")
    assert (backend.name, backend.detail) == ("docker", f"docker 27.0 with the image {IMAGE}")
    assert {kept.limit: kept.grade for kept in backend.kept}["memory_mb"] == "hard"


@pytest.fixture
def contained(engine: str, workspace: Path) -> Any:
    backend = Container("docker", engine, "27")
    with SandboxExecutor(workspace, limits=Limits(wall_s=3), backend=backend) as sandbox:
        yield sandbox


def test_steps_in_a_container_keep_state_and_call_host_tools(contained: SandboxExecutor) -> None:
    contained.send_tools({"double": lambda x: 2 * x})
    assert contained("import os\nx = double(4)\nprint('said')\nx").logs == "said\n"
    assert contained("[x, os.getcwd(), os.getpid() > 1]").output == [8, "/workspace", True]


def test_secrets_reach_a_container_by_name_only(engine: str, workspace: Path) -> None:
    backend, secrets = Container("docker", engine, "27"), {"API_KEY": "hunter2-hunter2"}
    with SandboxExecutor(workspace, backend=backend, secrets=secrets) as sandbox:
        assert sandbox("import os\n[os.environ['API_KEY'], len(os.environ['API_KEY'])]").output == [
            "[secret API_KEY]",
            15,
        ]
    room = Room(workspace, writable=True, limits=Limits(), environment=secrets)
    assert ("--env", "API_KEY") in pairs(backend.arguments(room, "n"))
    assert not any("hunter2" in word for word in backend.arguments(room, "n"))


def test_a_crash_in_a_container_goes_back_to_before_the_step(contained: SandboxExecutor) -> None:
    contained("x = 1")
    with pytest.raises(SandboxError, match="the step crashed \\(SIGSEGV\\)"):
        contained("x = 2\nimport ctypes\nctypes.string_at(0)")
    assert contained("x").output == 1


@pytest.mark.slow
def test_a_step_in_a_container_that_cannot_be_interrupted_is_ended(contained: SandboxExecutor) -> None:
    contained("x = 1")
    with pytest.raises(SandboxError, match="could not be interrupted"):
        contained("x = 2\nsum(range(10**12))")
    assert contained("x").output == 1


def test_nothing_is_left_of_a_container(engine: str, workspace: Path) -> None:
    before = tree(os.getpid())[1:]
    with SandboxExecutor(workspace, backend=Container("docker", engine, "27")) as sandbox:
        sandbox("1")
        assert len(tree(os.getpid())[1:]) > len(before)
    deadline = time.monotonic() + 2
    while tree(os.getpid())[1:] != before:
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("echo cannot connect to the daemon >&2; exit 1", "does not answer (cannot connect to the daemon)"),
        ('test "$1" = version && echo 27 && exit; exit 1', f"the image is missing: docker pull {IMAGE}"),
        ('case "$1" in version|image) echo 27;; esac', "the sandbox did not start"),
    ],
    ids=["no daemon", "no image", "does nothing"],
)
def test_an_engine_that_does_not_work_is_told(
    script: str, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "docker"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(probe, "_chosen", {})
    with pytest.raises(SandboxUnavailable) as caught:
        choose_backend("docker")
    assert why in str(caught.value)


def test_an_engine_that_does_not_confine_is_found_out(tmp_path: Path) -> None:
    program = tmp_path / "docker"
    program.write_text(
        "#!/bin/sh\n"
        'test "$1" = run || exit 0\n'
        'while [ "$1" != "-c" ]; do test "$1" = --mount && test -z "$W" && W="${2#*source=}"; shift; done\n'
        'shift; S="$1"; shift 3; cd "${W%,target=*}"\n'
        f'exec unshare -pf sh -c "$S" sh {sys.executable} "$@"\n'
    )
    program.chmod(0o755)
    if shutil.which("unshare") is None or os.geteuid() != 0:
        pytest.skip("needs root and unshare, to be the first process")
    with pytest.raises(SandboxUnavailable):
        probe.prove(Container("docker", str(program), "27"))


# --- macOS ------------------------------------------------------------------------------------------------


def test_the_profile_for_macos_denies_by_default_and_names_no_path_of_the_user(room: Room) -> None:
    rules = profile(3, writable=True).splitlines()
    assert rules[:3] == ["(version 1)", "(deny default)", "(deny network*)"]
    assert not any("allow network" in rule or "allow default" in rule for rule in rules)
    assert str(room.workspace) not in "".join(rules)
    assert all(rule.count("(") == rule.count(")") for rule in rules)


def test_the_workspace_is_writable_on_macos_only_where_that_is_asked() -> None:
    def writes(writable: bool) -> str:
        return next(rule for rule in profile(1, writable=writable).splitlines() if "file-write*" in rule)

    assert '(param "WORKSPACE")' in writes(True)
    assert '(param "WORKSPACE")' not in writes(False)


def test_paths_reach_the_profile_as_parameters(tmp_path: Path) -> None:
    odd = tmp_path / 'a")(allow default)'
    arguments = Seatbelt().arguments(Room(odd, writable=True, limits=Limits()), tmp_path, 5, 6)
    assert ("-D", f"WORKSPACE={odd}") in pairs(arguments)
    assert "allow default" not in arguments[arguments.index("-p") + 1]
    assert arguments[0] == "/usr/bin/sandbox-exec"
    assert arguments[-2:] == ("5", "6")


def test_on_linux_the_one_for_macos_says_what_it_needs() -> None:
    with pytest.raises(SandboxUnavailable, match="sandbox-exec: needs macOS"):
        choose_backend("sandbox-exec")


def test_processes_are_read_from_ps_where_there_is_no_proc() -> None:
    assert parsed("  1     0 Ss     1024\n 42     1 R+   2048\n") == {
        1: (0, "Ss", 1 << 20),
        42: (1, "R+", 2 << 20),
    }


# --- none -------------------------------------------------------------------------------------------------


def test_no_sandbox_is_used_only_where_it_is_asked_for_by_name() -> None:
    assert "unsafe" not in probe.NAMES
    backend = choose_backend("unsafe")
    assert "NO SANDBOX: NOTHING IS CONFINED" in backend.detail


@pytest.fixture
def unsafe() -> Backend:
    return choose_backend("unsafe")


def test_without_a_sandbox_steps_work_as_inside_one(unsafe: Backend, workspace: Path) -> None:
    with SandboxExecutor(workspace, limits=Limits(wall_s=3), backend=unsafe) as sandbox:
        sandbox.send_tools({"double": lambda x: 2 * x})
        sandbox("import os\nx = double(4)\nopen('made', 'w').close()")
        with pytest.raises(SandboxError, match="the step crashed \\(SIGSEGV\\)"):
            sandbox("x = 2\nimport ctypes\nctypes.string_at(0)")
        assert sandbox("x, os.getcwd()").output == (8, "/workspace")
        assert (workspace / "made").exists()


def test_without_a_sandbox_nothing_but_its_own_processes_is_ended(unsafe: Backend, workspace: Path) -> None:
    with subprocess.Popen(["sleep", "60"]) as bystander:
        with SandboxExecutor(workspace, backend=unsafe) as sandbox:
            sandbox("import subprocess\nchild = subprocess.Popen(['sleep', '60'])")
            pid = sandbox("child.pid").output
            assert tree(pid) == []
        assert bystander.poll() is None
        os.kill(bystander.pid, signal.SIGKILL)


def test_the_self_test_finds_out_that_nothing_is_confined(unsafe: Backend) -> None:
    from toolsmith.sandbox.selftest import self_test

    found = self_test(unsafe)
    assert not found.passed
    assert {"connect to the host over TCP", "read a file outside", "signal other processes"} <= set(
        found.escaped
    )
