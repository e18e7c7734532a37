"""An HTTP proxy that serves one connection from inside, for the names that were granted and no others.

`CONNECT` makes a tunnel, through which code inside speaks TLS with the server itself: the host sees names,
not contents. Plain requests are passed on one per connection, with the `Host` that was granted. A name is
resolved once; where one of its addresses is not public none is used, and the address that was checked is the
one that is connected to.

What is not covered: bodies in chunks (411; send a length), requests that go through a proxy of the host's
own, other protocols than HTTP and what can be tunnelled.
"""

import contextlib
import re
import select
import socket
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from toolsmith.sandbox.grants import Grant, plain_host, public

CONNECT_S = 10.0
IDLE_S = 60.0
MAX_HEAD = 64 << 10
_CHUNK = 64 << 10
_LINE = re.compile(r"([A-Z]{3,10}) ([!-~]+) HTTP/1\.[01]")
_HEADER = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\x00-\x08\x0a-\x1f\x7f]*)")
_OURS = {"host", "connection", "keep-alive", "te", "upgrade", "expect", "trailer"}


class Refused(Exception):
    """The request is not passed on. `status` is what HTTP calls it."""

    def __init__(self, status: str, why: str) -> None:
        super().__init__(why)
        self.status = status


def resolve(host: str, port: int) -> list[str]:
    """All addresses of a name, the preferred first. Raises OSError."""
    rows = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(row[4][0]) for row in rows))


def reachable(address: str) -> bool:
    """Whether an address may be connected to: public, and not one of this machine's own."""
    return public(address) and not _is_own(address)


def _is_own(address: str) -> bool:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((address, 0))
        except OSError:
            return False
    return True


@dataclass(frozen=True)
class Dialer:
    """How a granted name is connected to. The two seams are there for tests and for other resolvers."""

    resolve: Callable[[str, int], Sequence[str]] = resolve
    allowed: Callable[[str], bool] = reachable

    def dial(self, host: str, port: int) -> socket.socket:
        """Raises Refused."""
        try:
            addresses = list(self.resolve(host, port))
        except OSError as error:
            raise Refused("502 Bad Gateway", f"{host} cannot be resolved: {error}") from error
        if not addresses or not all(map(self.allowed, addresses)):
            raise Refused("403 Forbidden", f"{host} resolves to an address that is not public")
        return self._connected(host, addresses, port)

    def _connected(self, host: str, addresses: list[str], port: int) -> socket.socket:
        fault = OSError("no address")
        for address in addresses:
            try:
                return socket.create_connection((address, port), CONNECT_S)
            except OSError as error:
                fault = error
        raise Refused("502 Bad Gateway", f"{host} cannot be connected to: {fault}") from fault


@dataclass(frozen=True)
class Request:
    """What a client asks of the proxy. `forward`: the head to pass on; empty for a tunnel."""

    host: str
    port: int
    forward: bytes = b""
    length: int = 0
    """Bytes of the body."""
    waits: bool = False
    """Whether the client waits for a word before it sends the body."""


class Proxy:
    """Serves connections, each in the thread that brings it; `close` ends them all, from any thread."""

    def __init__(self, grants: Sequence[Grant], dialer: Dialer) -> None:
        self._grants, self._dialer = tuple(grants), dialer
        self._open: set[socket.socket] = set()
        self._guard = threading.Lock()
        self._closed = False

    def serve(self, client: socket.socket) -> None:
        """Serves one connection to its end; never raises for what the client or a server does."""
        with contextlib.suppress(OSError), client:
            client.settimeout(IDLE_S)
            if self._track(client):
                self._answer(client)

    def close(self) -> None:
        """Ends all connections."""
        with self._guard:
            self._closed = True
            for one in self._open:
                with contextlib.suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)

    def _track(self, one: socket.socket) -> bool:
        with self._guard:
            self._open = {other for other in self._open if other.fileno() >= 0} | {one}
            return not self._closed

    def _answer(self, client: socket.socket) -> None:
        try:
            head, rest = _read_head(client)
            request = parse(head)
            self._check(request)
            server = self._dialer.dial(request.host, request.port)
        except Refused as refused:
            client.sendall(_refusal(refused))
            return
        with server:
            server.settimeout(IDLE_S)
            if not self._track(server):
                return
            if request.forward:
                _pass_on(client, server, request, rest)
            else:
                client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
                server.sendall(rest)
                _pump(client, server)

    def _check(self, request: Request) -> None:
        if not any(grant.covers(request.host, request.port) for grant in self._grants):
            where = f"{request.host}:{request.port}"
            raise Refused("403 Forbidden", f"{where} was not granted; granted: {self._named()}")

    def _named(self) -> str:
        return ", ".join("." * grant.below + grant.domain for grant in self._grants)


