"""Pairs of tools of which one does all that the other does. Pure but for trials.

That two descriptions are alike shows little. So the tool that may serve in place of another is called on all
cases of that other, and has to pass them with its properties.

Not covered: what no case tries, and what `reuse` leaves out of duplicates.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from toolsmith.built import BuiltTool, ignore_step
from toolsmith.library import Library
from toolsmith.proof.proving import ToolBuilder
from toolsmith.reuse import Duplicate
from toolsmith.search import candidates
from toolsmith.spec import Need

if TYPE_CHECKING:
    from toolsmith.sandbox import Backend, Limits


@dataclass(frozen=True)
class Overlap:
    """A tool, and the other that serves in its place."""

    tool: BuiltTool
    by: Duplicate


def overlaps(
    library: Library, backend: "Backend | None", limits: "Limits | None" = None
) -> Iterator[Overlap]:
    """The tools that another makes superfluous, the least used first. Each tool is in one pair only."""
    tools = {tool.name: tool for tool in library.fit()}
    calls = {name: library.status(name).tally(tool.version).calls for name, tool in tools.items()}
    for name in sorted(tools, key=lambda name: (calls[name], name)):
        if name not in tools:
            continue
        need = Need(name=name, purpose=tools[name].spec.purpose)
        alike = candidates(need, (tool for tool in tools.values() if tool.name != name))
        if found := served_by(tools[name], (one.tool for one in alike), backend, limits):
            yield Overlap(tools.pop(name), found)
            tools.pop(found.tool.name)


def served_by(
    tool: BuiltTool,
    others: Iterable[BuiltTool],
    backend: "Backend | None",
    limits: "Limits | None" = None,
) -> Duplicate | None:
    """The first of `others` that passes all cases of a tool; None if none does."""
    return ToolBuilder(ignore_step, backend, limits).duplicate(tool.spec, tool.suite, others)
