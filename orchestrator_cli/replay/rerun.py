"""Repeats the recorded work of one attempt in the sandbox, without models, network or questions.

Code runs as recorded in the journal, step by step in one sandbox. Calls of the host depend on the tool:
the file tools run again on this checkout; every other tool (the web, a tool with network or secrets,
`report_surprise` …) returns its recorded outcomes, in the order of the calls. Calls that an agent made
directly, and subtasks of kind `tool`, are repeated if they need nothing outside the sandbox, else reported.

Only attempts that were finished count: the others left nothing in the workspace.

Not covered: code that uses the clock or random numbers gives other results. The moment at which a checkout
was taken is known to the event before it only: where two subtasks that do not depend on each other ran at
once, one may have seen a commit of the other that it does not see here, or the other way round.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import JsonValue

from orchestrator_cli import events
from orchestrator_cli.events import Event, FileChange
from orchestrator_cli.execution.attempt import SHOWN_CHARS
from orchestrator_cli.execution.map import spread
from orchestrator_cli.execution.sandboxes import ToolSandboxes, open_sandbox
from orchestrator_cli.execution.subtask import ref_of
from orchestrator_cli.plan import Subtask, resolve, whole_name
from orchestrator_cli.state import RunState, apply
from orchestrator_cli.tools.files import file_tools
from orchestrator_cli.workspace import Checkout
from toolsmith.sandbox import Backend
from toolsmith.sandbox.executor import SandboxExecutor
from toolsmith.sandbox.spec import SandboxError

SIGNALS = frozenset({"report_surprise", "give_up", "request_tool"})
"""Tools that inform the orchestrator and change no file."""


# --- what was done: a pure fold from events to work that can be done again


@dataclass(frozen=True)
class Step:
    """A piece of code with the calls that it made of tools on the host, or one call of a tool by itself."""

    code: str | None
    calls: tuple[events.ToolCalled, ...]
    error: str | None = None


@dataclass(frozen=True)
class FinishedAttempt:
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

    work: FinishedAttempt


@dataclass(frozen=True)
class Closed:
    """The subtask brought its changes in."""

    work: FinishedAttempt


@dataclass
class _Gathering:
    work: FinishedAttempt
    steps: list[Step] = field(default_factory=list)
    calls: list[events.ToolCalled] = field(default_factory=list)

    @property
    def done(self) -> FinishedAttempt:
        alone = (Step(None, (call,)) for call in self.calls)
        return replace(self.work, steps=(*self.steps, *alone))


Moment = Opened | Closed
_Key = tuple[str, int]


def moments_of(found: Sequence[Event]) -> list[Moment]:
    """When the checkouts of a run were taken and committed, with all that was done in between."""
    facts = [event.data for event in found]
    finished = {f.subtask: f.result.attempt for f in facts if isinstance(f, events.SubtaskFinished)}
    changes = {(f.subtask, f.attempt): f.changes for f in facts if isinstance(f, events.FilesChanged)}
    gathered = _gathered(found, finished)
    works = {key: replace(one.done, changes=changes.get(key, ())) for key, one in gathered.items()}
    return list(_moments(found, works))


def _moments(found: Iterable[Event], works: Mapping[_Key, FinishedAttempt]) -> Iterator[Moment]:
    opened: dict[_Key, FinishedAttempt] = {}
    for event in found:
        match event.data:
            case events.SubtaskStarted(subtask=name, attempt=attempt) if (name, attempt) in works:
                opened[name, attempt] = works[name, attempt]
                yield Opened(works[name, attempt])
            case events.FilesChanged(subtask=name, attempt=attempt) if (name, attempt) in opened:
                yield Closed(opened.pop((name, attempt)))
            case events.SubtaskFinished(subtask=name, result=result) if (name, result.attempt) in opened:
                yield Closed(opened.pop((name, result.attempt)))


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


def _begun(fact: events.SubtaskStarted, state: RunState) -> FinishedAttempt | None:
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
    return FinishedAttempt(fact.subtask, fact.attempt, subtask, dict(inputs))


# --- doing it again


@dataclass(frozen=True)
class KnownTool:
    """A built tool as the run used it. `lacks` says why it cannot run here, or is empty."""

    name: str
    source: str
    lacks: str = ""
    workspace: str = "none"


@dataclass(frozen=True)
class _ToolHere:
    """A built tool as the code of a step calls it, with arguments by place or by name."""

    tool: KnownTool
    sandboxes: ToolSandboxes
    own_sandbox: bool = True

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        tool = self.tool
        return self.sandboxes.call((tool.name, 0), tool.workspace, tool.source, kwargs, args)


def reason_against(work: FinishedAttempt, tools: Mapping[str, KnownTool]) -> str:
    """Why this work cannot be repeated at all; empty if it can be tried."""
    subtask = work.subtask
    if subtask.kind == "process":
        return "it was a process of the user on the host"
    text = "\n".join(step.code for step in work.steps if step.code is not None)
    if subtask.network and text:
        return f"its code had network: {', '.join(subtask.network)}"
    if subtask.packages and text:
        return f"its code had packages of the index: {', '.join(subtask.packages)}"
    if "[secret " in text:
        return "its code contained a secret, which is not kept"
    called = {call.tool for step in work.steps if step.code is None for call in step.calls}
    for name, tool in tools.items():
        # Tools without network, secrets or packages that an agent's code calls leave no recorded call.
        used = name in called or (tool.lacks and not tool.source and re.search(rf"\b{name}\b", text))
        if tool.lacks and used:
            return f"the tool {name}: {tool.lacks}"
    return ""


def rerun(
    work: FinishedAttempt,
    checkout: Checkout,
    backend: Backend,
    tools: Mapping[str, KnownTool],
    allowed: tuple[str, ...],
    workspace: Path | None = None,
) -> list[str]:
    """Repeat the work; returns the differences. `workspace`: the folder that the work was done for."""
    differences: list[str] = []
    files = file_tools(checkout.root, allowed, workspace)
    where = (ref_of(checkout), backend, work.subtask.timeout_s)
    with open_sandbox(*where) as executor, closing(ToolSandboxes(*where)) as sandboxes:
        executor.send_variables(dict(work.inputs))
        usable = {
            name: _ToolHere(tool, sandboxes) for name, tool in tools.items() if tool.source and not tool.lacks
        }
        for number, step in enumerate(work.steps, 1):
            if step.code is None:
                differences += _call_again(step.calls[0], {**usable, **files})
            else:
                lacking = tools.keys() - usable.keys()
                differences += _run_again(step, number, executor, {**usable, **files}, lacking)
    return differences


def _run_again(
    step: Step,
    number: int,
    executor: SandboxExecutor,
    here: Mapping[str, Callable[..., Any]],
    lacking: Set[str],
) -> Iterator[str]:
    """`here` are the tools that can be called, `lacking` the names of those that cannot."""
    assert step.code is not None
    recorded = _RecordedCalls(step)
    names = {call.tool for call in step.calls} | SIGNALS | lacking
    executor.send_tools({**here, **{name: partial(recorded.answer, name) for name in names - here.keys()}})
    failed = ""
    try:
        executor(step.code)
    except SandboxError as exc:
        failed = str(exc).strip().partition("\n")[0] or "an error"
    yield from (f"step {number}: {line}" for line in recorded.differences)
    if failed and step.error is None:
        yield f"step {number} failed now, and did not then: {failed}"
    elif step.error is not None and not failed:
        yield f"step {number} did not fail now, and did then"


def _call_again(call: events.ToolCalled, here: Mapping[str, Callable[..., Any]]) -> Iterator[str]:
    if call.tool in SIGNALS:
        return
    if call.tool not in here:
        yield f"{call.tool} was not called again: it needs something outside the sandbox"
        return
    failed = ""
    try:
        here[call.tool](**call.arguments)
    except (SandboxError, ValueError, OSError, TypeError) as exc:
        failed = f"{type(exc).__name__}: {exc}".partition("\n")[0]
    if bool(failed) == call.ok:
        then = "did not then" if failed else "did then"
        yield f"{call.tool} {'failed' if failed else 'did not fail'} now, and {then}" + (
            f": {failed}" if failed else ""
        )


@dataclass
class _RecordedCalls:
    """Answers the calls of one step with their recorded outcomes, each once and in order."""

    step: Step
    differences: list[str] = field(default_factory=list)
    _used: set[int] = field(default_factory=set)

    def answer(self, name: str, *args: Any, **kwargs: Any) -> Any:
        """Returns or raises what the call did then. Raises `RuntimeError` if it is not recorded."""
        for number, call in enumerate(self.step.calls):
            if call.tool == name and number not in self._used:
                self._used.add(number)
                if _plain([*args, *kwargs.values()]) != _plain(list(call.arguments.values())):
                    self.differences.append(f"{name} was called with other arguments than then")
                return _outcome(call)
        self.differences.append(f"{name} was called more often than then")
        raise RuntimeError(f"no outcome of {name} is recorded")


def _plain(values: list[Any]) -> list[str]:
    return sorted(json.dumps(value, sort_keys=True, default=str) for value in values)


def _outcome(call: events.ToolCalled) -> Any:
    if call.ok and call.returned is None and call.outcome == "null":
        return None
    if call.ok:
        if call.returned is not None or len(call.outcome) < SHOWN_CHARS:
            return call.returned if call.returned is not None else call.outcome
        raise RuntimeError(f"the whole outcome of {call.tool} was not recorded")
    kind, _, message = call.outcome.partition(": ")
    raise type(kind if kind.isidentifier() else "RuntimeError", (Exception,), {})(message)
