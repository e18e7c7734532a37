"""What is shown of the tools of a library, as values for `views.tools`. Raises what the library raises."""

from collections.abc import Sequence
from dataclasses import replace

from orchestrator_cli.execution.tool_cards import permissions_of
from orchestrator_cli.views.tools import ToolPage, ToolRow, Trial
from toolsmith.built import BuiltTool, TrialReport
from toolsmith.errors import LibraryError
from toolsmith.library import Library
from toolsmith.library.status import (
    Disabled,
    EditRefused,
    Enabled,
    Entry,
    Retired,
    RolledBack,
    ToolStatus,
    Tried,
)
from toolsmith.spec import given_at_calls


def row_of(library: Library, name: str) -> ToolRow:
    """The line of a tool, also of one that cannot be read."""
    versions, version = library.versions(name), library.current_version(name)
    status = library.status(name)
    uses = status.tally(version)
    try:
        tool = library.version(name, version)
    except LibraryError as exc:
        message, _, remedy = str(exc).partition("\n")
        return ToolRow(name, version, versions, "unreadable", (message, remedy), uses=uses)
    state, why = _state(tool, status)
    return ToolRow(
        name=name,
        version=version,
        state=state,
        why=why,
        versions=versions,
        signature=tool.spec.signature,
        purpose=tool.spec.purpose,
        permissions=permissions_of(tool),
        created=tool.created,
        uses=uses,
    )


def retired_row(out: Library, name: str) -> ToolRow:
    """The line of a tool of the library of those that are retired."""
    served_by = out.status(name).served_by
    why = f"{served_by} serves in its place" if served_by else "it is used again if a plan needs it"
    return replace(row_of(out, name), state="retired", why=(why, f"Use it again: orch tools enable {name}"))


def page_of(library: Library, name: str, version: int) -> ToolPage:
    """Everything about one version."""
    tool, row = library.version(name, version), row_of(library, name)
    status = library.status(name)
    return ToolPage(
        row=row,
        version=version,
        folder=str(library.folder(name, version)),
        sha256=tool.sha256,
        origin=_origin(tool),
        enforced=given_at_calls(tool.spec),
        functions=tuple((f.signature, f.doc) for f in tool.functions),
        trial=trial_of(tool.trial),
        source=tool.source,
        tallies=tuple(sorted(status.tallies.items())),
        decisions=tuple((entry.at, text) for entry in library.entries(name) if (text := _decided(entry))),
    )


def trial_of(report: TrialReport | None, faults: Sequence[str] = ()) -> Trial:
    """A trial; without a report it was not run, because of `faults`."""
    if report is None:
        return Trial(False, (), tuple(faults))
    results = [(result.title, result.passed, result.detail) for result in report.results]
    results += [(held.title, held.passed, held.detail) for held in report.properties]
    return Trial(report.passed, tuple(results), tuple(faults) if not results else ())


def _state(tool: BuiltTool, status: ToolStatus) -> tuple[str, tuple[str, ...]]:
    if status.disabled is not None:
        return "disabled", (
            *([status.disabled] if status.disabled else []),
            f"Enable it: orch tools enable {tool.name}",
        )
    if tool.edited:
        refused = status.refused
        reasons = refused.reasons if refused is not None and refused.version == tool.version else ()
        return "edited", (*reasons, f"Prove it: orch tools test {tool.name}")
    if failures := status.quarantine(tool.version):
        again = f"orch tools test {tool.name} && orch tools enable {tool.name}"
        way = f"Use it again: {again}, or go back: orch tools rollback {tool.name}"
        return "quarantine", (*failures[-3:], way)
    return "in use", ()


def _decided(entry: Entry) -> str:
    match entry:
        case Disabled(reason=reason):
            return f"disabled: {reason}" if reason else "disabled"
        case Enabled(version=version):
            return f"enabled, with v{version}"
        case Tried(version=version, passed=passed):
            return f"trial of v{version} run again: {'passed' if passed else 'failed'}"
        case RolledBack(version=version, reason=reason):
            return f"back to v{version}" + (f": {reason}" if reason else "")
        case Retired(served_by=other):
            return f"retired, because {other} serves in its place" if other else "retired"
        case EditRefused(version=version, reasons=reasons):
            return f"a hand edit of v{version} was not proved: {'; '.join(reasons)}"
    return ""


def _origin(tool: BuiltTool) -> str:
    origin = tool.origin
    parts = [f"needed as {origin.need.name!r}"]
    if origin.run:
        parts.append(f"by run {origin.run}")
    if origin.edit_of:
        parts.append(f"v{origin.edit_of} edited by hand")
    if origin.imported_from:
        parts.append(f"imported from {origin.imported_from}")
    return ", ".join(parts)
