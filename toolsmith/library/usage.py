"""What a call of a built tool shows about the tool. Pure.

A call is a failure if it raises what the tool does not declare, runs out of time, crashes its sandbox, or
returns something that is not JSON or not of the output type. A declared error is the tool working as
specified. If the arguments were not of the declared types, the error is the caller's fault. A call that was
ended from outside, or could not be made, shows nothing.

Not covered: a wrong value of the right type, and the cost of a call.
"""

import builtins
from collections.abc import Mapping
from typing import Any, NamedTuple

from orchestrator_cli.durable.text import truncate
from toolsmith.library.status import ERROR_CHARS, UseOutcome
from toolsmith.sandbox.spec import SandboxClosed, SandboxError
from toolsmith.spec import ToolSpec
from toolsmith.values import is_of_type, not_json, short_json, type_name


class Judgement(NamedTuple):
    outcome: UseOutcome
    error: str
    """The error of a failure; otherwise empty."""


def judge_value(spec: ToolSpec, value: object) -> Judgement:
    """The judgement on a call that returned."""
    if told := not_json(value):
        return Judgement("failure", _cut(f"it returned what is not JSON: {told}"))
    if not is_of_type(value, spec.output_type):
        told = f"it returned {short_json(value)}, which is {type_name(value)} and not {spec.output_type}"
        return Judgement("failure", _cut(told))
    return Judgement("success", "")


def judge_error(spec: ToolSpec, error: BaseException, arguments: Mapping[str, Any]) -> Judgement | None:
    """The judgement on a call that raised; None if it shows nothing about the tool."""
    if not isinstance(error, SandboxError) or isinstance(error, SandboxClosed):
        return None
    told = str(error).splitlines()[0] if str(error) else type(error).__name__
    if told.startswith(_NOT_THE_TOOL):
        return None
    return judge_message(spec, told, arguments)


def judge_message(spec: ToolSpec, told: str, arguments: Mapping[str, Any] | None = None) -> Judgement:
    """The judgement on an error given as text, `Type: message`."""
    if is_declared(spec, told.partition(":")[0]):
        return Judgement("declined", "")
    if arguments is not None and spec.argument_faults(arguments):
        return Judgement("declined", "")
    return Judgement("failure", _cut(told))


def judge_inner_call(spec: ToolSpec, error: str, type_: str) -> Judgement:
    """The judgement on a call from an agent's code, from the reported error or type of the value.

    The arguments are unknown, so a TypeError, which may be the caller's fault, is not a failure.
    """
    if error:
        if error.partition(":")[0] == "TypeError":
            return Judgement("declined", "")
        return judge_message(spec, error)
    if type_ not in _JSON_TYPES:
        return Judgement("failure", _cut(f"it returned a {type_}, which is not JSON"))
    name = _JSON_TYPES[type_]
    if spec.output_type in ("any", name) or (spec.output_type, name) == ("number", "integer"):
        return Judgement("success", "")
    return Judgement("failure", _cut(f"it returned {name} and not {spec.output_type}"))


def is_declared(spec: ToolSpec, name: str) -> bool:
    """Whether a specification declares an exception of that name, or a base class of it."""
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
# Messages of the host about calls that never reached the tool; see `toolsmith.sandbox`.
_NOT_THE_TOOL = ("cannot pass the arguments of ", "the sandbox is busy ")


def _exception(name: str) -> type[BaseException] | None:
    kind = getattr(builtins, name, None)
    return kind if isinstance(kind, type) and issubclass(kind, BaseException) else None


def _cut(text: str) -> str:
    return truncate(" ".join(text.encode(errors="backslashreplace").decode().split()), ERROR_CHARS)
