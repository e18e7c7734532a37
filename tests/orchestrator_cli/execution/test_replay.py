"""What is told from a run's events alone is what its board came to, and never takes back what it has told."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator_cli import events
from orchestrator_cli.errors import UsageError
from orchestrator_cli.events import Event, Fact
from orchestrator_cli.execution.resume import board_of, causes_for, check_resumable, is_over
from orchestrator_cli.plan import Patch, Plan, Result, Subtask, descendants
from orchestrator_cli.planning.context import PlannerContext
from orchestrator_cli.planning.reviser import Cause
from orchestrator_cli.state.board import Board
from orchestrator_cli.state.replay import Past, after, replay
from orchestrator_cli.usage import Usage

OFFER = PlannerContext(roles=(), tools=(), max_subtasks=100)
START = datetime(2026, 1, 1, tzinfo=UTC)
STARTED = events.RunStarted(prompt="p", workspace="/w", models={}, sandbox="s", version="1")


def numbered(facts: list[Fact]) -> list[Event]:
    return [
        Event(run="r", seq=n, time=START + timedelta(seconds=n), data=fact)  # type: ignore[arg-type]
        for n, fact in enumerate(facts, start=1)
    ]


def subtask(name: str, after: tuple[str, ...] = (), on_failure: str = "revise") -> Subtask:
    return Subtask(
        id=name,
        title=name,
        kind="human",
        instruction="x",
        depends_on=after,
        on_failure=on_failure,  # type: ignore[arg-type]
    )


class Run:
    """A board that is moved along as the flow does it, and the facts that are told meanwhile."""

    def __init__(self, plan: Plan, choose: st.DataObject) -> None:
        self.board = Board(plan, OFFER)
        self.choose = choose
        self.facts: list[Fact] = [STARTED, events.PlanProposed(plan=plan)]
        self.causes: list[Cause] = []
        self.added = 0

    def go(self) -> None:
        while self._startable() or self.causes:
            if self.causes and self.choose.draw(st.booleans()):
                self._revise()
            elif found := self._startable():
                self._do(self.choose.draw(st.sampled_from(found)))
        for left in self.board.strand():
            self.facts.append(events.SubtaskSkipped(subtask=left.id, reason=self.board.failures[left.id]))

    def _startable(self) -> list[Subtask]:
        return self.board.startable(descendants(self.board.plan, [cause.subtask for cause in self.causes]))

    def _do(self, one: Subtask) -> None:
        self.board.start(one.id)
        version = self.board.plan.version
        self._tell(events.SubtaskStarted(subtask=one.id, title="t", attempt=1, plan_version=version))
        end = self.choose.draw(st.sampled_from(["good", "surprise", "bad"]))
        if end == "bad":
            self._tell(events.SubtaskFailed(subtask=one.id, attempt=1, reason="bad luck", final=True))
            if one.on_failure == "skip":
                self.board.skip(one.id, "bad luck")
                self._tell(events.SubtaskSkipped(subtask=one.id, reason="the plan goes on without it"))
                return
            self.board.fail(one.id, "bad luck")
            self.causes.append(Cause(subtask=one.id, what="failed", text="bad luck"))
            return
        surprise = "oh" if end == "surprise" else None
        result = Result(subtask=one.id, attempt=1, plan_version=version, value=one.id, surprise=surprise)
        self._tell(events.SubtaskAccepted(subtask=one.id, result=result))
        self._tell(events.SubtaskFinished(subtask=one.id, result=result, seconds=1))
        self.board.finish(result)
        if surprise:
            self.causes.append(Cause(subtask=one.id, what="reported a surprise", text=surprise))

    def _revise(self) -> None:
        causes, self.causes = self.causes, []
        told = "; ".join(map(str, causes))
        if self.added > 3 or self.choose.draw(st.booleans()):
            self._tell(events.RevisionDeclined(reason="it is fine", cause=told))
            return
        self.added += 1
        done = tuple(name for name, state in self.board.states.items() if state == "done")[:1]
        patch = Patch(
            base_version=self.board.plan.version,
            reason=f"reason {self.added}",
            add=(subtask(f"added{self.added}", done),),
        )
        self._tell(events.PlanRevised(plan=self.board.revise(patch), patch=patch, cause=told))
        self.board.answered.update(cause.subtask for cause in causes)

    def _tell(self, fact: Fact) -> None:
        self.facts.append(fact)


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    names = [f"s{n}" for n in range(draw(st.integers(1, 7)))]
    made = []
    for n, name in enumerate(names):
        above = draw(st.lists(st.sampled_from(names[:n]), unique=True, max_size=3)) if n else []
        made.append(subtask(name, tuple(above), draw(st.sampled_from(["revise", "revise", "skip"]))))
    return Plan(goal="g", subtasks=tuple(draw(st.permutations(made))))


@settings(max_examples=60)
@given(plans(), st.data())
def test_the_replay_of_a_whole_run_is_the_board_at_its_end(plan: Plan, data: st.DataObject) -> None:
    run = Run(plan, data)
    run.go()
    past = replay(numbered(run.facts))
    board, found = run.board, board_of(past, OFFER)
    assert found.snapshot() == board.snapshot()
    assert (found.stranded, found.answered) == (board.stranded, board.answered)
    assert (found.lessons, found.earlier, found.met) == (board.lessons, board.earlier, board.met)
    assert causes_for(found, "auto") == []


@settings(max_examples=60)
@given(plans(), st.data())
def test_a_prefix_tells_nothing_that_the_whole_takes_back(plan: Plan, data: st.DataObject) -> None:
    run = Run(plan, data)
    run.go()
    found = numbered(run.facts)
    whole = replay(found)
    past = Past()
    for event in found:
        past = after(past, event)
        assert past.results.items() <= whole.results.items()
        assert past.failures.items() <= whole.failures.items()
        assert {*past.states.items()} <= {*whole.states.items()}
        assert past.versions == whole.versions[: len(past.versions)]
        assert "running" not in past.states.values()
        assert past.seconds <= whole.seconds


def ended(outcome: str, exit_code: int = 0, answer: str = "") -> events.RunFinished:
    return events.RunFinished(
        outcome=outcome,  # type: ignore[arg-type]
        answer=answer,
        exit_code=exit_code,
        seconds=7,
        usage=Usage(calls=2),
    )


def started(name: str, attempt: int = 1) -> events.SubtaskStarted:
    return events.SubtaskStarted(subtask=name, title="t", attempt=attempt, plan_version=1)


def finished(name: str, value: str = "v") -> events.SubtaskFinished:
    result = Result(subtask=name, attempt=1, plan_version=1, value=value)
    return events.SubtaskFinished(subtask=name, result=result, seconds=1)


PLAN = Plan(goal="g", subtasks=(subtask("a"), subtask("b", ("a",))))
PROPOSED = events.PlanProposed(plan=PLAN)


def test_what_was_running_or_waiting_is_pending_again_and_its_attempts_are_counted() -> None:
    facts = [
        STARTED,
        PROPOSED,
        started("a"),
        started("a", 2),
        events.SubtaskWaiting(subtask="b", approval="q"),
    ]
    past = replay(numbered(facts))
    assert past.states == {}
    assert past.attempts == {"a": 2}
    assert past.moved == {"a": "running", "b": "waiting"}


def test_instances_are_kept_apart_from_the_whole() -> None:
    past = replay(
        numbered([STARTED, PROPOSED, started("a"), started("a[0]"), finished("a[0]"), started("a[1]")])
    )
    assert past.instances.keys() == {"a[0]"}
    assert past.results == {}
    assert past.states == {}
    assert past.attempts == {"a": 1, "a[0]": 1, "a[1]": 1}


def test_a_failure_that_the_plan_forgives_is_skipped_though_a_kill_came_before_that_was_said() -> None:
    plan = Plan(goal="g", subtasks=(subtask("a", on_failure="skip"),))
    failed = events.SubtaskFailed(subtask="a", attempt=1, reason="bad", final=True)
    past = replay(numbered([STARTED, events.PlanProposed(plan=plan), started("a"), failed]))
    assert past.states == {"a": "skipped"}
    assert past.causes == ()


def test_what_the_reviser_had_not_dealt_with_is_put_to_it_again() -> None:
    failed = events.SubtaskFailed(subtask="a", attempt=1, reason="bad", final=True)
    said = events.Remarked(text="faster")
    past = replay(numbered([STARTED, PROPOSED, started("a"), failed, said]))
    board = board_of(past, OFFER)
    assert [str(cause) for cause in causes_for(board, "auto")] == ["a failed: bad", "the user said: faster"]
    assert [str(cause) for cause in causes_for(board, "never")] == ["the user said: faster"]


def test_time_without_a_process_does_not_count() -> None:
    def at(seconds: int, seq: int, fact: Fact) -> Event:
        return Event(run="r", seq=seq, time=START + timedelta(seconds=seconds), data=fact)  # type: ignore[arg-type]

    resumed = events.RunResumed(version="1")
    found = [at(0, 1, STARTED), at(5, 2, PROPOSED), at(1_000, 3, resumed), at(1_003, 4, started("a"))]
    assert replay(found).seconds == 8
    cancelled = at(9_000, 5, ended("cancelled").model_copy(update={"seconds": 8}))
    assert replay([*found, cancelled]).seconds == 8


def test_usage_is_the_newest_total_whatever_the_order_it_was_told_in() -> None:
    def spent(calls: int) -> events.Spent:
        total = Usage(calls=calls, prompt_tokens=calls)
        one = {"prompt_tokens": 1, "completion_tokens": 0, "cost": None, "seconds": 1}
        return events.Spent(role="agent", subtask="a", model="m", total=total, **one)  # type: ignore[arg-type]

    assert replay(numbered([STARTED, spent(2), spent(1)])).usage.calls == 2


def _unresumable() -> Iterator[tuple[list[Fact], str]]:
    yield [STARTED, PROPOSED, ended("cancelled", 130)], "cancelled"
    yield [STARTED, PROPOSED, ended("interrupted", 130), events.RunUndone(changes=())], "undone"
    yield [PROPOSED], "no beginning"


@pytest.mark.parametrize(("facts", "why"), list(_unresumable()))
def test_some_runs_cannot_be_gone_on_with(facts: list[Fact], why: str) -> None:
    with pytest.raises(UsageError, match=why):
        check_resumable(replay(numbered(facts)))


@pytest.mark.parametrize(
    ("end", "over"),
    [
        (ended("completed", answer="yes"), True),
        (ended("failed", 1, "in part"), True),
        (ended("failed", 4, "the bare results"), False),
        (ended("failed", 5), False),
        (ended("interrupted", 130), False),
        (ended("paused", 6), False),
    ],
)
def test_a_run_is_over_when_its_answer_was_written(end: events.RunFinished, over: bool) -> None:
    assert is_over(replay(numbered([STARTED, PROPOSED, end]))) is over
    gone_on = [STARTED, PROPOSED, end, events.RunResumed(version="1")]
    assert is_over(replay(numbered(gone_on))) is False
