"""The process of the local Prefect server: `python -m orchestrator_cli.engine.serving LISTENER IDLE_MINUTES`.

Around Prefect's app, a `Gate` refuses what has no password, except the page's files and the question whether
this server is well, and what did not ask for this server by its own address, as a web page does whose name
has been made to lead here. It logs browsers in. Prefect checks the password of WebSockets.
It has two addresses: programs reach the API at 127.0.0.1, and browsers everything at a host name that each
start makes up. So what an earlier page at the same port left in a browser, such as a service worker of
another user who had the port between two servers, has another origin and is never part of the login.

Prefect's page keeps the password in the browser and cannot be given it in an address. So `orch ui` opens
a page of the gate, whose address holds a ticket: proof that its maker knows the password, good once and for
minutes. The page exchanges it for the password, puts that where Prefect's page looks for it, and goes there.
Other users can read a browser's command line, so `orch ui` gives it a file with that address, which only its
owner can read, and which is removed when the ticket is used. A ticket that was seen in some other way is
worth nothing to another user: the server serves connections only that a process of this user, or root, has
opened, and closes others unread. Those from other addresses of loopback than 127.0.0.1 are refused.
"""

import asyncio
import base64
import hashlib
import hmac
import math
import os
import socket
import stat
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from uvicorn.protocols.http.h11_impl import H11Protocol

from orchestrator_cli.durable.peers import End, is_of_another, is_of_owner
from orchestrator_cli.engine.server import ADDRESS, authorization, import_prefect, login_page, signature

App = Callable[[MutableMapping[str, Any], Callable[[], Awaitable[Any]], Callable[..., Awaitable[None]]], Any]

LOGIN = "/orch/login"
HEALTH = "/api/health"
MADE_ANEW = ("/api", "/openapi.json", "/docs", "/redoc")
"""What Prefect's app answers besides the files of its page."""
PAGE = """<!doctype html>
<meta charset="utf-8">
<title>orch</title>
<p id="said">Logging in …
<script>
const ticket = location.hash.slice(1)
history.replaceState(null, "", location.pathname)
fetch(location.pathname, {method: "POST", body: ticket}).then(async reply => {
  const text = await reply.text()
  if (!reply.ok) throw text
  localStorage.setItem("prefect-password", btoa(text))
  location.replace("/")
}).catch(why => { document.getElementById("said").textContent = why })
</script>
"""
_SCRIPT = hashlib.sha256(PAGE.partition("<script>")[2].partition("</script>")[0].encode()).digest()
# Prefect's page sets styles from its scripts, starts workers from data, and draws its graph with pixi, which
# makes functions from text.
POLICY = (
    f"default-src 'self'; script-src 'self' 'sha256-{base64.b64encode(_SCRIPT).decode()}' 'unsafe-eval'; "
    "style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; font-src 'self' data:; worker-src 'self' data: blob:; "
    "connect-src 'self'{sockets}; "
    "object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'none'"
)
"""What a page of this server may load, although a result is a part of it, and who may frame it."""

MESSAGE_BYTES = 2 << 20
"""The largest message of a WebSocket; events of Prefect have 1.5 MB at most."""
LOG_BYTES = 4 << 20
"""How large `server.log` may become while the server runs; it is then emptied."""
UNKNOWN_S = 5.0
"""How long a connection may be open without the password of a WebSocket, or without a request."""

BACKLOG = 128
"""How many connections may wait. As many are accepted, each with a descriptor, before one is closed."""

LEFT = '"cache", "storage"'
"""What a browser is to forget of an address: `storage` has its service workers, `cache` its files."""


