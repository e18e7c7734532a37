"""One attempt at a subtask: what it may use, what it said on the side, and how its tool calls are told."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

from pydantic import JsonValue

from orchestrator_cli import events
from orchestrator_cli.cancellation import Cancellation
from orchestrator_cli.errors import OrchError
from orchestrator_cli.execution.context import RunContext
from orchestrator_cli.execution.loops import Circles
from orchestrator_cli.execution.sandboxes import Apart
from orchestrator_cli.plan import Subtask
from orchestrator_cli.tools.files import FILE_TOOLS
from orchestrator_cli.usage import Usage
from orchestrator_cli.workspace import Checkout
from toolsmith.built import BuiltTool
from toolsmith.permissions import NOTHING, Permissions
from toolsmith.sandbox import Backend, Limits, SandboxUnavailable
from toolsmith.sandbox.executor import SandboxExecutor
from toolsmith.sandbox.proxy import Dialer
from toolsmith.sandbox.spec import Launch, SandboxSpec

STEP_WALL_S = 120.0
SHOWN_CHARS = 2_000


class AttemptFailed(Exception):
    """The attempt did not bring what the subtask asks for; the message says why."""


@dataclass
class Attempt:
    """What one try at one subtask works with. The lists grow while it goes on."""

    context: RunContext
    subtask: Subtask
    number: int
    """Counts from 1."""
    executor: SandboxExecutor
    apart: Apart
    host_tools: Mapping[str, Callable[..., Any]]
    cancellation: Cancellation
    accept: Callable[[JsonValue], str | None]
    """Why a value is not accepted, or None."""
    surprises: list[str] = field(default_factory=list)
    requested: list[str] = field(default_factory=list)
    usage: Usage = field(default_factory=Usage)
    refusals: list[str] = field(default_factory=list)
    gave_up: str | None = None
    broken: OrchError | None = None
    """What ended the judging of a value or a request for a tool, and so the attempt."""
    circles: Circles = field(default_factory=Circles)

    def sandbox_of(self, tool: BuiltTool) -> SandboxExecutor:
        """Where a built tool runs: beside the agent's code, or apart where it has what that code has not."""
        return self.apart.of(tool) if tool.spec.privileged else self.executor


class Entering:
    """A backend whose workers are started within the namespace that a checkout is mounted in."""

    def __init__(self, backend: Backend, entrance: tuple[str, ...]) -> None:
        self._backend = backend
        self._entrance = entrance

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)

    def launch(self, spec: SandboxSpec, rx: int, tx: int) -> Launch:
        launch = self._backend.launch(spec, rx, tx)
        return replace(launch, argv=(*self._entrance, *launch.argv), cwd=None)


ENTERING = ("bubblewrap", "landlock", "unsafe")
"""The backends whose command can be started inside another mount namespace."""


def within(checkout: Checkout, backend: Backend) -> Backend:
    """The backend as a checkout needs it. Raises `AttemptFailed` where it cannot see the checkout."""
    if not checkout.entrance:
        return backend
    if backend.name not in ENTERING:
        raise AttemptFailed(
            f"the workspace is too large to copy, and the sandbox {backend.name} cannot use a mounted view"
        )
    return cast(Backend, Entering(backend, checkout.entrance))


def new_executor(
    root: Path,
    backend: Backend,
    timeout_s: float,
    *,
    writable: bool = True,
    given: Permissions = NOTHING,
    dialer: Dialer = Dialer(),  # noqa: B008  (frozen)
) -> SandboxExecutor:
    """A sandbox on a checkout, whose steps may not outlast the attempt.

    Raises `AttemptFailed` where the backend cannot be given connections.
    """
    try:
        return SandboxExecutor(
            root,
            limits=Limits(wall_s=min(STEP_WALL_S, timeout_s)),
            backend=backend,
            writable=writable,
            secrets=given.secrets,
            network=given.network,
            dialer=dialer,
            packages=given.folder,
        )
    except SandboxUnavailable as exc:
        if not given.network:
            raise
        raise AttemptFailed(str(exc)) from exc


def told(attempt: Attempt, name: str, arguments: Mapping[str, Any], call: Callable[[], Any]) -> Any:
    """Make a tool call and emit what came of it."""
    try:
        value = call()
    except Exception as exc:
        _emit_call(attempt, name, arguments, f"{type(exc).__name__}: {exc}", None, ok=False)
        raise
    _emit_call(attempt, name, arguments, value if isinstance(value, str) else pretty(value), value, ok=True)
    return value


def _emit_call(
    attempt: Attempt, name: str, arguments: Mapping[str, Any], outcome: str, value: Any, *, ok: bool
) -> None:
    said = json.dumps(as_json(arguments), sort_keys=True)
    attempt.circles.note(f"called {name} with the same arguments", said, outcome)
    attempt.context.emit(
        events.ToolCalled(
            subtask=attempt.subtask.id,
            attempt=attempt.number,
            tool=name,
            arguments={key: as_json(value) for key, value in arguments.items()},
            outcome=outcome[:SHOWN_CHARS],
            ok=ok,
            returned=as_json(value) if ok and name not in FILE_TOOLS else None,
        )
    )


def as_json(value: Any) -> JsonValue:
    """A value as plain JSON; what has no JSON form becomes its text."""
    plain: JsonValue = json.loads(json.dumps(value, default=_plain))
    return plain


def _plain(value: Any) -> Any:
    return sorted(value, key=str) if isinstance(value, set | frozenset) else str(value)


def pretty(value: Any) -> str:
    """A value as JSON to be read."""
    return json.dumps(as_json(value), ensure_ascii=False, indent=2)
