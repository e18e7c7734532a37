"""Fetching pages: only from the domains that were allowed, only from public addresses."""

import contextlib
import gzip
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from orchestrator_cli.cancellation import Cancellation
from orchestrator_cli.errors import Interrupted
from orchestrator_cli.tools import web
from orchestrator_cli.tools.web import MAX_CHARS, web_tools
from toolsmith.sandbox.addresses import public_address

PAGES = {
    "/": (200, "text/html", "<html><script>evil()</script><h1>Title</h1><p>Word &amp; more</p></html>"),
    "/plain": (200, "text/plain; charset=utf-8", "just text"),
    "/long": (200, "text/plain", "x" * 3_000_000),
    "/gone": (404, "text/plain", "no"),
    "/moved": (302, "/plain", ""),
    "/away": (302, "http://elsewhere.net/", ""),
    "/inside": (302, "http://127.0.0.1/", ""),
    "/round": (302, "/round", ""),
}
MANY = 50_000
HOSTILE = {
    f"/hostile/{number}": (200, "text/html", unit * MANY)
    for number, unit in enumerate(("<a ", "<!--", "<script", "<textarea", "<b>", "<a href='x'>"))
}
"""Pages whose conversion takes minutes, or the whole stack."""
CODECS = {
    f"/as/{codec}": (200, f"text/plain; charset={codec}", "\xe4" + "a" * MANY + "-" + "b" * MANY)
    for codec in ("punycode", "idna", "utf-7", "unicode_escape", "zlib_codec", "uu", "undefined", "none.such")
}
ENCODED = {"/latin": (200, 'text/plain; charset="ISO-8859-1"', "\xe4"), **CODECS}
OK = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n"
GZIP = OK + b"content-encoding: gzip\r\n\r\n\x1f\x8b\x08"
DRIPS = {
    "/drip/body": (OK + b"\r\n", b"a"),
    "/drip/header": (OK + b"x-a: ", b"a"),
    "/drip/early": (b"", b"HTTP/1.1 103 Early Hints\r\n\r\n"),
    "/drip/name": (GZIP + b"\x08" + bytes(5) + b"\x03", b"a"),
    "/drip/empty": (GZIP + b"\x00" + bytes(5) + b"\x03", b"\x00\x00\x00\xff\xff"),
    "/drip/extension": (OK + b"transfer-encoding: chunked\r\n\r\n1;a=", b"a"),
    "/drip/trailer": (OK + b"transfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\nx-a: ", b"a"),
}
"""What a server begins with, and what it sends again and again."""
PAGES |= {**HOSTILE, **ENCODED}
BOMB = gzip.compress(gzip.compress(b" " * 200_000_000, 1))
"""200 MB in some kilobytes."""


class Site(BaseHTTPRequestHandler):
    asked: list[tuple[str, str]] = []  # noqa: RUF012 - one site per test module

    def log_message(self, *_: object) -> None:
        """Silent."""

    def do_GET(self) -> None:
        self.asked.append((self.headers["host"], self.path))
        if self.path.startswith("/bomb"):
            self._send_bomb()
            return
        if self.path in DRIPS:
            self._drip(*DRIPS[self.path])
            return
        status, kind, text = PAGES[self.path]
        self.send_response(status)
        self.send_header("location" if status == 302 else "content-type", kind)
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        try:
            self.wfile.write(text.encode("latin-1"))
        except ConnectionError:
            self.close_connection = True

    def _drip(self, head: bytes, drop: bytes) -> None:
        self.close_connection = True
        with contextlib.suppress(ConnectionError):
            self.wfile.write(head)
            for _ in range(200):
                self.wfile.write(drop)
                time.sleep(0.05)

    def _send_bomb(self) -> None:
        once = self.path == "/bomb"
        body = gzip.decompress(BOMB) if once else BOMB
        self.send_response(200)
        self.send_header("content-type", "text/plain")
        self.send_header("content-encoding", "gzip" if once else "gzip, gzip")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        with contextlib.suppress(ConnectionError):
            self.wfile.write(body)


Fetch = Callable[[str], str]


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with HTTPServer(("127.0.0.1", 0), Site) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


@pytest.fixture
def fetch(port: int) -> Fetch:
    """`fetch_url` for example.org, which resolves to the site, on the site's port."""
    tool = web_tools(
        ["example.org"],
        lambda host, _: "127.0.0.1",
        granted=lambda host, at: (host, at) == ("www.example.org", port),
    )["fetch_url"]
    return lambda path: str(tool(f"http://www.example.org:{port}{path}"))


