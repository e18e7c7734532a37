"""The tools of an agent: the hand-written ones, the built ones, and the three that every agent has."""

import copy
import hashlib
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

from smolagents import Tool as SmolTool
from smolagents._function_type_hints_utils import get_json_schema

from orchestrator_cli.durable.foreign import marked_words
from orchestrator_cli.errors import OrchError, RecoverableError, StorageFault, storage_faults
from orchestrator_cli.events import ToolCalled
from orchestrator_cli.execution.agent_images import LookedAt, can_look, image_reader
from orchestrator_cli.execution.agent_outputs import OUTPUT_CHARS, LongOutputs, Room
from orchestrator_cli.execution.attempt import GIVEN, SHOWN_CHARS, Attempt, AttemptFailed, as_json, pretty
from orchestrator_cli.execution.sandboxes import Sandboxes
from orchestrator_cli.execution.tool_registry import ToolUnavailable
from orchestrator_cli.plan import READ_IMAGE, NewTool
from orchestrator_cli.tools.files import FILE_TOOLS, OUTPUTS, file_tools
from toolsmith.built import BuiltTool
from toolsmith.library.status import Judgement, judge_error, judge_value
from toolsmith.smolagents_tools import SandboxedTool

SAME = 3
MOST_NOTED = 200
"""Uses of built tools that are kept of one step."""
RECORDED_CHARS = 32 << 20
"""What the calls of an attempt may pass and return, as JSON; the journal keeps all but what files hold."""


class LoopDetector:
    """Whether an agent goes in a circle: the same thing done three times, each time with the same outcome.

    Counted are steps: a loop within one step that calls a tool with the same arguments is one. Something that
    was not done before, or with another outcome, is progress, and the count starts again. Not covered: an
    agent that does something new each time it has failed, which the limit of steps ends.
    """

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        """Since the last progress."""
        self._done: set[str] = set()
        self._in_step: set[str] = set()
        self.found: str | None = None
        """What was done three times; None as long as nothing was."""

    def note(self, what: str, *parts: str) -> None:
        """Something was done: `what` says it in words, `parts` are all that makes it the same."""
        key = hashlib.sha256("\0".join((what, *parts)).encode("utf-8", "surrogatepass")).hexdigest()
        if key in self._in_step:
            return
        self._in_step.add(key)
        if key not in self._done:
            self._done.add(key)
            self._counts.clear()
        self._counts[key] += 1
        if self._counts[key] >= SAME and self.found is None:
            self.found = f"it {what} three times and got the same result"

    def end_step(self) -> None:
        self._in_step.clear()


class ToolStopped(RecoverableError, RuntimeError):
    """A tool failed too often in a row and is not used any more; the message says what failed."""


class CallsTooLarge(RecoverableError, ValueError):
    """An attempt's calls have passed and returned as much as they may."""


