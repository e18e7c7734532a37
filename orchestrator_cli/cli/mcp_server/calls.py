"""The tools of the library that other programs may call, and one call: a run of its own, without a model.

A call is journaled, logged, committed and undone like every run. The tool runs in the sandbox on a checkout
of the workspace, with what its specification asks for and nothing else. Only tools that need no approval
are served: none that is disabled, in quarantine, edited or unreadable, and none that asks for a domain, a
secret or a package that the settings do not allow.

Not covered: a call that the settings want a person to approve (`approve = ["tools", "writes"]`). It fails
with that reason and writes nothing.
"""

import json
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import JsonValue

from orchestrator_cli import events
from orchestrator_cli.approvals.permissions import covered
from orchestrator_cli.cancellation import Cancellation
from orchestrator_cli.environment import read_secret
from orchestrator_cli.errors import Cancelled, OrchError, ProviderError, RunFailed
from orchestrator_cli.events import Outcome
from orchestrator_cli.execution.run import Run
from orchestrator_cli.execution.subtask import run_subtask
from orchestrator_cli.execution.subtask_runs import reason_of
from orchestrator_cli.execution.tool_registry import ToolUnavailable
from orchestrator_cli.models.model import Completion, ModelRequest, OnDelta
from orchestrator_cli.models.sources import GivenModel
from orchestrator_cli.orchestrator import notice_recovered
from orchestrator_cli.plan import NewTool, Plan, Result, Subtask
from orchestrator_cli.planning.answer import as_text
from orchestrator_cli.runtime import open_run
from orchestrator_cli.settings import Settings
from orchestrator_cli.usage import Usage
from orchestrator_cli.views.filelog import FileLog
from toolsmith import BuiltTool, Library, LibraryError, ToolSpec
from toolsmith.permissions import package_name
from toolsmith.sandbox.proxy import parse_grants

CALL_S = 300.0
WHY = "A program that is connected over MCP asked for this call."


class NoModel:
    """The model of a run that needs none."""

    name = "none"

    def complete(
        self,
        request: ModelRequest,  # noqa: ARG002 - the protocol's
        on_delta: OnDelta | None = None,  # noqa: ARG002
        cancellation: Cancellation | None = None,  # noqa: ARG002
    ) -> Completion:
        raise ProviderError("A tool call uses no model.")


@dataclass(frozen=True)
class Served:
    """The tools that are served, and why the others are not."""

    tools: tuple[BuiltTool, ...]
    refused: tuple[str, ...]


def served(library: Library, settings: Settings) -> Served:
    """Every tool that may be called without an approval, by name."""
    tools, refused = [], []
    for found in library.list():
        try:
            tool = library.get(found.name)
        except LibraryError as exc:
            refused.append(str(exc).splitlines()[0])
            continue
        if tool is None:
            continue
        if reason := not_allowed(tool.spec, settings):
            refused.append(f"The tool '{tool.name}' is not served: {reason}.")
        else:
            tools.append(tool)
    return Served(tuple(tools), tuple(refused))


def not_allowed(spec: ToolSpec, settings: Settings) -> str:
    """What a tool asks for that the settings do not allow, in words; empty if they allow it all."""
    grants = zip(spec.network, parse_grants(spec.network), strict=True)
    known = {package_name(name) for name in settings.packages}
    open_ones = {
        "network": ("reaches", [domain for domain, grant in grants if not covered(grant, settings.network)]),
        "secrets": ("is given", [name for name in spec.secrets if name not in settings.secrets]),
        "packages": ("needs", [each for each in spec.packages if package_name(each) not in known]),
    }
    for setting, (does, names) in open_ones.items():
        if names and not settings.yes:
            return f"it {does} {', '.join(names)}, which is not among `{setting}` in orch.toml"
    if unset := [name for name in spec.secrets if read_secret(name) is None]:
        return f"{', '.join(unset)} is not set in the environment"
    return ""


@dataclass
class ServedCall:
    """One call of a tool, which another thread may end."""

    tool: BuiltTool
    arguments: Mapping[str, JsonValue]
    settings: Settings
    run: str = ""
    """The id of its run, once it has one."""
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _cancellation: Cancellation | None = None
    _ended: bool = False

    def end(self) -> None:
        """Cancel the call, now or as soon as it starts."""
        with self._lock:
            self._ended = True
            if self._cancellation is not None:
                self._cancellation.cancel(Cancelled("The call was cancelled."))

    def make(self) -> JsonValue:
        """Call the tool and return its value. Raises `OrchError`, also for an error of the tool itself."""
        log = FileLog(self.settings.workspace / "fileLog.md", self.settings.home)
        source = GivenModel(NoModel())
        with open_run(self.settings, [log], source=source, wants_engine=False) as run:
            with self._lock:
                self.run, self._cancellation = run.id, run.cancellation
            if self._ended:
                self.end()
            return self._call(run)

    def _call(self, run: Run) -> JsonValue:
        spec, started = self.tool.spec, time.monotonic()
        prompt = call_text(spec, self.arguments)
        plan = plan_of(spec, self.arguments)
        (subtask,) = plan.subtasks
        run.emit(run.started(prompt))
        run.emit(events.PlanProposed(plan=plan))
        error: OrchError | None = None
        result: Result | None = None
        try:
            notice_recovered(run)
            if faults := spec.argument_faults(self.arguments):
                raise RunFailed("; ".join(faults), spec.signature)
            run.registry.ensure(NewTool(name=spec.name, purpose=spec.purpose), asked_by="MCP")
            run.emit(
                events.SubtaskStarted(subtask=subtask.id, title=subtask.title, attempt=1, plan_version=1)
            )
            result = run_subtask(run, subtask, attempt=1, plan_version=1, inputs=self.arguments, failure="")
            return result.value
        except BaseException as exc:
            error = _as_ours(exc)
            run.emit(events.SubtaskFailed(subtask=subtask.id, attempt=1, reason=error.message, final=True))
            raise error from exc
        finally:
            run.emit(_ending(error, result, time.monotonic() - started))


def plan_of(spec: ToolSpec, arguments: Mapping[str, JsonValue]) -> Plan:
    """The call as a plan of one subtask."""
    subtask: dict[str, Any] = {
        "id": spec.name[:40],
        "title": f"Call {spec.name}",
        "kind": "tool",
        "tools": (spec.name,),
        "inputs": dict(arguments),
        "timeout_s": CALL_S,
        "on_failure": "abort",
    }
    return Plan(goal=f"what {spec.name} gives is there", why=WHY, subtasks=(Subtask(**subtask),))


def call_text(spec: ToolSpec, arguments: Mapping[str, JsonValue]) -> str:
    """The call as the prompt of its run: `name(argument=value, …)`."""
    given = (f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in arguments.items())
    return f"{spec.name}({', '.join(given)})"


def _as_ours(exc: BaseException) -> OrchError:
    if isinstance(exc, OrchError):
        return exc
    if isinstance(exc, ToolUnavailable):
        return RunFailed(str(exc))
    return RunFailed(reason_of(exc).splitlines()[0])


def _ending(error: OrchError | None, result: Result | None, seconds: float) -> events.RunFinished:
    outcome: Outcome = "completed"
    if error is not None:
        outcome = "cancelled" if isinstance(error, Cancelled) else "failed"
    return events.RunFinished(
        outcome=outcome,
        answer=as_text(result.value) if result else "",
        error=str(error) if error else None,
        exit_code=error.exit_code if error else 0,
        seconds=seconds,
        usage=Usage(),
        files=result.files if result else (),
    )
