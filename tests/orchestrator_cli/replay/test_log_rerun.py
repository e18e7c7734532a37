"""Repeating recorded work: results from outside come from the record, everything else runs."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from orchestrator_cli import events
from orchestrator_cli.events import Event, Fact
from orchestrator_cli.plan import Plan, Result, Subtask
from orchestrator_cli.replay.rerun import (
    Closed,
    FinishedAttempt,
    KnownTool,
    Opened,
    Step,
    moments_of,
    reason_against,
    rerun,
)
from orchestrator_cli.workspace import Workspace
from toolsmith.sandbox.probe import choose_backend

RUN = "20260701-140322-aaaaaaaa"
CODER = Subtask(id="work", title="FinishedAttempt", kind="agent", role="coder")


def called(tool: str, outcome: str = "", ok: bool = True, returned: Any = None, **arguments: Any) -> Any:
    return events.ToolCalled(
        subtask="work", attempt=1, tool=tool, arguments=arguments, outcome=outcome, ok=ok, returned=returned
    )


def work(*steps: Step, subtask: Subtask = CODER, **inputs: Any) -> FinishedAttempt:
    return FinishedAttempt("work", 1, subtask, inputs, steps)


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "a.txt").write_text("seen now")
    return Workspace(tmp_path / "root", tmp_path / "state", 10, run=RUN)


def again(
    workspace: Workspace, done: FinishedAttempt, tools: dict[str, KnownTool] | None = None
) -> tuple[list[str], str]:
    """The differences, and what `out.txt` holds then."""
    with workspace.checkout("work", 1) as checkout:
        differences = rerun(done, checkout, choose_backend(), tools or {}, ())
        out = checkout.root / "out.txt"
        return differences, out.read_text() if out.exists() else ""


KEEP = "\nopen('out.txt', 'w').write(str(found))"


def test_steps_share_state_and_inputs(workspace: Workspace) -> None:
    steps = Step("found = given + 1", ()), Step("found += 1" + KEEP, ())
    assert again(workspace, work(*steps, given=40)) == ([], "42")


def test_file_tools_are_executed_again(workspace: Workspace) -> None:
    step = Step("found = read_file('a.txt')" + KEEP, (called("read_file", "seen then", path="a.txt"),))
    assert again(workspace, work(step)) == ([], "seen now")


def test_other_calls_get_recorded_values_in_order(workspace: Workspace) -> None:
    pages = [called("fetch_url", "…", returned={"n": n}, url="http://a") for n in (1, 2)]
    code = "found = [fetch_url('http://a')['n'] for _ in range(2)]" + KEEP
    assert again(workspace, work(Step(code, tuple(pages)))) == ([], "[1, 2]")


def test_a_recorded_error_is_raised_again(workspace: Workspace) -> None:
    failed = called("fetch_url", "ValueError: no such host", ok=False, url="http://a")
    code = "try:\n    fetch_url('http://a')\nexcept Exception as error:\n    found = str(error)" + KEEP
    differences, out = again(workspace, work(Step(code, (failed,))))
    assert (differences, "no such host" in out) == ([], True)


def test_unrecorded_call_is_reported(workspace: Workspace) -> None:
    page = called("fetch_url", "page", url="http://a")
    differences, _ = again(workspace, work(Step("fetch_url('http://b')\nfetch_url('http://b')", (page,))))
    assert differences[0] == "step 1: fetch_url was called with other arguments than then"
    assert differences[1] == "step 1: fetch_url was called more often than then"
    assert "failed now, and did not then" in differences[2]


def test_code_has_no_network(workspace: Workspace) -> None:
    code = "import socket\nsocket.create_connection(('127.0.0.1', 9), 2)"
    (differences,) = again(workspace, work(Step(code, ())))[0]
    assert "failed now, and did not then" in differences


def test_step_that_fails_again_is_no_difference(workspace: Workspace) -> None:
    assert again(workspace, work(Step("1 / 0", (), "ZeroDivisionError")))[0] == []
    (differences,) = again(workspace, work(Step("1 / 1", (), "ZeroDivisionError")))[0]
    assert differences == "step 1 did not fail now, and did then"


def test_direct_calls_are_repeated(workspace: Workspace) -> None:
    steps = (
        Step(None, (called("write_file", path="out.txt", content="x"),)),
        Step(None, (called("report_surprise", "noted", text="y"),)),
        Step(None, (called("fetch_url", "page", url="http://a"),)),
    )
    differences, out = again(workspace, work(*steps))
    (difference,) = differences
    assert "fetch_url was not called again" in difference
    assert out == "x"


@pytest.mark.parametrize(("access", "out"), [("none", ""), ("read", ""), ("write", "evil")])
def test_a_tool_may_no_more_than_it_might_then(workspace: Workspace, access: str, out: str) -> None:
    source = "def put(text, mode='w'):\n    return open('out.txt', mode).write(text)"
    steps = Step("put('evil')", ()), Step(None, (called("put", "4", text="evil"),))
    differences, written = again(workspace, work(*steps), {"put": KnownTool("put", source, "", access)})
    assert (bool(differences), written) == (not out, out)


@pytest.mark.parametrize(
    ("done", "reason"),
    [
        (work(Step("x", ()), subtask=CODER.model_copy(update={"kind": "process"})), "process of the user"),
        (work(Step("x", ()), subtask=CODER.model_copy(update={"network": ("a.org",)})), "network: a.org"),
        (work(Step("key = '[secret KEY]'", ())), "secret"),
        (work(Step("count(1)", ())), "version 1 is gone"),
        (work(Step(None, (called("pay"),))), "it had secrets"),
        (work(Step("pay(1)", (called("pay"),))), ""),
        (work(Step("counted(1)", ())), ""),
    ],
)
def test_work_that_cannot_be_repeated_has_a_reason(done: FinishedAttempt, reason: str) -> None:
    gone = KnownTool("count", "", "its version 1 is gone")
    paid = KnownTool("pay", "def pay(): ...", "it had secrets: KEY")
    found = reason_against(done, {"count": gone, "pay": paid})
    assert reason in found
    assert bool(found) == bool(reason)


# --- what the journal says was done


def differences(facts: list[Fact]) -> Iterator[Event]:
    for seq, fact in enumerate(facts, 1):
        yield Event(run=RUN, seq=seq, time=datetime.now(UTC), data=fact)  # type: ignore[arg-type]


def started(name: str, attempt: int = 1) -> events.SubtaskStarted:
    return events.SubtaskStarted(subtask=name, title=name, attempt=attempt, plan_version=1)


def finished(name: str, value: Any = None, attempt: int = 1) -> events.SubtaskFinished:
    result = Result(subtask=name, attempt=attempt, plan_version=1, value=value, summary="")
    return events.SubtaskFinished(subtask=name, result=result, seconds=1)


def ran(name: str, code: str, attempt: int = 1) -> events.CodeRan:
    return events.CodeRan(subtask=name, attempt=attempt, step=1, code=code, output="")


def changed(name: str, attempt: int = 1) -> events.FilesChanged:
    change = events.FileChange(path=f"{name}.txt", change="created", after_sha256="a" * 64)
    return events.FilesChanged(subtask=name, attempt=attempt, changes=(change,))


def test_only_finished_attempts_are_repeated_with_their_inputs() -> None:
    plan = Plan(
        goal="g",
        subtasks=(
            Subtask(id="list", title="l", kind="answer", instruction="x"),
            Subtask(
                id="each",
                title="e",
                kind="agent",
                role="coder",
                depends_on=("list",),
                for_each="$list.value",
                inputs={"item": "$item", "at": "$index"},
            ),
        ),
    )
    facts: list[Fact] = [
        events.PlanProposed(plan=plan),
        started("list"),
        finished("list", ["a", "b"]),
        started("each"),
        started("each[0]"),
        started("each[1]"),
        ran("each[1]", "second"),
        ran("each[0]", "lost"),
        events.SubtaskFailed(subtask="each[0]", attempt=1, reason="no", final=False),
        changed("each[1]"),
        finished("each[1]"),
        started("each[0]", 2),
        called("write_file").model_copy(update={"subtask": "each[0]", "attempt": 2}),
        ran("each[0]", "first", 2),
        changed("each[0]", 2),
        finished("each[0]", attempt=2),
        finished("each"),
    ]
    moments = moments_of(list(differences(facts)))
    assert [(type(one), one.work.name) for one in moments] == [
        (Opened, "each[1]"),
        (Closed, "each[1]"),
        (Opened, "each[0]"),
        (Closed, "each[0]"),
    ]
    second, first = moments[1].work, moments[3].work
    assert (second.inputs, first.inputs) == ({"item": "b", "at": 1}, {"item": "a", "at": 0})
    assert (first.attempt, [step.code for step in first.steps]) == (2, ["first"])
    assert [call.tool for call in first.steps[0].calls] == ["write_file"]
    assert [change.path for change in second.changes] == ["each[1].txt"]
