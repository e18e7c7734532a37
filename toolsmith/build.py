"""From a need to a proved tool: specification → cases → code → rules → trial → library.

A tool that the library has is taken as it is, without a model call. Otherwise the specification and the
cases get two repairs each, and the code three rounds (a round is: written or rewritten, checked, tried);
then the tool is refused. Before the cases are written, the network and the secrets that the specification
asks for have to be permitted.
Before anything is written, the library is searched for a tool of another name that serves, as it is or
extended (`toolsmith.search`, `toolsmith.extension`). Once there are cases, tools that take the same are run
on them, and one that passes all is used instead (`toolsmith.duplicates`). An extension that is not proved
is given up for a tool of its own.

A tool in quarantine is built anew, as its next version, with what it failed at as a hint. Two builders of
the same tool, in threads or processes, wait for each other: the second one finds what the first one made.

Nothing is kept of a refused tool. `emit` is told of every step as it happens; what it raises ends the
build, and so does what `complete` raises.

Not covered: permissions of a tool that the library has (whoever calls it asks for them), and replacing a tool
that turned out not to be good."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from toolsmith.built import BuiltTool, Origin, TrialReport
from toolsmith.duplicates import Duplicate
from toolsmith.errors import (
    LibraryError,
    PackagesUnavailable,
    PermissionRefused,
    ToolQuarantined,
    ToolRefused,
)
from toolsmith.extension import extended_need, whole_proof
from toolsmith.library import Library
from toolsmith.permissions import NOTHING, Permissions, Permit, nobody_allows
from toolsmith.proof.proving import Workbench
from toolsmith.search import Decision, Found, Search, find
from toolsmith.spec import Need, ToolSpec
from toolsmith.steps import BuildStep as BuildStep
from toolsmith.steps import CasesWritten as CasesWritten
from toolsmith.steps import CodeFaulty as CodeFaulty
from toolsmith.steps import CodeWritten as CodeWritten
from toolsmith.steps import Emit, silent
from toolsmith.steps import NotExtended as NotExtended
from toolsmith.steps import Searched as Searched
from toolsmith.steps import SpecWritten as SpecWritten
from toolsmith.steps import TrialRan as TrialRan
from toolsmith.writer import Complete

if TYPE_CHECKING:
    from toolsmith.sandbox import Backend, Limits
    from toolsmith.sandbox.proxy import Dialer


def build_tool(
    need: Need,
    *,
    complete: Complete,
    library: Library,
    backend: "Backend | None" = None,
    limits: "Limits | None" = None,
    emit: Emit | None = None,
    run: str | None = None,
    permit: Permit = nobody_allows,
    dialer: "Dialer | None" = None,
    search: Search = Search(),  # noqa: B008  (frozen)
) -> BuiltTool:
    """The tool that `need` asks for: from the library, or built, proved and kept; `run` is noted as origin.

    It has another name where another tool of the library serves, as it is or extended for it.

    Args:
        search: what is known of the need beside its words.
        permit: asked once for a specification's network, secrets and packages; its trial runs with what is
            returned.
        dialer: resolves and checks the addresses of granted names.

    Raises:
        ToolRefused: the rounds gave no sound specification or no proved code; it has the last reasons. Or
            what the tool needs is not permitted, or a tool that cannot be called as planned does it already.
        ToolEdited: the library has it, but changed by hand.
        ToolDisabled: the library has it, and the user does not want it to be used.
        LibraryError: the library cannot be read or written, or another builder of the tool does not end.
        SandboxUnavailable: no sandbox works on this system.
    """
    known, need = _known(need, library)
    if known is not None:
        return known
    with library.building(need.tool_name):
        known, need = _known(need, library)
        if known is not None:
            return known
        bench = Workbench(emit or silent, backend, limits, dialer)
        # A tool in quarantine is built anew under its name, whatever others do.
        renewed = need.tool_name in library.known()
        found = find(need, () if renewed else library.fit(), complete, search)
        if found.candidates:
            bench.emit(Searched(need.tool_name, found.decision))
        if found.tool is not None and found.decision.kind == "use":
            return found.tool
        if found.tool is not None:
            try:
                return _extended(found, _Order(need, complete, library, permit, run), bench)
            except (ToolRefused, LibraryError) as exc:
                reasons = exc.reasons if isinstance(exc, ToolRefused) else (str(exc),)
                bench.emit(NotExtended(need.tool_name, found.tool.name, reasons))
        spec = bench.specify(need, complete)
        bench = replace(bench, permissions=_permitted(spec, permit))
        suite = bench.write_cases(spec, complete)
        # Looked at once more: others are built meanwhile, maybe for the same need.
        others = () if renewed else found.ordered(library.fit())
        if twin := bench.duplicate(spec, suite, others):
            return _served(need, twin, bench, search)
        made = bench.make(spec, suite, complete)
        return library.add(spec, made.source, made.report, Origin(need=need, run=run), made.suite)


def _known(need: Need, library: Library) -> tuple[BuiltTool | None, Need]:
    """The tool that the library has; else what is to be built, with what one in quarantine failed at."""
    try:
        return library.find_similar(need), need
    except ToolQuarantined as exc:
        failed = "\n".join(f"- {failure}" for failure in dict.fromkeys(exc.failures))
        hint = f"A version of it is there already, which failed when it was used:\n{failed}"
        if hint in need.context:
            return None, need
        context = f"{need.context}\n\n{hint}".strip()
        return None, need.model_copy(update={"name": exc.name, "context": context})


@dataclass(frozen=True)
class _Order:
    """What a tool is built for, and with what."""

    need: Need
    complete: Complete
    library: Library
    permit: Permit
    run: str | None


def _extended(found: Found, order: _Order, bench: Workbench) -> BuiltTool:
    """The next version of the tool that was found, which also does what was decided to be added.

    All that proved the old version is part of the proof. Raises ToolRefused and LibraryError.
    """
    name, what, library = found.decision.tool, found.decision.reason, order.library
    with library.building(name):
        tool = library.get(name)  # somebody may have extended it meanwhile
        if tool is None:
            raise ToolRefused(name, ["it was removed meanwhile"])
        wider = extended_need(tool, order.need, what)
        spec = bench.specify(wider, order.complete, base=tool.spec)
        bench = replace(bench, permissions=_permitted(spec, order.permit))
        suite = whole_proof(tool, spec, bench.write_cases(spec, order.complete))
        lacking = [f"It was right so far, and lacks what is to be added: {what}"]
        made = bench.make(spec, suite, order.complete, source=tool.source, failures=lacking)
        return library.add(spec, made.source, made.report, Origin(need=wider, run=order.run), made.suite)


def _served(need: Need, twin: Duplicate, bench: Workbench, search: Search) -> BuiltTool:
    """The tool that does it already. Raises ToolRefused where it cannot be called as planned."""
    bench.emit(Searched(need.tool_name, Decision("use", twin.tool.name, twin.reason)))
    if faults := search.faults(twin.tool.spec, need):
        told = f"'{twin.tool.name}' does it already ({twin.reason}); call {twin.tool.spec.signature} instead"
        raise ToolRefused(need.tool_name, [f"{told}. The planned call does not fit it: {'; '.join(faults)}"])
    return twin.tool


def _permitted(spec: ToolSpec, permit: Permit) -> Permissions:
    if not spec.privileged:
        return NOTHING
    try:
        return permit(spec)
    except (PermissionRefused, PackagesUnavailable) as exc:
        raise ToolRefused(spec.name, [exc.reason]) from exc


def adopt_edit(
    name: str,
    *,
    library: Library,
    backend: "Backend | None" = None,
    limits: "Limits | None" = None,
    permit: Permit = nobody_allows,
) -> BuiltTool:
    """Prove a tool whose files were edited by hand, and keep it as the next version. No model call.

    Raises:
        ToolRefused: the edited module breaks rules or fails cases, or what it needs is not permitted; the
            files stay as they are.
        LibraryError: there is no such tool, it was not edited, or its files cannot be read.
    """
    tool = library.edited(name)
    if tool is None or not tool.edited:
        state = "is not in the library" if tool is None else f"v{tool.version} was not edited"
        raise LibraryError(f"The tool '{name}' {state}, so there is nothing to adopt.")
    faults, report = prove_again(tool, backend=backend, limits=limits, permit=permit)
    if report is None or not report.passed:
        raise ToolRefused(name, faults)
    origin = tool.origin.model_copy(update={"edit_of": tool.version})
    return library.add(tool.spec, tool.source, report, origin, tool.suite)


def prove_again(
    tool: BuiltTool,
    *,
    backend: "Backend | None" = None,
    limits: "Limits | None" = None,
    permit: Permit = nobody_allows,
) -> tuple[tuple[str, ...], TrialReport | None]:
    """Check and try a tool as it is: why it is not good (empty when it is), and the report if it was run.

    Raises:
        ToolRefused: what it needs is not permitted.
    """
    bench = Workbench(silent, backend, limits, permissions=_permitted(tool.spec, permit))
    return bench.prove(tool.spec, tool.suite, tool.source, 1)
