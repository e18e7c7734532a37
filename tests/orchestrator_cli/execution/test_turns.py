"""At most so many runs work at once on one data folder; the others wait, say so, and are all done."""

import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from command import Orch
from endpoint import Endpoint
from scripted_model import Cast, answered

from orchestrator_cli.cancellation import Cancellation
from orchestrator_cli.errors import Cancelled
from orchestrator_cli.execution import turns
from orchestrator_cli.execution.turns import turn

WITHIN = "ORCH_WITHIN"


def silent(_: str) -> None:
    """No one is listening."""


def test_no_more_than_the_limit_work_at_once(tmp_path: Path) -> None:
    now: list[int] = []
    most: list[int] = []

    def work() -> None:
        with turn(tmp_path, 2, Cancellation(), silent):
            now.append(1)
            most.append(len(now))
            time.sleep(0.05)
            now.pop()

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert (len(most), max(most)) == (6, 2)


def test_a_waiting_run_says_so_and_can_be_cancelled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "SILENT_S", 0.1)
    said: list[str] = []
    cancellation = Cancellation()

    def notice(text: str) -> None:
        said.append(text)
        cancellation.cancel(Cancelled("by the user"))

    with turn(tmp_path, 1, Cancellation(), silent):
        with pytest.raises(Cancelled), turn(tmp_path, 1, cancellation, notice):
            pass
        assert len(said) == 1
    with turn(tmp_path, 1, Cancellation(), silent):
        pass


HOLDS = """
import sys, time
from pathlib import Path
from orchestrator_cli.cancellation import Cancellation
from orchestrator_cli.execution.turns import turn
with turn(Path(sys.argv[1]), 1, Cancellation(), print):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_turn_ends_with_its_process_and_what_a_run_starts_needs_none(tmp_path: Path) -> None:
    env = {name: value for name, value in os.environ.items() if name != WITHIN}
    command = [sys.executable, "-c", HOLDS, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=env) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        within = env | {WITHIN: str(holder.pid)}
        with subprocess.Popen(command, stdout=subprocess.PIPE, env=within) as inner:
            assert inner.stdout is not None
            assert inner.stdout.readline() == b"held\n"
            inner.kill()
        holder.kill()
    with turn(tmp_path, 1, Cancellation(), silent):
        pass


def test_a_run_waits_for_its_turn(orch: Orch, endpoint: Endpoint) -> None:
    endpoint.reply = Cast(planner=[answered("Yes.")])
    with ThreadPoolExecutor(1) as pool:
        with turn(orch.home / "locks" / "runs", 1, Cancellation(), silent):
            asked = pool.submit(orch, "ask", "Is it?", ORCH_MAX_RUNS="1")
            while not list(orch.home.glob("runs/*/journal.jsonl")) or not orch.events("Noticed"):
                assert not asked.done()
                time.sleep(0.05)
            assert endpoint.exchanges == []
        done = asked.result(60)
    assert (done.code, done.out.strip()) == (0, "Yes."), done.err
    assert "max_runs" in done.err
