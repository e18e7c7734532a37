"""The transport to an MCP server at an address: streamable HTTP, or the older SSE.

Bodies are bounded, no proxy is used, and nothing is followed away from the server. It is sent its headers and
its token, or logs in with the tokens of `login`; requests of a login go to the server itself or by https.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any, NamedTuple

from orchestrator_cli.http_bodies import ACCEPT_ENCODING, BodyDecoder, EventBound
from orchestrator_cli.mcp_client.login import Browser, TokenFile, authorization, check_login_address
from orchestrator_cli.mcp_settings import McpServer

START_S = 30.0
LINE_BYTES = 16 << 20


class Login(NamedTuple):
    """What a connection may log in with."""

    tokens: TokenFile | None = None
    """Those of an earlier login, for an address."""
    browser: Browser | None = None
    """The one for a new login; without it none is begun."""


@asynccontextmanager
async def over_http(
    server: McpServer, token: str, login: Login, wants_login: Callable[[str], None]
) -> AsyncIterator[Any]:
    """The transport. `wants_login` is called if the server asks for a login that it does not get."""
    import httpx2
    from mcp.client.sse import sse_client
    from mcp.client.streamable_http import streamable_http_client

    url = str(server.url)
    headers = {name.lower(): value for name, value in server.headers.items()}
    headers |= {"authorization": f"Bearer {token}"} if token else {}
    auth = None if "authorization" in headers else _authorization(url, login)
    advice = "" if "authorization" in headers else ", which `orch login` does"

    async def checked(request: Any) -> None:
        check_login_address(str(request.url), url)

    async def heard(response: Any) -> None:
        if response.status_code == HTTPStatus.UNAUTHORIZED and auth is None:
            wants_login(f"it asks for a login{advice}")

    def client(**_: Any) -> Any:
        return httpx2.AsyncClient(
            # What the transport needs for itself counts before the server's own headers.
            headers=headers | {"accept-encoding": ACCEPT_ENCODING},
            timeout=httpx2.Timeout(START_S, read=server.timeout_s + START_S),
            trust_env=False,
            event_hooks={"request": [checked], "response": [heard, _bound]},
            auth=auth,
        )

    if server.type == "sse":
        make: Any = client
        yield sse_client(url, httpx_client_factory=make)
        return
    async with client() as http:
        yield streamable_http_client(url, http_client=http, max_sse_event_size=LINE_BYTES)


def _authorization(url: str, login: Login) -> Any:
    if login.tokens is None or not (login.tokens.is_there or login.browser is not None):
        return None
    return authorization(url, login.tokens, login.browser)


async def _bound(response: Any) -> None:
    """Have the body of a response, or each event of a stream, bounded while it is read."""
    import httpx2

    is_stream = response.headers.get("content-type", "").startswith("text/event-stream")
    encoding = response.headers.pop("content-encoding", "")
    decoder = BodyDecoder(encoding, None if is_stream else LINE_BYTES)
    events = EventBound(LINE_BYTES) if is_stream else None
    stream = response.stream

    class Bounded(httpx2.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            async for piece in stream:
                for part in decoder.read(piece):
                    if events is not None:
                        events.count(part)
                    yield part

        async def aclose(self) -> None:
            await stream.aclose()

    response.stream = Bounded()
