"""What proves a tool: cases and properties, written from its specification by a call that sees no code.

A case is one call with its outcome. A property holds for all values that its schemas generate:

    always       the check is true of every call
    idempotent   the result, given again as the input `of`, gives the same result
    round_trip   the result, given as `of` with the arguments `back`, gives the original `of`
    order_free   the order of the list in `of` does not matter

`suite_faults` gives all faults of a suite at once. Every error that the specification declares needs a case,
except connection errors, which no case can cause. A tool with network has no properties, because they would
send hundreds of requests to its servers.

A wrong case would refuse every right tool. So the writer of the code may challenge one case or property that
its code fails, once per build. A ruling by a call that sees the specification, the case and the reason, but
not the code, keeps, changes or withdraws it. All of that stays in the tool's record.

Not covered: whether expected values are right, and whether generated values make sense for the tool;
examples of the specification, which cannot be challenged; a second wrong case.
"""

import builtins
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal, Self

from pydantic import Field, JsonValue, model_validator

from toolsmith.bounds import KEPT_CASES, KEPT_PROPERTIES, at_most, case_fault
from toolsmith.proof.schemas import schema_faults
from toolsmith.spec import (
    Case,
    CheckText,
    Contract,
    FrozenValue,
    Input,
    RelativePath,
    SpecModel,
    Title,
    ToolSpec,
)

MIN_CASES = 3
MAX_CASES = 20
MAX_PROPERTIES = 6
TIME_S = 10.0
MEMORY_MB = 256
"""The most that one call may take; a tool that takes more is too greedy to be kept."""
EXAMPLES = 40
"""How many inputs are generated for a property."""
Kind = Literal["always", "idempotent", "round_trip", "order_free"]


class Property(SpecModel):
    """Something that holds for all inputs of a kind."""

    title: Title
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
        if fault := case_fault(self.model_dump_json()):
            raise ValueError(fault)
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


class Suite(SpecModel):
    """The cases and properties of one tool."""

    cases: Annotated[tuple[Case, ...], at_most(KEPT_CASES)]
    properties: Annotated[tuple[Property, ...], at_most(KEPT_PROPERTIES)] = ()

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
        yield f"properties: the title {title!r} is used more than once; give every one its own"


def _coverage_faults(spec: ToolSpec, cases: Mapping[int, Case]) -> Iterator[str]:
    if not any(case.odd for case in cases.values()):
        yield "cases: none is about an error or an edge; add one with `error` or with `edge: true`"
    shown = {case.error for case in cases.values()}
    for error in spec.errors:
        if error.type not in shown and not (
            spec.network and issubclass(getattr(builtins, error.type), OSError)
        ):
            yield f"cases: none expects {error.type}, which the specification declares; add one"


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
        yield "of", f"the order of {held.of!r} can matter only if an array is generated"
    if held.files and spec.workspace == "none":
        yield "files", "the workspace is 'none'; drop the files"


def _value_faults(spec: ToolSpec, held: Property) -> Iterator[tuple[str, str]]:
    for name, given in spec.inputs.items():
        if given.required and name not in held.inputs and name not in held.arguments:
            yield f"inputs.{name}", "is lacking, and the input has no default"
        if name in held.inputs and (problem := _generated_fault(held.inputs[name], given)):
            yield f"inputs.{name}", problem
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


# --- disputes


Verdict = Literal["keep", "change", "withdraw"]


class Objection(FrozenValue):
    """What the writer of the code says."""

    case: str
    """Title of a case or a property."""
    reason: str


class Ruling(FrozenValue):
    """What was ruled."""

    verdict: Verdict
    reason: str
    case: Case | None = None
    """In place of the old one, only with `change`."""
    property: Property | None = None

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if (self.verdict == "change") != bool(self.case or self.property):
            raise ValueError("case: belongs to the verdict 'change', and to no other")
        return self


class Challenge(FrozenValue):
    """An objection and the ruling on it."""

    title: str
    reason: str
    verdict: Verdict
    ruling: str
    before: dict[str, Any]
    after: dict[str, Any] | None = None


def find_challenged(suite: Suite, title: str) -> Case | Property | None:
    """The case or property of that title."""
    known: list[Case | Property] = [*suite.cases, *suite.properties]
    return next((one for one in known if one.title == title), None)


def apply_ruling(suite: Suite, old: Case | Property, ruling: Ruling) -> Suite:
    """The suite as it is after a ruling."""
    new = ruling.case or ruling.property
    if ruling.verdict == "keep":
        return suite
    cases = [case for case in suite.cases if case is not old]
    properties = [held for held in suite.properties if held is not old]
    if isinstance(new, Case):
        cases.append(new)
    elif isinstance(new, Property):
        properties.append(new)
    return Suite(cases=tuple(cases), properties=tuple(properties))


def challenge_record(old: Case | Property, objection: Objection, ruling: Ruling) -> Challenge:
    """For the tool's record."""
    new = ruling.case or ruling.property
    return Challenge(
        title=old.title,
        reason=objection.reason,
        verdict=ruling.verdict,
        ruling=ruling.reason,
        before=old.model_dump(mode="json"),
        after=new.model_dump(mode="json") if new else None,
    )
