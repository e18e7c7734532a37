"""The tools of an agent: the hand-written ones, the built ones, and the three that every agent has."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from smolagents import Tool as SmolTool
from smolagents._function_type_hints_utils import get_json_schema

from orchestrator_cli.errors import OrchError
from orchestrator_cli.execution.attempt import Attempt, AttemptFailed, told
from orchestrator_cli.execution.tool_registry import ToolUnavailable
from orchestrator_cli.plan import NewTool
from toolsmith.built import BuiltTool
from toolsmith.sandboxed import SandboxedTool


def agent_tools(attempt: Attempt) -> list[SmolTool]:
    """Exactly the tools that the subtask names, with `report_surprise`, `give_up` and `request_tool`."""
    extra = {
        "report_surprise": _report_surprise(attempt),
        "give_up": _give_up(attempt),
        "request_tool": _request_tool(attempt),
    }
    named = [agent_tool(name, attempt) for name in attempt.subtask.tools]
    return named + [HostTool(name, function, attempt) for name, function in extra.items()]


def agent_tool(name: str, attempt: Attempt) -> SmolTool:
    if name in attempt.host_tools:
        return HostTool(name, attempt.host_tools[name], attempt)
    built = attempt.context.toolbox.built(name)
    if built is None:
        raise AttemptFailed(attempt.context.toolbox.shelf.stopped(name) or f"there is no tool {name}")
    return SandboxedTool(built, _Told(attempt, built))


@dataclass(frozen=True)
class _Told:
    """The sandbox as a built tool sees it: each call from the host is an event."""

    attempt: Attempt
    tool: BuiltTool

    def call_tool(self, source: str, function: str, arguments: dict[str, Any]) -> Any:
        def call() -> Any:
            return self.attempt.sandbox_of(self.tool).call_tool(source, function, arguments)

        shelf = self.attempt.context.toolbox.shelf
        return told(self.attempt, self.tool.name, arguments, lambda: shelf.use(self.tool, arguments, call))


class HostTool(SmolTool):  # type: ignore[misc]  # smolagents ships no types
    """A hand-written function as a smolagents tool; each call is an event."""

    skip_forward_signature_validation = True

    def __init__(self, name: str, function: Callable[..., Any], attempt: Attempt) -> None:
        schema = getattr(function, "schema", None) or _schema(function)
        self.name = name
        self.description = schema["description"]
        self.inputs = schema["parameters"]["properties"]
        self.output_type = schema["return"]["type"]
        self._function = function
        self._attempt = attempt
        super().__init__()

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        arguments = dict(zip(self.inputs, args, strict=False)) | kwargs
        call = partial(self._function, **arguments)
        waiting = self._attempt.cancellation.waiting_for
        try:
            return told(self._attempt, self.name, arguments, lambda: waiting(call))
        except OrchError as exc:
            # Nothing for an agent to deal with, such as a person who has to decide.
            self._attempt.broken = exc
            raise


_SCHEMAS: dict[tuple[str, str, str | None], dict[str, Any]] = {}


def _schema(function: Callable[..., Any]) -> dict[str, Any]:
    """What smolagents reads of a function, which is made anew for each attempt but is the same each time."""
    key = (function.__module__, function.__qualname__, function.__doc__)
    if key not in _SCHEMAS:
        _SCHEMAS[key] = get_json_schema(function)["function"]
    return copy.deepcopy(_SCHEMAS[key])


def _report_surprise(attempt: Attempt) -> Callable[..., Any]:
    def report_surprise(text: str) -> str:
        """Tell the orchestrator something the task did not expect and that may change the plan.

        Args:
            text: What was found, and what it means for the work that follows.
        """
        attempt.surprises.append(text)
        return "noted; go on with the task"

    return report_surprise


def _give_up(attempt: Attempt) -> Callable[..., Any]:
    def give_up(reason: str) -> str:
        """End the task because it cannot be done as it is put.

        Args:
            reason: What was found, why that makes the task impossible, and what would be needed.
        """
        attempt.gave_up = reason
        return "noted; the task ends here"

    return give_up


def _request_tool(attempt: Attempt) -> Callable[..., Any]:
    def request_tool(name: str, purpose: str) -> str:
        """Ask for a tool that does not exist. It can be called from the next step on.

        Args:
            name: The function's name.
            purpose: What it does, what it takes and what it gives back.
        """
        if not name.isidentifier():
            raise ValueError(f"{name!r} is no function name")
        try:
            tool = attempt.context.toolbox.ensure(
                NewTool(name=name, purpose=purpose),
                asked_by=attempt.subtask.id,
                context=attempt.subtask.instruction,
                cancellation=attempt.cancellation,
            )
        except ToolUnavailable as exc:
            return f"Not available: {exc}"
        except OrchError as exc:
            # Nothing for an agent to deal with: a limit of the run, or a person who has to allow it.
            attempt.broken = exc
            raise
        attempt.requested.append(tool.name)
        called = "" if tool.name == name else f"There is a tool for it already, which is called {tool.name}. "
        return f"{called}From the next step on you can call {tool.spec.signature}: {tool.spec.purpose}"

    return request_tool
