"""The data folder and the user's own settings are for the user alone."""

import grp
import os
import pwd
import stat
from contextlib import nullcontext
from pathlib import Path

import pytest
from command import Orch
from endpoint import Endpoint

from orchestrator_cli.data_folder import check_owned
from orchestrator_cli.errors import ConfigError

STRANGER = 65534
by_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files to others")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def refused(orch: Orch, *words: str, **env: str) -> None:
    """Commands that run and commands that look end with the remedy."""
    for args in (("ask", "Hello?"), ("runs",), ("doctor",), ("trust", "--yes")):
        done = orch(*args, **env)
        assert done.code == 3, args
        assert [word for word in words if word not in done.error] == [], done.error


@pytest.mark.parametrize("args", [("runs",), ("tools",), ("memory", "list"), ("trust",)])
@pytest.mark.parametrize("there", [True, False])
def test_only_its_owner_can_read_the_data_folder(
    orch: Orch, tmp_path: Path, args: tuple[str, ...], there: bool
) -> None:
    home = tmp_path / "data" / "orch"
    if there:
        home.mkdir(parents=True, mode=0o755)
    assert orch(*args, ORCH_HOME=str(home)).code == 0
    assert mode(home) == 0o700


@pytest.mark.parametrize("name", ["", "orch.toml"])
@pytest.mark.parametrize("bits", [0o020, 0o002])
def test_what_others_may_write_to_is_refused(orch: Orch, endpoint: Endpoint, name: str, bits: int) -> None:
    (orch.home / "orch.toml").write_text("max_calls = 3")
    place = orch.home / name
    place.chmod(mode(place) | bits)
    refused(orch, place.name, "chmod go-w")
    assert endpoint.arrived == 0
    place.chmod(mode(place) & ~0o022)
    assert orch("runs").code == 0


@by_root
@pytest.mark.parametrize(
    ("name", "members", "fits"), [("ada", [], True), ("ada", ["ada", "eve"], False), ("staff", [], False)]
)
def test_a_users_own_group_may_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, members: list[str], fits: bool
) -> None:
    place = tmp_path / "orch.toml"
    place.touch()
    place.chmod(0o664)
    os.chown(place, STRANGER, STRANGER)
    monkeypatch.setattr(os, "geteuid", lambda: STRANGER)
    user = ("ada", "x", STRANGER, STRANGER, "", "/home/ada", "/bin/sh")
    monkeypatch.setattr(pwd, "getpwuid", lambda _: pwd.struct_passwd(user))
    monkeypatch.setattr(grp, "getgrgid", lambda _: grp.struct_group((name, "x", STRANGER, members)))
    with nullcontext() if fits else pytest.raises(ConfigError, match="Other users may write"):
        check_owned(place)


@by_root
@pytest.mark.parametrize("name", ["", "orch.toml"])
def test_what_belongs_to_another_user_is_refused(orch: Orch, name: str) -> None:
    (orch.home / "orch.toml").write_text("max_calls = 3")
    os.chown(orch.home / name, STRANGER, STRANGER)
    refused(orch, "another user", "ORCH_HOME")


def test_a_folder_of_prefect_that_others_may_write_to_is_refused(orch: Orch, tmp_path: Path) -> None:
    place = tmp_path / "prefect"
    place.mkdir()
    place.chmod(0o777)
    refused(orch, str(place), "chmod go-w", ORCH_PREFECT_HOME=str(place))


def test_a_relative_data_folder_is_refused(orch: Orch, endpoint: Endpoint) -> None:
    own = orch.workspace / ".orch"
    own.mkdir()
    (own / "orch.toml").write_text("yes = true")
    refused(orch, "relative", "ORCH_HOME", ORCH_HOME=".orch")
    refused(orch, "home", "absolute", ORCH_HOME="", orch_home=".orch")
    refused(orch, "prefect_home", "absolute", ORCH_PREFECT_HOME=".orch")
    assert list(own.iterdir()) == [own / "orch.toml"]
