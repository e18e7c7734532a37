"""The domains that code inside may be granted, and the HTTP proxy that serves those and no others.

A grant is a domain: `api.example.org` covers that name alone, `.example.org` also all names below it. Ports
are 80 and 443, or the given one: `api.example.org:8443`. Addresses, names without a dot and whole top-level
domains cannot be granted.

`CONNECT` makes a tunnel, through which code inside speaks TLS with the server itself: the host sees names,
not contents. Plain requests are forwarded, one per connection, with the granted `Host`. A name is resolved
once. If one of its addresses is not public, none is used; the proxy connects to the address it checked.

The proxy parses request heads itself, because it has to be stricter than h11 (see docs/experiments.md): no
bare line feed, no folded header, no control character, one spelling of a length.

Not covered: what a granted server does with a request, such as passing it on to another (domain fronting);
a domain that changes its owner; chunked bodies (411; send a length), hosts that need a proxy themselves, and
protocols other than HTTP and what can be tunnelled.
"""

import contextlib
import re
import select
import socket
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from toolsmith.sandbox.addresses import reachable, resolve

_PORTS = frozenset({80, 443})
_LABEL = r"(?!-)[a-z0-9_-]{1,63}(?<!-)"
_DOMAIN = re.compile(rf"(?:{_LABEL}\.)+(?=[a-z])(?:{_LABEL})")


@dataclass(frozen=True)
class Grant:
    """One domain; with `below`, also the names below it."""

    domain: str
    below: bool
    ports: frozenset[int] = _PORTS

    def covers(self, host: str, port: int) -> bool:
        named = host == self.domain or (self.below and host.endswith(f".{self.domain}"))
        return named and port in self.ports


def parse_grants(texts: Sequence[str]) -> tuple[Grant, ...]:
    """The grants that `texts` name. Raises ValueError."""
    return tuple(map(_parse, texts))


def _parse(text: str) -> Grant:
    name, colon, port = text.strip().partition(":")
    host = plain_host(name.removeprefix("."))
    if host is None:
        raise ValueError(f"{text!r} is not a domain that can be granted; write it like api.example.org")
    if colon and not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise ValueError(f"{text!r} has a malformed port; write it like api.example.org:8443")
    return Grant(host, name.startswith("."), frozenset({int(port)}) if colon else _PORTS)


def plain_grant(text: str) -> str:
    """What a grant is written as, with its domain in plain letters, so that none looks like another one.

    Raises ValueError.
    """
    grant = _parse(text)
    _, colon, port = text.strip().partition(":")
    return f"{'.' if grant.below else ''}{grant.domain}{colon}{port}"


def grants_of_setting(domains: Sequence[str]) -> tuple[Grant, ...]:
    """What the setting `network` grants: each domain and the names below it, on the ports of HTTP only."""
    return tuple(Grant(domain.lower().strip().strip("."), below=True) for domain in domains)


def plain_host(name: str) -> str | None:
    """A domain in its canonical spelling; None for addresses and malformed names."""
    try:
        name = name if name.isascii() else name.encode("idna").decode()
    except UnicodeError:
        return None
    host = name.lower().removesuffix(".")
    return host if len(host) < 254 and _DOMAIN.fullmatch(host) else None


CONNECT_S = 10.0
IDLE_S = 60.0
MAX_HEAD = 64 << 10
_CHUNK = 64 << 10
_LINE = re.compile(r"([A-Z]{3,10}) ([!-~]+) HTTP/1\.[01]")
_HEADER = re.compile(r"\A([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\x00-\x08\x0a-\x1f\x7f]*)")
_OURS = {"host", "connection", "keep-alive", "te", "upgrade", "expect", "trailer"}


class ProxyRefusal(Exception):
    """The proxy does not forward the request. `status` is the HTTP status line's code and phrase."""

    def __init__(self, status: str, why: str) -> None:
        super().__init__(why)
        self.status = status


@dataclass(frozen=True)
class Dialer:
    """Connects to granted names. Tests and other resolvers replace its two functions."""

    resolve: Callable[[str, int], Sequence[str]] = resolve
    allowed: Callable[[str], bool] = reachable

    def dial(self, host: str, port: int) -> socket.socket:
        """Raises ProxyRefusal."""
        try:
            addresses = list(self.resolve(host, port))
        except OSError as exc:
            raise ProxyRefusal("502 Bad Gateway", f"{host} cannot be resolved: {exc}") from exc
        if not addresses or not all(map(self.allowed, addresses)):
            raise ProxyRefusal("403 Forbidden", f"{host} resolves to an address that is not public")
        fault = OSError("no address")
        for address in addresses:
            try:
                return socket.create_connection((address, port), CONNECT_S)
            except OSError as exc:
                fault = exc
        raise ProxyRefusal("502 Bad Gateway", f"{host} cannot be connected to: {fault}") from fault


