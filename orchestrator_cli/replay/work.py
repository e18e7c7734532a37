"""What the journal says was done for each subtask: a pure fold from events to work that can be done again.

Only attempts that were finished count: the others left nothing in the workspace.

What is not covered: the moment at which a checkout was taken is known to the event before it only. Where
two subtasks that do not depend on each other ran at once, one may have seen a commit of the other that
it does not see here, or the other way round.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from pydantic import JsonValue

from orchestrator_cli import events
from orchestrator_cli.events import Event, FileChange
from orchestrator_cli.execution.map import spread
from orchestrator_cli.plan import Subtask, resolve, whole_name
from orchestrator_cli.state import RunState, apply


@dataclass(frozen=True)
class Step:
    """A piece of code with the calls that it made of tools on the host, or one call of a tool by itself."""

    code: str | None
    calls: tuple[events.ToolCalled, ...]
    error: str | None = None


@dataclass(frozen=True)
class Work:
    """One finished attempt. `subtask` has its inputs resolved."""

    name: str
    attempt: int
    subtask: Subtask
    inputs: Mapping[str, JsonValue]
    steps: tuple[Step, ...] = ()
    changes: tuple[FileChange, ...] = ()
    """The files that it changed, as they were committed."""


@dataclass(frozen=True)
class Opened:
    """The subtask took its checkout."""

    work: Work


@dataclass(frozen=True)
class Closed:
    """The subtask brought its changes in."""

    work: Work


@dataclass
class _Gathering:
    work: Work
    steps: list[Step] = field(default_factory=list)
    calls: list[events.ToolCalled] = field(default_factory=list)

    @property
    def done(self) -> Work:
        alone = (Step(None, (call,)) for call in self.calls)
        return replace(self.work, steps=(*self.steps, *alone))


Moment = Opened | Closed
_Key = tuple[str, int]


def moments_of(found: Sequence[Event]) -> list[Moment]:
    """When the checkouts of a run were taken and committed, with all that was done in between."""
    finished: dict[str, int] = {
        event.data.subtask: event.data.result.attempt
        for event in found
        if isinstance(event.data, events.SubtaskFinished)
    }
    changes = _changes(found)
    gathered = _gathered(found, finished)
    works = {key: replace(one.done, changes=changes.get(key, ())) for key, one in gathered.items()}
    return list(_moments(found, works))


def _moments(found: Iterable[Event], works: Mapping[_Key, Work]) -> Iterator[Moment]:
    opened: dict[_Key, Work] = {}
    for event in found:
        match event.data:
            case events.SubtaskStarted(subtask=name, attempt=attempt) if (name, attempt) in works:
                opened[name, attempt] = works[name, attempt]
                yield Opened(works[name, attempt])
            case events.FilesChanged(subtask=name, attempt=attempt) if (name, attempt) in opened:
                yield Closed(opened.pop((name, attempt)))
            case events.SubtaskFinished(subtask=name, result=result) if (name, result.attempt) in opened:
                yield Closed(opened.pop((name, result.attempt)))


def _changes(found: Iterable[Event]) -> dict[_Key, tuple[FileChange, ...]]:
    facts = (event.data for event in found)
    return {
        (fact.subtask, fact.attempt): fact.changes for fact in facts if isinstance(fact, events.FilesChanged)
    }


def _gathered(found: Iterable[Event], finished: Mapping[str, int]) -> dict[_Key, _Gathering]:
    gathered: dict[_Key, _Gathering] = {}
    state = RunState()
    for event in found:
        fact = event.data
        if isinstance(fact, events.SubtaskStarted) and finished.get(fact.subtask) == fact.attempt:
            if (work := _begun(fact, state)) is not None:
                gathered[fact.subtask, fact.attempt] = _Gathering(work)
        elif isinstance(fact, events.ToolCalled | events.CodeRan):
            _add(gathered.get((fact.subtask, fact.attempt)), fact)
        state = apply(state, event)
    return gathered


def _add(one: _Gathering | None, fact: events.ToolCalled | events.CodeRan) -> None:
    if one is None:
        return
    if isinstance(fact, events.ToolCalled):
        one.calls.append(fact)
        return
    # A step is reported when it is over, and the calls that its code made before that.
    one.steps.append(Step(fact.code, tuple(one.calls), fact.error))
    one.calls.clear()


def _begun(fact: events.SubtaskStarted, state: RunState) -> Work | None:
    """The subtask as it was when it started; None for one that takes no checkout of its own."""
    whole = whole_name(fact.subtask)
    if not state.has_plan or whole not in state.plan.ids:
        return None
    subtask = state.plan[whole]
    if subtask.kind in ("answer", "human") or (subtask.for_each is not None and whole == fact.subtask):
        return None
    try:
        if whole != fact.subtask:
            spread_out = spread(subtask, fact.plan_version, state.results)
            subtask = next(one for one in spread_out.instances if one.id == fact.subtask)
            inputs = subtask.inputs
        else:
            inputs = resolve(subtask.inputs, state.results)  # type: ignore[assignment]
    except (KeyError, ValueError, StopIteration):
        inputs = {}
    return Work(fact.subtask, fact.attempt, subtask, dict(inputs))
