"""What proves a tool: cases and properties, written from its specification by a call that sees no code.

A case is one call with its outcome. A property holds for all values that its schemas generate:

    always       the check is true of every call
    idempotent   the result, given again as the input `of`, gives the same result
    round_trip   the result, given as `of` with the arguments `back`, gives what `of` was
    order_free   the order of the list in `of` does not matter

A suite is judged with the specification that it is for; `suite_faults` gives all that is wrong at once.
Every error that the specification declares needs a case, except failures of a connection, which no case
can bring about. A tool with network has no properties: they would ask its servers hundreds of times.

Not covered: whether expected values are right, and whether what a schema generates is in the domain of the
tool; a suite that is wrong there refuses every right tool (`toolsmith.proof.challenges`).
"""

import builtins
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any, Literal, Self

from pydantic import Field, JsonValue, model_validator

from toolsmith.proof.schemas import schema_faults
from toolsmith.spec import Case, CheckText, Contract, Input, RelativePath, Text, ToolSpec, Value

MIN_CASES = 3
MAX_CASES = 20
MAX_PROPERTIES = 6
TIME_S = 10.0
MEMORY_MB = 256
"""The most that one call may take; a tool that takes more is too greedy to be kept."""
EXAMPLES = 40
"""How many inputs are generated for a property."""
Kind = Literal["always", "idempotent", "round_trip", "order_free"]


class Property(Value):
    """Something that holds for all inputs of a kind."""

    title: Text
    kind: Kind
    inputs: dict[str, dict[str, Any]]
    """Input → schema of the values that are tried."""
    arguments: dict[str, JsonValue] = Field(default_factory=dict)
    """Input → the value that it has in every call."""
    files: dict[RelativePath, str | dict[str, Any]] = Field(default_factory=dict)
    """The workspace before each call: text, or the schema of a text."""
    check: CheckText = ""
    """Only of `always`."""
    of: str = ""
    """The input that the other kinds are about."""
    back: dict[str, JsonValue] = Field(default_factory=dict)
    """Arguments of the way back, only of `round_trip`; what is not named stays as on the way there."""

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if faults := list(self._faults()):
            raise ValueError("\n".join(faults))
        return self

    def _faults(self) -> Iterator[str]:
        for name, schema in self.inputs.items():
            yield from schema_faults(schema, f"inputs.{name}")
        for path, text in self.files.items():
            if isinstance(text, dict):
                yield from schema_faults(text, f"files[{path!r}]")
                if text.get("type") != "string" and not text.get("enum"):
                    yield f"files[{path!r}]: give text, or the schema of a string"
            if above := [str(folder) for folder in PurePosixPath(path).parents if str(folder) in self.files]:
                yield f"files: {above[0]!r} is a file and the folder of {path!r}"
        if not self.inputs and not any(isinstance(text, dict) for text in self.files.values()):
            yield "inputs: nothing is generated; a call that is always the same is a case"
        if (self.kind == "always") != bool(self.check):
            yield f"check: {'is lacking' if self.kind == 'always' else 'belongs to always'}"
        if (self.kind == "always") == bool(self.of):
            yield f"of: {'belongs to the other kinds' if self.kind == 'always' else 'is lacking'}"
        if self.back and self.kind != "round_trip":
            yield "back: belongs to round_trip"


class Suite(Value):
    """The cases and properties of one tool."""

    cases: tuple[Case, ...]
    properties: tuple[Property, ...] = ()

    def of(self, spec: ToolSpec) -> tuple[Case, ...]:
        """All cases that a tool is tried on: the examples of its specification, and these."""
        return (*spec.examples, *self.cases)

    def with_more(self, other: "Suite") -> "Suite":
        """These and others."""
        return Suite(cases=(*self.cases, *other.cases), properties=(*self.properties, *other.properties))

    def titles(self) -> tuple[str, ...]:
        """Of cases and properties."""
        return (*(case.title for case in self.cases), *(held.title for held in self.properties))


