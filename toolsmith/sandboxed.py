"""A built tool as smolagents' Tool, for any agent: its code runs in a sandbox, never in this process.

There are two ways in. An executor that runs the agent's code inside a sandbox takes `sandbox_source` and
defines the tool there, next to that code. Everything else (a ToolCallingAgent, a subtask that is one call,
an agent with another executor) calls the object, and the call goes through `executor.call_tool`. A tool that
has network, secrets or packages has only the second way: next to an agent's code it would share them with
that code.

What the tool raises comes out as the executor's SandboxError, which begins with `Type: message`.

Not covered: smolagents' own export. What it makes is executed on the host when it is loaded, so `to_dict`,
`save` and `push_to_hub` refuse; `smolagents_folder` writes a folder that says so.
"""

from collections.abc import Mapping
from typing import Any, NoReturn, Protocol

from smolagents import Tool

from toolsmith.built import BuiltTool
from toolsmith.errors import ToolsmithError
from toolsmith.permissions import asked_for
from toolsmith.spec import ToolSpec

_FILES = {"read": "Reads files of the workspace.", "write": "Reads and changes files of the workspace."}


class Executor(Protocol):
    """What runs a call, such as `toolsmith.sandbox.executor.SandboxExecutor`."""

    def call_tool(self, source: str, function: str, arguments: dict[str, Any]) -> Any:
        """Run `function` of the module `source` with named arguments, away from this process."""


class SandboxedTool(Tool):  # type: ignore[misc]  # smolagents has no types
    """A Tool whose calls run in a sandbox. It does not own the executor: who made that one ends it."""

    # The parameters are known from the specification only, so `forward` takes any and binds them itself.
    skip_forward_signature_validation = True

    def __init__(self, tool: BuiltTool, executor: Executor) -> None:
        spec = tool.spec
        self.name = spec.name
        self.description = describe(spec)
        self.inputs = smolagents_inputs(spec)
        self.output_type = spec.output_type
        if not spec.privileged:
            self.sandbox_source = tool.source
        self.built = tool
        self._executor = executor
        super().__init__()

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Call the tool with arguments by place or by name.

        Raises:
            TypeError: an argument is unknown or lacking. Types are left to the tool and its own errors.
            SandboxError: the tool raised, or its sandbox ended it.
        """
        spec = self.built.spec
        arguments = _bound(spec, args, kwargs)
        if faults := spec.argument_faults(arguments, typed=False):
            raise TypeError(f"{spec.signature} cannot be called so: {'; '.join(faults)}")
        return self._executor.call_tool(self.built.source, self.name, arguments)

    def to_dict(self) -> NoReturn:
        """Refuse: what smolagents makes of this would need `orch` and its sandbox to be loaded."""
        raise ToolsmithError(
            f"The tool '{self.name}' runs in the sandbox only and is not exported from here.\n"
            f"Write it as a folder that smolagents loads: orch tools export --smolagents {self.name} FOLDER"
        )


def describe(spec: ToolSpec) -> str:
    """What an agent has to know to call a tool: purpose, signature, result, errors, what it reaches."""
    errors = [f"Raises {error.type} when {error.when.rstrip('.')}." for error in spec.errors]
    files = [_FILES[spec.workspace]] if spec.workspace in _FILES else []
    given = [f"It alone has {asked}." for asked in [asked_for(spec)] if asked]
    told = [*errors, *files, *given]
    parts = [spec.purpose, f"Call: {spec.signature}", f"Returns: {spec.output_description}", *told]
    return "\n".join(parts)


def smolagents_inputs(spec: ToolSpec) -> dict[str, dict[str, Any]]:
    """The inputs in smolagents' form, in which `nullable` means that the argument may be left out."""
    return {
        name: {"type": given.type, "description": given.description}
        | ({} if given.required else {"nullable": True})
        for name, given in spec.inputs.items()
    }


def _bound(spec: ToolSpec, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    if len(args) > len(spec.inputs):
        raise TypeError(f"{spec.signature} takes {len(spec.inputs)} arguments, not {len(args)}")
    by_place = dict(zip(spec.inputs, args, strict=False))
    if twice := sorted(by_place.keys() & kwargs.keys()):
        raise TypeError(f"{spec.signature} got {', '.join(twice)} by place and by name")
    given = by_place | dict(kwargs)
    # smolagents lets a model give null for whatever may be left out; with a default it means left out.
    return {name: value for name, value in given.items() if not (value is None and _has_default(spec, name))}


def _has_default(spec: ToolSpec, name: str) -> bool:
    return name in spec.inputs and spec.inputs[name].default is not None and not spec.inputs[name].nullable
