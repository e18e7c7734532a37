"""What a provider's server may send: how much, from where, and what it may say of its usage."""

import gzip
import json
import threading
import time
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from command import Orch
from endpoint import Endpoint
from scripted_model import Cast, answered

from orchestrator_cli.cancellation import Cancellation
from orchestrator_cli.errors import ConfigError, ProviderError, RequestRefused
from orchestrator_cli.http_bodies import PIECE_BYTES, BodyDecoder, BodyRefused
from orchestrator_cli.models import wire
from orchestrator_cli.models.client import LiteLLMModel
from orchestrator_cli.models.discovery import find_model
from orchestrator_cli.models.library import prepare_for_call
from orchestrator_cli.models.model import Completion, ModelRequest

pytestmark = pytest.mark.filterwarnings("ignore")  # LiteLLM's own, in this process

HUGE = 300_000_000
ROOM = 60_000_000
"""More than any of these needs, and far below what an unbounded body would take."""
USAGES: tuple[Any, ...] = (
    {"prompt_tokens": -5, "completion_tokens": 2, "total_tokens": -3},
    {"prompt_tokens": float("nan"), "completion_tokens": 2, "total_tokens": 3},
    {"prompt_tokens": float("inf"), "completion_tokens": 2, "total_tokens": 3},
    {"prompt_tokens": "many", "completion_tokens": 2, "total_tokens": 3},
    {"prompt_tokens": 10**30, "completion_tokens": 1e300, "total_tokens": 3},
    {"prompt_tokens": 3, "completion_tokens": 2, "completion_tokens_details": {"reasoning_tokens": -(10**9)}},
    "none",
    [1],
    None,
)

Send = Callable[[BaseHTTPRequestHandler], None]


