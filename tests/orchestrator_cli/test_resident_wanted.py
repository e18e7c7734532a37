"""When commands are run by a resident, and who decides that."""

import os
import pty
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from command import Orch

CODE = "from orchestrator_cli.resident import wanted; wanted.MARKS = {marks}; print(*wanted.wanted())"
ON, IF_THERE, OFF = "True True", "True False", "False False"


def found(
    home: Path,
    *,
    terminal: bool = True,
    marks: tuple[str, ...] = (),
    before: tuple[str, ...] = (),
    **env: str,
) -> str:
    """Whether a resident may be used, and one started."""
    ours, theirs = pty.openpty()

    def own_terminal() -> None:
        import fcntl
        import termios

        os.setsid()
        if terminal:
            fcntl.ioctl(theirs, termios.TIOCSCTTY, 0)

    try:
        return subprocess.run(
            [*before, sys.executable, "-c", CODE.format(marks=marks)],
            env={"ORCH_HOME": str(home), "PATH": os.environ["PATH"]} | env,
            capture_output=True,
            text=True,
            check=True,
            preexec_fn=own_terminal,
            pass_fds=(theirs,),
        ).stdout.strip()
    finally:
        os.close(ours)
        os.close(theirs)


@pytest.mark.parametrize(
    ("env", "is_wanted"),
    [
        ({}, ON),
        ({"ORCH_RESIDENT": "auto"}, ON),
        ({"ORCH_RESIDENT": "never"}, OFF),
        ({"ORCH_RESIDENT": "nonsense"}, OFF),
        ({"CI": "true"}, OFF),
        ({"CI": "true", "ORCH_RESIDENT": "always"}, ON),
        ({"container": "podman"}, OFF),
        ({"SUDO_UID": str(os.geteuid())}, ON),
        ({"SUDO_UID": "12345"}, OFF),
    ],
)
def test_the_environment_decides(tmp_path: Path, env: dict[str, str], is_wanted: str) -> None:
    assert found(tmp_path, **env) == is_wanted


def test_none_is_started_without_a_terminal_but_one_that_is_there_is_used(tmp_path: Path) -> None:
    assert found(tmp_path, terminal=False) == IF_THERE


@pytest.mark.skipif(shutil.which("setpriv") is None, reason="setpriv is not there")
@pytest.mark.parametrize("mode", ["auto", "always"])
def test_there_is_none_for_who_can_gain_no_rights(tmp_path: Path, mode: str) -> None:
    assert found(tmp_path, before=("setpriv", "--no-new-privs"), ORCH_RESIDENT=mode) == OFF


def test_there_is_none_in_a_container(tmp_path: Path) -> None:
    mark = tmp_path / ".dockerenv"
    mark.touch()
    assert found(tmp_path, marks=(str(mark),)) == OFF


@pytest.mark.parametrize(
    ("text", "is_wanted"),
    [
        ("", ON),
        ('resident = "never"', OFF),
        ('# resident = "never"', ON),
        ('resident = "always"', ON),
        ('resident = "nonsense"', OFF),
        ("resident = [", OFF),
        ('[models]\nresident = "never"', ON),
    ],
)
def test_the_users_own_file_decides(tmp_path: Path, text: str, is_wanted: str) -> None:
    (tmp_path / "orch.toml").write_text(text)
    assert found(tmp_path) == is_wanted
    assert found(tmp_path, ORCH_RESIDENT="never") == OFF


def test_a_workspace_does_not_decide(orch: Orch) -> None:
    (orch.workspace / "orch.toml").write_text('resident = "always"')
    refused = orch("ask", "Do it.")
    assert (refused.code, "resident" in refused.error) == (3, True)


@pytest.mark.parametrize(
    "env", [{}, {"XDG_DATA_HOME": "/d", "XDG_CONFIG_HOME": "/c"}, {"XDG_DATA_HOME": " "}]
)
def test_the_folders_are_those_of_the_settings(env: dict[str, str]) -> None:
    code = (
        "import platformdirs; from orchestrator_cli.resident.wanted import user_folder as f; print("
        "f('XDG_DATA_HOME', '.local/share') == platformdirs.user_data_path('orch'),"
        "f('XDG_CONFIG_HOME', '.config') == platformdirs.user_config_path('orch'))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], env={"HOME": "/h"} | env, capture_output=True, text=True, check=True
    )
    assert ran.stdout.split() == ["True", "True"]
