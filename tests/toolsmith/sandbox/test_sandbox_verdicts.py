"""A verdict of the self-test that is kept for later processes."""

import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from toolsmith.sandbox import SandboxUnavailable, choose_backend

CHOOSE = """
import sys, resource
from pathlib import Path
from toolsmith.sandbox import Limits, probe
tested = []
real = probe.self_test
probe.self_test = lambda backend: tested.append(backend.name) or real(backend)
{before}
backend = probe.{function}(None, Path(sys.argv[1]))
{after}
print(backend.name, len(tested))
"""


@pytest.fixture(autouse=True)
def name() -> str:
    """Of the backend that works here."""
    try:
        return choose_backend().name
    except SandboxUnavailable as error:
        pytest.skip(str(error))


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    return tmp_path / "sandbox.json"


@pytest.fixture
def chosen(kept: Path, name: str) -> Callable[..., int]:
    """How often a process that chooses a backend makes the test."""

    def choose(before: str = "", after: str = "", function: str = "choose_backend", **env: str) -> int:
        code = CHOOSE.format(before=before, after=after, function=function)
        ran = subprocess.run(
            [sys.executable, "-c", code, str(kept)],
            capture_output=True,
            text=True,
            env=os.environ | env,
            timeout=60,
            check=False,
        )
        assert ran.returncode == 0, ran.stderr
        found, count = ran.stdout.split()
        assert found == name
        return int(count)

    assert choose() >= 1
    return choose


def test_the_next_process_does_without_the_test(chosen: Callable[..., int], kept: Path) -> None:
    assert chosen() == 0
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600


def test_a_test_that_is_asked_for_is_made(chosen: Callable[..., int]) -> None:
    assert chosen(function="choose_afresh") >= 1
    assert chosen() == 0


@pytest.mark.parametrize(
    "before",
    [
        "resource.setrlimit(resource.RLIMIT_NOFILE, (777, 777))",
        "import ctypes; ctypes.CDLL(None).prctl(38, 1, 0, 0, 0)",  # no new privileges
        "from toolsmith.sandbox import verdicts; verdicts._SWITCHES = ('kernel/random/uuid',)",
    ],
)
def test_other_surroundings_are_tested_again(chosen: Callable[..., int], before: str) -> None:
    assert chosen(before=before) >= 1


def changed(kept: Path, change: Callable[[dict[str, Any]], object]) -> None:
    rows = json.loads(kept.read_text())
    for one in rows["chosen"].values():
        change(one)
    kept.write_text(json.dumps(rows))


@pytest.mark.parametrize(
    "change",
    [
        lambda kept: changed(kept, lambda one: one.update(at=one["at"] - 90_000)),
        lambda kept: changed(kept, lambda one: one.update(at=one["at"] + 90_000)),
        lambda kept: changed(kept, lambda one: one.update(backend="Unconfined()")),
        lambda kept: changed(kept, lambda one: one.pop("backend")),
        lambda kept: kept.write_text("[" * 99_999),
        lambda kept: kept.chmod(0o666),
        lambda kept: (kept.rename(kept.with_name("other")), kept.symlink_to("other")),
    ],
    ids=["old", "of the future", "unconfined", "without a name", "no JSON", "of all", "a link"],
)
def test_a_file_that_proves_nothing_is_not_believed(
    chosen: Callable[..., int], kept: Path, change: Callable[[Path], object]
) -> None:
    change(kept)
    assert chosen() >= 1


def test_a_worker_that_does_not_start_has_the_test_made_again(chosen: Callable[..., int]) -> None:
    fails = """
from toolsmith.sandbox.session import SandboxSession
from toolsmith.sandbox.spec import SandboxUnavailable
import dataclasses, tempfile
class Broken:
    def __getattr__(self, name): return getattr(backend, name)
    def launch(self, *_): raise OSError("it is gone")
session = SandboxSession(Path(tempfile.mkdtemp()), limits=Limits(), backend=Broken(), writable=False)
try: session.request({"t": "run", "number": 0, "code": "1"})
except SandboxUnavailable: pass
assert not tested
backend = probe.choose_backend(None, Path(sys.argv[1]))
"""
    assert chosen(after=fails) >= 1
