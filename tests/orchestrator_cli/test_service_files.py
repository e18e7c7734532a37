"""What `orch up --install` writes for systemd and for launchd."""

import configparser
import plistlib
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
from command import Orch

from orchestrator_cli.schedules.service_files import launchd_agent, systemd_unit

COMMAND = ("/opt/a b/python", "-P", "-m", "orchestrator_cli", "up")
HOME = Path("/home/ada/100% & <mine>")


def agent(command: tuple[str, ...] = COMMAND) -> dict[str, Any]:
    found: dict[str, Any] = plistlib.loads(launchd_agent(command, HOME))
    return found


def test_the_launchd_agent_starts_orch_up_again_and_leaves_its_runs_alone() -> None:
    found = agent()
    assert found["ProgramArguments"][-len(COMMAND) :] == list(COMMAND)
    assert found["EnvironmentVariables"]["ORCH_HOME"] == str(HOME)
    assert found["KeepAlive"] == {"SuccessfulExit": False}
    assert (found["RunAtLoad"], found["AbandonProcessGroup"], found["Umask"]) == (True, True, 0o077)
    assert Path(found["StandardOutPath"]).is_relative_to(HOME)


@pytest.mark.parametrize("keys", ["KEY='a b'\n", None])
def test_the_launchd_agent_gives_its_keys_to_what_it_starts(tmp_path: Path, keys: str | None) -> None:
    if keys is not None:
        (tmp_path / ".config" / "orch").mkdir(parents=True)
        (tmp_path / ".config" / "orch" / "environment").write_text(keys)
    program = agent(("/bin/sh", "-c", 'printf %s "${KEY-none} $1"', "x", "a  b"))["ProgramArguments"]
    done = subprocess.run(program, env={"HOME": str(tmp_path)}, capture_output=True, text=True, check=True)
    assert done.stdout == ("a b" if keys else "none") + " a  b"


def test_the_systemd_unit_starts_orch_up_again_and_leaves_its_runs_alone() -> None:
    found = configparser.RawConfigParser()
    found.optionxform = str  # type: ignore[assignment, method-assign]
    found.read_string(systemd_unit(COMMAND, HOME))
    service = found["Service"]
    assert shlex.split(service["ExecStart"]) == list(COMMAND)
    assert service["Environment"] == '"ORCH_HOME=/home/ada/100%% & <mine>"'
    assert (service["KillMode"], service["Restart"]) == ("process", "on-failure")


def test_install_writes_the_unit(orch: Orch, tmp_path: Path) -> None:
    done = orch("up", "--install", XDG_CONFIG_HOME=str(tmp_path))
    assert done.code == 0
    unit = tmp_path / "systemd" / "user" / "orch-up.service"
    assert f"ORCH_HOME={orch.home}" in unit.read_text()
    assert "enable --now orch-up.service" in done.err
