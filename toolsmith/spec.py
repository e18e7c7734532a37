"""What a missing tool has to do: the need, and the specification with a few examples.

A specification is written before any code. The cases that prove the tool are written from it by another
call (`toolsmith.proof.cases`), so that they are no echo of it either: what it leaves open shows when the two
disagree. It is valid only as a whole; `toolsmith.reader` gives all faults of a model's attempt at once.

Types are smolagents' names without images and sound. An input may be left out when it is `nullable` (it is
then None) or has a `default`. Paths are relative to the workspace and never climb out of it.

Not covered: whether the expected values are right. An example that is wrong refuses every right tool.
"""

import builtins
import contextlib
import keyword
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from orchestrator_cli.durable.expressions import ExpressionFailed, expression_faults, names_in
from toolsmith.bounds import (
    MAX_ERRORS,
    MAX_GRANTS,
    MAX_INPUTS,
    NAME_CHARS,
    TEXT_CHARS,
    TITLE_CHARS,
    VALUE_CHARS,
    at_most,
    case_fault,
)
from toolsmith.names import identifier, name_fault
from toolsmith.permissions import MAX_PACKAGES, repeated_names, requirement
from toolsmith.sandbox.proxy import plain_grant
from toolsmith.sandbox.redaction import check_name
from toolsmith.values import TypeName, is_of_type, short_json, type_name

MAX_EXAMPLES = 3


def _checked(fault_of: Callable[[str], str | None]) -> AfterValidator:
    """A validator that refuses a text for the fault that `fault_of` names."""

    def check(text: str) -> str:
        if fault := fault_of(text):
            raise ValueError(fault)
        return text

    return AfterValidator(check)


def _parameter_fault(name: str) -> str | None:
    if len(name) > NAME_CHARS:
        return f"the input {name[:40]!r}… has more than {NAME_CHARS} characters"
    if name.isidentifier() and not keyword.iskeyword(name) and not name.startswith("_") and name != "self":
        return None
    return f"the input {name!r} must be a Python identifier that does not start with _"


def _path_fault(path: str) -> str | None:
    parts = path.split("/")
    if (
        any(part in ("", ".", "..") for part in parts)
        or any(sign in path for sign in "\\\0:\n")
        or path[0] == "~"
    ):
        return f"the path {path!r} must be relative, with / between its parts and without '..'"
    return f"the path {path[:40]!r}… is longer than 200 bytes" if len(path.encode()) > 200 else None


def _error_fault(name: str) -> str | None:
    kind = getattr(builtins, name, None)
    is_one = isinstance(kind, type) and issubclass(kind, Exception)
    return None if is_one else f"{name!r} is not one of Python's built-in exceptions"


def _different(packages: tuple[str, ...]) -> tuple[str, ...]:
    if named := repeated_names(packages):
        raise ValueError(f"{named[0]} is named more than once; put all its bounds into one")
    return packages


ToolName = Annotated[str, _checked(name_fault)]
Parameter = Annotated[str, _checked(_parameter_fault)]
RelativePath = Annotated[str, _checked(_path_fault)]
ErrorType = Annotated[str, _checked(_error_fault)]
MAX_SHOWN_CALLS = 5
CHECK_NAMES = ("value", "files", "arguments")
"""What a check reads: what the tool returned, the workspace afterwards (path → text), and the arguments."""


def check_faults(text: str) -> tuple[str, ...]:
    """All reasons why an expression cannot be a check; empty when it can."""
    faults = expression_faults(text, CHECK_NAMES)
    with contextlib.suppress(ExpressionFailed):
        if names_in(text).isdisjoint({"value", "files"}):
            faults += ("looks at neither value nor files, so it proves nothing",)
    return faults


CheckText = Annotated[str, at_most(TEXT_CHARS), _checked(lambda text: "; ".join(check_faults(text)))]
Domain = Annotated[str, at_most(300), AfterValidator(plain_grant)]
SecretName = Annotated[str, at_most(NAME_CHARS), _checked(check_name)]
Package = Annotated[str, AfterValidator(requirement)]
Packages = Annotated[tuple[Package, ...], Field(max_length=MAX_PACKAGES), AfterValidator(_different)]
Text = Annotated[str, Field(min_length=1), at_most(TEXT_CHARS)]
Title = Annotated[str, Field(min_length=1), at_most(TITLE_CHARS)]
Workspace = Literal["none", "read", "write"]


