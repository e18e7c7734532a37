"""`orch init`: what a first start finds, proposes, tries and writes, with model servers on loopback."""

import json
import tomllib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from threading import Thread
from typing import Any

import pytest
from command import Done, Orch
from endpoint import Endpoint, LoopbackServer, fault
from scripted_model import MODELS

from orchestrator_cli.models.default_models import FAMILIES, default_model

DEAD = "http://127.0.0.1:9"
BARE = {
    **dict.fromkeys(MODELS, ""),
    "OPENAI_BASE_URL": "",
    "OPENAI_API_KEY": "",
    "OLLAMA_API_BASE": DEAD,
    "LLAMAFILE_API_BASE": f"{DEAD}/v1",
}
KEY = "sk-never-written-1234567890"


class Ollama(LoopbackServer):
    """As much of Ollama as a listing and a chat need."""

    def __init__(self) -> None:
        super().__init__(_OllamaRequests)
        self.names = ["nomic-embed-text:latest", "qwen3:4b"]
        self.heard: list[tuple[str, str | None]] = []
        """The path and the authorization of each request."""
        self.url = f"http://127.0.0.1:{self.server_address[1]}"


class _OllamaRequests(BaseHTTPRequestHandler):
    server: Ollama

    def log_message(self, *_: object) -> None:
        """Silent."""

    def do_GET(self) -> None:
        self._send({"models": [{"name": name} for name in self.server.names]})

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        message = {"role": "assistant", "content": "yes"}
        counts = {"done_reason": "stop", "prompt_eval_count": 9, "eval_count": 1}
        rows = [{"message": message, "done": False}, {"message": message | {"content": ""}, "done": True}]
        if self.path.endswith("/api/show"):
            self._send({"details": {}, "model_info": {}, "template": ""})
        else:
            self._send(*({"model": "m", "created_at": "2026-01-01T00:00:00Z", **r, **counts} for r in rows))

    def _send(self, *rows: dict[str, Any]) -> None:
        self.server.heard.append((self.path, self.headers["authorization"]))
        data = b"".join(json.dumps(row).encode() + b"\n" for row in rows)
        self.send_response(200)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


@pytest.fixture
def ollama() -> Iterator[Ollama]:
    with Ollama() as server:
        Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def llama() -> Iterator[Endpoint]:
    with Endpoint(lambda _, n: "yes") as server:
        server.models = [{"id": "/models/qwen.gguf", "owned_by": "llamacpp"}]
        yield server


def init(orch: Orch, *args: str, typed: str | None = None, **env: str) -> Done:
    if typed is None:
        return orch("init", *args, **{**BARE, **env})
    return orch.at_terminal("init", *args, typed=typed, **{**BARE, **env})


def kept(orch: Orch) -> str | None:
    place = orch.home / "orch.toml"
    return tomllib.loads(place.read_text()).get("model") if place.exists() else None


def test_nothing_found_says_what_to_do(orch: Orch) -> None:
    done = init(orch)
    assert done.code == 3
    for part in (*FAMILIES, "ollama pull", "llama-server", "OPENAI_BASE_URL", "orch demo"):
        assert part in done.error
    assert kept(orch) is None


def test_a_run_and_the_loop_name_init_if_there_is_no_model(orch: Orch) -> None:
    asked = orch("ask", "Do it.", **BARE)
    assert (asked.code, "orch init" in asked.error) == (3, True)
    looped = orch(stdin="Do it.\n", **BARE)
    assert (looped.code, "orch init" in looped.err) == (3, True)


def test_a_key_is_enough_and_is_never_written(orch: Orch) -> None:
    done = init(orch, ANTHROPIC_API_KEY=KEY, MISTRAL_API_KEY=KEY)
    assert (done.code, kept(orch)) == (0, default_model("ANTHROPIC_API_KEY").model)
    assert "MISTRAL_API_KEY" in done.err
    assert "sandbox" in done.err
    assert KEY not in done.err + done.out + (orch.home / "orch.toml").read_text()


def test_comments_of_the_file_stay(orch: Orch) -> None:
    place = orch.home / "orch.toml"
    place.write_text("# mine\nmax_calls = 5 # few\n")
    assert init(orch, MISTRAL_API_KEY=KEY).code == 0
    assert place.read_text().startswith("# mine\nmax_calls = 5 # few\nmodel = ")


