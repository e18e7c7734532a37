"""A tool that does more than it did, and all that it did: what its next version may change. Pure.

Whoever calls the tool as it is must not notice. So the inputs stay, in their order, each of the same type
and with the same default; those that come in addition may be left out; the result stays of its type; no
declared error goes; and it may reach no further than before, because that was allowed for what it is. The
cases and properties of the old version are part of the proof of the new one.

Not covered: what an agent was told about the old version stays as it was told.
"""

from collections.abc import Iterator
from typing import TypeVar

from toolsmith.built import BuiltTool
from toolsmith.proof.cases import Property, Suite
from toolsmith.spec import Case, Input, Need, ToolSpec

_Titled = TypeVar("_Titled", Case, Property)


def extended_need(tool: BuiltTool, need: Need, what: str) -> Need:
    """The need for a tool as it is, and `what` is to be added for another need."""
    return need.model_copy(
        update={"name": tool.name, "purpose": f"{tool.spec.purpose} To be added: {what}"},
    )


def extension_faults(old: ToolSpec, new: ToolSpec) -> Iterator[str]:
    """All in which the new specification would break who uses the old one."""
    yield from _input_faults(old, new)
    if new.output_type != old.output_type:
        yield f"output_type: was {old.output_type}, and has to stay so"
    lost = {error.type for error in old.errors} - {error.type for error in new.errors}
    if lost:
        yield f"errors: {', '.join(sorted(lost))} was declared, and has to stay so"
    for field in ("workspace", "network", "secrets", "packages"):
        if getattr(new, field) != getattr(old, field):
            yield f"{field}: has to stay as it was"


def _input_faults(old: ToolSpec, new: ToolSpec) -> Iterator[str]:
    before = list(old.inputs)
    if list(new.inputs)[: len(before)] != before:
        yield f"inputs: {', '.join(before) or 'none'} have to stay, and in this order before any others"
    for name, given in new.inputs.items():
        if name in old.inputs:
            for field, told in _changes(old.inputs[name], given):
                yield f"inputs.{name}.{field}: {told}, and has to stay so"
        elif given.required:
            yield f"inputs.{name}: is new, so it needs a default or has to be nullable"


def _changes(was: Input, given: Input) -> Iterator[tuple[str, str]]:
    if given.type not in (was.type, "any"):
        yield "type", f"was {was.type}"
    if given.default != was.default:
        yield "default", f"was {was.default!r}"
    if was.nullable and not given.nullable:
        yield "nullable", "it could be null"


def whole_proof(tool: BuiltTool, new: ToolSpec, suite: Suite) -> Suite:
    """The suite of the new version with all that proved the old one, under titles that are still free."""
    taken = {example.title for example in new.examples} | set(suite.titles())

    def kept(one: _Titled) -> _Titled:
        title = one.title
        while title in taken:
            title = f"{title} (as before)"
        taken.add(title)
        return one.model_copy(update={"title": title})

    return Suite(
        cases=(*suite.cases, *(kept(case) for case in tool.suite.of(tool.spec))),
        properties=(*suite.properties, *(kept(held) for held in tool.suite.properties)),
    )