class FrozenValue(BaseModel):
    """A frozen value with no fields but those that are declared."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class SpecModel(FrozenValue):
    """A frozen value that is serialized without the fields that were left out."""

    @model_serializer(mode="wrap")
    def _as_written(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # `"expected": null` and no `expected` are different cases.
        return {name: value for name, value in dump(self).items() if name in self.model_fields_set}


class Need(SpecModel):
    """A tool that an agent or a plan lacks."""

    name: str
    """What the plan calls it."""
    purpose: Annotated[str, Field(min_length=1)]
    """What it is to do, in the asker's words, however many."""
    context: str = ""
    """What the asker wants to do with it."""
    calls: tuple[dict[str, Any], ...] = ()
    """The arguments of each call that the plan makes, by name; values may be references that are not resolved
    yet."""

    @model_validator(mode="before")
    @classmethod
    def _of_one_call(cls, given: Any) -> Any:
        """A library that an earlier version wrote has the `arguments` of the first call, or null."""
        if not isinstance(given, dict) or "arguments" not in given:
            return given
        rest, first = dict(given), given["arguments"]
        del rest["arguments"]
        return rest if first is None else {"calls": [first]} | rest

    @model_validator(mode="after")
    def _nameable(self) -> Self:
        if not self.tool_name:
            raise ValueError(
                f"name: {self.name!r} has no letter or digit to make an identifier of; rename the tool"
            )
        return self

    @property
    def tool_name(self) -> str:
        """The identifier that the tool gets."""
        return identifier(self.name)

    @property
    def shown_calls(self) -> list[dict[str, Any]]:
        """The first few of the calls that differ."""
        return [call for n, call in enumerate(self.calls) if call not in self.calls[:n]][:MAX_SHOWN_CALLS]


class Input(SpecModel):
    """One parameter of a tool."""

    type: TypeName
    description: Text
    nullable: bool = False
    default: JsonValue = None
    """What is taken when the argument is left out; null means no default, or None when `nullable`."""

    @model_validator(mode="after")
    def _default_fits(self) -> Self:
        if self.default is not None and isinstance(self.default, list | dict):
            raise ValueError(
                "default: must be a plain value; make the input nullable and describe what null means"
            )
        if len(repr(self.default)) > VALUE_CHARS:
            raise ValueError(f"default: has more than {VALUE_CHARS} characters")
        if self.default is not None and not is_of_type(self.default, self.type):
            raise ValueError(f"default: {short_json(self.default)} is not of type {self.type}")
        return self

    @property
    def required(self) -> bool:
        """Whether every call has to give it."""
        return not self.nullable and self.default is None

    @property
    def schema_row(self) -> dict[str, JsonValue]:
        """Its type as JSON Schema."""
        if self.type == "any":
            return {}
        return {"type": [self.type, "null"] if self.nullable else self.type}

    def accepts(self, value: object) -> bool:
        """Whether a value may be given for it."""
        return is_of_type(value, self.type) or (value is None and self.nullable)


class ErrorSpec(SpecModel):
    """An exception that is part of the tool's contract."""

    type: ErrorType
    when: Text


class Case(SpecModel):
    """One call with its outcome: exactly one of `expected`, `check` and `error`."""

    title: Title
    files: dict[RelativePath, str] = {}
    """The workspace before the call."""
    arguments: dict[str, JsonValue] = {}
    expected: JsonValue = None
    check: CheckText = ""
    error: str = ""
    files_after: dict[RelativePath, str | None] = {}
    """Files that must hold this text afterwards; null: must not exist. Others may be anything."""
    edge: bool = False
    """An empty, extreme or odd input that a hasty implementation gets wrong."""

    @model_validator(mode="after")
    def _one_outcome(self) -> Self:
        said = [name for name in ("expected", "check", "error") if name in self.model_fields_set]
        if len(said) != 1:
            raise ValueError(
                f"has {' and '.join(said) or 'none'} of expected, check and error; give exactly one"
            )
        if fault := case_fault(self.model_dump_json()):
            raise ValueError(fault)
        for path in self.files:
            if above := [str(folder) for folder in PurePosixPath(path).parents if str(folder) in self.files]:
                raise ValueError(f"files: {above[0]!r} is a file and the folder of {path!r}")
        return self

    @property
    def outcome(self) -> Literal["expected", "check", "error"]:
        """Which of the three the case gives."""
        if "expected" in self.model_fields_set:
            return "expected"
        return "check" if self.check else "error"

    @property
    def odd(self) -> bool:
        """Whether it is about an error or an edge."""
        return self.edge or self.outcome == "error"


class ToolSpec(SpecModel):
    """The contract of a tool, with examples of it."""

    name: ToolName
    purpose: Text
    inputs: Annotated[dict[Parameter, Input], at_most(MAX_INPUTS)]
    output_type: TypeName
    output_description: Text
    errors: Annotated[tuple[ErrorSpec, ...], at_most(MAX_ERRORS)] = ()
    workspace: Workspace = "none"
    network: Annotated[tuple[Domain, ...], at_most(MAX_GRANTS)] = ()
    """What it may reach, as `api.example.org`; `.example.org` is that name with all below it."""
    secrets: Annotated[tuple[SecretName, ...], at_most(MAX_GRANTS)] = ()
    """Environment variables that it is given."""
    packages: Packages = ()
    """Packages of the package index that it imports, as `markdown>=3.6`."""
    examples: tuple[Case, ...] = ()
    """One to MAX_EXAMPLES in a new specification; none in one of before there were any."""

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if faults := list(Contract.of(self).example_faults(dict(enumerate(self.examples)))):
            raise ValueError("\n".join(faults))
        return self

    def argument_faults(self, arguments: Mapping[str, object], *, typed: bool = True) -> tuple[str, ...]:
        """Why a call cannot be made: unknown or lacking arguments or, if `typed`, some of the wrong type."""
        faults = _argument_faults(self.inputs, arguments, typed=typed)
        return tuple(f"{place}: {fault}" for place, fault in faults)

    @property
    def arguments(self) -> dict[str, JsonValue]:
        """JSON Schema of the arguments of a call."""
        return {
            "properties": {name: given.schema_row for name, given in self.inputs.items()},
            "required": [name for name, given in self.inputs.items() if given.required],
            "additionalProperties": False,
        }

    def declares(self, kinds: Collection[str]) -> bool:
        """Whether one of these types, an exception's and those that it is a kind of, is among the errors."""
        return any(error.type in kinds for error in self.errors)

    @property
    def privileged(self) -> bool:
        """Whether it asks for more than arguments and files: its calls then need a sandbox of their own."""
        return bool(self.network or self.secrets or self.packages)

    @property
    def signature(self) -> str:
        """One line with the types' names: `count_words(path: string, top: integer = 10) -> object`."""
        typed = ", ".join(f"{name}: {_typed(given)}" for name, given in self.inputs.items())
        return f"{self.name}({typed}) -> {self.output_type}"