@contextmanager
def server(send: Send) -> Iterator[str]:
    """A server whose answers `send` writes."""

    class Requests(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Silent."""

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("content-length", 0)))
            try:
                send(self)
            except ConnectionError:
                self.close_connection = True

        do_GET = do_POST  # noqa: N815

    with ThreadingHTTPServer(("127.0.0.1", 0), Requests) as made:
        threading.Thread(target=made.serve_forever, args=(0.05,), daemon=True).start()
        yield f"http://127.0.0.1:{made.server_address[1]}/v1"
        made.shutdown()


def sending(body: bytes, status: int = 200, **headers: str) -> Send:
    def send(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        for name, value in ({"content_type": "application/json"} | headers).items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("content-length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    return send


def ask(url: str, monkeypatch: pytest.MonkeyPatch, *, stream: bool = False) -> Completion:
    return asked(LiteLLMModel(Cancellation(), timeout=60.0), url, monkeypatch, stream=stream)


def asked(
    model: LiteLLMModel, url: str, monkeypatch: pytest.MonkeyPatch, *, stream: bool = False
) -> Completion:
    monkeypatch.setenv("OPENAI_BASE_URL", url)
    monkeypatch.setenv("OPENAI_API_KEY", "test-key")
    request = ModelRequest(
        role="agent", model="openai/gpt-5-mini", messages=({"role": "user", "content": "Say it."},)
    )
    return model.complete(request, (lambda _: None) if stream else None)


def bomb(*, encodings: int = 1) -> bytes:
    """A body of 300 MB in some 300 KB, or in less if it is compressed twice."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 16 + zlib.MAX_WBITS)
    block = b" " * 10_000_000
    body = b"".join(packer.compress(block) for _ in range(HUGE // len(block))) + packer.flush()
    return gzip.compress(body) if encodings == 2 else body


# --- length


TEXT = "".join(f"{n} " for n in range(20_000))


def test_a_reply_that_is_too_long_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    body = whole(TEXT * (wire.REPLY_BYTES // len(TEXT) + 1))
    with server(sending(body)) as url, pytest.raises(RequestRefused) as caught:
        ask(url, monkeypatch)
    assert "10,000,000" in caught.value.message
    assert caught.value.unsure


def test_a_stream_that_is_too_long_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    body = b"".join(map(chunk, [TEXT] * (wire.REPLY_BYTES // len(TEXT) + 1)))
    with server(sending(body, content_type="text/event-stream")) as url:
        reply = ask(url, monkeypatch, stream=True)
    assert reply.finish_reason == "length"
    assert len(reply.text) < wire.REPLY_BYTES / 10


def test_a_stream_that_outlasts_its_time_is_cut_and_the_user_hears_what_to_set(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def slowly(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("content-type", "text/event-stream")
        handler.end_headers()
        for n in range(600):
            handler.wfile.write(chunk(f"word {n}, "))
            time.sleep(0.1)

    prepare_for_call()  # or importing takes the time
    notices: list[str] = []
    model = LiteLLMModel(Cancellation(), timeout=4.0, notice=notices.append)
    with server(slowly) as url:
        asked(model, url, monkeypatch)
        reply = asked(model, url, monkeypatch)
    assert reply.finish_reason == "time"
    assert reply.text.startswith("word 0, word 1, ")
    assert 3 < reply.seconds < 4.5
    assert len(notices) == 1
    assert "ORCH_MODEL_TIMEOUT" in notices[0]


def whole(text: str) -> bytes:
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
    row = {"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}
    return json.dumps(row).encode()


def chunk(text: str) -> bytes:
    choice = {"index": 0, "finish_reason": None, "delta": {"content": text}}
    row = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}
    return b"data: " + json.dumps(row).encode() + b"\n\n"


@pytest.mark.parametrize("kind", ["application/json", "text/event-stream"])
@pytest.mark.parametrize("encodings", [1, 2])
def test_a_compressed_reply_does_not_fill_the_memory(
    monkeypatch: pytest.MonkeyPatch, kind: str, encodings: int
) -> None:
    with server(sending(b"{}", 500)) as url, pytest.raises(ProviderError):
        ask(url, monkeypatch)  # what is imported for the first error is not counted
    encoding = ", ".join(["gzip"] * encodings)
    with server(sending(bomb(encodings=encodings), content_type=kind, content_encoding=encoding)) as url:
        tracemalloc.start()
        try:
            with pytest.raises(RequestRefused):
                ask(url, monkeypatch, stream=kind != "application/json")
            assert tracemalloc.get_traced_memory()[1] < ROOM
        finally:
            tracemalloc.stop()


def test_a_compressed_reply_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    with server(sending(gzip.compress(whole("hello")), content_encoding="gzip")) as url:
        assert ask(url, monkeypatch).text == "hello"


@pytest.mark.parametrize("bits", [zlib.MAX_WBITS, -zlib.MAX_WBITS])
def test_both_forms_of_deflate_are_decoded_in_small_pieces(bits: int) -> None:
    text = b"0123456789" * 100_000
    packer = zlib.compressobj(9, zlib.DEFLATED, bits)
    packed = packer.compress(text) + packer.flush()
    decoder = BodyDecoder("deflate")
    pieces = [part for at in range(0, len(packed), 7) for part in decoder.read(packed[at : at + 7])]
    assert b"".join(pieces) == text
    assert max(map(len, pieces)) <= PIECE_BYTES


def test_a_body_in_an_encoding_that_was_not_asked_for_is_refused() -> None:
    with pytest.raises(BodyRefused):
        BodyDecoder("br")
    with pytest.raises(BodyRefused):
        list(BodyDecoder("gzip").read(b"not gzip at all"))


# --- redirects


def test_a_key_is_not_taken_to_another_host(monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[str] = []

    def there(handler: BaseHTTPRequestHandler) -> None:
        heard.append(str(handler.headers["authorization"]))
        sending(b"{}")(handler)

    with server(there) as other, server(sending(b"", 307, location=f"{other}/chat/completions")) as url:
        with pytest.raises(ProviderError) as caught:
            ask(url, monkeypatch)
        assert "redirects to" in caught.value.message
        with pytest.raises(ConfigError):
            find_model()
    assert heard == []


def test_redirects_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def again(handler: BaseHTTPRequestHandler) -> None:
        asked.append(handler.path)
        sending(b"", 307, location=f"/v1/{len(asked)}")(handler)

    with server(again) as url, pytest.raises(ProviderError):
        ask(url, monkeypatch)
    assert len(asked) == wire.MAX_REDIRECTS + 1


# --- usage


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("usage", USAGES, ids=repr)
def test_a_usage_that_cannot_be_true_is_counted_here(
    monkeypatch: pytest.MonkeyPatch, usage: object, stream: bool
) -> None:
    monkeypatch.setattr("endpoint._usage", lambda _request, _reply: usage)
    with Endpoint(lambda _request, _n: "one two three four five six") as endpoint:
        reply = ask(endpoint.url, monkeypatch, stream=stream)
    assert reply.text == "one two three four five six"
    assert 1 <= reply.usage.prompt_tokens <= 50
    assert 1 <= reply.usage.completion_tokens <= 50
    assert 0 < reply.usage.cost < 0.01


def test_a_true_usage_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    usage = {"prompt_tokens": 123, "completion_tokens": 45, "total_tokens": 168, "service_tier": "default"}
    monkeypatch.setattr("endpoint._usage", lambda _request, _reply: usage)
    with Endpoint(lambda _request, _n: "hello") as endpoint:
        replies = [ask(endpoint.url, monkeypatch, stream=stream) for stream in (False, True)]
    assert [(r.usage.prompt_tokens, r.usage.completion_tokens) for r in replies] == [(123, 45)] * 2


def test_a_limit_holds_against_a_usage_below_zero(
    orch: Orch, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = {"prompt_tokens": -(10**6), "completion_tokens": -(10**6), "total_tokens": -2 * 10**6}
    monkeypatch.setattr("endpoint._usage", lambda _request, _reply: usage)
    endpoint.reply = Cast(planner=[answered("hello")])
    done = orch("ask", "--json", "Hello?")
    assert done.code == 0
    assert done.envelope["usage"]["prompt_tokens"] > 0
