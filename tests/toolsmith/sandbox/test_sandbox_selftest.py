"""The self-test: what it attempts, what it finds, and what each backend says of its limits."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from toolsmith.sandbox import Backend, Limits
from toolsmith.sandbox.probe import attempt_all, self_test
from toolsmith.sandbox.spec import Enforcement


def without_a_sandbox(workspace: Path, variables: dict[str, Any], code: str) -> dict[str, bool]:
    script = (
        "import json, sys\nat = json.loads(sys.argv[1])['at']\n"
        + code.removesuffix("try_all(at)")
        + "\nprint(json.dumps(try_all(at)))"
    )
    command = [sys.executable, "-c", script, json.dumps(variables)]
    ran = subprocess.run(command, cwd=workspace, capture_output=True, text=True, check=True)
    found: dict[str, bool] = json.loads(ran.stdout)
    return found


def test_all_attempts_are_blocked(backend: Backend) -> None:
    found = self_test(backend)
    assert (str(found), found.escaped, found.missing) == ("self-test 20/20 blocked", (), ())
    assert found.passed


def test_the_attempts_work_where_nothing_stops_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORCH_CANARY_KEY", "canary")
    found = attempt_all(without_a_sandbox)
    depend_on_the_system = {
        "type into the terminal",
        "trace other processes",
        "make namespaces and mounts",
        "read other processes",
        "read attributes of a file outside",  # a file system may have none
        "fill the folder of devices",  # root's
    }
    assert set(found.blocked) <= depend_on_the_system
    assert not found.missing
    assert not found.passed


def test_the_attempts_leave_nothing_behind(backend: Backend, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    self_test(backend)
    assert list(home.iterdir()) == []
    assert list(tmp_path.iterdir()) == [home]


def test_every_limit_is_hard_or_polled(backend: Backend) -> None:
    enforced = {each.limit: each for each in backend.enforcement}
    assert set(enforced) == {field.name for field in dataclasses.fields(Limits)}
    assert all(each.grade != "not enforced" and str(each) for each in enforced.values())
    assert enforced["processes"].grade == ("hard" if backend.hard_processes else "polled")
    assert enforced["memory_mb"].grade == "hard and polled"


def test_limit_without_enforcement_says_so() -> None:
    assert Enforcement("processes").grade == "not enforced"


def test_only_backends_below_bubblewrap_have_weaknesses(backend: Backend) -> None:
    assert bool(backend.weaknesses) is (backend.name != "bubblewrap")
    assert os.sep not in "".join(backend.weaknesses)
