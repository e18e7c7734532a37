"""The sandboxes of one attempt: that of the agent's code, and one for each built tool.

What the specification of a tool says is what its sandbox gives it at every call, and nothing else: the
attempt's checkout to write, to read or, for a tool that touches no files, an empty folder instead; and the
network, the secrets and the packages that it was allowed. In one sandbox with an agent's code, or with
another tool, it would have what they have. A tool's sandbox is made with the first call, kept for the others
and ended with the attempt.

Not covered: the backend `unsafe`, which confines nothing.
"""

import tempfile
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

from orchestrator_cli.execution.attempt import Attempt, AttemptFailed, CheckoutRef
from orchestrator_cli.plan import READ_IMAGE
from orchestrator_cli.recall.converter import source_of
from orchestrator_cli.tools.files import SKILLS
from toolsmith.built import BuiltTool
from toolsmith.permissions import NO_PERMISSIONS, Permissions
from toolsmith.sandbox import Backend, Limits, SandboxUnavailable
from toolsmith.sandbox.executor import SandboxExecutor
from toolsmith.sandbox.proxy import Dialer
from toolsmith.sandbox.removal import remove
from toolsmith.sandbox.spec import Launch, SandboxSpec

ToolKey = tuple[str, int]
"""Name and version of a built tool: another version may be allowed other things."""

STEP_WALL_S = 120.0
ENTERING = ("bubblewrap", "landlock", "unsafe")
"""The backends that can start inside the namespace of a mounted checkout."""


def step_seconds(timeout_s: float) -> float:
    """The most that a step may take: it may not outlast the attempt."""
    return min(STEP_WALL_S, timeout_s)


class _Entering:
    """A backend whose workers are started within the namespace that a checkout is mounted in."""

    def __init__(self, backend: Backend, entrance: tuple[str, ...]) -> None:
        self._backend = backend
        self._entrance = entrance

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)

    def launch(self, spec: SandboxSpec, rx: int, tx: int) -> Launch:
        launch = self._backend.launch(spec, rx, tx)
        return replace(launch, argv=(*self._entrance, *launch.argv), cwd=None)


def within(checkout: CheckoutRef, backend: Backend) -> Backend:
    """The backend as a checkout needs it. Raises `AttemptFailed` if it cannot see the checkout."""
    if not checkout.entrance:
        return backend
    if backend.name not in ENTERING:
        raise AttemptFailed(
            f"the workspace is too large to copy, and the sandbox {backend.name} cannot use a mounted view"
        )
    return cast(Backend, _Entering(backend, checkout.entrance))


def open_sandbox(
    checkout: CheckoutRef,
    backend: Backend,
    timeout_s: float,
    *,
    folder: Path | None = None,
    writable: bool = True,
    given: Permissions = NO_PERMISSIONS,
    dialer: Dialer = Dialer(),  # noqa: B008  (frozen)
    readable: Path | None = None,
    imports: bool = True,
) -> SandboxExecutor:
    """A sandbox on a checkout, or on another folder, whose steps may not outlast the attempt.

    `imports` says whether code in it can import modules of the folder. Raises `AttemptFailed` if the backend
    cannot see the checkout or cannot be given connections.
    """
    try:
        return SandboxExecutor(
            folder or checkout.folder,
            limits=Limits(wall_s=step_seconds(timeout_s)),
            backend=backend if folder else within(checkout, backend),
            writable=writable,
            secrets=given.secrets,
            network=given.network,
            dialer=dialer,
            packages=given.folder,
            readable=readable,
            imports=imports,
        )
    except SandboxUnavailable as exc:
        if not given.network:
            raise
        raise AttemptFailed(str(exc)) from exc


