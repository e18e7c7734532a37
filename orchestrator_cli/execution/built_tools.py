"""What a run takes from the library, and what it tells the library of its uses.

Only what may be used is taken: a hand edit is proved first, and a tool that is disabled or in quarantine is
not given out. The user is notified of that once in a run. Every method may be called from any
thread.

Not covered: calls of a tool from an agent's code that was ended in the midst of its step, and what such a
call returned beyond its type; the sandbox tells of the others, and what it tells is only counted.
"""

import threading
from collections.abc import Callable
from contextlib import suppress

from orchestrator_cli import events
from orchestrator_cli.approvals.permissions import PermissionGate
from orchestrator_cli.cancellation import Cancellation
from orchestrator_cli.errors import storage_faults
from orchestrator_cli.journal.journal import Emit
from toolsmith.build import EditOutcome, edit_prover, usable_tool
from toolsmith.built import BuiltTool
from toolsmith.errors import (
    LibraryError,
    PackagesUnavailable,
    PermissionRefused,
    ToolDisabled,
    ToolQuarantined,
)
from toolsmith.library import Library
from toolsmith.library.status import Judgement
from toolsmith.permissions import PackageLock, Permissions
from toolsmith.sandbox import Backend


class BuiltTools:
    """The library as one run sees it."""

    def __init__(
        self,
        library: Library,
        *,
        backend: Backend,
        gate: PermissionGate,
        emit: Emit,
        masks: Callable[[str], str],
        run: str,
    ) -> None:
        self._library = library
        self._backend = backend
        self._gate = gate
        self._emit = emit
        self._masks = masks
        self._run = run
        self._lock = threading.Lock()
        self._told: set[str] = set()
        self._stopped: dict[str, tuple[int, str]] = {}
        """Version, and why, of the tools that went into quarantine in this run."""

    # --- taking

    def take(self, name: str, cancellation: Cancellation | None = None) -> BuiltTool | None:
        """The tool as it may be used, however its name is written; None where there is none, or none that
        can be read.

        Raises `ToolDisabled`, `ToolQuarantined`, and `ApprovalNeeded` where a person has to allow the trial
        of an edit.
        """

        def permit(tool: BuiltTool, lock: PackageLock) -> Permissions:
            return self._gate.permit_tool(tool.spec, cancellation, lock, version=tool)

        name, adopt = self._library.stored_name(name), edit_prover(self._library, self._backend, permit)
        try:
            with storage_faults():
                tool, settled = usable_tool(name, self._library, adopt)
        except (ToolDisabled, ToolQuarantined):
            raise
        except (PermissionRefused, PackagesUnavailable) as exc:
            self._tell(str(exc))
            return self._library.fallback(name)
        except LibraryError as exc:
            self._tell(str(exc))
            return None
        if settled is not None:
            self._tell(_about(name, settled))
        return tool

    def kept(self, name: str, version: int, fingerprint: str) -> BuiltTool | None:
        """The very version that was shown or used before, whether it is the current one or not.

        None if it is gone, was changed since, or may not be used any more.
        """
        try:
            if version not in self._library.versions(name):
                return None
            status, tool = self._library.status(name), self._library.version(name, version)
        except LibraryError:
            return None
        out_of_use = status.disabled is not None or bool(status.quarantine(version))
        return None if out_of_use or tool.edited or tool.fingerprint != fingerprint else tool

    def glance(self, name: str) -> BuiltTool | None:
        """The tool as a planner is shown it; None if it is not to be shown. Never asks the user."""
        try:
            tool = self._library.edited(name)
            if tool is not None and tool.edited and tool.spec.privileged:
                # Its trial waits until a person may be asked.
                return tool if self._library.status(name).disabled is None else None
            return self.take(name)
        except (ToolDisabled, ToolQuarantined):
            return None
        except LibraryError:
            with suppress(LibraryError):
                return self.take(name)
            return None

    # --- using

    def stopped(self, name: str, version: int | None = None) -> str:
        """Why a tool is not used any more in this run; empty where it is."""
        with self._lock:
            stopped, why = self._stopped.get(name, (0, ""))
        return why if version in (None, stopped) else ""

    def note_use(self, tool: BuiltTool, judgement: Judgement, seconds: float) -> None:
        """Keep how a call of a tool went; one that failed too often is stopped."""
        judgement = judgement._replace(error=self._masks(judgement.error))
        try:
            with storage_faults():
                standing = self._library.record_use(tool, judgement, seconds, self._run)
        except LibraryError as exc:
            self._tell(f"A use of a tool could not be counted. {exc}")
            return
        if standing is not None and (failures := standing.quarantine(tool.version)):
            self._stop(tool, failures)

    def _stop(self, tool: BuiltTool, failures: tuple[str, ...]) -> None:
        why = str(ToolQuarantined(tool.name, tool.version, failures)).partition("\n")[0]
        with self._lock:
            known = self._stopped.get(tool.name, (0, ""))[0] == tool.version
            self._stopped[tool.name] = (tool.version, why)
        if not known:
            self._emit(events.ToolRefused(tool=tool.name, reasons=(why,)))

    def _tell(self, text: str) -> None:
        with self._lock:
            if text in self._told:
                return
            self._told.add(text)
        self._emit(events.Noticed(message=text))


def _about(name: str, settled: EditOutcome) -> str:
    """The notice of a hand edit."""
    if settled.adopted and settled.tool is not None:
        version = settled.tool.version
        return (
            f"The tool {name} was edited by hand in {settled.folder}; it was proved, and is now v{version}."
        )
    used = f"v{settled.tool.version} is used as it was proved" if settled.tool else "no version can be used"
    return f"The tool {name} was edited by hand in {settled.folder}, and {used}: {'; '.join(settled.reasons)}"
