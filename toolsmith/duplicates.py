"""Whether the library has a tool already that does what a new specification asks for, told by running it.

A tool comes into question when it takes the new inputs, by name or else in their order, each with the same
type, needs no others, gives the same type, and may touch no more files. It is called as the new tool would
be, on the new cases; one that passes all of them, and the properties, does it already. Most fall at the
first case.

Not covered: tools that reach further than arguments and files (they would have to be asked for), and those
that were not come to within the time.
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from toolsmith.built import BuiltTool, TrialReport
from toolsmith.proof.cases import Suite
from toolsmith.spec import ToolSpec

PATIENCE_S = 15.0
_STAND_IN = "tool_under_comparison"
_REACH = ("none", "read", "write")

Try = Callable[[ToolSpec, Suite, str], TrialReport]
"""Runs cases and properties on a module."""


@dataclass(frozen=True)
class Duplicate:
    """A tool that does it already, and how many cases it passed."""

    tool: BuiltTool
    cases: int

    @property
    def reason(self) -> str:
        return f"it passes all {self.cases} cases that were written for it"


def duplicate_of(
    spec: ToolSpec, suite: Suite, tools: Iterable[BuiltTool], try_: Try, *, patience_s: float = PATIENCE_S
) -> Duplicate | None:
    """The first of `tools` that passes everything; None where there is none, or the time is over."""
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
    """The input of `there` that takes each input of `wanted`; None where it could not be called so."""
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
