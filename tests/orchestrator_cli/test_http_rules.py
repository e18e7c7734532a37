"""What every HTTP client keeps to: where it goes, which logins it has, and what a reply may take."""

import gzip
import json
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
import requests
from command import Orch
from endpoint import Endpoint
from scripted_model import Cast, answered

from memory import FACT, MemoryUnavailable, Scope, open_store
from orchestrator_cli.http_bodies import BodyRefused, EventBound
from orchestrator_cli.http_clients import httpx_options, requests_session
from orchestrator_cli.http_requests import is_elsewhere, send
from orchestrator_cli.models.library import prepare_for_call
from orchestrator_cli.models.search import WebSearch

MOST, SECONDS = 100_000, 0.5
NETRC = "default login me password NETRC-SECRET\n"
ZEROS = gzip.compress(b"0" * 300_000_000, 1)

Answer = Callable[["Handler"], None]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Silent."""


@dataclass
class Server:
    """A server with set answers, which keeps what it was sent."""

    url: str
    seen: list[tuple[str, dict[str, str]]] = field(default_factory=list)


@pytest.fixture
def serve() -> Iterator[Callable[[Answer], Server]]:
    servers = list[ThreadingHTTPServer]()

    def start(answer: Answer) -> Server:
        class Requests(Handler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers.get("content-length", 0)))
                found.seen.append((self.path, {k.lower(): v for k, v in self.headers.items()}))
                try:
                    answer(self)
                except ConnectionError:
                    self.close_connection = True

            do_GET = do_PATCH = do_DELETE = do_POST  # noqa: N815

        made = ThreadingHTTPServer(("127.0.0.1", 0), Requests)
        threading.Thread(target=made.serve_forever, args=(0.05,), daemon=True).start()
        servers.append(made)
        found = Server(f"http://127.0.0.1:{made.server_address[1]}")
        return found

    yield start
    for one in servers:
        one.shutdown()
        one.server_close()


def reply(body: bytes = b"{}", status: int = 200, **headers: str) -> Answer:
    def answer(handler: Handler) -> None:
        handler.send_response(status)
        for name, value in {"content-length": str(len(body)), **headers}.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(body)

    return answer


def trickle(head: bytes) -> Answer:
    def answer(handler: Handler) -> None:
        handler.wfile.write(head)
        for _ in range(100):
            handler.wfile.write(b"x")
            handler.wfile.flush()
            time.sleep(0.1)

    return answer


IN_HEADERS = trickle(b"HTTP/1.1 200 OK\r\nx: ")
IN_BODY = trickle(b"HTTP/1.1 200 OK\r\ncontent-length: 900\r\n\r\n")
OPEN_END = trickle(b"HTTP/1.1 200 OK\r\n\r\n")
ANSWERS = pytest.mark.parametrize("answer", [IN_HEADERS, IN_BODY, OPEN_END], ids=["headers", "body", "open"])


def by_urllib(url: str, method: str = "POST") -> bytes:
    return send(urllib.request.Request(url, b"{}", method=method), seconds=SECONDS, most=MOST)


def by_httpx(url: str, method: str = "POST") -> bytes:
    with httpx.Client(**httpx_options(MOST, SECONDS)) as client:
        return client.request(method, url).raise_for_status().content


def by_requests(url: str, method: str = "POST") -> bytes:
    with requests_session(SECONDS, MOST) as session:
        found: requests.Response = session.request(method, url)
        found.raise_for_status()
        return found.content


CLIENTS = pytest.mark.parametrize("ask", [by_urllib, by_httpx, by_requests])
Ask = Callable[..., bytes]
Serve = Callable[[Answer], Server]


@CLIENTS
@ANSWERS
def test_an_exchange_ends_in_time(ask: Ask, serve: Serve, answer: Answer) -> None:
    started = time.monotonic()
    with pytest.raises((OSError, httpx.TransportError, requests.RequestException)):
        ask(serve(answer).url)
    assert time.monotonic() - started < 5


@ANSWERS
def test_an_exchange_on_a_kept_connection_ends_in_time(serve: Serve, answer: Answer) -> None:
    server = serve(lambda handler: (reply() if handler.path == "/first" else answer)(handler))
    with httpx.Client(**httpx_options(MOST, SECONDS)) as client, requests_session(SECONDS, MOST) as session:
        for ask in (client.get, session.get):
            assert ask(f"{server.url}/first").status_code == 200
            time.sleep(SECONDS + 0.2)  # the limit of the first exchange is over
            assert ask(f"{server.url}/first").status_code == 200
            started = time.monotonic()
            with pytest.raises((httpx.TransportError, requests.RequestException, OSError)):
                ask(server.url)
            assert time.monotonic() - started < 5


@CLIENTS
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_what_is_posted_goes_nowhere_else(ask: Ask, serve: Serve, status: int) -> None:
    other = serve(reply())
    server = serve(reply(b"", status, location=f"{other.url}/x"))
    with pytest.raises((OSError, httpx.HTTPStatusError, requests.RequestException)):
        ask(server.url)
    assert (len(server.seen), other.seen) == (1, [])


def test_redirects_of_urllib_stay_on_the_origin(serve: Serve) -> None:
    other = serve(reply(b"other"))
    server = serve(
        lambda handler: {"/a": reply(b"", 302, location="/b"), "/b": reply(b"here")}.get(
            handler.path, reply(b"", 302, location=other.url)
        )(handler)
    )
    assert send(f"{server.url}/a", seconds=5) == b"here"
    for path, follows in (("/c", True), ("/a", False)):
        with pytest.raises(OSError, match="redirects"):
            send(f"{server.url}{path}", seconds=5, follows=follows)
    assert other.seen == []


@pytest.mark.parametrize(
    ("here", "there", "expected"),
    [
        ("http://a/x", "http://a/y", False),
        ("http://a:80/", "http://a/", False),
        ("http://a/", "https://a/", False),
        ("https://a/", "http://a/", True),
        ("http://a/", "http://a:81/", True),
        ("http://a/", "http://b/", True),
        ("http://a/", "http://a@b/", True),
        ("http://A/", "http://a/", False),
    ],
)
def test_origins(here: str, there: str, expected: bool) -> None:
    assert is_elsewhere(here, there) is expected


@CLIENTS
@pytest.mark.parametrize(
    "answer",
    [
        reply(b"0" * (MOST + 1)),
        reply(ZEROS, content_encoding="gzip"),
        reply(gzip.compress(ZEROS), content_encoding="gzip, gzip"),
        reply(b"", content_encoding="br"),
        reply(gzip.compress(b"") * 30_000, content_encoding="gzip"),
    ],
    ids=["long", "bomb", "twice", "other", "nothing"],
)
def test_a_body_is_bounded_as_sent_and_as_decoded(ask: Ask, serve: Serve, answer: Answer) -> None:
    try:
        found = ask(serve(answer).url)
    except (BodyRefused, OSError, httpx.TransportError):
        return
    assert len(found) <= MOST


@CLIENTS
def test_a_login_of_netrc_is_not_used_and_one_of_the_address_is(
    ask: Ask, serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".netrc").write_text(NETRC)
    (tmp_path / ".netrc").chmod(0o600)
    monkeypatch.setenv("HOME", str(tmp_path))
    server = serve(reply())
    ask(server.url)
    assert "authorization" not in server.seen[0][1]
    if ask is not by_urllib:  # which takes no login from an address
        ask(server.url.replace("//", "//ann:hunter22@"))
        assert server.seen[1][1]["authorization"] == "Basic YW5uOmh1bnRlcjIy"


@pytest.mark.parametrize("ask", [by_httpx, by_requests])
def test_the_proxy_of_the_environment_is_used(
    ask: Ask, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = serve(reply(b"by proxy"))
    for name in ("no_proxy", "NO_PROXY", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", proxy.url)
    assert ask("http://example.invalid/") == b"by proxy"


def test_headers_can_be_kept_from_a_client(serve: Serve) -> None:
    server = serve(reply(retry_after="99999"))
    with httpx.Client(**httpx_options(MOST, drops=["retry-after"])) as client:
        assert "retry-after" not in client.get(server.url).headers


def test_what_is_no_http_is_an_error_of_the_connection(serve: Serve) -> None:
    server = serve(
        lambda handler: [handler.wfile.write(b"SSH-2.0\r\n\r\n"), setattr(handler, "close_connection", True)]
    )
    with pytest.raises(OSError, match="HTTP"):
        send(server.url, seconds=5)


def test_each_event_of_a_stream_is_bounded() -> None:
    bound = EventBound(16)
    for piece in (b"data: 1\n", b"\ndata: 2\r\n", b"\r", b"\ndata: 3\n\ndata"):
        bound.count(piece)
    with pytest.raises(BodyRefused):
        bound.count(b": 1234567890123")


@pytest.mark.filterwarnings("ignore:Api key is used with an insecure connection")
def test_a_qdrant_server_cannot_fill_memory_and_keeps_its_key(serve: Serve, tmp_path: Path) -> None:
    server = serve(reply(ZEROS, content_encoding="gzip"))
    store = open_store(tmp_path, url=server.url, api_key="my-key", http=httpx_options(MOST))
    with pytest.raises(MemoryUnavailable):
        store.count(FACT, Scope())
    assert server.seen[0][1]["api-key"] == "my-key"


@pytest.mark.filterwarnings("ignore")  # LiteLLM's own, in this process
def test_a_search_ends_in_time(serve: Serve) -> None:
    prepare_for_call()
    search, started = WebSearch(serve(IN_BODY).url, seconds=SECONDS), time.monotonic()
    with pytest.raises(ValueError, match="could not be asked"):
        search("tea", 3)
    assert time.monotonic() - started < 5


# --- whole commands


def test_a_prefect_server_cannot_have_a_run_sent_elsewhere(
    orch: Orch, endpoint: Endpoint, serve: Serve
) -> None:
    other = serve(reply(b'{"id": "11111111-1111-4111-8111-111111111111"}', 201))

    def answer(handler: Handler) -> None:
        if handler.path.endswith("/admin/version"):
            return reply(b'"3.8.8"')(handler)
        if handler.path.partition("?")[0].endswith("/csrf-token"):
            return reply(b'{"detail": "CSRF protection is disabled."}', 422)(handler)
        return reply(b"", 307, location=f"{other.url}/admin")(handler)

    server = serve(answer)
    endpoint.reply = Cast(planner=[answered("hello")])
    done = orch("ask", "Say hello.", PREFECT_API_URL=f"{server.url}/api")
    assert (done.code, done.out) == (0, "hello\n")
    assert "307" in done.err
    assert any(path.endswith("/flows/") for path, _ in server.seen)
    assert other.seen == []


def test_the_time_of_a_run_counts_from_its_start(orch: Orch, endpoint: Endpoint, serve: Serve) -> None:
    server = serve(IN_HEADERS)
    done = orch("ask", "Say hello.", "--timeout", "1", PREFECT_API_URL=f"{server.url}/api")
    assert (done.code, endpoint.arrived) == (124, 0)
    assert done.seconds < 8
    assert "orch resume" not in done.err  # it has not begun


def test_a_service_that_redirects_gets_no_message_sent_on_and_no_login(
    orch: Orch, serve: Serve, tmp_path: Path
) -> None:
    other = serve(reply())
    server = serve(
        lambda handler: (
            reply(b"", 307, location=other.url)(handler) if handler.path == "/r" else reply()(handler)
        )
    )
    (tmp_path / ".netrc").write_text(NETRC)
    (tmp_path / ".netrc").chmod(0o600)
    where = server.url.removeprefix("http://")
    urls = [f"json://{where}/x", f"json://ann:hunter22@{where}/x", f"json://{where}/r?+X-Key=KEY"]
    (orch.home / "orch.toml").write_text(f"[notify]\nurls = {json.dumps(urls)}\n")
    done = orch("notify", "test", "--json", HOME=str(tmp_path))
    rows: Any = done.envelope
    assert [row["ok"] for row in rows] == [True, True, False]
    logins = sorted(headers.get("authorization", "") for _, headers in server.seen)
    assert logins == ["", "", "Basic YW5uOmh1bnRlcjIy"]
    assert other.seen == []


@pytest.mark.thorough
def test_a_service_cannot_fill_memory(orch: Orch, serve: Serve) -> None:
    server = serve(reply(ZEROS * 8, content_encoding="gzip"))
    where = server.url.removeprefix("http://")
    (orch.home / "orch.toml").write_text(f"[notify]\nurls = ['json://{where}/x']\n")
    rows: Any = orch("notify", "test", "--json").envelope
    assert [row["ok"] for row in rows] == [False]


@pytest.mark.parametrize("status", [200, 308])
def test_a_collector_gets_no_login_and_a_redirect_is_said(
    orch: Orch, endpoint: Endpoint, serve: Serve, tmp_path: Path, status: int
) -> None:
    other = serve(reply())
    server = serve(reply(b"", status, location=other.url))
    (tmp_path / ".netrc").write_text(NETRC)
    (tmp_path / ".netrc").chmod(0o600)
    endpoint.reply = Cast(planner=[answered("hello")])
    given = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": server.url,
        "OTEL_EXPORTER_OTLP_HEADERS": "authorization=Bearer%20mine",
    }
    done = orch("ask", "Say hello.", HOME=str(tmp_path), **given)
    assert done.code == 0, done.err
    assert {headers["authorization"] for _, headers in server.seen} == {"Bearer mine"}
    assert ("otel: the collector did not take the spans" in done.err) is (status == 308)
    assert other.seen == []