class IdleWatch:
    """An ASGI layer that measures the time since the server was last used by someone who has its password.

    A WebSocket that does not show the password in time is closed. Prefect is given it in the first message,
    and sends nothing before.
    """

    def __init__(self, app: App, password: str) -> None:
        self._app = app
        self._access = b"authorization", authorization(password).encode()
        self._open = 0
        self._last = time.monotonic()

    async def __call__(self, scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] != "lifespan" and self._access in scope["headers"]:
            with self._use():
                await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await self._admit(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _admit(self, scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        until = asyncio.get_running_loop().time() + UNKNOWN_S
        with ExitStack() as use:

            async def received() -> Any:
                try:
                    async with asyncio.timeout_at(until):
                        return await receive()
                except TimeoutError:
                    return {"type": "websocket.disconnect", "code": 1008}

            async def sent(message: MutableMapping[str, Any]) -> None:
                nonlocal until
                if message["type"] == "websocket.send" and until < math.inf:
                    until = math.inf
                    use.enter_context(self._use())
                await send(message)

            await self._app(scope, received, sent)

    @contextmanager
    def _use(self) -> Iterator[None]:
        self._open += 1
        try:
            yield
        finally:
            self._open -= 1
            self.reset()

    def reset(self) -> None:
        """Measure from now on."""
        self._last = time.monotonic()

    @property
    def idle_s(self) -> float:
        return 0.0 if self._open else time.monotonic() - self._last


class TimelyProtocol(H11Protocol):
    """Closes a connection that sends no request, for which uvicorn waits for ever."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.loop.call_later(UNKNOWN_S, self._close_unused)

    def _close_unused(self) -> None:
        # A WebSocket has another protocol.
        if self.cycle is None and self.transport.get_protocol() is self:
            self.transport.close()


class HttpProtocol(TimelyProtocol):
    """Closes a connection of another user before anything of it is read.

    What others send, or leave open, would take memory and descriptors before anything asks for the password.
    """

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if self.client is None or is_of_another(self.client, transport.get_extra_info("sockname")):
            transport.abort()


class Gate:
    """An ASGI layer that serves its own addresses and page only, and exchanges tickets for the password."""

    def __init__(self, app: App, port: int, origin: str, password: str, folder: Path) -> None:
        """`origin`: the address for browsers. `folder`: where the pages of `orch ui` are."""
        self._app = app
        self._end = ADDRESS, port
        self._origin = origin
        self._page_host = origin.partition("://")[2]
        self._api_host = f"{ADDRESS}:{port}"
        self._password = password
        self._access = authorization(password).encode()
        self._folder = folder
        self._used: set[str] = set()

    async def __call__(self, scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        reply = self._refusal(scope)
        if reply is None and scope["type"] == "http" and scope["path"] == LOGIN:
            reply = await self._log_in(Request(scope, receive), scope["client"])
            reply.headers["cache-control"] = "no-store"
        to_page = _headers(scope, b"host") == [self._page_host]
        await (reply or self._app)(scope, receive, self._confined(send, to_page))

    def _refusal(self, scope: MutableMapping[str, Any]) -> Response | None:
        """The reply to what did not ask for this server by its own address, or asks for another page."""
        hosts, origins = _headers(scope, b"host"), _headers(scope, b"origin")
        if (scope["client"] or [""])[0] != ADDRESS:
            return PlainTextResponse(f"This server answers to {ADDRESS} only.\n", 403)
        by_program = hosts == [self._api_host] and scope["path"].startswith("/api/")
        if not by_program and hosts != [self._page_host]:
            said = "This is not, or no longer, the address of Prefect's page. To open it, run: orch ui\n"
            return PlainTextResponse(said, 421, {"clear-site-data": LEFT, "cache-control": "no-store"})
        if origins not in ([], [self._origin]):
            return PlainTextResponse("This server answers to its own page only.\n", 403)
        if scope["type"] == "http" and not self._open(scope):
            return JSONResponse({"exception_message": "Unauthorized"}, 401)
        return None

    def _open(self, scope: MutableMapping[str, Any]) -> bool:
        """Whether a request may reach the app: with the password, or for the page's own files.

        What the app makes for each request, such as its schema, would keep its only thread busy.
        """
        if given := _headers(scope, b"authorization"):
            return len(given) == 1 and hmac.compare_digest(given[0].encode(), self._access)
        path = scope["path"]
        if path in (LOGIN, HEALTH):
            return True
        return scope["method"] in ("GET", "HEAD") and not path.startswith(MADE_ANEW)

    def _confined(self, send: Any, to_page: bool) -> Callable[..., Awaitable[None]]:
        """Adds the rules for browsers to the head of each reply; the page's own name its host."""
        policy = POLICY.format(sockets=f" ws://{self._page_host}" if to_page else "")

        async def sent(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["content-security-policy"] = policy
                headers["x-frame-options"] = "DENY"
            await send(message)

        return sent

    async def _log_in(self, request: Request, client: End) -> Response:
        if request.method != "POST":
            return HTMLResponse(PAGE, headers={"clear-site-data": LEFT})
        if not is_of_owner(client, self._end):
            return PlainTextResponse("This server belongs to another user.", 403)
        if not self._redeem((await request.body()).decode("latin-1")):
            return PlainTextResponse("This address was used before, or is too old: run orch ui again.", 403)
        return PlainTextResponse(self._password)

    def _redeem(self, ticket: str) -> bool:
        text, _, signed = ticket.rpartition(".")
        if not hmac.compare_digest(signed.encode(), signature(self._password, text).encode()):
            return False
        until, _, _ = text.partition(".")
        fresh = float(until) > time.time() and ticket not in self._used
        self._used.add(ticket)
        (self._folder / login_page(ticket)).unlink(missing_ok=True)
        return fresh


def _headers(scope: MutableMapping[str, Any], wanted: bytes) -> list[str]:
    return [value.decode("latin-1") for name, value in scope["headers"] if name == wanted]


def main(listener_fd: int, idle_minutes: float, folder: Path) -> None:
    import uvicorn

    os.umask(0o077)
    import_prefect()
    from prefect.server.api.server import create_app
    from prefect.settings import get_current_settings

    listener = socket.socket(fileno=listener_fd)
    settings = get_current_settings().server.api
    assert settings.auth_string is not None
    password = settings.auth_string.get_secret_value()
    watch = IdleWatch(create_app(final=True), password)
    port, origin = listener.getsockname()[1], settings.cors_allowed_origins
    gate = Gate(watch, port, origin, password, folder)
    # Without `proxy_headers`, a client cannot say that it comes from another port.
    config = uvicorn.Config(
        gate,
        http=HttpProtocol,
        ws_max_size=MESSAGE_BYTES,
        backlog=BACKLOG,
        log_level="warning",
        timeout_graceful_shutdown=5,
        proxy_headers=False,
    )
    server = uvicorn.Server(config)

    def stop_when_idle() -> None:
        while not server.started:  # which may take longer than the idle time
            time.sleep(0.2)
        watch.reset()
        while watch.idle_s < idle_minutes * 60:
            time.sleep(1.0)
            _bound_log()
        # From here on no run finds this server; a run that needs one waits for the lock.
        (folder / "server.json").unlink(missing_ok=True)
        server.should_exit = True

    threading.Thread(target=stop_when_idle, daemon=True).start()
    server.run(sockets=[listener])


def _bound_log() -> None:
    """Empties the log if it is too large: faults, such as too many connections, can repeat without end."""
    log = os.fstat(sys.stderr.fileno())
    if stat.S_ISREG(log.st_mode) and log.st_size > LOG_BYTES:
        os.ftruncate(sys.stderr.fileno(), 0)


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]), Path.cwd())