@dataclass(frozen=True)
class ProxyRequest:
    """A client's request to the proxy. `forward`: the head to forward; empty for a tunnel."""

    host: str
    port: int
    forward: bytes = b""
    length: int = 0
    """Bytes of the body."""
    waits: bool = False
    """Whether the client waits for "100 Continue" before it sends the body."""


class Proxy:
    """Serves connections, each in the caller's thread; `close` ends them all, from any thread."""

    def __init__(self, grants: Sequence[Grant], dialer: Dialer) -> None:
        self._grants, self._dialer = tuple(grants), dialer
        self._open: set[socket.socket] = set()
        self._guard = threading.Lock()
        self._closed = False

    def serve(self, client: socket.socket) -> None:
        """Serves one connection to its end; a client or a server cannot make it raise."""
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
            if not any(grant.covers(request.host, request.port) for grant in self._grants):
                granted = ", ".join("." * grant.below + grant.domain for grant in self._grants)
                target = f"{request.host}:{request.port}"
                raise ProxyRefusal("403 Forbidden", f"{target} was not granted; granted: {granted}")
            server = self._dialer.dial(request.host, request.port)
        except ProxyRefusal as refusal:
            body = f"{refusal}\n".encode(errors="replace")
            lines = [f"HTTP/1.1 {refusal.status}", "Content-Type: text/plain"]
            lines += [f"Content-Length: {len(body)}", "Connection: close", "", ""]
            client.sendall("\r\n".join(lines).encode() + body)
            return
        with server:
            server.settimeout(IDLE_S)
            if not self._track(server):
                return
            if request.forward:
                _forward(client, server, request, rest)
            else:
                client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
                server.sendall(rest)
                _pump(client, server)


def _read_head(client: socket.socket) -> tuple[bytes, bytes]:
    data = b""
    while b"\r\n\r\n" not in data:
        if len(data) > MAX_HEAD:
            raise ProxyRefusal("431 Request Header Fields Too Large", "the request's head is too long")
        chunk = client.recv(_CHUNK)
        if not chunk:
            raise OSError("the client hung up")
        data += chunk
        if not re.match(rb"[A-Z]", data):
            raise ProxyRefusal("400 Bad Request", "this is not HTTP; connections lead to a proxy")
    head, _, rest = data.partition(b"\r\n\r\n")
    return head, rest


def parse(head: bytes) -> ProxyRequest:
    """The request in the bytes up to the empty line. Raises ProxyRefusal."""
    first, *lines = head.decode("latin-1").split("\r\n")
    match = _LINE.fullmatch(first)
    if match is None:
        raise ProxyRefusal("400 Bad Request", "the request's first line is malformed")
    matches = [_HEADER.fullmatch(line) for line in lines]
    headers = [(found[1], found[2]) for found in matches if found is not None]
    if len(headers) < len(lines):
        raise ProxyRefusal("400 Bad Request", "a header is malformed")
    method, target = match.groups()
    if method == "CONNECT":
        host, _, port = target.rpartition(":")
        return ProxyRequest(_host(host), _port(port))
    return _plain(method, target, headers)


def _plain(method: str, target: str, headers: list[tuple[str, str]]) -> ProxyRequest:
    parts = urlsplit(target)
    if parts.scheme != "http" or "@" in parts.netloc:
        raise ProxyRefusal("400 Bad Request", "ask this proxy for http://name/path, or CONNECT to name:port")
    name, colon, port = parts.netloc.partition(":")
    host, number = _host(name), _port(port) if colon else 80
    lengths = {value.strip() for name, value in headers if name.lower() == "content-length"}
    if any(name.lower() == "transfer-encoding" for name, _ in headers):
        raise ProxyRefusal("411 Length Required", "send the body with a length, not in chunks")
    if len(lengths) > 1 or not all(re.fullmatch(r"\d{1,15}", length) for length in lengths):
        raise ProxyRefusal("400 Bad Request", "the length of the body is malformed")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    kept = [(n, v) for n, v in headers if n.lower() not in _OURS and not n.lower().startswith("proxy-")]
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}{colon}{port}", "Connection: close"]
    lines += [f"{name}: {value}" for name, value in kept]
    return ProxyRequest(
        host,
        number,
        forward="\r\n".join([*lines, "", ""]).encode("latin-1"),
        length=int(lengths.pop()) if lengths else 0,
        waits=any(name.lower() == "expect" for name, _ in headers),
    )


def _host(name: str) -> str:
    host = plain_host(name)
    if host is None:
        raise ProxyRefusal("403 Forbidden", f"{name[:80]!r} is not a domain; addresses are never granted")
    return host


def _port(text: str) -> int:
    if not re.fullmatch(r"\d{1,5}", text) or not 0 < int(text) < 65536:
        raise ProxyRefusal("400 Bad Request", "the port is malformed")
    return int(text)


def _forward(client: socket.socket, server: socket.socket, request: ProxyRequest, rest: bytes) -> None:
    """One request and its response; bytes that the client sends after that are dropped."""
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
    """Carries bytes both ways until both sides have closed, or neither sends anything for a minute."""
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
