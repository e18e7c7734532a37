"""Repeats the recorded work of one attempt in the sandbox, without models, network or questions.

Code runs as recorded in the journal, step by step in one sandbox. Calls of the host depend on the tool:
the file tools run again on this checkout; every other tool (the web, a tool with network or secrets,
`report_surprise` …) returns its recorded outcomes, in the order of the calls. Calls that an agent made
directly, and subtasks of kind `tool`, are repeated if they need nothing outside the sandbox, else reported.

Not covered: code that uses the clock or random numbers gives other results.
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
from toolsmith.sandbox.executor import SandboxExecutor
from toolsmith.sandbox.spec import SandboxError

SIGNALS = frozenset({"report_surprise", "give_up", "request_tool"})
"""Tools that inform the orchestrator and change no file."""


@dataclass(frozen=True)
class KnownTool:
    """A built tool as the run used it. `lacks` says why it cannot run here, or is empty."""

    name: str
    source: str
    lacks: str = ""

    @property
    def sandbox_source(self) -> str:
        return self.source


def reason_against(work: Work, tools: Mapping[str, KnownTool]) -> str:
    """Why this work cannot be repeated at all; empty if it can be tried."""
    subtask = work.subtask
    if subtask.kind == "process":
        return "it was a process of the user on the host"
    text = "\n".join(step.code for step in work.steps if step.code is not None)
    if subtask.network and text:
        return f"its code had network: {', '.join(subtask.network)}"
    if "[secret " in text:
        return "its code contained a secret, which is not kept"
    called = {call.tool for step in work.steps if step.code is None for call in step.calls}
    for name, tool in tools.items():
        # Tools called by an agent's code inside the sandbox leave no recorded call.
        used = name in called or (tool.lacks and not tool.source and re.search(rf"\b{name}\b", text))
        if tool.lacks and used:
            return f"the tool {name}: {tool.lacks}"
    return ""


def rerun(
    work: Work, checkout: Checkout, backend: Backend, tools: Mapping[str, KnownTool], allowed: tuple[str, ...]
) -> list[str]:
    """Repeat the work; returns the differences."""
    differences: list[str] = []
    files = file_tools(checkout.root, allowed)
    executor = open_sandbox(ref_of(checkout), backend, work.subtask.timeout_s)
    with executor:
        executor.send_variables(dict(work.inputs))
        for number, step in enumerate(work.steps, 1):
            if step.code is None:
                differences += _call_again(step.calls[0], executor, files, tools)
            else:
                differences += _run_again(step, number, executor, files, tools)
    return differences


def _run_again(
    step: Step,
    number: int,
    executor: SandboxExecutor,
    files: Mapping[str, Callable[..., Any]],
    tools: Mapping[str, KnownTool],
) -> Iterator[str]:
    assert step.code is not None
    recorded = _RecordedCalls(step)
    inside = {name: tool for name, tool in tools.items() if tool.source and not tool.lacks}
    names = {call.tool for call in step.calls} | SIGNALS | (tools.keys() - inside.keys())
    host = {name: partial(recorded.answer, name) for name in names - inside.keys() - FILE_TOOLS}
    executor.send_tools({**inside, **files, **host})
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


def _call_again(
    call: events.ToolCalled,
    executor: SandboxExecutor,
    files: Mapping[str, Callable[..., Any]],
    tools: Mapping[str, KnownTool],
) -> Iterator[str]:
    if call.tool in SIGNALS:
        return
    again: Callable[[], Any]
    if call.tool in files:
        again = partial(files[call.tool], **call.arguments)
    elif (tool := tools.get(call.tool)) is not None and tool.source and not tool.lacks:
        again = partial(executor.call_tool, tool.source, tool.name, dict(call.arguments))
    else:
        yield f"{call.tool} was not called again: it needs something outside the sandbox"
        return
    failed = ""
    try:
        again()
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
