"""The rules of `http_requests` for the clients of libraries: httpx and requests.

Each client of a library is made with what is here, and a test names all places that make one. Proxies and
certificates of the environment count as they do in the library; logins of `~/.netrc` do not.

Not covered: clients that a library makes without a way to give it options, such as those of Amazon's and
Google's own libraries below LiteLLM. Apprise is one too, and has a process of its own: see `notify_service`.
"""

import io
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from orchestrator_cli.http_bodies import ACCEPT_ENCODING, BodyDecoder, BodyRefused
from orchestrator_cli.http_requests import ExchangeLimit


def httpx_options(most: int, seconds: float | None = None, *, drops: Iterable[str] = ()) -> dict[str, Any]:
    """Options for a client of httpx. It follows no redirects.

    Args:
        most: bytes of a body, also decoded.
        seconds: for a whole exchange, if one thread uses the client at a time; else None, and the timeouts of
            the client alone count.
        drops: headers of responses that the client is not shown.
    """
    limit = None if seconds is None else ExchangeLimit(seconds)

    def begin(request: Any) -> None:
        request.headers["accept-encoding"] = ACCEPT_ENCODING
        if limit is not None:
            request.extensions = {**request.extensions, "trace": trace_to(limit)}
            limit.begin()

    def bound(response: Any) -> None:
        for name in drops:
            response.headers.pop(name, None)
        bound_body(response, most, limit=limit)

    return {"follow_redirects": False, "event_hooks": {"request": [begin], "response": [bound]}}


def trace_to(limit: ExchangeLimit) -> Callable[[str, Mapping[str, Any]], None]:
    """A trace for httpx that names its connections to a limit."""

    def trace(event: str, about: Mapping[str, Any]) -> None:
        if event == "connection.connect_tcp.complete":
            limit.connected(about["return_value"].get_extra_info("socket").fileno())

    return trace


def bound_body(
    response: Any,
    most: int,
    checked: Callable[[Iterable[bytes]], Iterator[bytes]] = iter,
    limit: ExchangeLimit | None = None,
) -> None:
    """Have the body of a response of httpx bounded while it is read. Raises `BodyRefused`, also then.

    Args:
        most: bytes, also decoded.
        checked: what to make of the decoded pieces.
        limit: of the exchange, which ends with the body. Its end may look like that of the body.
    """
    import httpx

    decoder = BodyDecoder(response.headers.pop("content-encoding", ""), most)
    stream = response.stream

    class Bounded(httpx.SyncByteStream):
        def __iter__(self) -> Iterator[bytes]:
            yield from checked(part for piece in stream for part in decoder.read(piece))
            if limit is not None and limit.is_late:
                raise httpx.ReadTimeout("the exchange took too long")

        def close(self) -> None:
            if limit is not None:
                limit.end()
            stream.close()

    response.stream = Bounded()


def requests_session(seconds: float, most: int) -> Any:
    """A session of requests, which one thread uses at a time. A redirect is an error.

    Args:
        seconds: for a whole exchange.
        most: bytes of a body, also decoded.
    """
    import requests
    from requests.adapters import HTTPAdapter
    from urllib3.exceptions import HTTPError

    limit = ExchangeLimit(seconds)

    class Bounded(HTTPAdapter):
        def get_connection_with_tls_context(self, *args: Any, **options: Any) -> Any:
            pool = super().get_connection_with_tls_context(*args, **options)
            if not hasattr(pool.ConnectionCls, "limit"):
                pool.ConnectionCls = _limited(pool.ConnectionCls, limit)
            return pool

        def send(self, *args: Any, **options: Any) -> Any:
            limit.begin()
            try:
                response = super().send(*args, **options)
                body = response.raw.read(most + 1, decode_content=False)
            except HTTPError as exc:
                raise requests.ConnectionError(exc) from exc
            finally:
                limit.end()
            if limit.is_late:
                raise requests.ReadTimeout("the exchange took too long")
            if 300 <= response.status_code < 400:
                raise requests.TooManyRedirects("it redirects", response=response)
            response.raw = io.BytesIO(_decoded(body, response.headers.pop("content-encoding", ""), most))
            return response

        def close(self) -> None:
            super().close()
            limit.close()

    session = requests.Session()
    session.headers["accept-encoding"] = ACCEPT_ENCODING
    session.auth = _login_of_address  # with one, requests does not look into ~/.netrc
    for scheme in ("http://", "https://"):
        session.mount(scheme, Bounded())
    return session


def _login_of_address(request: Any) -> Any:
    from requests.auth import HTTPBasicAuth
    from requests.utils import get_auth_from_url

    name, password = get_auth_from_url(request.url)
    return HTTPBasicAuth(name, password)(request) if name or password else request


def _decoded(body: bytes, encoding: str, most: int) -> bytes:
    if len(body) > most:
        raise BodyRefused(f"its body is longer than {most:,} bytes")
    return b"".join(BodyDecoder(encoding, most).read(body))


def _limited(kind: Any, of: ExchangeLimit) -> Any:
    class Limited(kind):  # type: ignore[misc]
        limit = of

        def connect(self) -> None:
            super().connect()
            self.limit.connected(self.sock.fileno())

    return Limited
