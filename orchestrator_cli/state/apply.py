"""`apply(state, event)`: the only place that knows what an event changes. Pure.

A case or a handler for each kind of fact. Journals of earlier versions are read by the same handlers.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import reduce, singledispatch
from typing import Any

from orchestrator_cli import events
from orchestrator_cli.events import Event, FileChange
from orchestrator_cli.plan import Plan, State, descendants, whole_name
from orchestrator_cli.planning.reviser import Cause
from orchestrator_cli.state.duplicate_code import HINT, cause_of
from orchestrator_cli.state.run_state import OVER, Accepted, Activity, PendingCall, RunState, Version, Work
from orchestrator_cli.values import Usage, seconds_between

GOAL = "the goal is not met"


def fold(found: Iterable[Event]) -> RunState:
    """The run after these events, which begin with its first."""
    return reduce(apply, found, RunState())


def apply(state: RunState, event: Event) -> RunState:
    """The run after one more event."""
    if isinstance(event.data, events.RunResumed):
        # The time since the last process ended is not work.
        state = replace(state, before_s=state.seconds, since=event.time)
    latest = event.time if state.since is not None else state.latest
    return _change(event.data, replace(state, run=event.run, last=event.seq, latest=latest, now=event.time))


@singledispatch
def _change(fact: events.Fact, state: RunState) -> RunState:  # noqa: C901 - a case for each kind
    """What a fact changes. Kinds without a case or a handler change nothing."""
    match fact:
        case events.RunStarted():
            state = replace(state, began=state.now, since=state.now, latest=state.now)
            return replace(state, started=fact, phase="recalling and planning")
        case events.RunPaused():
            return replace(state, paused=True, phase="waiting for you")
        case events.RunUndone():
            return replace(state, undone=True)
        case events.RunFinished():
            # Its own count of the seconds: a run that is cancelled later was dead in between.
            state = replace(state, finished=fact, before_s=fact.seconds, since=None, phase=fact.outcome)
            return replace(state, usage=_newest(state.usage, fact.usage), building={}, asking=())
        case events.FlowStarted():
            return replace(state, flow_run=fact.flow_run, url=fact.url)
        case events.ModelAsked():
            call = PendingCall(fact.role, fact.subtask or "", fact.model, state.now, fact.waits_for)
            asking = _without(state.asking, call.role, call.subtask, waits=True)
            return replace(state, asking=(*asking, call))
        case events.AnswerDelta():
            return replace(state, phase="writing the answer")
        case events.FeedbackGiven():
            return replace(state, feedback=fact)
        case events.Recalled():
            return replace(state, recalled=fact, reused=None, declined=(), phase="planning")
        case events.Transcribed():
            return replace(state, transcripts={**state.transcripts, fact.attachment: fact.text})
        case events.PlanReused():
            return replace(state, reused=fact)
        case events.ReuseDeclined():
            return replace(state, declined=(*state.declined, fact))
        case events.PlanProposed():
            return replace(state, versions=(Version(fact.plan),), phase="running")
        case events.PlanRepaired(plan=Plan() as plan) if state.has_plan:
            return _with_newest(state, plan)
        case events.AgentStepped() if fact.thought.strip():
            return _doing(state, fact.subtask, fact.thought)
        case events.ToolCalled():
            sign = "→" if fact.ok else "failed:"
            return _doing(state, fact.subtask, f"{fact.tool} {sign} {fact.outcome}")
        case events.SubtaskSkipped():
            failures = {fact.subtask: fact.reason, **state.failures}
            return _ended(replace(state, failures=failures), fact.subtask, "skipped", fact.reason, None)
        case events.FunctionRepeated():
            return _caused(state, cause_of(fact))
        case events.ToolNeeded():
            return replace(state, building={**state.building, fact.tool: f"writing: {fact.purpose}"})
        case events.ToolTried():
            doing = "passed its trial" if fact.passed else f"failed round {fact.round}, writing again"
            return replace(state, building={**state.building, fact.tool: doing})
        case events.ToolBuilt():
            had = {**state.had, fact.tool: fact}
            return replace(_built(state, fact.tool), built=(*state.built, fact), had=had)
        case events.ToolRefused():
            return _built(state, fact.tool)
        case events.ApprovalAsked():
            return replace(state, asked={**state.asked, fact.id: fact})
        case events.Remarked():
            state = replace(state, remarks=(*state.remarks, fact.text))
            return _caused(state, Cause(subtask="", what="the user said", text=fact.text))
        case events.EffectBegun():
            return replace(state, effects={**state.effects, fact.key: fact})
        case events.EffectEnded():
            left = {key: effect for key, effect in state.effects.items() if key != fact.key}
            return replace(state, effects=left, ended={**state.ended, fact.key: fact})
    return state


# --- the run


@_change.register
def _run_resumed(fact: events.RunResumed, state: RunState) -> RunState:
    """What the earlier process had under way, or could not do without a provider, is pending again."""
    lost = state.lost & state.failed
    again = lost | _skipped_after(state, lost)
    kept = {name: one for name, one in state.states.items() if one in OVER and name not in again}
    started = state.started
    if started is not None and fact.workspace:
        now = {"workspace": fact.workspace, "mark": fact.mark, "guidance": fact.guidance}
        started = started.model_copy(update=now)
    return replace(
        state,
        started=started,
        states=kept,
        failures={name: why for name, why in state.failures.items() if name not in again},
        causes=tuple(cause for cause in state.causes if cause.subtask not in lost),
        lost=frozenset(),
        activity={
            name: one if name in kept else Activity(seconds=one.seconds)
            for name, one in state.activity.items()
        },
        waiting={},
        instance_failures={},
        earlier_attempts=state.attempts,
        building={},
        finished=None,
        paused=False,
        phase="going on",
    )


def _skipped_after(state: RunState, lost: frozenset[str]) -> frozenset[str]:
    """What was skipped because it waits for one of `lost`."""
    return state.stranded & descendants(state.plan, lost) if lost else frozenset()


@_change.register
def _spent(fact: events.Spent, state: RunState) -> RunState:
    name = whole_name(fact.subtask) if fact.subtask and fact.role == "agent" else fact.role
    work = state.work.get(name, Work())
    state = replace(state, asking=_without(state.asking, fact.role, fact.subtask or "", waits=False))
    one = usage_of(fact)
    work = replace(
        work,
        usage=work.usage + one,
        models=work.models if fact.model in work.models else (*work.models, fact.model),
        answered_by=work.answered_by if fact.fault else work.answered_by | {fact.model},
    )
    return replace(state, usage=_newest(state.usage, fact.total), work={**state.work, name: work})


def _without(
    asking: tuple[PendingCall, ...], role: str, subtask: str, *, waits: bool
) -> tuple[PendingCall, ...]:
    """All but the oldest call of a role about a subtask that is made, or that waits."""
    same = (call for call in asking if (call.role, call.subtask) == (role, subtask))
    ended = next((call for call in same if bool(call.waits_for) == waits), None)
    return tuple(call for call in asking if call is not ended)


def usage_of(fact: events.Spent) -> Usage:
    """What one try of a call adds."""
    tokens = (fact.prompt_tokens, fact.completion_tokens, fact.cached_tokens)
    return Usage.of_try(*tokens, fact.cost, failed=bool(fact.fault), stopped=fact.stopped)


def _newest(known: Usage, total: Usage) -> Usage:
    """Two calls that end together may be written in the other order."""
    return total if total.tries >= known.tries else known


# --- the plan


@_change.register
def _plan_approved(fact: events.PlanApproved, state: RunState) -> RunState:
    if fact.edited:
        edited = Version(fact.plan, "edited by the user")
        return replace(state, versions=(*state.versions, edited), approved=True)
    return replace(_with_newest(state, fact.plan), approved=True)


def _with_newest(state: RunState, plan: Plan) -> RunState:
    newest = replace(state.versions[-1], plan=plan) if state.versions else Version(plan)
    return replace(state, versions=(*state.versions[:-1], newest), phase="running")


@_change.register
def _plan_revised(fact: events.PlanRevised, state: RunState) -> RunState:
    settled = _settled(state, fact)
    answered = {cause.subtask for cause in settled if cause.subtask and cause.what != HINT}
    wished = bool(settled) and all(cause.what == "the user said" for cause in settled)
    # What a waiting subtask asked about may have changed.
    woken = {name: one for name, one in state.states.items() if one != "waiting"}
    return replace(
        state,
        versions=(*state.versions, Version(fact.plan, fact.patch.reason, fact.cause, fact.patch, wished)),
        causes=tuple(cause for cause in state.causes if cause not in settled),
        answered=state.answered | answered,
        goal_told=fact.patch.base_version if GOAL in fact.cause else state.goal_told,
        states=woken,
        waiting={name: one for name, one in state.waiting.items() if whole_name(name) != name},
        phase="running",
    )


@_change.register
def _revision_declined(fact: events.RevisionDeclined, state: RunState) -> RunState:
    settled = _settled(state, fact)
    told = state.plan.version if state.has_plan and GOAL in fact.cause else state.goal_told
    return replace(state, causes=tuple(c for c in state.causes if c not in settled), goal_told=told)


def _settled(state: RunState, fact: events.PlanRevised | events.RevisionDeclined) -> list[Cause]:
    """The causes that a decision of the reviser has dealt with."""
    if fact.causes:
        return [cause for cause in state.causes if cause.id in fact.causes]
    # Journals of earlier versions hold no ids, but the sentences of the causes.
    return [cause for cause in state.causes if f"; {cause}; " in f"; {fact.cause}; "]


# --- subtasks


@_change.register
def _subtask_started(fact: events.SubtaskStarted, state: RunState) -> RunState:
    name, whole = fact.subtask, whole_name(fact.subtask)
    work = state.work.get(whole, Work())
    state = replace(
        state,
        attempts={**state.attempts, name: max(fact.attempt, state.attempts.get(name, 0))},
        starts={**state.starts, name: state.now},
        work={**state.work, whole: replace(work, attempts=work.attempts + 1)},
    )
    again = f"attempt {fact.attempt}: " if fact.attempt > 1 else ""
    state = _moved(_doing(state, name, again + fact.title), name, "running")
    if name != whole:
        return state
    return _active(state, name, since=state.now, seconds=None, items=fact.items)


@_change.register
def _subtask_waiting(fact: events.SubtaskWaiting, state: RunState) -> RunState:
    if fact.approval in state.given:
        # The answer came first: it may start again.
        return replace(state, states={n: one for n, one in state.states.items() if n != fact.subtask})
    state = replace(state, waiting={**state.waiting, fact.subtask: fact.approval})
    state = _doing(state, fact.subtask, f"waits for you ({fact.approval})")
    if whole_name(fact.subtask) == fact.subtask:
        state = _active(state, fact.subtask, since=None)
    return _moved(state, fact.subtask, "waiting")


@_change.register
def _code_ran(fact: events.CodeRan, state: RunState) -> RunState:
    lines = [line for line in fact.code.splitlines() if line.strip()]
    verb = "ran" if fact.error is None else "failed at"
    return _doing(state, fact.subtask, f"{verb} {lines[-1].strip() if lines else 'no code'}")


@_change.register
def _subtask_accepted(fact: events.SubtaskAccepted, state: RunState) -> RunState:
    since = state.starts.get(fact.subtask, state.now)
    accepted = Accepted(fact.result, seconds_between(since, state.now))
    return replace(state, accepted={**state.accepted, fact.subtask: accepted})


@_change.register
def _files_changed(fact: events.FilesChanged, state: RunState) -> RunState:
    gone = frozenset(one.path for one in fact.changes if one.change == "deleted")
    deleted = (state.deleted - {one.path for one in fact.changes}) | gone
    state = replace(state, changes=reduce(_squashed, fact.changes, state.changes), deleted=deleted)
    if fact.subtask not in state.accepted:
        return state
    committed = replace(state.accepted[fact.subtask], committed=True)
    return replace(state, accepted={**state.accepted, fact.subtask: committed})


def _squashed(known: Mapping[str, FileChange], change: FileChange) -> dict[str, FileChange]:
    """One change per path, from before the run to after it; a file made and deleted again has none."""
    first = known.get(change.path, change)
    others = {path: one for path, one in known.items() if path != change.path}
    if first.change == "created" and first.before_sha256 is None:
        if change.change == "deleted":
            return others
        kind = "created"
    else:
        kind = "modified" if change.change == "created" else change.change
    since = {"before_size": first.before_size, "before_sha256": first.before_sha256}
    return {**others, change.path: change.model_copy(update={"change": kind, **since})}


@_change.register
def _subtask_finished(fact: events.SubtaskFinished, state: RunState) -> RunState:
    name, result = fact.subtask, fact.result
    state = _ended(state, name, "done", result.summary, fact.seconds)
    if whole_name(name) != name:
        return replace(state, instances={**state.instances, name: result})
    if not state.has_plan or name not in state.plan.ids:
        return state
    work = replace(state.work.get(name, Work()), seconds=fact.seconds)
    state = replace(state, results={**state.results, name: result}, work={**state.work, name: work})
    if result.surprise:
        return _caused(state, Cause(subtask=name, what="reported a surprise", text=result.surprise))
    return _caused(state, Cause(subtask=name, what="finished", text=result.summary))


@_change.register
def _subtask_failed(fact: events.SubtaskFailed, state: RunState) -> RunState:
    name = fact.subtask
    begun = state.activity.get(name, Activity()).since
    seconds = seconds_between(begun, state.now) if begun is not None else None
    if not fact.final:
        # Another attempt follows: for the plan it is still running.
        state = _doing(_left(state, name), name, fact.reason)
        return state if whole_name(name) != name else _active(state, name, since=None, seconds=seconds)
    lost = state.lost | {name} if fact.provider_lost else state.lost - {name}
    state = _ended(replace(state, lost=lost), name, "failed", fact.reason, seconds)
    if whole_name(name) != name:
        return replace(state, instance_failures={**state.instance_failures, name: fact.reason})
    state = replace(state, failures={**state.failures, name: fact.reason})
    if state.has_plan and name in state.plan.ids and state.plan[name].on_failure == "revise":
        return _caused(state, Cause(subtask=name, what="failed", text=fact.reason))
    return state


@_change.register
def _subtasks_reopened(fact: events.SubtasksReopened, state: RunState) -> RunState:
    """They are pending again, as if they had not been done; what they cost stays."""
    names, wholes = frozenset(fact.subtasks), frozenset(map(whole_name, fact.subtasks))
    # An instance ends the result of the whole, which keeps its other instances.
    again = frozenset(name for name in state.instances if name in names or whole_name(name) in names)

    def left(known: Mapping[str, Any]) -> dict[str, Any]:
        return {name: one for name, one in known.items() if name not in wholes | again}

    return replace(
        state,
        states=left(state.states),
        results=left(state.results),
        instances=left(state.instances),
        failures=left(state.failures),
        activity=left(state.activity),
        answered=state.answered - wholes,
        causes=tuple(cause for cause in state.causes if cause.subtask not in wholes),
        earlier_attempts=state.attempts,
    )


def _ended(state: RunState, name: str, to: State, doing: str, seconds: float | None) -> RunState:
    whole, state = whole_name(name), _left(state, name)
    if whole != name:
        known = state.activity.get(whole, Activity())
        return _doing(_active(state, whole, ended=known.ended | {name}), name, doing)
    return _active(_moved(_doing(state, name, doing), name, to), name, since=None, seconds=seconds)


def _moved(state: RunState, name: str, to: State) -> RunState:
    return state if whole_name(name) != name else replace(state, states={**state.states, name: to})


def _active(state: RunState, name: str, **change: Any) -> RunState:
    activity = replace(state.activity.get(name, Activity()), **change)
    return replace(state, activity={**state.activity, name: activity})


def _doing(state: RunState, name: str, doing: str) -> RunState:
    """What an instance does is shown with the whole."""
    whole = whole_name(name)
    if whole != name:
        known = state.activity.get(whole, Activity())
        of = f" of {known.items}" if known.items is not None else ""
        doing = f"{len(known.ended)}{of} done · {name.removeprefix(whole)} {doing}"
    return _active(state, whole, doing=doing[:400])


def _left(state: RunState, name: str) -> RunState:
    """Without what the attempt that has ended left open: an accepted result, and calls that waited."""
    asking = tuple(call for call in state.asking if not (call.waits_for and call.subtask == name))
    accepted = {k: v for k, v in state.accepted.items() if k != name}
    return replace(state, accepted=accepted, asking=asking)


def _caused(state: RunState, cause: Cause) -> RunState:
    return replace(state, causes=(*state.causes, cause))


# --- tools, people, effects


@_change.register
def _tool_reused(fact: events.ToolReused, state: RunState) -> RunState:
    state = _built(_built(state, fact.tool), fact.instead_of)
    # One that serves under several names is named for each.
    borrowed = state.borrowed if fact.tool in state.borrowed else (*state.borrowed, fact.tool)
    return replace(state, borrowed=borrowed, had={**state.had, fact.tool: fact})


def _built(state: RunState, tool: str) -> RunState:
    return replace(state, building={name: what for name, what in state.building.items() if name != tool})


@_change.register
def _approval_given(fact: events.ApprovalGiven, state: RunState) -> RunState:
    woken = [name for name, approval in state.waiting.items() if approval == fact.id]
    for name in woken:
        if whole_name(name) == name:
            state = _active(state, name, doing="")
    return replace(
        state,
        given={**state.given, fact.id: fact},
        states={name: one for name, one in state.states.items() if not (name in woken and one == "waiting")},
        waiting={name: approval for name, approval in state.waiting.items() if name not in woken},
    )
