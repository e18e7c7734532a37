"""Model servers at their usual port: whose they are decides whether they are sent anything."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from command import Orch
from endpoint import Endpoint
from scripted_model import MODELS, answered

from orchestrator_cli.durable.peers import listeners
from orchestrator_cli.models.local_servers import OLLAMA, USUAL, check_stranger, owners_at, strangers_at

SYSTEM, PERSON = 250, 54_321
by_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")
SCRIPT = Path(__file__).with_name("usual_port.py")
BARE = {**dict.fromkeys(MODELS, ""), "OPENAI_BASE_URL": "", "OPENAI_API_KEY": ""}
LISTEN = (
    "import os, socket as s, sys, time; os.setuid(int(sys.argv[1]))\n"
    "l = s.create_server((sys.argv[2], 0), family=s.AF_INET6 if ':' in sys.argv[2] else s.AF_INET)\n"
    "print(l.getsockname()[1], flush=True); time.sleep(60)"
)


@by_root
@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0", "::1", "::"])
@pytest.mark.parametrize("user", [0, SYSTEM, PERSON])
def test_whose_a_listener_is(address: str, user: int) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", LISTEN, str(user), address], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        place = f"http://127.0.0.1:{port}/v1"
        assert (listeners(port), bool(strangers_at(place))) == ({user}, user == PERSON)
        assert bool(owners_at(place))
    finally:
        process.kill()
        process.communicate()
    assert listeners(port) == frozenset()


def test_every_server_that_litellm_finds_by_itself_is_known() -> None:
    assert {"ollama", "ollama_chat", "llamafile", "xinference", "lemonade"} <= USUAL.keys()


def test_a_model_that_no_one_has_set_is_named_with_its_address(orch: Orch, endpoint: Endpoint) -> None:
    endpoint.models = [{"id": "found"}]
    endpoint.reply = lambda _, n: answered("Yes.")
    env = {**BARE, "OPENAI_BASE_URL": endpoint.url, "OPENAI_API_KEY": "none", "ORCH_MODEL": ""}
    done = orch("ask", "Is it?", **env)
    assert done.code == 0, done.err
    first = done.err.splitlines()[0]
    address = endpoint.url.removesuffix("/v1")
    assert ("openai/found" in first, address in first) == (True, True)
    assert address in (orch.workspace / "fileLog.md").read_text()
    assert address in orch.events("RunStarted")[0]["found"]
    done = orch("ask", "Is it?", **(env | {"ORCH_MODEL": "openai/found"}))
    assert (done.code, "asks" in done.err.splitlines()[0]) == (0, False)


# --- on a machine of its own, whose usual ports are free


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "apart").mkdir(mode=0o700)
    return tmp_path / "apart"


def on_machine(user: int, home: Path) -> tuple[dict[str, tuple[int, str]], list[str]]:
    done = subprocess.run(
        [
            "unshare",
            "--net",
            sys.executable,
            str(Path(__file__).with_name("usual_port.py")),
            str(user),
            str(home),
        ],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    said, heard = json.loads(done.stdout)
    return said, heard


@by_root
@pytest.mark.skipif(shutil.which("unshare") is None, reason="unshare is not there")
def test_a_neighbour_does_not_become_the_model(home: Path) -> None:
    said, heard = on_machine(PERSON, home)
    assert ([code for code, _ in said.values()], heard) == ([3, 3, 3], [])
    assert all(OLLAMA.variable in text for _, text in said.values())
    assert all(str(PERSON) in text for _, text in said.values())


@pytest.mark.thorough
@by_root
@pytest.mark.skipif(shutil.which("unshare") is None, reason="unshare is not there")
def test_a_server_of_the_system_is_found(home: Path) -> None:
    said, heard = on_machine(SYSTEM, home)
    code, text = said["init"]
    assert (code, "/api/tags" in heard, "ollama_chat/qwen3" in text) == (0, True, True)


def test_an_address_that_is_set_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(OLLAMA.variable, "http://127.0.0.1:1")
    check_stranger("ollama_chat/qwen3")
