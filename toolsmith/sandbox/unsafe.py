"""No sandbox at all, for those who ask for it by name: `choose_backend("unsafe")`.

The worker, its steps and its limits are the same; what shuts it in is missing. It is never chosen by itself.

What is not covered: everything. Code inside can read and change all that the user can, secrets and this
program among them, and can use the network. Limits are for accidents: code can get out of their way.
"""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from toolsmith.sandbox import backend as shared
from toolsmith.sandbox.backend import Launch, Room
from toolsmith.sandbox.limits import Kept, kept_with_rlimits
from toolsmith.sandbox.shipping import boot_source


@dataclass(frozen=True)
class UnsafeBackend:
    """Runs code with all rights of the user."""

    name: str = "unsafe"
    detail: str = "NO SANDBOX: NOTHING IS CONFINED, code written by a model has all your rights"
    hard_processes: bool = False
    weaker: tuple[str, ...] = ("NOTHING IS CONFINED.",)

    @property
    def connections(self) -> Literal["granted", "never", "open"]:
        return "open"

    @property
    def kept(self) -> tuple[Kept, ...]:
        return kept_with_rlimits(hard_processes=False)

    def launch(self, room: Room, rx: int, tx: int) -> Launch:
        scratch = Path(tempfile.mkdtemp(prefix="orch-unsafe-")).resolve()
        return Launch(
            argv=shared.interpreter_argv(boot_source(), rx, tx),
            env={**shared.environment(str(scratch)), **room.environment},
            settings={
                "pid_namespace": False,
                "alone": False,
                "confine": None,
                "rlimits": shared.rlimits(room.limits, count_processes=False),
                "scratch": str(scratch),
            },
            workspace=str(room.workspace),
            packages=str(room.packages) if room.packages else None,
            cwd=room.workspace,
            scratch=scratch,
            aliases={**shared.python_aliases(), **shared.package_aliases(room), str(scratch): "/tmp"},
        )
