"""From a need to a proved tool: specification → cases → code → rules → trial → library.

A tool that the library has, or had before it was retired, is returned without a model call. Before anything
is written, the library is searched for a tool under another name that serves, as it is or extended
(`toolsmith.search`, `toolsmith.reuse`). Before the cases are written, the network, secrets and packages that
the specification asks for must be granted. Once there are cases, tools that take the same inputs are run on
them, and one that passes all of them is used instead. If an extension is not proved, a separate tool is
built.

The specification and the cases get two repairs each, the code three rounds (written or rewritten, checked,
tried); then the build ends with ToolNotBuilt, and nothing is kept.

A tool in quarantine gets a new version, with its failures as a hint. Concurrent builds of the same tool, in
threads or processes, wait for each other: the second one finds what the first one made.

`settle_edit` proves a tool whose files were edited by hand, without a model call. Both files count: a changed
case in `tool.json` changes what the tool has to do, and a record that cannot be read is an edit that cannot
be proved. An edit that passes becomes the next version, with the origin `edit_of`, and the files of the
edited version are restored. An edit that fails stays on disk, the tool is used as it was last proved, and the
same edit is not tried again. If two threads or processes notice an edit at the same time, it is adopted once.

`emit` receives every step as it happens. What it raises ends the build, and so does what `complete` raises.

Not covered: the grants of a tool that the library has, which its caller asks for; replacing a tool that
turned out to be bad.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from toolsmith.built import BuildStep as BuildStep
from toolsmith.built import BuiltTool, Emit, Origin, ReuseDecision, TrialReport, ignore_step
from toolsmith.built import CasesWritten as CasesWritten
from toolsmith.built import CodeFaulty as CodeFaulty
from toolsmith.built import CodeWritten as CodeWritten
from toolsmith.built import NotExtended as NotExtended
from toolsmith.built import Searched as Searched
from toolsmith.built import SpecWritten as SpecWritten
from toolsmith.built import TrialRan as TrialRan
from toolsmith.errors import (
    LibraryError,
    PackagesUnavailable,
    PermissionRefused,
    ToolDisabled,
    ToolEdited,
    ToolNotBuilt,
    ToolQuarantined,
)
from toolsmith.library import Library
from toolsmith.library.records import fingerprint
from toolsmith.library.retirement import in_use, offered, returned
from toolsmith.library.status import EditRefused
from toolsmith.permissions import NO_PERMISSIONS, PackageLock, Permissions
from toolsmith.proof.proving import ToolBuilder
from toolsmith.reuse import Duplicate, extended_need, whole_proof
from toolsmith.search import Search, SearchResult, find
from toolsmith.spec import Need, ToolSpec, requested_grants
from toolsmith.writer import Complete

if TYPE_CHECKING:
    from toolsmith.sandbox import Backend, Limits
    from toolsmith.sandbox.proxy import Dialer

Permit = Callable[[ToolSpec], Permissions]
"""Grants what a specification asks for. Raises PermissionRefused and PackagesUnavailable."""


def refuse_all(spec: ToolSpec) -> Permissions:
    """The `permit` of callers that grant nothing."""
    if asked := requested_grants(spec):
        raise PermissionRefused(f"it asks for {asked}, and there is no one to grant that")
    return NO_PERMISSIONS


def build_tool(
    need: Need,
    *,
    complete: Complete,
    library: Library,
    backend: "Backend | None" = None,
    limits: "Limits | None" = None,
    emit: Emit | None = None,
    run: str | None = None,
    permit: Permit = refuse_all,
    dialer: "Dialer | None" = None,
    search: Search = Search(),  # noqa: B008  (frozen)
) -> BuiltTool:
    """The tool that `need` asks for: from the library, or built, proved and kept.

    It may have another name, if another tool of the library serves, as it is or extended.

    Args:
        run: the run that needs it, kept as its origin.
        search: what is known about the need besides its words.
        permit: called once with a specification that asks for network, secrets or packages; the trial runs
            with what it returns.
        dialer: resolves and checks the addresses of granted names.

    Raises:
        ToolNotBuilt: no round gave a sound specification or proved code, a grant was refused, or a tool that
            cannot be called as planned does it already. `reasons` are the last ones.
        ToolEdited: the library has it, but it was changed by hand.
        ToolDisabled: the library has it, but the user disabled it.
        LibraryError: the library cannot be read or written, or another build of the tool takes too long.
        SandboxUnavailable: no sandbox works on this system.
    """
    known, need = _known(need, library, search)
    if known is not None:
        return known
    with library.build_lock(need.tool_name):
        known, need = _known(need, library, search)
        if known is not None:
            return known
        bench = ToolBuilder(emit or ignore_step, backend, limits, dialer)
        # A tool in quarantine gets a new version under its own name, even if another tool would serve.
        renewed = need.tool_name in library.known()
        found = find(need, () if renewed else offered(library), complete, search)
        if found.candidates:
            bench.emit(Searched(need.tool_name, found.decision))
        if found.tool is not None and found.decision.kind == "use":
            return in_use(library, found.tool)
        if found.tool is not None:
            try:
                return _extended(found, _Order(need, complete, library, permit, run), bench)
            except (ToolNotBuilt, LibraryError) as exc:
                reasons = exc.reasons if isinstance(exc, ToolNotBuilt) else (str(exc),)
                bench.emit(NotExtended(need.tool_name, found.tool.name, reasons))
        spec = bench.specify(need, complete)
        bench = replace(bench, permissions=_permitted(spec, permit))
        suite = bench.write_cases(spec, complete)
        # Another build may have added a tool for the same need meanwhile.
        others = () if renewed else found.ordered(offered(library))
        if twin := bench.duplicate(spec, suite, others):
            return in_use(library, _served(need, twin, bench, search))
        made = bench.make(spec, suite, complete)
        return library.add(spec, made.source, made.report, Origin(need=need, run=run), made.suite)


def _known(need: Need, library: Library, search: Search) -> tuple[BuiltTool | None, Need]:
    """The library's tool, or the need to build for, with the failures of a tool in quarantine as a hint."""
    try:
        known = library.find_similar(need)
        return known or returned(library, need, lambda spec: search.faults(spec, need)), need
    except ToolQuarantined as exc:
        failed = "\n".join(f"- {failure}" for failure in dict.fromkeys(exc.failures))
        hint = f"A version of it is there already, which failed when it was used:\n{failed}"
        if hint in need.context:
            return None, need
        context = f"{need.context}\n\n{hint}".strip()
        return None, need.model_copy(update={"name": exc.name, "context": context})


