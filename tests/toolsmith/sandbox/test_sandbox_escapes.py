"""Attempts to break out of each backend, and the same attempts without one, to prove that they would work.

Attempts that end in a crash, a flood, a bomb or a forged frame are behaviour of limits and frames: see
test_sandbox_limits.py, test_sandbox_frames.py and test_sandbox_steps.py.
"""

import ast
import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from toolsmith.sandbox import Limits, SandboxExecutor, SandboxUnavailable, choose_backend

SOURCE = Path(__file__).with_name("escapes.py").read_text(encoding="utf-8")
ATTEMPTS = [
    node.name
    for node in ast.parse(SOURCE).body
    if isinstance(node, ast.FunctionDef) and [argument.arg for argument in node.args.args] == ["at"]
]
ONLY_ROOT_ESCAPES = {
    "read_the_password_hashes",
    "open_kernel_settings_and_devices",
    "raise_the_own_limits",
    "become_another_user",
    "have_capabilities",
}
DEPENDS_ON_THE_SYSTEM = {"trace_another_process", "take_a_descriptor_of_another_process", "make_namespaces"}


@pytest.fixture(scope="module")
def surroundings() -> Iterator[dict[str, Any]]:
    """Things on the host worth reaching. The listeners need not accept: connections succeed anyway."""
    with ExitStack() as stack:
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        patch.setenv("ORCH_CANARY_KEY", "canary-env")
        outside = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="orch-outside-")))
        key_folder = Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix=".orch-key-", dir=Path.home()))
        )
        (key_folder / "id").write_text("canary-key")
        (outside / "file").write_text("x")
        workspace = outside / "workspace"
        workspace.mkdir()
        address = socket.gethostbyname_ex(socket.gethostname())[2][0]
        loopback, anywhere = socket.create_server(("127.0.0.1", 0)), socket.create_server(("0.0.0.0", 0))
        datagram = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        datagram.bind(("127.0.0.1", 0))
        abstract = f"orch-test-{os.getpid()}"
        local = [socket.socket(socket.AF_UNIX) for _ in range(2)]
        local[0].bind(str(workspace / "host.sock"))
        local[1].bind("\0" + abstract)
        local_datagram = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        local_datagram.bind(str(workspace / "datagram.sock"))
        for listener in local:
            listener.listen()
        for held in (loopback, anywhere, datagram, local_datagram, *local):
            stack.enter_context(held)
        victim = stack.enter_context(subprocess.Popen(["sleep", "99"], env={"K": "canary-victim"}))
        stack.callback(victim.kill)
        yield {
            **{"home": str(Path.home()), "key": f"{key_folder.name}/id", "outside": str(outside)},
            **{"planted": f"orch-planted-{os.getpid()}", "workspace": str(workspace)},
            **{"tcp": loopback.getsockname()[1], "tcp_any": anywhere.getsockname()[1], "address": address},
            **{"udp": datagram.getsockname()[1], "abstract": abstract},
            **{"victim": victim.pid, "host_pid": os.getpid()},
        }


@pytest.fixture(scope="module", params=["bubblewrap", "landlock"])
def attacked(request: pytest.FixtureRequest, surroundings: dict[str, Any]) -> Iterator[SandboxExecutor]:
    """One sandbox for all attempts: what one of them opens is there for the next."""
    try:
        backend = choose_backend(request.param)
    except SandboxUnavailable as error:
        pytest.skip(f"{request.param} does not work on this machine: {error}")
    workspace = Path(surroundings["workspace"])
    inside = "/workspace" if backend.name == "bubblewrap" else str(workspace)
    with SandboxExecutor(workspace, limits=Limits(wall_s=10), backend=backend) as sandbox:
        sandbox.send_variables({"at": {**surroundings, "workspace": inside}})
        sandbox(SOURCE)
        yield sandbox


@pytest.mark.parametrize("name", ATTEMPTS)
def test_the_attempt_is_stopped(attacked: SandboxExecutor, name: str) -> None:
    outcome = attacked(f"attempt({name!r}, at)").output
    assert outcome.startswith("stopped: "), outcome


@pytest.mark.parametrize("name", ATTEMPTS)
def test_the_same_attempt_works_without_a_sandbox(surroundings: dict[str, Any], name: str) -> None:
    if name in ONLY_ROOT_ESCAPES and os.geteuid() != 0:
        pytest.skip("only root can do this on the host")
    code = f"{SOURCE}\nimport json\nprint(attempt({name!r}, json.loads(sys.argv[1])))"
    command = [sys.executable, "-c", code, json.dumps(surroundings)]
    with Path(surroundings["outside"], "file").open() as lent:
        ran = subprocess.run(command, stdin=lent, capture_output=True, text=True, check=True, timeout=20)
    if name in DEPENDS_ON_THE_SYSTEM and ran.stdout.startswith("stopped"):
        pytest.skip(f"this system forbids it to everyone: {ran.stdout.strip()}")
    assert ran.stdout.startswith("escaped: "), ran.stdout


def test_the_host_is_as_it_was_afterwards(attacked: SandboxExecutor, surroundings: dict[str, Any]) -> None:
    assert Path(surroundings["outside"], "file").read_text() == "x"
    assert sorted(path.name for path in Path(surroundings["outside"]).iterdir()) == ["file", "workspace"]
    os.kill(surroundings["victim"], 0)
