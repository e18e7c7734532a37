"""How many residents of one data folder stay: those that were used last."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator_cli.resident import server

SERVE = """
import sys
from pathlib import Path
from orchestrator_cli.resident import server
server.LOOK_S = 0.05
class Code:
    is_unchanged = staticmethod(lambda: True)
server._Resident(Path(sys.argv[1]), Code()).serve()
"""


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("ages", "recent"), [([5], True), ([5, 20], True), ([5, 6], False), ([20, 30], True)]
)
def test_a_resident_is_recent_while_few_others_were_used_after_it(
    tmp_path: Path, ages: list[int], *, recent: bool
) -> None:
    for name, age in [("own", 10), *enumerate(ages)]:
        path = tmp_path / f"{name}.sock"
        path.touch()
        os.utime(path, (1000 - age, 1000 - age))
    assert server.is_recent(tmp_path / "own.sock") is recent


def test_the_least_used_resident_leaves_when_there_is_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # the names of sockets are short
    started: dict[str, subprocess.Popen[bytes]] = {}

    def start(name: str) -> None:
        started[name] = subprocess.Popen([sys.executable, "-c", SERVE, f"{name}.sock"])
        until(Path(f"{name}.sock").exists)

    try:
        start("one")
        start("two")
        before = Path("one.sock").stat().st_mtime_ns
        with socket.socket(socket.AF_UNIX) as client:
            client.connect("one.sock")
        until(lambda: Path("one.sock").stat().st_mtime_ns > before)
        start("three")
        assert started["two"].wait(30) == 0
        assert not Path("two.sock").exists()
        assert [started[name].poll() for name in ("one", "three")] == [None, None]
    finally:
        for process in started.values():
            process.kill()
            process.wait()