@dataclass(frozen=True)
class _Order:
    """The need and the arguments of one build."""

    need: Need
    complete: Complete
    library: Library
    permit: Permit
    run: str | None


def _extended(found: SearchResult, order: _Order, bench: ToolBuilder) -> BuiltTool:
    """The next version of the tool that was found, extended as decided.

    The proof of the old version is part of its proof. Raises ToolNotBuilt and LibraryError.
    """
    name, what, library = found.decision.tool, found.decision.reason, order.library
    with library.build_lock(name):
        if found.tool is not None:
            in_use(library, found.tool)
        tool = library.get(name)  # another build may have extended it meanwhile
        if tool is None:
            raise ToolNotBuilt(name, ["it was removed meanwhile"])
        wider = extended_need(tool, order.need, what)
        spec = bench.specify(wider, order.complete, base=tool.spec)
        bench = replace(bench, permissions=_permitted(spec, order.permit))
        suite = whole_proof(tool, spec, bench.write_cases(spec, order.complete))
        lacking = [f"It was right so far, and lacks what is to be added: {what}"]
        made = bench.make(spec, suite, order.complete, source=tool.source, failures=lacking)
        return library.add(spec, made.source, made.report, Origin(need=wider, run=order.run), made.suite)


def _served(need: Need, twin: Duplicate, bench: ToolBuilder, search: Search) -> BuiltTool:
    """The duplicate that the library has. Raises ToolNotBuilt if it cannot be called as planned."""
    bench.emit(Searched(need.tool_name, ReuseDecision("use", twin.tool.name, twin.reason)))
    if faults := search.faults(twin.tool.spec, need):
        instead = (
            f"'{twin.tool.name}' does it already ({twin.reason}); call {twin.tool.spec.signature} instead"
        )
        raise ToolNotBuilt(
            need.tool_name, [f"{instead}. The planned call does not fit it: {'; '.join(faults)}"]
        )
    return twin.tool


def _permitted(spec: ToolSpec, permit: Permit) -> Permissions:
    if not spec.privileged:
        return NO_PERMISSIONS
    try:
        return permit(spec)
    except (PermissionRefused, PackagesUnavailable) as exc:
        raise ToolNotBuilt(spec.name, [str(exc)]) from exc


