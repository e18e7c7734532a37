"""A subtask that was killed around its commit: the record of the commit says whether it is finished."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from orchestrator_cli import events
from orchestrator_cli.events import Event, Fact
from orchestrator_cli.execution.resume import missing_facts
from orchestrator_cli.plan import Plan, Result, Subtask
from orchestrator_cli.state import RunState, fold
from orchestrator_cli.workspace import Workspace
from orchestrator_cli.workspace.folder import history_folder
from orchestrator_cli.workspace.history import CommitHistory

PLAN = Plan(goal="g", subtasks=(Subtask(id="a", title="a", kind="agent"),))
RESULT = Result(subtask="a", attempt=2, plan_version=1, value="v", files=("a.txt",))
BEGUN: tuple[Fact, ...] = (
    events.RunStarted(prompt="p", workspace="/w", models={}, sandbox="s", version="1"),
    events.PlanProposed(plan=PLAN),
    events.SubtaskStarted(subtask="a", title="a", attempt=2, plan_version=1),
    events.SubtaskAccepted(subtask="a", result=RESULT),
)


def state(*facts: Fact) -> RunState:
    start = datetime(2026, 1, 1, tzinfo=UTC)
    return fold(
        Event(run="the-run", seq=n, time=start + timedelta(seconds=n), data=fact)  # type: ignore[arg-type]
        for n, fact in enumerate([*BEGUN, *facts], start=1)
    )


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    (tmp_path / "workspace").mkdir()
    return Workspace(tmp_path / "workspace", tmp_path / "home", 100, run="the-run")


@pytest.fixture
def history(tmp_path: Path) -> CommitHistory:
    return CommitHistory(history_folder(tmp_path / "home", "the-run"))


def commit(workspace: Workspace, attempt: int) -> tuple[events.FileChange, ...]:
    with workspace.checkout("a", attempt) as checkout:
        (checkout.root / "a.txt").write_text(f"attempt {attempt}")
        return checkout.commit()


def test_a_commit_that_happened_finishes_its_subtask(workspace: Workspace, history: CommitHistory) -> None:
    changes = commit(workspace, 2)
    facts = missing_facts(state(), history)
    assert facts == [
        events.FilesChanged(subtask="a", attempt=2, changes=changes),
        events.SubtaskFinished(subtask="a", result=RESULT, seconds=1),
    ]
    assert state(*facts).states == {"a": "done"}


def test_reported_facts_are_not_reported_again_after_a_kill(
    workspace: Workspace, history: CommitHistory
) -> None:
    changes = commit(workspace, 2)
    found = state(events.FilesChanged(subtask="a", attempt=2, changes=changes))
    assert missing_facts(found, history) == [events.SubtaskFinished(subtask="a", result=RESULT, seconds=1)]


@pytest.mark.parametrize("attempts", [(), (1,)], ids=["none", "another attempt"])
def test_without_its_commit_a_subtask_is_done_again(
    workspace: Workspace, history: CommitHistory, attempts: tuple[int, ...]
) -> None:
    for attempt in attempts:
        commit(workspace, attempt)
    assert missing_facts(state(), history) == []
    assert state(events.RunResumed(version="1")).states == {}


def test_a_finished_subtask_is_left_alone(workspace: Workspace, history: CommitHistory) -> None:
    commit(workspace, 2)
    assert missing_facts(state(events.SubtaskFinished(subtask="a", result=RESULT, seconds=1)), history) == []
