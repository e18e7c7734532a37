"""A run whose host is killed at a random moment leaves no partial work and no process."""

import contextlib
import os
import random
import shutil
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from command import Done, Orch
from endpoint import Endpoint
from scripted_model import Cast, code, coder, plan

from orchestrator_cli.workspace import Workspace

NAMES = ("one", "two", "three")
FILES = 20
GONE_WITHIN_S = 2.0

WRITING = """
import os
for n in range({files}):
    os.makedirs(f'{name}/{{n}}', exist_ok=True)
    open(f'{name}/{{n}}/text', 'w').write('{name}')
open('shared', 'a').write('{name};')
final_answer('done')
"""


def cast() -> Cast:
    writing = {name: code(WRITING.format(files=FILES, name=name)) for name in NAMES}
    return Cast(
        planner=[plan(coder("one"), coder("two", ["one"]), coder("three"))],
        # A conflict on the shared file is another attempt.
        agents={f"Do {name}": [text] * 4 for name, text in writing.items()},
    )


def test_undisturbed_run_completes(orch: Orch, endpoint: Endpoint) -> None:
    endpoint.reply = cast()
    done = orch("ask", "Write all three.")
    assert done.code == 0, done.err
    assert sorted(orch.file("shared").split(";")) == ["", *sorted(NAMES)]
    assert orch.remains() == []
    conflicts = [row for row in orch.events("SubtaskFailed") if "shared (committed by" in row["reason"]]
    assert all(not row["final"] for row in conflicts)


@pytest.mark.thorough
def test_killed_run_leaves_no_partial_subtask(orch: Orch, endpoint: Endpoint) -> None:
    kill_again_and_again(orch, endpoint, 6)


@pytest.mark.slow
@pytest.mark.thorough
@pytest.mark.timeout(900)
def test_a_run_can_be_killed_at_fifty_moments(orch: Orch, endpoint: Endpoint) -> None:
    kill_again_and_again(orch, endpoint, 50)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("times", [4, pytest.param(20, marks=pytest.mark.thorough)])
def test_a_run_on_mounted_views_can_be_killed_too(orch: Orch, endpoint: Endpoint, times: int) -> None:
    large = replace(orch, env={**orch.env, "ORCH_WORKSPACE_MAX_MB": "1"})
    (orch.workspace / "large").write_bytes(bytes(2 << 20))
    endpoint.reply = cast()
    if "cannot be mounted" in large("ask", "Write all three.").err:
        pytest.skip("no overlay mounts here")
    kill_again_and_again(large, endpoint, times)


def kill_again_and_again(orch: Orch, endpoint: Endpoint, times: int) -> None:
    seed = random.randrange(1 << 30)
    print("seed", seed)  # noqa: T201 - pytest shows it where the test fails
    chance = random.Random(seed)
    clear(orch.workspace)
    (orch.workspace / "shared").write_text("")
    endpoint.reply = cast()
    whole = orch("ask", "Write all three.").seconds
    cut_off = 0
    for turn in range(times):
        clear(orch.workspace)
        (orch.workspace / "shared").write_text("")
        endpoint.reply = cast()
        # Every other time in the middle of a commit, where an even choice would hardly ever hit.
        moment = in_a_commit(orch, chance) if turn % 2 else after(chance.uniform(0, whole))
        slain = run_and_kill(orch, moment)
        opened = Workspace(orch.workspace, orch.home, 100)
        cut_off += bool(opened.recovered)
        assert_whole(orch, f"turn {turn}: {opened.recovered}")
        assert_gone(slain, orch)
    print(f"{cut_off} of {times} kills hit a commit that was decided")  # noqa: T201


def clear(root: Path) -> None:
    for path in root.iterdir():
        if path.name == "large":
            continue
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def after(seconds: float) -> Callable[[], None]:
    return lambda: time.sleep(seconds)


def in_a_commit(orch: Orch, chance: random.Random) -> Callable[[], None]:
    """While it is staged, or when it was just decided."""
    place, begins = chance.choice([(orch.workspace, ".orch-"), (orch.home / "commits", "")])
    wanted, late = chance.randint(1, 3), chance.uniform(0, 0.05 if begins else 0.006)

    def wait() -> None:
        deadline = time.monotonic() + 15
        for _ in range(wanted):
            wait_for(lambda: not is_there(place, begins) or time.monotonic() > deadline)
            wait_for(lambda: is_there(place, begins) or time.monotonic() > deadline)
        time.sleep(late)

    return wait


def is_there(folder: Path, begins: str) -> bool:
    with contextlib.suppress(OSError):
        return any(name.startswith(begins) for name in os.listdir(folder))  # noqa: PTH208
    return False


def run_and_kill(orch: Orch, moment: Callable[[], None]) -> set[tuple[int, str]]:
    """Run, kill the host then, and return all processes that it had started, by id and start."""
    done: list[Done] = []
    thread = threading.Thread(target=lambda: done.append(orch("ask", "Write all three.")))
    known = children(orch.warm.pid)
    thread.start()
    wait_for(lambda: bool(children(orch.warm.pid) - known))
    host = children(orch.warm.pid) - known
    moment()
    slain: set[tuple[int, str]] = set()
    for pid in host:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGSTOP)  # nothing is started any more that would not be counted
            slain |= {(child, started(child)) for child in below(pid)}
            os.kill(pid, signal.SIGKILL)
    thread.join(timeout=30)
    assert not thread.is_alive()
    return slain


def wait_for(holds: Callable[[], bool]) -> None:
    while not holds():
        time.sleep(0.0002)


def children(pid: int) -> set[int]:
    with contextlib.suppress(OSError):
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        return {int(word) for task in tasks for word in (task / "children").read_text().split()}
    return set()


def below(pid: int) -> set[int]:
    found = children(pid)
    return found.union(*(below(child) for child in found))


def command(pid: int) -> bytes:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()[:200]
    return b""


def started(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    return ""


def assert_whole(orch: Orch, why: str) -> None:
    shared = orch.file("shared").split(";")
    for name in NAMES:
        texts = [path.read_text() for path in orch.workspace.glob(f"{name}/*/text")]
        assert (len(texts), set(texts)) in ((FILES, {name}), (0, set())), why
        assert shared.count(name) == (1 if texts else 0), why
        assert (orch.workspace / name).exists() == bool(texts), why
    assert orch.remains() == [], why


def assert_gone(slain: set[tuple[int, str]], orch: Orch) -> None:
    deadline = time.monotonic() + GONE_WITHIN_S
    while alive := [pid for pid, start in slain if start and started(pid) == start] + holding(orch.home):
        assert time.monotonic() < deadline, [command(pid) for pid in alive]
        time.sleep(0.02)


def holding(home: Path) -> list[int]:
    """Processes that have something of a home mounted."""
    found = []
    for path in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if path.name.isdigit() and f"{home}/" in (path / "mountinfo").read_text():
                found.append(int(path.name))
    return found