def suite_faults(
    spec: ToolSpec,
    cases: Mapping[int, Case],
    properties: Mapping[int, Property],
    *,
    known: Suite | None = None,
    whole: bool = True,
) -> Iterator[str]:
    """What is wrong with sound cases and properties, by their places, of a suite for `spec`.

    With `known`, they are added to those. Unless `whole`, unsound ones were left out, and rules that need
    all of them are not applied.
    """
    yield from Contract.of(spec).faults("cases", cases)
    yield from _title_faults(spec, cases, properties, known)
    for at, held in properties.items():
        for place, fault in _property_faults(spec, held):
            yield f"properties[{at}].{place}: {fault}"
    if spec.network and properties:
        yield "properties: a tool with network has none, for they would ask its servers hundreds of times"
    if known is None and whole:
        yield from _coverage_faults(spec, cases)


def _title_faults(
    spec: ToolSpec, cases: Mapping[int, Case], properties: Mapping[int, Property], known: Suite | None
) -> Iterator[str]:
    taken = {case.title for case in spec.examples} | set(known.titles() if known else ())
    for where, titled in (("cases", cases), ("properties", properties)):
        for at, one in titled.items():
            if one.title in taken:
                yield f"{where}[{at}].title: {one.title!r} is taken; give every case and property its own"
    taken = {case.title for case in cases.values()}
    titles = [held.title for held in properties.values()]
    for title in sorted({title for title in titles if titles.count(title) > 1 or title in taken}):
        yield f"properties: the title {title!r} stands more than once; give every one its own"


def _coverage_faults(spec: ToolSpec, cases: Mapping[int, Case]) -> Iterator[str]:
    if not any(case.odd for case in cases.values()):
        yield "cases: none is about an error or an edge; add one with `error` or with `edge: true`"
    shown = {case.error for case in cases.values()}
    for error in spec.errors:
        if error.type not in shown and not (spec.network and _of_a_connection(error.type)):
            yield f"cases: none expects {error.type}, which the specification declares; add one"


def _of_a_connection(error: str) -> bool:
    return issubclass(getattr(builtins, error), OSError)


def _property_faults(spec: ToolSpec, held: Property) -> Iterator[tuple[str, str]]:
    for name in (*held.inputs, *held.arguments, *held.back):
        if name not in spec.inputs:
            yield name, f"is no input; the inputs are {', '.join(spec.inputs) or 'none'}"
    if twice := sorted(held.inputs.keys() & held.arguments.keys()):
        yield "arguments", f"{', '.join(twice)} is generated already"
    yield from _value_faults(spec, held)
    if held.of and held.of not in held.inputs:
        yield "of", f"{held.of!r} is not among inputs; generate it"
    elif held.kind == "order_free" and held.inputs[held.of].get("type") != "array":
        yield "of", f"the order of {held.of!r} can matter only where an array is generated"
    if held.files and spec.workspace == "none":
        yield "files", "the workspace is 'none'; drop the files"


def _value_faults(spec: ToolSpec, held: Property) -> Iterator[tuple[str, str]]:
    for name, given in spec.inputs.items():
        if given.required and name not in held.inputs and name not in held.arguments:
            yield f"inputs.{name}", "is lacking, and the input has no default"
        if name in held.inputs and (told := _generated_fault(held.inputs[name], given)):
            yield f"inputs.{name}", told
        for where, values in (("arguments", held.arguments), ("back", held.back)):
            if name in values and not given.accepts(values[name]):
                yield f"{where}.{name}", f"is not of the type {given.type}"


def _generated_fault(schema: Mapping[str, Any], given: Input) -> str | None:
    if given.type == "any":
        return None
    parts = schema.get("anyOf", [schema])
    for part in parts:
        if "const" in part or "enum" in part:
            values = part.get("enum", [part.get("const")])
            sound = all(given.accepts(value) for value in values)
        else:
            made = part.get("type")
            sound = (
                made == given.type
                or (made == "integer" and given.type == "number")
                or (made == "null" and given.nullable)
            )
        if not sound:
            return f"generates what is not of the type {given.type}"
    return None
