"""Ctrl-C and SIGTERM at every moment of a run, in a real terminal and a real process group.

Each test starts a cold `orch`, waits until the run has come to a moment, and interrupts it. What
must hold: exit code 130 soon, one line that says so, no process left, the workspace consistent,
Prefect's server still healthy and the flow run ended.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pexpect
import pytest
from command import Orch
from endpoint import Endpoint, call
from engine import Engine
from processes import processes_in
from scripted_model import Cast, caller, code, coder, plan, process, tool_call
from toolsmith_replies import CASED, SPECIFIED

ENDED_S = 4.0
"""Seconds from the signal to the end; two are asked for, and two given to a busy machine."""

LATE = {"content": "too late", "sleep": 60}
SLOW_CODE = code("open('half.txt', 'w').write('half')\nimport time\nwhile True:\n    time.sleep(0.01)")
WAIT = f"""
[processes.wait]
when = "waits"
command = [
    {json.dumps(sys.executable)}, "-c",
    "import os, time; os.fork() or os.setsid(); open('process.txt', 'w'); time.sleep(600)",
]
effects = false
"""
BOTH = plan(coder("first"), coder("one", ["first"]), coder("two", ["first"]))
FIRST = [code("open('first.txt', 'w').write('whole')\nfinal_answer('done')")]


@dataclass
class Running:
    """A run in a terminal of its own."""

    orch: Orch
    endpoint: Endpoint
    child: "pexpect.spawn[str]"

    def when(self, moment: Callable[["Running"], bool]) -> None:
        """Wait for a moment of the run, reading the terminal meanwhile: a full one would stop the run."""
        shown = ""
        for _ in range(1200):
            if moment(self):
                return
            with contextlib.suppress(pexpect.TIMEOUT):
                shown += self.child.read_nonblocking(1 << 16, timeout=0.025)
            assert self.child.isalive(), shown
        raise AssertionError(f"the run did not come to this moment: {shown}")

    def events(self) -> list[dict[str, Any]]:
        return self.orch.events() if list((self.orch.home / "runs").glob("*/journal.jsonl")) else []

    def seen(self, kind: str) -> bool:
        return any(row["kind"] == kind for row in self.events())

    def processes(self) -> list[str]:
        """Command lines of all living processes that this run started: they hold its home or workspace."""
        return list(processes_in(self.orch.home, self.orch.workspace).values())

    def ends(self) -> str:
        """Wait for the end; what the terminal showed since the signal."""
        self.child.expect(pexpect.EOF, timeout=ENDED_S)
        self.child.close()
        return str(self.child.before)


Start = Callable[[Cast], Running]


@pytest.fixture
def start(orch: Orch, endpoint: Endpoint) -> Iterator[Start]:
    started: list[pexpect.spawn[str]] = []

    def begin(cast: Cast) -> Running:
        endpoint.reply = cast
        (orch.workspace / "mine.txt").write_text("mine")
        (orch.home / "orch.toml").write_text(WAIT)
        child: pexpect.spawn[str] = pexpect.spawn(
            orch.command[0],
            [*orch.command[1:], "ask", "Do much."],
            env={**orch.environment(), "TERM": "xterm"},  # type: ignore[arg-type]
            cwd=str(orch.workspace),
            encoding="utf-8",
            codec_errors="replace",  # at Ctrl-C a terminal drops what was not shown yet, letters cut
            timeout=60,
            dimensions=(40, 100),
        )
        started.append(child)
        return Running(orch, endpoint, child)

    yield begin
    for child in started:
        child.close(force=True)


def importing(run: Running) -> bool:
    """The command has begun, and imports what settings need; a worker has all that already."""
    maps = Path(f"/proc/{run.orch.starts.host(run.child.pid)}/maps")
    return maps.exists() and "pydantic_core" in maps.read_text()


def opened(run: Running) -> bool:
    return run.seen("RunStarted")


def planning(run: Running) -> bool:
    return run.endpoint.arrived == 1


def agents_thinking(run: Running) -> bool:
    return run.endpoint.arrived == 4


def code_running(run: Running) -> bool:
    return any(list((run.orch.home / "checkouts").glob("*/half.txt")))


def process_running(run: Running) -> bool:
    return any(list((run.orch.home / "checkouts").glob("*/process.txt")))


def tool_writing(run: Running) -> bool:
    return run.endpoint.arrived == 3


def revising(run: Running) -> bool:
    return run.endpoint.arrived == 2


def answering(run: Running) -> bool:
    return run.endpoint.arrived == 4


MOMENTS = {
    "during imports": (importing, lambda: Cast(), 0),
    "while the model is imported": (opened, lambda: Cast(planner=[LATE]), 0),
    "while the planner waits": (planning, lambda: Cast(planner=[LATE]), 0),
    "while agents wait for their model": (
        agents_thinking,
        lambda: Cast(planner=[BOTH], agents={"Do first": FIRST, "Do one": [LATE], "Do two": [LATE]}),
        1,
    ),
    "while agents run code": (
        code_running,
        lambda: Cast(
            planner=[BOTH], agents={"Do first": FIRST, "Do one": [SLOW_CODE], "Do two": [SLOW_CODE]}
        ),
        1,
    ),
    "while a process runs": (
        process_running,
        lambda: Cast(planner=[plan(process("wait", "wait"))]),
        0,
    ),
    "while the toolsmith writes": (
        tool_writing,
        lambda: Cast(
            planner=[plan(tool_call("count", "count_vowels", text="x"))], toolsmith=[SPECIFIED, CASED, LATE]
        ),
        0,
    ),
    "while the reviser thinks": (
        revising,
        lambda: Cast(planner=[plan(tool_call("fetch", "read_file", path="gone"))], reviser=[LATE]),
        0,
    ),
    "while the answer is written": (
        answering,
        lambda: Cast(
            planner=[plan(coder("first"), caller("look"))],
            agents={"Do first": FIRST, "Do look": [call("final_answer", {"answer": "x"})]},
            answer=[LATE],
        ),
        1,
    ),
}


LONG = (
    "while the toolsmith writes",
    "while the reviser thinks",
    "while the answer is written",
)


@pytest.mark.parametrize(
    "moment",
    [pytest.param(m, marks=[pytest.mark.slow, pytest.mark.thorough] if m in LONG else ()) for m in MOMENTS],
)
def test_ctrl_c_ends_a_run_at_once_and_leaves_everything_consistent(
    start: Start, engine: Engine, moment: str
) -> None:
    reached, cast, finished = MOMENTS[moment]
    run = start(cast())
    run.when(reached)
    time.sleep(0.15)
    run.child.sendintr()
    shown = run.ends()
    assert run.child.exitstatus == 130, shown
    assert "Traceback" not in shown
    assert_consistent(run, engine, finished)


def test_a_call_that_ctrl_c_stopped_is_counted_and_is_no_failure(start: Start) -> None:
    run = start(Cast(planner=[LATE]))
    run.when(planning)
    run.child.sendintr()
    run.ends()
    listed = json.loads(run.orch("runs", "--json").out)[0]
    assert (listed["calls"], listed["failed_calls"], listed["stopped_calls"]) == (0, 0, 1)
    assert "1 stopped call, cost unknown" in run.orch("runs").out
    usage = json.loads(run.orch("stats", "--json").out)["models"][0]["usage"]
    assert (usage["calls"], usage["failed"], usage["stopped"]) == (0, 0, 1)
    assert "failed" not in run.orch("show", "last").out


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["while the planner waits", "while agents run code"])
def test_sigterm_ends_a_run_as_ctrl_c_does(start: Start, engine: Engine, moment: str) -> None:
    reached, cast, finished = MOMENTS[moment]
    run = start(cast())
    run.when(reached)
    run.child.kill(signal.SIGTERM)
    shown = run.ends()
    assert run.child.exitstatus == 130, shown
    assert "Interrupted." in shown
    assert_consistent(run, engine, finished)


def test_a_second_ctrl_c_does_no_harm(start: Start, engine: Engine) -> None:
    reached, cast, finished = MOMENTS["while agents run code"]
    run = start(cast())
    run.when(reached)
    for _ in range(3):
        run.child.sendintr()
        time.sleep(0.05)
    run.ends()
    assert run.child.exitstatus == 130
    assert_consistent(run, engine, finished)


def assert_consistent(run: Running, engine: Engine, finished: int) -> None:
    deadline = time.monotonic() + 2
    while (left := run.processes()) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert left == []
    files = ["first.txt", "mine.txt"] if finished else ["mine.txt"]
    assert run.orch.files() == files
    assert run.orch.file("mine.txt") == "mine"
    assert run.orch.remains() == []
    assert engine.api("health") is True
    if run.seen("FlowStarted"):
        (flow_run,) = engine.flow_runs(run.orch.journal().parent.name)
        # An end does not wait for a busy server: the rest is kept for the next run.
        kept = [path.read_text() for path in (engine.home / "prefect/unsent").glob("*.json")]
        is_over = flow_run["state_type"] not in ("RUNNING", "PENDING", "SCHEDULED")
        assert is_over or any(flow_run["name"] in text and "set_state" in text for text in kept)
    if run.seen("RunStarted"):
        assert run.events()[-1]["kind"] == "RunFinished"
        assert run.events()[-1]["outcome"] == "interrupted"


def test_ctrl_c_while_the_command_is_still_being_imported_ends_quietly(tmp_path: Path) -> None:
    # Stands in for the first package that is imported, on a disk that takes its time.
    (tmp_path / "typer.py").write_text("import time\nprint('importing', flush=True)\ntime.sleep(60)\n")
    child = subprocess.Popen(
        [sys.executable, "-m", "orchestrator_cli", "--version"],
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    child.stdout.readline()
    child.send_signal(signal.SIGINT)
    _, said = child.communicate(timeout=10)
    assert (child.returncode, said) == (130, "error: Interrupted.\n")