@dataclass
class ToolCalls:
    """The calls of an attempt that works in the sandbox, and what its agent said through them."""

    attempt: Attempt
    sandboxes: Sandboxes
    loops: LoopDetector = field(default_factory=LoopDetector)
    requested: list[BuiltTool] = field(default_factory=list)
    """Tools that it asked for in this step."""
    refusals: list[str] = field(default_factory=list)
    """Why its values were not accepted."""
    gave_up: str | None = None
    looked: LookedAt = field(default_factory=LookedAt)
    broken: OrchError | None = None
    """What ended the judging of a value or a request for a tool, and so the attempt."""
    noted: int = 0
    """How many uses of built tools were kept in this step."""
    recorded: int = 0
    """Characters of JSON that its calls have passed and returned."""

    @cached_property
    def long_outputs(self) -> LongOutputs:
        spec = self.attempt.spec
        reader = "read_file" if "read_file" in spec.subtask.tools else "read_output"
        calls_tools = spec.role is not None and spec.role.agent == "tools"
        return LongOutputs(spec.place.root, Room(spec.context_tokens), reader if calls_tools else "")

    def call_named(self, name: str, arguments: Mapping[str, Any]) -> Any:
        """Call a tool that the subtask names, by name. Raises `AttemptFailed` if it cannot be used."""
        if function := self.host_function(name):
            return self.call_host(name, arguments, partial(function, **arguments))
        return self.call_built(self.built(name), arguments)

    def built(self, name: str) -> BuiltTool:
        spec = self.attempt.spec
        found = next((tool for tool in spec.tools if tool.name == name), None)
        if found is None:
            raise AttemptFailed(spec.unusable.get(name, f"there is no tool {name}"))
        if why := self.attempt.services.stopped_tool(name, found.version):
            raise AttemptFailed(why)
        return found

    def host_function(self, name: str) -> Callable[..., Any] | None:
        """A hand-written tool: one for files works here, any other in the run's process."""
        spec = self.attempt.spec
        if name in FILE_TOOLS:
            return file_tools(spec.place.root, spec.allow_protected, spec.place.workspace).get(name)
        if any(tool.name == name for tool in spec.host_tools):
            services = self.attempt.services
            return lambda **arguments: services.call_tool(name, {k: as_json(v) for k, v in arguments.items()})
        return None

    def call_host(self, name: str, arguments: Mapping[str, Any], call: Callable[[], Any]) -> Any:
        return self.emitted(name, arguments, lambda: self.attempt.cancellation.waiting_for(call))

    def call_built(self, tool: BuiltTool, arguments: Mapping[str, Any], *, from_code: bool = False) -> Any:
        """Call a built tool in its sandbox, and keep how it did.

        A call from an agent's code is a part of the step, which is an event, and no event of its own, if it
        can be repeated from the step's code. Raises what the call raises, and `ToolStopped` instead of
        calling what has failed too often.
        """
        call = partial(self._use, tool, arguments)
        if from_code and not tool.spec.privileged:
            with self._noticing_ends(), storage_faults():
                return call()
        return self.emitted(tool.name, arguments, call)

    def _use(self, tool: BuiltTool, arguments: Mapping[str, Any]) -> Any:
        if why := self.attempt.services.stopped_tool(tool.name, tool.version):
            raise ToolStopped(why)
        began = time.monotonic()
        try:
            value = self.sandboxes.call(tool, dict(arguments))
        except Exception as exc:
            self._note(tool, judge_error(tool.spec, exc, arguments), began)
            raise
        self._note(tool, judge_value(tool.spec, value), began)
        return value

    def _note(self, tool: BuiltTool, judgement: Judgement | None, began: float) -> None:
        """Keep how a call went; of the calls of one step only the first, because each is written to disk."""
        if judgement is not None and self.noted < MOST_NOTED:
            self.noted += 1
            self.attempt.services.note_use(tool, judgement, time.monotonic() - began)

    def end_step(self) -> None:
        self.loops.end_step()
        self.noted = 0

    @contextmanager
    def _noticing_ends(self) -> Iterator[None]:
        """Nothing for an agent to deal with, such as a full disk or a person who has to decide."""
        try:
            yield
        except OrchError as exc:
            self.broken = exc
            raise

    def emitted(self, name: str, arguments: Mapping[str, Any], call: Callable[[], Any]) -> Any:
        """Make a call and emit its outcome. Raises `CallsTooLarge` instead of making it."""
        passed = json.dumps(as_json(arguments), sort_keys=True)
        if self.recorded + len(passed) > RECORDED_CHARS:
            raise CallsTooLarge(
                f"the calls of this attempt hold more than {RECORDED_CHARS >> 20} MB, which are recorded: "
                "pass the name of a file instead of its content"
            )
        self.recorded += len(passed)
        try:
            with self._noticing_ends(), storage_faults():
                value = call()
        except Exception as exc:
            if not isinstance(exc, StorageFault):
                self._emit(name, arguments, passed, f"{type(exc).__name__}: {exc}", None, ok=False)
            raise
        outcome = value if isinstance(value, str) else pretty(value)
        if name not in FILE_TOOLS:
            self.recorded += len(outcome)
        self._emit(name, arguments, passed, outcome, value, ok=True)
        return value

    def _emit(
        self, name: str, arguments: Mapping[str, Any], passed: str, outcome: str, value: Any, *, ok: bool
    ) -> None:
        self.loops.note(f"called {name} with the same arguments", passed, outcome)
        spec = self.attempt.spec
        self.attempt.services.emit(
            ToolCalled(
                subtask=spec.subtask.id,
                attempt=spec.attempt,
                tool=name,
                arguments={key: as_json(value) for key, value in arguments.items()},
                outcome=outcome[:SHOWN_CHARS],
                ok=ok,
                returned=as_json(value) if ok and name not in FILE_TOOLS else None,
            )
        )


def agent_tools(calls: ToolCalls) -> list[SmolTool]:
    """The tools that the subtask names, those that every agent is given, and three to talk to the run."""
    extra: dict[str, Callable[..., Any]] = {
        "report_surprise": _report_surprise(calls),
        "give_up": _give_up(calls),
        "request_tool": _request_tool(calls),
    }
    spec = calls.attempt.spec
    if can_look(spec):
        extra[READ_IMAGE] = image_reader(spec, calls.looked, calls.sandboxes.read_image)
    given = [one.name for one in spec.host_tools if one.name in GIVEN and one.name not in spec.subtask.tools]
    named = [_agent_tool(name, calls) for name in (*spec.subtask.tools, *given) if name != READ_IMAGE]
    return named + [
        FunctionTool(name, function, form_of(function), calls) for name, function in extra.items()
    ]


