"""The recorded work of one attempt, done again in the sandbox: no model, no network, nobody asked.

Code runs as it was journaled, step after step in one sandbox. What it asks of the host is decided per tool:
the file tools run again on this checkout; of every other tool (the web, a tool with network or secrets,
`report_surprise` …) the recorded outcome is given, in the order of the calls. Calls that an agent made by
itself, and subtasks that are one call, run again where that needs nothing from outside; else they are told.

What is not covered: what an agent's code takes from the clock or from chance comes out otherwise.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from orchestrator_cli import events
from orchestrator_cli.execution.attempt import SHOWN_CHARS
from orchestrator_cli.execution.sandboxes import open_sandbox
from orchestrator_cli.execution.subtask import ref_of
from orchestrator_cli.replay.work import Step, Work
from orchestrator_cli.tools.files import FILE_TOOLS, file_tools
from orchestrator_cli.workspace import Checkout
from toolsmith.sandbox import Backend
from toolsmith.sandbox.errors import SandboxError
from toolsmith.sandbox.executor import SandboxExecutor

SAID = frozenset({"report_surprise", "give_up", "request_tool"})
"""Tools that tell the orchestrator something, and touch no file."""


@dataclass(frozen=True)
class KnownTool:
    """A built tool as the run used it. `lacks` says why it cannot run here; empty where it can."""

    name: str
    source: str
    lacks: str = ""

    @property
    def sandbox_source(self) -> str:
        return self.source


def reason_against(work: Work, tools: Mapping[str, KnownTool]) -> str:
    """Why this work cannot be done again at all; empty where it can be tried."""
    subtask = work.subtask
    if subtask.kind == "process":
        return "a process of the user's did it, on the host"
    text = "\n".join(step.code for step in work.steps if step.code is not None)
    if subtask.network and text:
        return f"its code had network: {', '.join(subtask.network)}"
    if "[secret " in text:
        return "its code held a secret, which is not kept"
    called = {call.tool for step in work.steps if step.code is None for call in step.calls}
    for name, tool in tools.items():
        # Beside an agent's code a tool ran without a call that could have been recorded.
        used = name in called or (tool.lacks and not tool.source and re.search(rf"\b{name}\b", text))
        if tool.lacks and used:
            return f"the tool {name}: {tool.lacks}"
    return ""


def rerun(
    work: Work, checkout: Checkout, backend: Backend, tools: Mapping[str, KnownTool], allowed: tuple[str, ...]
) -> list[str]:
    """Do the work again; returns what went otherwise than it did then."""
    told: list[str] = []
    files = file_tools(checkout.root, allowed)
    executor = open_sandbox(ref_of(checkout), backend, work.subtask.timeout_s)
    with executor:
        executor.send_variables(dict(work.inputs))
        for number, step in enumerate(work.steps, 1):
            if step.code is None:
                told += _call_again(step.calls[0], executor, files, tools)
            else:
                told += _run_again(step, number, executor, files, tools)
    return told


def _run_again(
    step: Step,
    number: int,
    executor: SandboxExecutor,
    files: Mapping[str, Callable[..., Any]],
    tools: Mapping[str, KnownTool],
) -> Iterator[str]:
    assert step.code is not None
    answers = _Answers(step)
    inside = {name: tool for name, tool in tools.items() if tool.source and not tool.lacks}
    names = {call.tool for call in step.calls} | SAID | (tools.keys() - inside.keys())
    host = {name: partial(answers.give, name) for name in names - inside.keys() - FILE_TOOLS}
    executor.send_tools({**inside, **files, **host})
    failed = ""
    try:
        executor(step.code)
    except SandboxError as exc:
        failed = str(exc).strip().splitlines()[0] if str(exc).strip() else "an error"
    yield from (f"step {number}: {line}" for line in answers.told)
    if failed and step.error is None:
        yield f"step {number} failed now, and did not then: {failed}"
    elif step.error is not None and not failed:
        yield f"step {number} did not fail now, and did then"


def _call_again(
    call: events.ToolCalled,
    executor: SandboxExecutor,
    files: Mapping[str, Callable[..., Any]],
    tools: Mapping[str, KnownTool],
) -> Iterator[str]:
    if call.tool in SAID:
        return
    again: Callable[[], Any]
    if call.tool in files:
        again = partial(files[call.tool], **call.arguments)
    elif (tool := tools.get(call.tool)) is not None and tool.source and not tool.lacks:
        again = partial(executor.call_tool, tool.source, tool.name, dict(call.arguments))
    else:
        yield f"{call.tool} was not called again: it needs what is outside the sandbox"
        return
    failed = ""
    try:
        again()
    except (SandboxError, ValueError, OSError, TypeError) as exc:
        failed = f"{type(exc).__name__}: {exc}".splitlines()[0]
    if bool(failed) == call.ok:
        then = "did not then" if failed else "did then"
        yield f"{call.tool} {'failed' if failed else 'did not fail'} now, and {then}" + (
            f": {failed}" if failed else ""
        )


@dataclass
class _Answers:
    """The recorded outcomes of one step's calls, each given once and in order."""

    step: Step
    told: list[str] = field(default_factory=list)
    _given: set[int] = field(default_factory=set)

    def give(self, name: str, *args: Any, **kwargs: Any) -> Any:
        """What the call brought then. Raises what it raised then, or that it is not recorded."""
        for number, call in enumerate(self.step.calls):
            if call.tool == name and number not in self._given:
                self._given.add(number)
                if _plain([*args, *kwargs.values()]) != _plain(list(call.arguments.values())):
                    self.told.append(f"{name} was called with other arguments than then")
                return _outcome(call)
        self.told.append(f"{name} was called more often than then")
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