def requested_grants(spec: ToolSpec) -> str:
    """What a specification asks for, in one line: `network: a.example; packages: b`; empty for nothing."""
    parts = [("network", spec.network), ("secrets", spec.secrets), ("packages", spec.packages)]
    return "; ".join(f"{what}: {', '.join(names)}" for what, names in parts if names)


_WORKSPACES = {
    "none": "an empty folder instead of the workspace",
    "read": "the workspace, which it cannot change",
    "write": "the workspace, which it can change",
}


def given_at_calls(spec: ToolSpec) -> str:
    """What the sandbox of a tool gives it at every call, and nothing else, in one line."""
    others = [("network", spec.network), ("secrets", spec.secrets), ("packages", spec.packages)]
    return "; ".join(
        [
            _WORKSPACES[spec.workspace],
            *(f"{what} {', '.join(names)}" if names else f"no {what}" for what, names in others),
        ]
    )


class Contract(NamedTuple):
    """What the rules between calls and a specification look at; None: the field is not sound itself."""

    inputs: Mapping[str, Input] | None
    errors: Sequence[ErrorSpec] | None
    output_type: TypeName | None
    workspace: Workspace | None

    @classmethod
    def of(cls, spec: ToolSpec) -> "Contract":
        """That of a sound specification."""
        return cls(spec.inputs, spec.errors, spec.output_type, spec.workspace)

    def example_faults(self, examples: Mapping[int, Case]) -> Iterator[str]:
        """All breaches of the rules between the examples, by their places, and the other fields."""
        yield from self.faults("examples", examples)
        if len(examples) > MAX_EXAMPLES:
            yield f"examples: has {len(examples)}; give 1 to {MAX_EXAMPLES}"

    def faults(self, where: str, cases: Mapping[int, Case]) -> Iterator[str]:
        """The faults of each case of the list `where`, and of their titles."""
        for at, case in cases.items():
            for place, fault in self._case_faults(case):
                yield f"{where}[{at}].{place}: {fault}"
        titles = [case.title for case in cases.values()]
        if twice := sorted({title for title in titles if titles.count(title) > 1}):
            yield f"{where}: the title {twice[0]!r} is used more than once; give every case its own"

    def _case_faults(self, case: Case) -> Iterator[tuple[str, str]]:
        if self.inputs is not None:
            # An error case may give a value of the wrong type: that can be the very error it is about.
            yield from _argument_faults(self.inputs, case.arguments, typed=case.outcome != "error")
        declared = [error.type for error in self.errors or ()]
        if self.errors is not None and case.outcome == "error" and case.error not in declared:
            yield "error", f"{case.error!r} is not among errors ({', '.join(declared) or 'none'}); declare it"
        returned = self.output_type if case.outcome == "expected" else None
        if returned and not is_of_type(case.expected, returned):
            yield "expected", f"is {type_name(case.expected)}, but output_type is {returned}"
        if self.workspace == "none" and case.files:
            yield "files", "the workspace is 'none'; make it 'read' or 'write', or drop the files"
        if self.workspace in ("none", "read") and case.files_after:
            yield "files_after", f"the workspace is '{self.workspace}'; make it 'write', or drop them"


def _argument_faults(
    inputs: Mapping[str, Input], arguments: Mapping[str, object], *, typed: bool
) -> Iterator[tuple[str, str]]:
    for name, value in arguments.items():
        if name not in inputs:
            yield f"arguments.{name}", f"is no input; the inputs are {', '.join(inputs) or 'none'}"
        elif typed and not inputs[name].accepts(value):
            message = f"{short_json(value)} is {type_name(value)}, but the input is {inputs[name].type}"
            yield f"arguments.{name}", message
    for name, given in inputs.items():
        if given.required and name not in arguments:
            yield f"arguments.{name}", "is lacking, and the input has no default"


def _typed(given: Input) -> str:
    if given.default is not None:
        return f"{given.type} = {given.default!r}"
    return f"{given.type} | null = null" if given.nullable else given.type
