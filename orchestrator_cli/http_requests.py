"""Rules for every HTTP exchange, and requests of our own that keep them.

A server may be anyone's. So nothing that was meant for it is sent to another: redirects are followed on the
same origin only, and none of a request that changes something. No login is used that was not named for the
address, such as one of `~/.netrc`. Bodies are bounded, and so is the time of a whole exchange, because
clients limit only the time between two bytes.

`send` makes requests with urllib, for what is asked before a library is imported. `http_clients` has the same
rules for the clients of libraries.

Not covered: the time that the name of a host takes to be looked up.
"""

import contextlib
import http.client
import os
import socket
import ssl
import threading
import urllib.error
import urllib.parse
import urllib.request
from typing import Any

from orchestrator_cli.http_bodies import BodyRefused

LOOPBACK = ("127.0.0.1", "localhost", "::1")
MAX_REDIRECTS = 3


def is_elsewhere(here: str, there: str) -> bool:
    """Whether an address has another origin than the one that redirects to it; https may replace http."""
    old, new = map(urllib.parse.urlsplit, (here, there))
    if old.hostname != new.hostname:
        return True
    ports = [part.port or (443 if part.scheme == "https" else 80) for part in (old, new)]
    is_upgrade = (old.scheme, new.scheme) == ("http", "https")
    return not is_upgrade and (old.scheme, ports[0]) != (new.scheme, ports[1])


class ExchangeLimit:
    """Ends the connection of a client when an exchange takes too long; for one exchange at a time.

    A server can send bytes without end that are no part of a body: a header, early answers, the extension of
    a chunk. The socket is shut down then, and the client fails as if the server had closed it.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._lock = threading.Lock()
        self._timer: threading.Timer | None = None
        self._exchange = 0
        """Its number: the timer of an earlier one may be too late to be cancelled."""
        self._fd = -1
        """A copy of the socket's, because TLS takes that over, and its number can be another file's later."""
        self.is_late = False
        """Whether the last exchange took too long."""

    def begin(self) -> None:
        """An exchange begins, on a new connection or on the last one."""
        self.end()
        self.is_late = False
        self._timer = threading.Timer(self._seconds, self._expire, [self._exchange])
        self._timer.daemon = True
        self._timer.start()

    def connected(self, fd: int) -> None:
        """The client uses this socket from now on."""
        self._keep(os.dup(fd))
        if self.is_late:
            self._shut_down()

    def end(self) -> None:
        self._exchange += 1
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def close(self) -> None:
        """The client makes no more exchanges. Done by itself when nothing refers to this any more."""
        self.end()
        self._keep(-1)

    __del__ = close

    def _keep(self, fd: int) -> None:
        with self._lock:
            old, self._fd = self._fd, fd
        if old >= 0:
            os.close(old)

    def _expire(self, exchange: int) -> None:
        if exchange == self._exchange:
            self.is_late = True
            self._shut_down()

    def _shut_down(self) -> None:
        with self._lock, contextlib.suppress(OSError):
            if self._fd >= 0:
                with socket.socket(fileno=os.dup(self._fd)) as shared:
                    shared.shutdown(socket.SHUT_RDWR)


def send(
    request: urllib.request.Request | str,
    *,
    seconds: float,
    most: int = 64 << 10,
    tls: ssl.SSLContext | None = None,
    follows: bool = True,
) -> bytes:
    """Make a request; on loopback, without a proxy. Returns the body, as it was sent.

    Args:
        seconds: for the whole exchange.
        most: bytes of the body.
        tls: by default, with the authorities of the system.
        follows: whether to follow redirects of the same origin, if the request changes nothing.

    Raises `OSError`, which is an `HTTPError` for any other status than a success, and `BodyRefused`, a
    `ValueError`, for a body that is longer.
    """
    url = request if isinstance(request, str) else request.full_url
    limit = ExchangeLimit(seconds)
    # urllib does not find ::1 in NO_PROXY.
    direct = urllib.parse.urlsplit(url).hostname in LOOPBACK
    proxies = [urllib.request.ProxyHandler({})] if direct else []
    handlers = (_Redirects(follows=follows), _Http(limit), _Https(limit, tls), *proxies)
    limit.begin()
    try:
        with urllib.request.build_opener(*handlers).open(request, timeout=seconds) as reply:
            body: bytes = reply.read(most + 1)
    except urllib.error.HTTPError as exc:
        exc.close()
        raise
    except (OSError, http.client.HTTPException) as exc:
        if limit.is_late:
            raise TimeoutError(f"it took longer than {seconds:g} s") from exc
        if isinstance(exc, OSError):
            raise
        raise ConnectionError(f"its reply is not HTTP: {type(exc).__name__}") from exc
    finally:
        limit.close()
    if limit.is_late:
        raise TimeoutError(f"it took longer than {seconds:g} s")
    if len(body) > most:
        raise BodyRefused(f"its body is longer than {most:,} bytes")
    return body


class _Redirects(urllib.request.HTTPRedirectHandler):
    max_redirections = MAX_REDIRECTS

    def __init__(self, *, follows: bool) -> None:
        self._follows = follows

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        changes = req.get_method() not in ("GET", "HEAD")
        if changes or not self._follows or is_elsewhere(req.full_url, newurl):
            raise urllib.error.URLError(f"it redirects to {newurl}")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


class _Connection(http.client.HTTPConnection):
    limit: ExchangeLimit

    def connect(self) -> None:
        super().connect()
        self.limit.connected(self.sock.fileno())


class _TlsConnection(http.client.HTTPSConnection, _Connection):
    """Its socket is known before the handshake."""


class _Http(urllib.request.HTTPHandler):
    def __init__(self, limit: ExchangeLimit) -> None:
        super().__init__()
        self._limit = limit

    def http_open(self, req: Any) -> Any:
        return self.do_open(self._connection, req)

    def _connection(self, host: str, **options: Any) -> http.client.HTTPConnection:
        made = _Connection(host, **options)
        made.limit = self._limit
        return made


class _Https(urllib.request.HTTPSHandler):
    def __init__(self, limit: ExchangeLimit, tls: ssl.SSLContext | None) -> None:
        super().__init__()
        self._limit = limit
        self._tls = tls

    def https_open(self, req: Any) -> Any:
        return self.do_open(self._connection, req)

    def _connection(self, host: str, **options: Any) -> http.client.HTTPSConnection:
        made = _TlsConnection(host, context=self._tls, **options)
        made.limit = self._limit
        return made
