"""The sandboxes of one attempt: that of the agent's code, and one each for tools that have more than it.

In one sandbox with an agent's code, tools with network, secrets or packages would share them with that code.
Each of their sandboxes is made with the first call, on the attempt's checkout, with just what its tool was
allowed; a tool whose specification says that it touches no file gets an empty folder instead.
"""

import tempfile
import threading
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

from orchestrator_cli.execution.attempt import Attempt, AttemptFailed, CheckoutRef
from orchestrator_cli.tools.files import SKILLS
from toolsmith.built import BuiltTool
from toolsmith.permissions import NO_PERMISSIONS, Permissions
from toolsmith.sandbox import Backend, Limits, SandboxUnavailable
from toolsmith.sandbox.executor import SandboxExecutor
from toolsmith.sandbox.proxy import Dialer
from toolsmith.sandbox.removal import remove
from toolsmith.sandbox.spec import Launch, SandboxSpec

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
) -> SandboxExecutor:
    """A sandbox on a checkout, or on another folder, whose steps may not outlast the attempt.

    Raises `AttemptFailed` if the backend cannot see the checkout or cannot be given connections.
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
        )
    except SandboxUnavailable as exc:
        if not given.network:
            raise
        raise AttemptFailed(str(exc)) from exc


@dataclass
class Sandboxes:
    """As a context manager, leaving it ends them all. `interrupt` from any thread."""

    attempt: Attempt
    own: SandboxExecutor = field(init=False)
    """That of the agent's code, and of tools that have no more than it."""
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _isolated: dict[str, SandboxExecutor] = field(default_factory=dict)
    _empty: Path | None = None
    _ended: bool = False

    def __post_init__(self) -> None:
        """Raises `AttemptFailed` if the backend cannot be given what the attempt needs."""
        spec = self.attempt.spec
        # The subtask's network and packages are for the agent's code, and for no built tool.
        skills = spec.skills if spec.writes_code else None
        if skills is not None:
            # The last part of the path is not followed, whatever is there.
            with suppress(FileExistsError):
                (spec.place.root / SKILLS).symlink_to(skills)
        given = (
            Permissions(spec.subtask.network, packages=spec.packages) if spec.writes_code else NO_PERMISSIONS
        )
        self.own = self._new(None, given=given, readable=skills)

    def of(self, tool: BuiltTool) -> SandboxExecutor:
        """The sandbox of a tool. Raises what permitting it raises, and `AttemptFailed`."""
        if not tool.spec.privileged:
            return self.own
        if tool.name not in self._isolated:
            given = self.attempt.services.permit_tool(tool)
            with self._lock:
                folder = None
                if tool.spec.workspace == "none":
                    folder = self._empty = self._empty or Path(tempfile.mkdtemp(prefix="orch-apart-"))
                made = self._new(folder, writable=tool.spec.workspace == "write", given=given)
                self._isolated[tool.name] = made
                if self._ended:
                    made.interrupt()
        return self._isolated[tool.name]

    def _new(
        self,
        folder: Path | None,
        *,
        writable: bool = True,
        given: Permissions = NO_PERMISSIONS,
        readable: Path | None = None,
    ) -> SandboxExecutor:
        host, timeout_s = self.attempt.host, self.attempt.subtask.timeout_s
        return open_sandbox(
            self.attempt.spec.place,
            host.backend,
            timeout_s,
            folder=folder,
            writable=writable,
            given=given,
            dialer=host.dialer,
            readable=readable,
        )

    def interrupt(self) -> None:
        """End what runs, and whatever begins later."""
        with self._lock:
            self._ended = True
            for executor in (self.own, *self._isolated.values()):
                executor.interrupt()

    def __enter__(self) -> "Sandboxes":
        self.own.__enter__()
        return self

    def __exit__(self, *exc: Any) -> None:
        try:
            with self._lock:
                for executor in self._isolated.values():
                    executor.cleanup()
                if self._empty is not None:
                    remove(self._empty)
        finally:
            self.own.__exit__(*exc)