def adopt_edit(
    name: str,
    *,
    library: Library,
    backend: "Backend | None" = None,
    limits: "Limits | None" = None,
    permit: Permit = refuse_all,
) -> BuiltTool:
    """Prove a tool whose files were edited by hand, and keep it as the next version, without a model call.

    Raises:
        ToolNotBuilt: the edited module breaks rules, fails cases, or needs what is not granted. The files
            stay as they are.
        LibraryError: the tool does not exist, was not edited, or cannot be read.
    """
    tool = library.edited(name)
    if tool is None or not tool.edited:
        state = "is not in the library" if tool is None else f"v{tool.version} was not edited"
        raise LibraryError(f"The tool '{name}' {state}, so there is nothing to adopt.")
    faults, report = prove_again(tool, backend=backend, limits=limits, permit=permit)
    if report is None or not report.passed:
        raise ToolNotBuilt(name, faults)
    origin = tool.origin.model_copy(update={"edit_of": tool.version})
    return library.add(tool.spec, tool.source, report, origin, tool.suite)


def prove_again(
    tool: BuiltTool,
    *,
    backend: "Backend | None" = None,
    limits: "Limits | None" = None,
    permit: Permit = refuse_all,
) -> tuple[tuple[str, ...], TrialReport | None]:
    """Check and try a tool as it is: its faults (empty if there are none), and the report if it was run.

    Raises:
        ToolNotBuilt: what it needs is not granted.
    """
    bench = ToolBuilder(ignore_step, backend, limits, permissions=_permitted(tool.spec, permit))
    return bench.prove(tool.spec, tool.suite, tool.source, 1)


Adopt = Callable[[str], BuiltTool]
"""Proves and keeps the edited tool of that name, as `adopt_edit` does. Raises ToolNotBuilt."""


@dataclass(frozen=True)
class EditOutcome:
    """What became of an edit, and the version that may be used."""

    tool: BuiltTool | None
    """None if no version was proved."""
    adopted: bool
    folder: Path
    """Where the edited files are, or were."""
    reasons: tuple[str, ...] = ()
    """Why the edit was not adopted."""


def settle_edit(name: str, library: Library, adopt: Adopt) -> EditOutcome | None:
    """Prove the edit of a tool; None if it has none, so that `get` decides.

    Raises:
        LibraryError: `get` raises it for another reason than an edit, or the library cannot be written.
    """
    if not _is_edited(name, library):
        return None
    with library.build_lock(name):
        version = library.current_version(name)
        if not version or not _is_edited(name, library):  # another process settled it first
            return None
        folder = library.folder(name, version)
        found = fingerprint(folder)
        refused = library.status(name).refused
        if refused is not None and refused.fingerprint == found:
            return EditOutcome(library.fallback(name), False, folder, refused.reasons)
        try:
            tool = adopt(name)
        except ToolNotBuilt as exc:
            reasons = exc.reasons
        except LibraryError as exc:
            reasons = (str(exc).splitlines()[0],)
        else:
            library.restore(name, version)
            return EditOutcome(tool, True, folder)
        library.note(
            name, EditRefused(at=datetime.now(UTC), version=version, fingerprint=found, reasons=reasons)
        )
        return EditOutcome(library.fallback(name), False, folder, reasons)


def usable_tool(name: str, library: Library, adopt: Adopt) -> tuple[BuiltTool | None, EditOutcome | None]:
    """The version that may be used, and the outcome of an edit. Raises as `get` does, except `ToolEdited`."""
    settled = settle_edit(name, library, adopt)
    if settled is None or settled.adopted:
        return library.get(name), settled
    tool = settled.tool
    if tool is not None and (failures := library.status(name).quarantine(tool.version)):
        raise ToolQuarantined(name, tool.version, failures)
    return tool, settled


def edit_prover(
    library: Library, backend: "Backend | None", permit: Callable[[BuiltTool, PackageLock], Permissions]
) -> Adopt:
    """An `Adopt` that proves an edit with what `permit` grants.

    What `permit` raises passes through: if a grant is refused, the edit is tried again the next time.
    """

    def adopt(name: str) -> BuiltTool:
        tool = library.edited(name)
        given = NO_PERMISSIONS
        if tool is not None and tool.spec.privileged:
            # If it asks for the same packages, it is tried with the very versions that it was proved with.
            proved = library.fallback(tool.name)
            same = proved is not None and proved.spec.packages == tool.spec.packages
            given = permit(tool, proved.lock if proved is not None and same else PackageLock())

        def granted(spec: ToolSpec) -> Permissions:
            if tool is None or spec != tool.spec:  # edited again while the question was open
                raise PermissionRefused("it was changed after its permissions were granted; try it again")
            return given

        return adopt_edit(name, library=library, backend=backend, permit=granted)

    return adopt


def _is_edited(name: str, library: Library) -> bool:
    """Whether the current version differs from what was proved; also True if it cannot be read."""
    try:
        library.get(name)
    except ToolEdited:
        return True
    except (ToolDisabled, ToolQuarantined):
        return False
    except LibraryError:
        return library.is_unreadable(name)
    return False