@pytest.mark.parametrize("path", DRIPS)
def test_a_page_that_comes_in_drops_ends_after_its_time(
    fetch: Fetch, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.setattr(web, "WHOLE_S", 0.2)
    began = time.monotonic()
    with pytest.raises(ValueError, match=rf"{path} took longer than 0\.2 s"):
        fetch(path)
    assert time.monotonic() - began < 5


def test_a_page_is_read_as_markdown_and_text_as_it_is(fetch: Fetch, port: int) -> None:
    page = fetch("/")
    assert "Title" in page
    assert "Word & more" in page
    assert "<" not in page
    assert fetch("/plain") == "just text"
    assert Site.asked[-1] == (f"www.example.org:{port}", "/plain")


def test_what_a_script_says_is_not_read(fetch: Fetch) -> None:
    assert "evil" not in fetch("/")


def test_a_page_that_takes_too_much_to_convert_is_refused_in_time(
    fetch: Fetch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web, "CONVERSION", replace(web.CONVERSION, call_s=1.5))
    began = time.monotonic()
    for path in HOSTILE:
        with pytest.raises(ValueError, match="could not be converted"):
            fetch(path)
    assert time.monotonic() - began < 3 * len(HOSTILE)


def test_a_cancelled_run_does_not_wait_for_a_page(port: int) -> None:
    cancellation = Cancellation()
    tool = web_tools(
        [], lambda host, _: "127.0.0.1", granted=lambda host, at: True, cancellation=cancellation
    )["fetch_url"]
    threading.Timer(0.5, cancellation.cancel, [Interrupted("the end")]).start()
    began = time.monotonic()
    with pytest.raises(Interrupted):
        tool(f"http://www.example.org:{port}/hostile/0")
    assert time.monotonic() - began < 4


def test_a_page_is_read_in_an_encoding_of_pages_or_as_utf_8(fetch: Fetch) -> None:
    assert fetch("/latin") == "\xe4"
    began = time.monotonic()
    assert {fetch(path)[:3] for path in CODECS} == {"\ufffdaa"}
    assert time.monotonic() - began < 5


def test_a_long_page_is_cut(fetch: Fetch) -> None:
    assert len(fetch("/long")) == MAX_CHARS


def test_a_redirect_is_followed_on_the_domain_and_nowhere_else(fetch: Fetch) -> None:
    assert fetch("/moved") == "just text"
    for path in ("/away", "/inside"):
        with pytest.raises(ValueError, match=r"is not allowed: allowed are example\.org"):
            fetch(path)
    with pytest.raises(ValueError, match="redirects more than"):
        fetch("/round")


def test_a_fault_of_the_site_is_said(fetch: Fetch) -> None:
    with pytest.raises(ValueError, match="answered 404"):
        fetch("/gone")


@pytest.mark.parametrize(
    "url",
    [
        "http://elsewhere.net/",
        "http://notexample.org/",
        "http://example.org.evil.net/",
        "http://evil.net/?example.org",
        "http://example.org@evil.net/",
        "http://127.0.0.1/",
        "http://example.org:22/",
        "http://www.example.org:8080/",
        "https://example.org:6379/",
        "file:///etc/passwd",
        "ftp://example.org/",
        "example.org",
        "",
    ],
)
def test_another_address_is_refused_before_it_is_resolved(url: str) -> None:
    def resolve(host: str, port: int) -> str:
        raise AssertionError(host)

    with pytest.raises(ValueError, match=r"is not allowed|is no http or https address"):
        web_tools(["example.org"], resolve)["fetch_url"](url)


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "169.254.169.254", "::1", "fe80::1", "fec0::1", "3fff::1", "192.88.99.1", "localhost"],
)
def test_an_address_that_is_not_public_is_refused(host: str) -> None:
    with pytest.raises(ValueError, match="not a public address"):
        public_address(host, 80)


def test_a_domain_of_the_setting_is_reached_on_the_ports_of_http() -> None:
    tried: list[tuple[str, int]] = []

    def resolve(host: str, port: int) -> str:
        tried.append((host, port))
        raise ValueError("resolved")

    tool = web_tools([".Example.org"], resolve)["fetch_url"]
    for url in ("http://example.org/", "https://www.example.org", "https://example.org:80/"):
        with pytest.raises(ValueError, match="resolved"):
            tool(url)
    assert tried == [("example.org", 80), ("www.example.org", 443), ("example.org", 80)]


def test_without_domains_it_says_what_it_needs_and_refuses_everything() -> None:
    tool = web_tools([])["fetch_url"]
    assert "needs the page's domain in the subtask's network" in str(tool.__doc__)
    with pytest.raises(ValueError, match="allowed are no domains at all"):
        tool("http://example.org/")


def test_granted_name_is_read_on_its_port_and_logged(port: int) -> None:
    tool = web_tools(
        [],
        lambda host, _: "127.0.0.1",
        granted=lambda host, at: (host, at) == ("api.example.org", port),
        named=[f"api.example.org:{port}"],
    )["fetch_url"]
    assert f"Fetch a web page on api.example.org:{port} and" in str(tool.__doc__)
    assert tool(f"http://api.example.org:{port}/plain") == "just text"
    for other in ("http://api.example.org/plain", f"http://www.api.example.org:{port}/plain"):
        with pytest.raises(ValueError, match="is not allowed"):
            tool(other)


@pytest.mark.parametrize("path", ["/bomb", "/bomb/twice"])
def test_a_compressed_page_does_not_fill_the_memory(fetch: Fetch, path: str) -> None:
    """One that is compressed once is cut where any page is; twice is not what was asked for."""
    fetch("/plain")
    tracemalloc.start()
    try:
        if path == "/bomb":
            assert len(fetch(path)) == MAX_CHARS
        else:
            with pytest.raises(ValueError, match="gzip, gzip"):
                fetch(path)
        assert tracemalloc.get_traced_memory()[1] < 20_000_000
    finally:
        tracemalloc.stop()