class ToolSandboxes:
    """The sandboxes of built tools on one checkout. `interrupt` from any thread."""

    def __init__(
        self,
        checkout: CheckoutRef,
        backend: Backend,
        timeout_s: float,
        dialer: Dialer = Dialer(),  # noqa: B008
    ) -> None:
        self._open = partial(open_sandbox, checkout, backend, timeout_s, dialer=dialer, imports=False)
        self._lock = threading.Lock()
        self._turns: dict[ToolKey, threading.Lock] = {}
        self._made: dict[ToolKey, SandboxExecutor] = {}
        self._empty: Path | None = None
        self._ended = False

    def call(
        self,
        tool: ToolKey,
        workspace: str,
        source: str,
        arguments: dict[str, Any],
        args: Sequence[Any] = (),
        *,
        given: Callable[[], Permissions] = lambda: NO_PERMISSIONS,
    ) -> Any:
        """Call a tool, whose module is `source`, in its sandbox; calls of one tool wait for each other.

        `workspace`: "write", "read" or "none", which anything else counts as. Raises what the call and
        `given` raise, and `AttemptFailed` if there can be no such sandbox.
        """
        with self._lock:
            turn = self._turns.setdefault(tool, threading.Lock())
        with turn:
            made = self._made.get(tool) or self._make(tool, workspace, given())
            return made.call_tool(source, tool[0], arguments, args)

    def _make(self, tool: ToolKey, workspace: str, given: Permissions) -> SandboxExecutor:
        with self._lock:
            folder = None
            if workspace not in ("read", "write"):
                folder = self._empty = self._empty or Path(tempfile.mkdtemp(prefix="orch-apart-"))
            made = self._made[tool] = self._open(folder=folder, writable=workspace == "write", given=given)
            if self._ended:
                made.interrupt()
            return made

    def interrupt(self) -> None:
        """End what runs, and whatever begins later."""
        with self._lock:
            self._ended = True
            for executor in self._made.values():
                executor.interrupt()

    def close(self) -> None:
        with self._lock:
            for executor in self._made.values():
                executor.cleanup()
            if self._empty is not None:
                remove(self._empty)


@dataclass
class Sandboxes:
    """As a context manager, leaving it ends them all. `interrupt` from any thread."""

    attempt: Attempt
    own: SandboxExecutor = field(init=False)
    """That of the agent's code."""
    _tools: ToolSandboxes = field(init=False)

    def __post_init__(self) -> None:
        """Raises `AttemptFailed` if the backend cannot be given what the attempt needs."""
        spec, host = self.attempt.spec, self.attempt.host
        # The subtask's network and packages are for the agent's code, and for no built tool.
        skills = spec.skills if spec.writes_code else None
        if skills is not None:
            # The last part of the path is not followed, whatever is there.
            with suppress(FileExistsError):
                (spec.place.root / SKILLS).symlink_to(skills)
        given = (
            Permissions(spec.subtask.network, packages=spec.packages) if spec.writes_code else NO_PERMISSIONS
        )
        where = (spec.place, host.backend, self.attempt.subtask.timeout_s)
        self.own = open_sandbox(*where, given=given, dialer=host.dialer, readable=skills)
        self._tools = ToolSandboxes(*where, host.dialer)

    def call(self, tool: BuiltTool, arguments: dict[str, Any]) -> Any:
        """Call a built tool. Raises what the call and permitting it raise, and `AttemptFailed`."""

        def given() -> Permissions:
            return self.attempt.services.permit_tool(tool) if tool.spec.privileged else NO_PERMISSIONS

        key = (tool.name, tool.version)
        return self._tools.call(key, tool.spec.workspace, tool.source, arguments, given=given)

    def read_image(self, path: str) -> Any:
        """An image of the checkout, as `pictures.read_image` gives it. Raises what that call raises."""
        return self._tools.call((READ_IMAGE, 0), "read", source_of("pictures"), {"path": path})

    def interrupt(self) -> None:
        """End what runs, and whatever begins later."""
        self.own.interrupt()
        self._tools.interrupt()

    def __enter__(self) -> "Sandboxes":
        self.own.__enter__()
        return self

    def __exit__(self, *exc: Any) -> None:
        try:
            self._tools.close()
        finally:
            self.own.__exit__(*exc)
