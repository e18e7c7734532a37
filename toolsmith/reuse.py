"""Whether a tool of the library can serve a new specification: as it is, or extended. Pure but for trials.

A tool may be a duplicate if it takes the new inputs (by name, otherwise in order, with the same types), needs
no others, returns the same type, and reaches no further. It is called on the new cases as the new tool would
be; if it passes all of them and the properties, it is the same tool. Most candidates fail the first case.

An extended tool must not break its callers. Inputs keep their order, types and defaults; new ones are
optional; the result keeps its type; no declared error goes away; and it may reach no further than what was
permitted. The cases and properties of the old version are part of the proof of the new one.

Not covered: duplicates among tools with network, secrets or packages, and those that the time did not
suffice for; and what an agent has already read about the old version.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from toolsmith.built import BuiltTool, TrialReport
from toolsmith.proof.cases import Property, Suite
from toolsmith.spec import Case, Need, ToolSpec

# --- duplicates


PATIENCE_S = 15.0
_STAND_IN = "tool_under_comparison"
_REACH = ("none", "read", "write")

Try = Callable[[ToolSpec, Suite, str], TrialReport]
"""Runs cases and properties on a module."""


@dataclass(frozen=True)
class Duplicate:
    """A tool that does the same, and how many cases it passed."""

    tool: BuiltTool
    cases: int

    @property
    def reason(self) -> str:
        return f"it passes all {self.cases} cases that were written for it"


def duplicate_of(
    spec: ToolSpec, suite: Suite, tools: Iterable[BuiltTool], try_: Try, *, patience_s: float = PATIENCE_S
) -> Duplicate | None:
    """The first of `tools` that passes everything; None if there is none, or the time is up."""
    until = time.monotonic() + patience_s
    asked = spec.model_copy(update={"name": _STAND_IN, "examples": ()})
    cases = suite.of(spec)
    parts = [Suite(cases=(case,)) for case in cases]
    if suite.properties:
        parts.append(Suite(cases=(), properties=suite.properties))
    for tool in tools:
        names = taken_for(spec, tool.spec)
        if names is None:
            continue
        source = _standing_in(tool, names)
        for part in parts:
            if time.monotonic() > until:
                return None
            if not try_(asked, part, source).passed:
                break
        else:
            return Duplicate(tool, len(cases))
    return None


def taken_for(wanted: ToolSpec, there: ToolSpec) -> dict[str, str] | None:
    """Each input of `wanted` → the input of `there` that takes it; None if `there` cannot be called so."""
    reaches = _REACH.index(there.workspace) <= _REACH.index(wanted.workspace)
    if there.privileged or there.packages or there.output_type != wanted.output_type or not reaches:
        return None
    types = {name: given.type for name, given in there.inputs.items()}
    names = {name: name for name, given in wanted.inputs.items() if types.get(name) == given.type}
    free = [name for name in types if name not in names]
    for name, given in wanted.inputs.items():
        if name in names:
            continue
        if not free or types[free[0]] != given.type:
            return None
        names[name] = free.pop(0)
    if any(there.inputs[name].required for name in free):
        return None
    return names


def _standing_in(tool: BuiltTool, names: dict[str, str]) -> str:
    """The tool's module with a function that takes the new inputs and passes them on."""
    return (
        f"{tool.source}\n\n"
        f"def {_STAND_IN}(**given):\n"
        f"    names = {names!r}\n"
        f"    return {tool.name}(**{{names[name]: value for name, value in given.items()}})\n"
    )


# --- extensions


_Titled = TypeVar("_Titled", Case, Property)


def extended_need(tool: BuiltTool, need: Need, what: str) -> Need:
    """The need for a tool as it is, with `what` added for another need."""
    return need.model_copy(
        update={"name": tool.name, "purpose": f"{tool.spec.purpose} To be added: {what}"},
    )


def extension_faults(old: ToolSpec, new: ToolSpec) -> Iterator[str]:
    """Everything in which the new specification would break callers of the old one."""
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
        was = old.inputs.get(name)
        if was is None:
            if given.required:
                yield f"inputs.{name}: is new, so it needs a default or has to be nullable"
            continue
        if given.type not in (was.type, "any"):
            yield f"inputs.{name}.type: was {was.type}, and has to stay so"
        if given.default != was.default:
            yield f"inputs.{name}.default: was {was.default!r}, and has to stay so"
        if was.nullable and not given.nullable:
            yield f"inputs.{name}.nullable: it could be null, and has to stay so"


def whole_proof(tool: BuiltTool, new: ToolSpec, suite: Suite) -> Suite:
    """The suite of the new version with the whole old one, under titles that are free."""
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
