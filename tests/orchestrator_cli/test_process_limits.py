"""Runs under low limits of the shell, and with a clock that was set back."""

import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from command import Orch
from endpoint import Endpoint
from scripted_model import answered

from orchestrator_cli import events
from orchestrator_cli.events import Event
from orchestrator_cli.run_errors import as_orch_error
from orchestrator_cli.state.apply import fold
from orchestrator_cli.values import seconds_between


@pytest.mark.parametrize(("flag", "value"), [("-n", "32"), ("-n", "128"), ("-v", "1000000"), ("-f", "100")])
def test_a_low_limit_is_named_with_its_remedy(orch: Orch, endpoint: Endpoint, flag: str, value: str) -> None:
    endpoint.reply = lambda _request, _n: answered("hello")
    done = subprocess.run(
        ["bash", "-c", f'ulimit {flag} {value}; exec "$@" 2>&1', "bash", *orch.command, "ask", "Hello?"],
        cwd=orch.workspace,
        env=orch.environment(),
        stdout=subprocess.PIPE,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 3, done.stdout
    first, second = done.stdout.splitlines()
    assert f"ulimit {flag} {value}" in first
    assert f"ulimit {flag} " in second
    assert endpoint.arrived == 0


def test_a_low_soft_limit_is_raised(orch: Orch, endpoint: Endpoint) -> None:
    endpoint.reply = lambda _request, _n: answered("hello")
    done = subprocess.run(
        ["bash", "-c", 'ulimit -S -n 64; exec "$@"', "bash", *orch.command, "ask", "-q", "Hello?"],
        cwd=orch.workspace,
        env=orch.environment(),
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "hello\n"), done.stderr


@pytest.mark.parametrize(
    ("error", "flag"),
    [
        (lambda: OSError(24, "Too many open files"), "-n"),
        (lambda: OSError(27, "File too large"), "-f"),
        (lambda: BlockingIOError(11, "Resource temporarily unavailable"), "-u"),
        (lambda: RuntimeError("can't start new thread"), "-u"),
        (MemoryError, "-v"),
    ],
)
def test_a_limit_that_is_met_later_is_named(error: Callable[[], Exception], flag: str) -> None:
    ended = as_orch_error(error(), "20260317-101500-4a45fd")
    assert ended.exit_code == 1
    assert f"ulimit {flag}" in ended.message
    assert "orch resume 20260317-101500-4a45fd" in ended.remedy


def test_a_clock_that_is_set_back_gives_no_negative_durations() -> None:
    now = datetime(2026, 3, 17, tzinfo=UTC)
    back = now - timedelta(hours=3)
    assert seconds_between(now, back) == 0
    facts = [
        events.SubtaskStarted(subtask="one", title="One", attempt=1, plan_version=1),
        events.SubtaskFailed(subtask="one", attempt=1, reason="it failed", final=True),
        events.AnswerDelta(text="x"),
    ]
    started = events.RunStarted(prompt="Do it.", workspace="/w", version="0", models={}, sandbox="none")
    found = [Event(run="r", seq=1, time=now, data=started)]
    found += [Event(run="r", seq=n, time=back, data=fact) for n, fact in enumerate(facts, start=2)]
    found.insert(2, Event(run="r", seq=3, time=now, data=facts[0]))
    state = fold(found)
    assert state.seconds == 0
    assert state.activity["one"].seconds == 0
