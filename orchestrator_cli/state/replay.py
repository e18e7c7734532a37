"""What a run had come to, told from its events alone: a pure fold over the journal.

Whoever goes on with a run, lists it or shows it, knows it from here. `states` are as another
process finds them: what was running or waiting when the run stopped is pending again.

What is not covered: a question that was withdrawn leaves no event, and counts as open as long as
its subtask has not started; instances of a `for_each` subtask that failed before the whole had
an end are not remembered, and are tried again.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import reduce, singledispatch

from orchestrator_cli import events
from orchestrator_cli.events import Event
from orchestrator_cli.plan import Plan, Result, State, order, whole_name
from orchestrator_cli.planning.reviser import Cause
from orchestrator_cli.state.duplicate_code import HINT, cause_of
from orchestrator_cli.usage import Usage

GOAL = "the goal is not met"


@dataclass(frozen=True)
class Accepted:
    """A result whose commit was about to begin."""

    result: Result
    seconds: float
    """How long the attempt had taken."""
    told: bool = False
    """Whether its changes are in the journal, and so were committed."""


@dataclass(frozen=True)
class Past:
    """A run up to an event of its journal."""

    run: str = ""
    last: int = 0
    """The number of the last event."""
    began: datetime | None = None
    latest: datetime | None = None
    started: events.RunStarted | None = None
    recalled: events.Recalled | None = None
    versions: tuple[Plan, ...] = ()
    """Every version of the plan, oldest first."""
    approved: bool = False
    """Whether the user has allowed the plan to run."""
    moved: Mapping[str, State] = field(default_factory=dict)
    """The states as they were when the run stopped."""
    results: Mapping[str, Result] = field(default_factory=dict)
    instances: Mapping[str, Result] = field(default_factory=dict)
    failures: Mapping[str, str] = field(default_factory=dict)
    """Why a subtask failed or was skipped."""
    attempts: Mapping[str, int] = field(default_factory=dict)
    """The highest number of an attempt that was begun, per subtask and instance."""
    accepted: Mapping[str, Accepted] = field(default_factory=dict)
    """Subtasks and instances of which nobody has said that they are finished."""
    causes: tuple[Cause, ...] = ()
    """What the reviser has not dealt with; `finished` only concerns one that is always asked."""
    answered: frozenset[str] = frozenset()
    """Subtasks that the reviser has changed the plan for."""
    goal_told: int = 0
    """The plan version of which the reviser was told that it missed the goal."""
    lessons: tuple[str, ...] = ()
    """The reasons of the patches."""
    made: tuple[str, ...] = ()
    """Tools that the run built, in order."""
    reused: tuple[str, ...] = ()
    asked: Mapping[str, events.ApprovalAsked] = field(default_factory=dict)
    given: Mapping[str, events.ApprovalGiven] = field(default_factory=dict)
    effects: Mapping[str, events.EffectBegun] = field(default_factory=dict)
    """What was begun outside the workspace, by key, and is not known to have ended."""
    ended: Mapping[str, events.EffectEnded] = field(default_factory=dict)
    flow_run: str = ""
    usage: Usage = field(default_factory=Usage)
    finished: events.RunFinished | None = None
    """How the run ended, unless somebody went on with it since."""
    paused: bool = False
    undone: bool = False
    """Whether some of its changes were taken back."""
    before_s: float = 0.0
    since: datetime | None = None
    starts: Mapping[str, datetime] = field(default_factory=dict)

    @property
    def prompt(self) -> str:
        return self.started.prompt if self.started else ""

    @property
    def conversation(self) -> events.Conversation:
        if self.started is None:
            return events.Conversation()
        begun = self.started
        return events.Conversation(session=begun.session, earlier=begun.earlier, turns=begun.conversation)

    @property
    def plan(self) -> Plan | None:
        return self.versions[-1] if self.versions else None

    @property
    def seconds(self) -> float:
        """How long processes have worked on it; the time between them does not count."""
        if self.since is None or self.latest is None:
            return self.before_s
        return self.before_s + (self.latest - self.since).total_seconds()

    @property
    def states(self) -> dict[str, State]:
        """What is over; everything else is pending."""
        known = self.plan.ids if self.plan else ()
        over: dict[str, State] = {
            name: state
            for name, state in self.moved.items()
            if name in known and state in ("done", "failed", "skipped")
        }
        for name, state in over.items():
            # A kill came between the failure and what the plan says to do about it.
            if state == "failed" and self.plan and self.plan[name].on_failure == "skip":
                over[name] = "skipped"
        return over

    @property
    def stranded(self) -> frozenset[str]:
        """What was skipped because something that it waits for had failed."""
        if self.plan is None:
            return frozenset()
        states, found = self.states, set[str]()
        for name in order(self.plan):
            lost = [d for d in self.plan[name].depends_on if states.get(d) not in ("done", "skipped")]
            if states.get(name) == "skipped" and (lost or found & set(self.plan[name].depends_on)):
                found.add(name)
        return frozenset(found)

    @property
    def open(self) -> tuple[events.ApprovalAsked, ...]:
        """The questions that nobody has answered and somebody still waits for."""
        if self.finished is not None and self.finished.outcome in ("completed", "cancelled"):
            return ()
        waiting = (self.plan.ids if self.plan else frozenset()) - self.states.keys()
        return tuple(
            asked
            for name, asked in self.asked.items()
            if name not in self.given
            and (asked.what not in ("subtask", "question") or whole_name(asked.subject) in waiting)
        )


def replay(found: Iterable[Event]) -> Past:
    """The run after these events, which begin with its first."""
    return reduce(after, found, Past())


def after(past: Past, event: Event) -> Past:
    """The run once one more event is known."""
    if isinstance(event.data, events.RunResumed):
        # Counted before the clock moves on: nobody worked on it since.
        past = replace(past, before_s=past.seconds, since=event.time, finished=None, paused=False)
    latest = past.latest if past.since is None else event.time
    past = replace(past, run=event.run, last=event.seq, latest=latest)
    if isinstance(event.data, events.RunStarted):
        return replace(past, started=event.data, began=event.time, since=event.time, latest=event.time)
    if isinstance(event.data, events.SubtaskStarted):
        past = replace(past, starts={**past.starts, event.data.subtask: event.time})
    if isinstance(event.data, events.SubtaskAccepted):
        return _accepted(past, event.data, event.time)
    return _after(event.data, past)


@singledispatch
def _after(fact: events.Fact, past: Past) -> Past:  # noqa: ARG001 - what leaves nothing to go on with
    return past


# --- the plan


@_after.register
def _recalled(fact: events.Recalled, past: Past) -> Past:
    return replace(past, recalled=fact)


@_after.register
def _plan_proposed(fact: events.PlanProposed, past: Past) -> Past:
    return replace(past, versions=(fact.plan,))


@_after.register
def _plan_repaired(fact: events.PlanRepaired, past: Past) -> Past:
    return past if fact.plan is None else replace(past, versions=(*past.versions[:-1], fact.plan))


@_after.register
def _plan_approved(fact: events.PlanApproved, past: Past) -> Past:
    return replace(past, versions=(*past.versions[:-1], fact.plan), approved=True)


@_after.register
def _plan_revised(fact: events.PlanRevised, past: Past) -> Past:
    dealt = [cause for cause in past.causes if _is_among(str(cause), fact.cause)]
    past = _told_of_goal(past, fact.cause, fact.patch.base_version)
    return replace(
        past,
        versions=(*past.versions, fact.plan),
        causes=tuple(cause for cause in past.causes if cause not in dealt),
        answered=past.answered | {cause.subtask for cause in dealt if cause.subtask and cause.what != HINT},
        lessons=(*past.lessons, fact.patch.reason),
    )


@_after.register
def _revision_declined(fact: events.RevisionDeclined, past: Past) -> Past:
    left = tuple(cause for cause in past.causes if not _is_among(str(cause), fact.cause))
    past = _told_of_goal(past, fact.cause, past.plan.version if past.plan else 0)
    return replace(past, causes=left)


def _told_of_goal(past: Past, cause: str, version: int) -> Past:
    return replace(past, goal_told=version) if GOAL in cause else past


def _is_among(cause: str, joined: str) -> bool:
    """Whether the flow has named this among the causes of one revision."""
    return f"; {cause}; " in f"; {joined}; "


# --- subtasks


@_after.register
def _subtask_started(fact: events.SubtaskStarted, past: Past) -> Past:
    attempts = {**past.attempts, fact.subtask: max(fact.attempt, past.attempts.get(fact.subtask, 0))}
    return _moved(replace(past, attempts=attempts), fact.subtask, "running")


@_after.register
def _subtask_waiting(fact: events.SubtaskWaiting, past: Past) -> Past:
    return _moved(past, fact.subtask, "waiting")


def _accepted(past: Past, fact: events.SubtaskAccepted, time: datetime) -> Past:
    since = past.starts.get(fact.subtask, time)
    accepted = Accepted(fact.result, (time - since).total_seconds())
    return replace(past, accepted={**past.accepted, fact.subtask: accepted})


@_after.register
def _files_changed(fact: events.FilesChanged, past: Past) -> Past:
    if fact.subtask not in past.accepted:
        return past
    told = replace(past.accepted[fact.subtask], told=True)
    return replace(past, accepted={**past.accepted, fact.subtask: told})


@_after.register
def _subtask_finished(fact: events.SubtaskFinished, past: Past) -> Past:
    past = _not_accepted(past, fact.subtask)
    if whole_name(fact.subtask) != fact.subtask:
        return replace(past, instances={**past.instances, fact.subtask: fact.result})
    if past.plan is None or fact.subtask not in past.plan.ids:
        return past
    past = replace(past, results={**past.results, fact.subtask: fact.result})
    if fact.result.surprise:
        cause = Cause(subtask=fact.subtask, what="reported a surprise", text=fact.result.surprise)
    else:
        cause = Cause(subtask=fact.subtask, what="finished", text=fact.result.summary)
    return _moved(replace(past, causes=(*past.causes, cause)), fact.subtask, "done")


@_after.register
def _subtask_failed(fact: events.SubtaskFailed, past: Past) -> Past:
    past = _not_accepted(past, fact.subtask)
    if not fact.final or whole_name(fact.subtask) != fact.subtask:
        return past
    past = replace(past, failures={**past.failures, fact.subtask: fact.reason})
    if past.plan and fact.subtask in past.plan.ids and past.plan[fact.subtask].on_failure == "revise":
        cause = Cause(subtask=fact.subtask, what="failed", text=fact.reason)
        past = replace(past, causes=(*past.causes, cause))
    return _moved(past, fact.subtask, "failed")


@_after.register
def _subtask_skipped(fact: events.SubtaskSkipped, past: Past) -> Past:
    failures = (
        past.failures if fact.subtask in past.failures else {**past.failures, fact.subtask: fact.reason}
    )
    return _moved(replace(past, failures=failures), fact.subtask, "skipped")


def _moved(past: Past, subtask: str, state: State) -> Past:
    if whole_name(subtask) != subtask:
        return past
    return replace(past, moved={**past.moved, subtask: state})


def _not_accepted(past: Past, subtask: str) -> Past:
    if subtask not in past.accepted:
        return past
    return replace(past, accepted={k: v for k, v in past.accepted.items() if k != subtask})


# --- tools, people, effects


@_after.register
def _function_repeated(fact: events.FunctionRepeated, past: Past) -> Past:
    return replace(past, causes=(*past.causes, cause_of(fact)))


@_after.register
def _tool_built(fact: events.ToolBuilt, past: Past) -> Past:
    return replace(past, made=(*past.made, fact.tool))


@_after.register
def _tool_reused(fact: events.ToolReused, past: Past) -> Past:
    # One that serves under several names is told for each.
    return past if fact.tool in past.reused else replace(past, reused=(*past.reused, fact.tool))


@_after.register
def _approval_asked(fact: events.ApprovalAsked, past: Past) -> Past:
    return replace(past, asked={**past.asked, fact.id: fact})


@_after.register
def _approval_given(fact: events.ApprovalGiven, past: Past) -> Past:
    return replace(past, given={**past.given, fact.id: fact})


@_after.register
def _remarked(fact: events.Remarked, past: Past) -> Past:
    cause = Cause(subtask="", what="the user said", text=fact.text)
    return replace(past, causes=(*past.causes, cause))


@_after.register
def _effect_begun(fact: events.EffectBegun, past: Past) -> Past:
    return replace(past, effects={**past.effects, fact.key: fact})


@_after.register
def _effect_ended(fact: events.EffectEnded, past: Past) -> Past:
    left = {key: effect for key, effect in past.effects.items() if key != fact.key}
    return replace(past, effects=left, ended={**past.ended, fact.key: fact})


# --- the run


@_after.register
def _spent(fact: events.Spent, past: Past) -> Past:
    # Two calls that end together may be told in the other order.
    newer = fact.total.calls + fact.total.failed >= past.usage.calls + past.usage.failed
    return replace(past, usage=fact.total) if newer else past


@_after.register
def _flow_started(fact: events.FlowStarted, past: Past) -> Past:
    return replace(past, flow_run=fact.flow_run)


@_after.register
def _run_paused(fact: events.RunPaused, past: Past) -> Past:  # noqa: ARG001
    return replace(past, paused=True)


@_after.register
def _run_undone(fact: events.RunUndone, past: Past) -> Past:  # noqa: ARG001
    return replace(past, undone=True)


@_after.register
def _run_finished(fact: events.RunFinished, past: Past) -> Past:
    # Its own count of the seconds: a run that is cancelled later was dead in between.
    return replace(past, finished=fact, before_s=fact.seconds, since=None)