def _read_head(client: socket.socket) -> tuple[bytes, bytes]:
    data = b""
    while b"\r\n\r\n" not in data:
        if len(data) > MAX_HEAD:
            raise Refused("431 Request Header Fields Too Large", "the request's head is too long")
        chunk = client.recv(_CHUNK)
        if not chunk:
            raise OSError("the client has gone")
        data += chunk
        if not re.match(rb"[A-Z]", data):
            raise Refused("400 Bad Request", "this is no HTTP; connections lead to a proxy")
    head, _, rest = data.partition(b"\r\n\r\n")
    return head, rest


def parse(head: bytes) -> Request:
    """The request behind the bytes up to the empty line. Raises Refused."""
    first, *lines = head.decode("latin-1").split("\r\n")
    match = _LINE.fullmatch(first)
    if match is None:
        raise Refused("400 Bad Request", "the request's first line is malformed")
    headers = [_header(line) for line in lines]
    method, target = match.groups()
    if method == "CONNECT":
        host, _, port = target.rpartition(":")
        return Request(_host(host), _port(port))
    return _plain(method, target, headers)


def _header(line: str) -> tuple[str, str]:
    match = _HEADER.fullmatch(line)
    if match is None:
        raise Refused("400 Bad Request", "a header is malformed")
    return match[1], match[2]


def _plain(method: str, target: str, headers: list[tuple[str, str]]) -> Request:
    parts = urlsplit(target)
    if parts.scheme != "http" or "@" in parts.netloc:
        raise Refused("400 Bad Request", "ask this proxy for http://name/path, or CONNECT to name:port")
    name, colon, port = parts.netloc.partition(":")
    host, number = _host(name), _port(port) if colon else 80
    lengths = {value.strip() for name, value in headers if name.lower() == "content-length"}
    if any(name.lower() == "transfer-encoding" for name, _ in headers):
        raise Refused("411 Length Required", "send the body with a length, not in chunks")
    if len(lengths) > 1 or not all(re.fullmatch(r"\d{1,15}", length) for length in lengths):
        raise Refused("400 Bad Request", "the length of the body is malformed")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    kept = [(n, v) for n, v in headers if n.lower() not in _OURS and not n.lower().startswith("proxy-")]
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}{colon}{port}", "Connection: close"]
    lines += [f"{name}: {value}" for name, value in kept]
    return Request(
        host,
        number,
        forward="\r\n".join([*lines, "", ""]).encode("latin-1"),
        length=int(lengths.pop()) if lengths else 0,
        waits=any(name.lower() == "expect" for name, _ in headers),
    )


def _host(name: str) -> str:
    host = plain_host(name)
    if host is None:
        raise Refused("403 Forbidden", f"{name[:80]!r} is no domain; addresses are never granted")
    return host


def _port(text: str) -> int:
    if not re.fullmatch(r"\d{1,5}", text) or not 0 < int(text) < 65536:
        raise Refused("400 Bad Request", "the port is malformed")
    return int(text)


def _refusal(refused: Refused) -> bytes:
    body = f"{refused}\n".encode(errors="replace")
    head = f"HTTP/1.1 {refused.status}\r\nContent-Type: text/plain\r\nContent-Length: {len(body)}\r\n"
    return head.encode() + b"Connection: close\r\n\r\n" + body


def _pass_on(client: socket.socket, server: socket.socket, request: Request, rest: bytes) -> None:
    """One request and its response; what the client sends beyond that goes nowhere."""
    server.sendall(request.forward)
    if request.waits and not rest:
        client.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
    left = request.length
    while left:
        chunk = rest[:left] or client.recv(min(left, _CHUNK))
        if not chunk:
            return
        server.sendall(chunk)
        left -= len(chunk)
        rest = b""
    while chunk := server.recv(_CHUNK):
        client.sendall(chunk)


def _pump(one: socket.socket, other: socket.socket) -> None:
    """Carries bytes both ways until both sides have ended, or neither says anything for a minute."""
    poll = select.poll()
    ways = {one.fileno(): (one, other), other.fileno(): (other, one)}
    for fd in ways:
        poll.register(fd, select.POLLIN)
    while ways:
        ready = poll.poll(IDLE_S * 1000)
        if not ready:
            return
        for fd, _ in ready:
            source, sink = ways[fd]
            chunk = source.recv(_CHUNK)
            if chunk:
                sink.sendall(chunk)
                continue
            poll.unregister(fd)
            del ways[fd]
            with contextlib.suppress(OSError):
                sink.shutdown(socket.SHUT_WR)
