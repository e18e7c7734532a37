"""The self-test: all attempts of attempts.py, made by the executor that agents use."""

from pathlib import Path
from typing import Any

from toolsmith.sandbox.backend import Backend
from toolsmith.sandbox.executor import SandboxExecutor
from toolsmith.sandbox.limits import Limits
from toolsmith.sandbox.surroundings import WALL_S, SelfTest, attempt_all


def self_test(backend: Backend) -> SelfTest:
    """Makes all attempts in a sandbox of `backend`. Raises SandboxError, SandboxUnavailable."""

    def run(workspace: Path, variables: dict[str, Any], code: str) -> dict[str, bool]:
        with SandboxExecutor(workspace, limits=Limits(wall_s=WALL_S), backend=backend) as sandbox:
            sandbox.send_variables(variables)
            found: dict[str, bool] = sandbox(code).output
            return found

    return attempt_all(run)
