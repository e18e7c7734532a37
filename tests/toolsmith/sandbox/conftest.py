"""Sandboxes for the tests here: every test that takes `backend` runs on each backend that works."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from toolsmith.sandbox import Backend, Limits, SandboxExecutor, SandboxUnavailable, choose_backend

MakeSandbox = Callable[..., SandboxExecutor]


@pytest.fixture(params=["bubblewrap", "landlock"])
def backend(request: pytest.FixtureRequest) -> Backend:
    try:
        return choose_backend(request.param)
    except SandboxUnavailable as error:
        pytest.skip(f"{request.param} does not work on this machine: {error}")


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    folder = tmp_path / "workspace"
    folder.mkdir()
    return folder


@pytest.fixture
def make_sandbox(backend: Backend, workspace: Path) -> Iterator[MakeSandbox]:
    made: list[SandboxExecutor] = []

    def make(writable: bool = True, given: dict[str, Any] | None = None, **limits: Any) -> SandboxExecutor:
        bounds = Limits(**{"wall_s": 10.0, **limits})
        made.append(
            SandboxExecutor(workspace, limits=bounds, backend=backend, writable=writable, **(given or {}))
        )
        return made[-1]

    yield make
    for sandbox in made:
        sandbox.cleanup()


@pytest.fixture
def sandbox(make_sandbox: MakeSandbox) -> SandboxExecutor:
    return make_sandbox()