def output_reader(calls: ToolCalls) -> SmolTool:
    """Reads what was too long to show, for an agent that may not read other files."""
    read_file = file_tools(calls.attempt.spec.place.root)["read_file"]

    def read_output(path: str, offset: int = 0, limit: int = OUTPUT_CHARS) -> str:
        """Read more of an output that was too long to be shown whole.

        Args:
            path: The file that the output names.
            offset: How many characters to skip.
            limit: How many characters to read at most.
        """
        if not path.startswith(f"{OUTPUTS}/"):
            raise ValueError(f"only files of {OUTPUTS} can be read")
        text: str = read_file(path, offset, limit)
        return text

    return FunctionTool("read_output", read_output, form_of(read_output), calls)


def _agent_tool(name: str, calls: ToolCalls) -> SmolTool:
    function = calls.host_function(name)
    if function is None:
        return sandboxed_tool(calls.built(name), calls)
    forms = {tool.name: tool.form for tool in calls.attempt.spec.host_tools}
    return FunctionTool(name, function, forms.get(name) or form_of(function), calls)


def sandboxed_tool(tool: BuiltTool, calls: ToolCalls) -> SandboxedTool:
    """The tool, with the words of its specification marked as a model's."""
    made = SandboxedTool(tool, _Sandbox(calls, tool))
    made.description, made.inputs = marked_words(made.description, made.inputs, "a built tool")
    return made


@dataclass(frozen=True)
class _Sandbox:
    """The sandbox as a built tool sees it."""

    calls: ToolCalls
    tool: BuiltTool

    def call_tool(self, source: str, function: str, arguments: dict[str, Any]) -> Any:  # noqa: ARG002
        return self.calls.call_built(self.tool, arguments, from_code=self.calls.attempt.spec.writes_code)


class FunctionTool(SmolTool):  # type: ignore[misc]  # smolagents ships no types
    """A hand-written function as a smolagents tool; each call is an event."""

    skip_forward_signature_validation = True

    def __init__(
        self, name: str, function: Callable[..., Any], form: Mapping[str, Any], calls: ToolCalls
    ) -> None:
        self.name = name
        self.description = form["description"]
        self.inputs = copy.deepcopy(form["parameters"]["properties"])
        self.parameters: dict[str, Any] | None = form["parameters"].get("schema")
        """JSON Schema of what it takes, if the inputs do not say all of it."""
        takes: Mapping[str, Any] = self.parameters or form["parameters"]
        self._required = frozenset(takes.get("required", ()))
        self.output_type = form["return"]["type"]
        self._function = function
        self._calls = calls
        super().__init__()

    def to_code_prompt(self) -> str:
        """As smolagents has it, with several types in words, and `= ...` for what may be left out."""
        shown = copy.copy(self)
        shown.inputs = {
            name: {**row, "type": _kinds(row["type"]) + ("" if name in self._required else " = ...")}
            for name, row in self.inputs.items()
        }
        return str(super(FunctionTool, shown).to_code_prompt())

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        arguments = dict(zip(self.inputs, args, strict=False)) | kwargs
        return self._calls.call_host(self.name, arguments, partial(self._function, **arguments))


def _kinds(kind: str | list[str]) -> str:
    return kind if isinstance(kind, str) else " | ".join(kind)


_FORMS: dict[tuple[str, str, str | None], dict[str, Any]] = {}


def form_of(function: Callable[..., Any]) -> dict[str, Any]:
    """What smolagents reads of a function, which is made for each attempt but is the same each time."""
    if form := getattr(function, "form", None):
        return dict(form)
    key = (function.__module__, function.__qualname__, function.__doc__)
    if key not in _FORMS:
        _FORMS[key] = get_json_schema(function)["function"]
    return copy.deepcopy(_FORMS[key])


def _report_surprise(calls: ToolCalls) -> Callable[..., Any]:
    def report_surprise(text: str) -> str:
        """Tell the orchestrator something the task did not expect and that may change the plan.

        Args:
            text: What was found, and what it means for the work that follows.
        """
        calls.attempt.surprises.append(text)
        return "noted; go on with the task"

    return report_surprise


def _give_up(calls: ToolCalls) -> Callable[..., Any]:
    def give_up(reason: str) -> str:
        """End the task because it cannot be done as it is put.

        Args:
            reason: What was found, why that makes the task impossible, and what would be needed.
        """
        calls.gave_up = reason
        return "noted; the task ends here"

    return give_up


def _request_tool(calls: ToolCalls) -> Callable[..., Any]:
    def request_tool(name: str, purpose: str) -> str:
        """Ask for a tool that does not exist. It can be called from the next step on.

        Args:
            name: The function's name.
            purpose: What it does, what it takes and what it gives back.
        """
        if not name.isidentifier():
            raise ValueError(f"{name!r} is no function name")
        try:
            tool = calls.attempt.services.request_tool(NewTool(name=name, purpose=purpose))
        except ToolUnavailable as exc:
            return f"Not available: {exc}"
        calls.requested.append(tool)
        called = "" if tool.name == name else f"There is a tool for it already, which is called {tool.name}. "
        return f"{called}From the next step on you can call {tool.spec.signature}: {tool.spec.purpose}"

    return request_tool