def test_the_model_is_asked_only_with_try(orch: Orch, endpoint: Endpoint) -> None:
    endpoint.reply = lambda _, n: "yes"
    env = {"OPENAI_BASE_URL": endpoint.url, "OPENAI_API_KEY": KEY}
    assert (init(orch, "-y", **env).code, endpoint.arrived) == (0, 0)
    done = init(orch, "-y", "--try", **env)
    assert (done.code, endpoint.arrived, kept(orch)) == (0, 1, "openai/found")
    assert "price" in done.err
    assert "yes" in done.err
    assert KEY not in done.err


def test_a_model_that_does_not_answer_is_not_written(orch: Orch, endpoint: Endpoint) -> None:
    endpoint.reply = lambda _, n: fault(401, "wrong key")
    env = {"OPENAI_BASE_URL": endpoint.url, "OPENAI_API_KEY": KEY}
    assert (init(orch, "--try", **env).code, endpoint.arrived, kept(orch)) == (4, 1, None)
    done = init(orch, typed="1\ny\nn\n1\nn\n", **env)
    assert (done.code, endpoint.arrived, kept(orch)) == (0, 2, "openai/found")


def test_what_lacks_something_is_passed_over(orch: Orch, endpoint: Endpoint, ollama: Ollama) -> None:
    env = {"OPENAI_BASE_URL": endpoint.url, "OLLAMA_API_BASE": ollama.url}
    assert (init(orch, **env).code, kept(orch)) == (0, "ollama_chat/qwen3:4b")
    done = init(orch, "-m", "openai/found", OPENAI_BASE_URL=endpoint.url)
    assert (done.code, "OPENAI_API_KEY" in done.error) == (3, True)


def test_local_servers_are_found_asked_and_given_no_key(orch: Orch, ollama: Ollama, llama: Endpoint) -> None:
    env = {"OLLAMA_API_BASE": ollama.url, "LLAMAFILE_API_BASE": llama.url}
    done = init(orch, "--try", **env, OPENAI_API_KEY=KEY, OPENAI_BASE_URL=f"{DEAD}/v1")
    assert (done.code, kept(orch)) == (0, "ollama_chat/qwen3:4b"), done.err
    assert {path for path, _ in ollama.heard} >= {"/api/tags", "/api/chat"}
    assert {key for _, key in ollama.heard} | llama.keys == {None}
    (orch.home / "orch.toml").unlink()
    done = init(orch, typed="2\ny\n", **env)
    assert (done.code, kept(orch)) == (0, "llamafile//models/qwen.gguf")
    assert [one.model for one in llama.exchanges] == ["/models/qwen.gguf"]


def test_another_program_at_that_port_is_not_taken_for_llama_cpp(orch: Orch, llama: Endpoint) -> None:
    llama.models = [{"id": "x", "object": "model"}]
    assert init(orch, LLAMAFILE_API_BASE=llama.url).code == 3


@pytest.mark.parametrize(
    ("typed", "model"),
    [
        ("\nn\n", "anthropic"),
        ("2\nn\n", "mistral"),
        ("deepseek/deepseek-chat\n2\nn\n", "mistral"),  # its key is not set
        ("nowhere/x\nmistral/other\nn\n", "mistral/other"),
        ("http://x/y\n1\nn\n", "anthropic"),
    ],
)
def test_a_person_chooses(orch: Orch, typed: str, model: str) -> None:
    done = init(orch, typed=typed, ANTHROPIC_API_KEY=KEY, MISTRAL_API_KEY=KEY)
    assert done.code == 0, done.out
    assert (kept(orch) or "").startswith(model)
    assert KEY not in done.out


def test_what_is_set_stays_without_a_question(orch: Orch) -> None:
    place = orch.home / "orch.toml"
    place.write_text("model = 'mistral/mine' # mine\n")
    assert init(orch, "-y", ANTHROPIC_API_KEY=KEY, MISTRAL_API_KEY=KEY).code == 0
    assert place.read_text() == "model = 'mistral/mine' # mine\n"
    (orch.workspace / "orch.toml").write_text("model = 'mistral/theirs'\n")
    orch.trust()
    place.unlink()
    done = init(orch, "-y", ANTHROPIC_API_KEY=KEY, MISTRAL_API_KEY=KEY)
    assert kept(orch) == default_model("ANTHROPIC_API_KEY").model
    assert "mistral/theirs" in done.err  # which counts here
