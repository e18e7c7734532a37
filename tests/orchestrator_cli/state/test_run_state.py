"""The state of a run: what its events make of it, whole and cut off at any of them."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator_cli import events
from orchestrator_cli.errors import UsageError
from orchestrator_cli.events import Event, Fact
from orchestrator_cli.execution.plan_changes import causes_for, held_by
from orchestrator_cli.execution.resume import check_resumable, is_over, missing_facts
from orchestrator_cli.plan import Patch, Plan, Result, Subtask, ancestors
from orchestrator_cli.planning.patching import apply as patched
from orchestrator_cli.planning.planner import PlannerContext
from orchestrator_cli.planning.reviser import Cause
from orchestrator_cli.settings import Settings
from orchestrator_cli.state import RunState, apply, fold
from orchestrator_cli.values import Usage
from orchestrator_cli.workspace.history import CommitHistory

CATALOGUE = PlannerContext(roles=(), tools=(), max_subtasks=100).catalogue
AUTO, NEVER = Settings(revise="auto"), Settings(revise="never")
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
    """A run that is moved along by events, as the scheduler does it."""

    def __init__(self, plan: Plan, choose: st.DataObject) -> None:
        self.state = RunState()
        self.choose = choose
        self.facts: list[Fact] = []
        self.good: dict[str, Result] = {}
        self.added = 0
        self.emit(STARTED)
        self.emit(events.PlanProposed(plan=plan))

    def emit(self, fact: Fact) -> None:
        self.facts.append(fact)
        self.state = apply(self.state, numbered(self.facts)[-1])

    def go(self) -> None:
        while self._startable() or self._causes():
            if self._causes() and self.choose.draw(st.booleans()):
                self._revise()
            elif found := self._startable():
                self._do(self.choose.draw(st.sampled_from(found)))
        for left in self.state.pending:
            self.emit(events.SubtaskSkipped(subtask=left.id, reason="what it waits for failed"))

    def _causes(self) -> tuple[Cause, ...]:
        return causes_for(self.state, AUTO)

    def _startable(self) -> list[Subtask]:
        return self.state.startable(held_by(self._causes(), self.state.plan))

    def _do(self, one: Subtask) -> None:
        version = self.state.plan.version
        self.emit(events.SubtaskStarted(subtask=one.id, title="t", attempt=1, plan_version=version))
        end = self.choose.draw(st.sampled_from(["good", "surprise", "bad"]))
        if end == "bad":
            self.emit(events.SubtaskFailed(subtask=one.id, attempt=1, reason="bad luck", final=True))
            if one.on_failure == "skip":
                self.emit(events.SubtaskSkipped(subtask=one.id, reason="the plan goes on without it"))
            return
        surprise = "oh" if end == "surprise" else None
        result = Result(subtask=one.id, attempt=1, plan_version=version, value=one.id, surprise=surprise)
        self.emit(events.SubtaskAccepted(subtask=one.id, result=result))
        self.emit(events.SubtaskFinished(subtask=one.id, result=result, seconds=1))
        self.good[one.id] = result

    def _revise(self) -> None:
        causes = self._causes()
        text, ids = "; ".join(map(str, causes)), tuple(cause.id for cause in causes)
        if self.added > 3 or self.choose.draw(st.booleans()):
            self.emit(events.RevisionDeclined(reason="it is fine", cause=text, causes=ids))
            return
        self.added += 1
        new = subtask(f"added{self.added}", tuple(self.good)[:1])
        patch = Patch(base_version=self.state.plan.version, reason=f"reason {self.added}", add=(new,))
        plan = patched(self.state.plan, patch, self.state.states, CATALOGUE)
        self.emit(events.PlanRevised(plan=plan, patch=patch, cause=text, causes=ids))


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
def test_a_whole_run_ends_with_every_subtask_over_and_every_cause_settled(
    plan: Plan, data: st.DataObject
) -> None:
    run = Run(plan, data)
    run.go()
    state = fold(numbered(run.facts))
    assert state == run.state
    assert state.results == run.good
    assert {name for name, one in state.states.items() if one == "done"} == run.good.keys()
    assert state.states.keys() == state.plan.ids
    assert causes_for(state, AUTO) == ()
    assert [version.plan.version for version in state.versions] == list(range(1, run.added + 2))
    for name in state.stranded:
        lost = state.plan[name].depends_on
        assert any(state.state_of(d) == "failed" or d in state.stranded for d in lost)


@settings(max_examples=60)
@given(plans(), st.data())
def test_a_kill_at_any_event_loses_nothing_finished_and_starts_nothing_stranded(
    plan: Plan, data: st.DataObject
) -> None:
    run = Run(plan, data)
    run.go()
    whole = run.state
    for end in range(2, len(run.facts) + 1):
        part = numbered([*run.facts[:end], events.RunResumed(version="1")])
        state = fold(part)
        assert state.results.items() <= whole.results.items()
        assert state.failures.items() <= whole.failures.items()
        assert state.versions == whole.versions[: len(state.versions)]
        assert not {"running", "waiting"} & {*state.states.values()}
        assert state.seconds <= whole.seconds
        failed = {name for name, one in state.states.items() if one == "failed"}
        for one in state.startable():
            assert not failed & ancestors(state.plan, one.id)


@settings(max_examples=30)
@given(plans(), st.data())
def test_journals_without_ids_of_causes_settle_the_same(plan: Plan, data: st.DataObject) -> None:
    run = Run(plan, data)
    run.go()
    old = [
        fact.model_copy(update={"causes": ()})
        if isinstance(fact, events.PlanRevised | events.RevisionDeclined)
        else fact
        for fact in run.facts
    ]
    state = fold(numbered(old))
    assert (state.causes, state.answered) == (run.state.causes, run.state.answered)


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
    state = fold(numbered(facts))
    assert state.states == {"a": "running", "b": "waiting"}
    state = fold(numbered([*facts, events.RunResumed(version="1")]))
    assert state.states == {}
    assert state.earlier_attempts == {"a": 2}


def test_instances_are_kept_apart_from_the_whole() -> None:
    state = fold(
        numbered([STARTED, PROPOSED, started("a"), started("a[0]"), finished("a[0]"), started("a[1]")])
    )
    assert state.instances.keys() == {"a[0]"}
    assert state.results == {}
    assert state.states == {"a": "running"}
    assert state.attempts == {"a": 1, "a[0]": 1, "a[1]": 1}


def test_a_failure_that_the_plan_forgives_is_skipped_by_the_next_process(tmp_path: Path) -> None:
    plan = Plan(goal="g", subtasks=(subtask("a", on_failure="skip"),))
    failed = events.SubtaskFailed(subtask="a", attempt=1, reason="bad", final=True)
    facts = [STARTED, events.PlanProposed(plan=plan), started("a"), failed, events.RunResumed(version="1")]
    state = fold(numbered(facts))
    (skipped,) = missing_facts(state, CommitHistory(tmp_path))
    assert fold(numbered([*facts, skipped])).states == {"a": "skipped"}
    assert state.causes == ()


def test_what_the_reviser_had_not_settled_is_put_to_it_again() -> None:
    failed = events.SubtaskFailed(subtask="a", attempt=1, reason="bad", final=True)
    said = events.Remarked(text="faster")
    state = fold(numbered([STARTED, PROPOSED, started("a"), failed, said]))
    assert [str(c) for c in causes_for(state, AUTO)] == ["a failed: bad", "the user said: faster"]
    assert [str(c) for c in causes_for(state, NEVER)] == ["the user said: faster"]


def test_an_answer_wakes_what_waits_for_it_even_if_it_came_first() -> None:
    waits = events.SubtaskWaiting(subtask="a", approval="q")
    given = events.ApprovalGiven(id="q", decision="yes")
    for order in ([waits, given], [given, waits]):
        state = fold(numbered([STARTED, PROPOSED, started("a"), *order]))
        assert [one.id for one in state.startable()] == ["a"]
        assert state.waiting == {}


def test_half_a_skipped_chain_is_not_started_by_the_next_process() -> None:
    chain = Plan(goal="g", subtasks=(subtask("a"), subtask("b", ("a",)), subtask("c", ("b",))))
    facts = [
        STARTED,
        events.PlanProposed(plan=chain),
        started("a"),
        events.SubtaskFailed(subtask="a", attempt=1, reason="bad", final=True),
        events.SubtaskSkipped(subtask="b", reason="what it waits for failed: a"),
        events.RunResumed(version="1"),
    ]
    state = fold(numbered(facts))
    assert state.startable() == []
    assert state.stranded == {"b"}


def test_changes_of_a_path_are_one_change_of_the_run() -> None:
    def change(kind: str, before: str | None, after: str | None) -> events.FilesChanged:
        one = events.FileChange(path="a", change=kind, before_sha256=before, after_sha256=after)  # type: ignore[arg-type]
        return events.FilesChanged(subtask="a", attempt=1, changes=(one,))

    made, edited, gone = (
        change("created", None, "1"),
        change("modified", "1", "2"),
        change("deleted", "2", None),
    )
    (one,) = fold(numbered([STARTED, PROPOSED, made, edited])).changes.values()
    assert (one.change, one.before_sha256, one.after_sha256) == ("created", None, "2")
    assert fold(numbered([STARTED, PROPOSED, made, edited, gone])).changes == {}


def test_time_without_a_process_does_not_count() -> None:
    def at(seconds: int, seq: int, fact: Fact) -> Event:
        return Event(run="r", seq=seq, time=START + timedelta(seconds=seconds), data=fact)  # type: ignore[arg-type]

    resumed = events.RunResumed(version="1")
    found = [at(0, 1, STARTED), at(5, 2, PROPOSED), at(1_000, 3, resumed), at(1_003, 4, started("a"))]
    assert fold(found).seconds == 8
    cancelled = at(9_000, 5, ended("cancelled").model_copy(update={"seconds": 8}))
    assert fold([*found, cancelled]).seconds == 8


def test_usage_is_the_newest_total_in_any_order() -> None:
    def spent(calls: int) -> events.Spent:
        total = Usage(calls=calls, prompt_tokens=calls)
        one = {"prompt_tokens": 1, "completion_tokens": 0, "cost": None, "seconds": 1}
        return events.Spent(role="agent", subtask="a", model="m", total=total, **one)  # type: ignore[arg-type]

    assert fold(numbered([STARTED, spent(2), spent(1)])).usage.calls == 2


def _unresumable() -> Iterator[tuple[list[Fact], str]]:
    yield [STARTED, PROPOSED, ended("cancelled", 130)], "cancelled"
    yield [STARTED, PROPOSED, ended("interrupted", 130), events.RunUndone(changes=())], "undone"
    yield [PROPOSED], "no beginning"


@pytest.mark.parametrize(("facts", "why"), list(_unresumable()))
def test_some_runs_cannot_be_gone_on_with(facts: list[Fact], why: str) -> None:
    with pytest.raises(UsageError, match=why):
        check_resumable(fold(numbered(facts)))


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
    assert is_over(fold(numbered([STARTED, PROPOSED, end]))) is over
    gone_on = [STARTED, PROPOSED, end, events.RunResumed(version="1")]
    assert is_over(fold(numbered(gone_on))) is False
