"""What a call of a built tool says about the tool. Pure.

A failure is a call that raised what the tool does not declare, that ran out of time, whose sandbox it
brought down, or that returned what is no JSON or not of its output type. A declared error is the tool
doing what it is to do. Where the arguments were not of the declared types, whatever it raised is the
caller's fault. A call that was ended from outside, or that could not be made at all, says nothing.

Not covered: a value that is of the right type and wrong; and the cost of a call. A tool makes no model
calls, and what a server takes for what a tool asks of it is not known here.
"""

import builtins
from collections.abc import Mapping
from typing import Any, NamedTuple

from orchestrator_cli.durable.text import truncate
from toolsmith.library.standing import ERROR_CHARS, Outcome
from toolsmith.sandbox.errors import SandboxClosed, SandboxError
from toolsmith.spec import ToolSpec
from toolsmith.values import is_of_type, not_json, shown, type_name


class Judgement(NamedTuple):
    outcome: Outcome
    error: str
    """What a failure was; else empty."""


def judged_value(spec: ToolSpec, value: object) -> Judgement:
    """What a call that returned says."""
    if told := not_json(value):
        return Judgement("failure", _cut(f"it returned what is no JSON: {told}"))
    if not is_of_type(value, spec.output_type):
        told = f"it returned {shown(value)}, which is {type_name(value)} and not {spec.output_type}"
        return Judgement("failure", _cut(told))
    return Judgement("success", "")


def judged_error(spec: ToolSpec, error: BaseException, arguments: Mapping[str, Any]) -> Judgement | None:
    """What a call that raised says; None where it says nothing about the tool."""
    if not isinstance(error, SandboxError) or isinstance(error, SandboxClosed):
        return None
    told = str(error).splitlines()[0] if str(error) else type(error).__name__
    if told.startswith(_NOT_THE_TOOL):
        return None
    return judged_message(spec, told, arguments)


def judged_message(spec: ToolSpec, told: str, arguments: Mapping[str, Any] | None = None) -> Judgement:
    """The same of the error as text, `Type: message`."""
    if is_declared(spec, told.partition(":")[0]):
        return Judgement("declined", "")
    if arguments is not None and spec.argument_faults(arguments):
        return Judgement("declined", "")
    return Judgement("failure", _cut(told))


def judged_inside(spec: ToolSpec, error: str, type_: str) -> Judgement:
    """What a call from an agent's code says, as the sandbox tells it: what was raised, or the value's type.

    The arguments are not told: a TypeError may be the caller's, and is not counted against the tool.
    """
    if error:
        if error.partition(":")[0] == "TypeError":
            return Judgement("declined", "")
        return judged_message(spec, error)
    if type_ not in _JSON_TYPES:
        return Judgement("failure", _cut(f"it returned a {type_}, which is no JSON"))
    name = _JSON_TYPES[type_]
    if spec.output_type in ("any", name) or (spec.output_type, name) == ("number", "integer"):
        return Judgement("success", "")
    return Judgement("failure", _cut(f"it returned {name} and not {spec.output_type}"))


def is_declared(spec: ToolSpec, name: str) -> bool:
    """Whether an exception of that name is one that a specification declares, or is a kind of it."""
    raised = _exception(name)
    for error in spec.errors:
        declared = _exception(error.type)
        if name == error.type or (raised and declared and issubclass(raised, declared)):
            return True
    return False


_JSON_TYPES = {
    "NoneType": "null",
    "bool": "boolean",
    "int": "integer",
    "float": "number",
    "str": "string",
    "list": "array",
    "tuple": "array",
    "dict": "object",
}
# What the host says of a call that never came to the tool; see `toolsmith.sandbox`.
_NOT_THE_TOOL = ("cannot pass the arguments of ", "the sandbox is busy ")


def _exception(name: str) -> type[BaseException] | None:
    kind = getattr(builtins, name, None)
    return kind if isinstance(kind, type) and issubclass(kind, BaseException) else None


def _cut(text: str) -> str:
    return truncate(" ".join(text.encode(errors="backslashreplace").decode().split()), ERROR_CHARS)
