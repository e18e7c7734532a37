"""Requests that set schedules off: `POST /hooks/NAME` on loopback, with the token of the schedule.

What a request says is data. It chooses nothing but the schedule, whose token it shows, and reaches the run as
foreign text. A web page cannot send one: a request with an `Origin`, or with another `Host` than this port
of loopback, is refused, whatever token it shows.

One thread answers all requests. Each reply comes after what it promises is on the disk. Not covered: another
user's program that listens at the port while this one does not, and is sent tokens there.
"""

import asyncio
import hmac
import secrets
import socket
import threading
from collections.abc import Callable, MutableMapping
from types import TracebackType
from typing import Any, Self

import uvicorn
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from orchestrator_cli.durable.peers import is_of_another
from orchestrator_cli.engine.deployments import OCCASION_BYTES
from orchestrator_cli.engine.serving import TimelyProtocol
from orchestrator_cli.runtime import new_run_id
from orchestrator_cli.schedules.rates import HourlyRate
from orchestrator_cli.schedules.schedule import HOOK_HOST, HOOKS, ScheduleStore

BODY_BYTES = OCCASION_BYTES
HOOKS_AN_HOUR, BYTES_AN_HOUR = 60, 1 << 20
"""Of each schedule; the bytes are those of the bodies."""
MOST_WAITING = 100
"""Of all schedules: requests that were accepted while Prefect's server did not answer."""
BODY_S = 10.0
CONNECTIONS = 64


OTHERS = 16
"""Of the connections, those that other users of the machine may have, such as a proxy with its own user."""


class HookProtocol(TimelyProtocol):
    """Closes a connection of another user if others have their share, so that they cannot take all."""

    is_of_others = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        server = transport.get_extra_info("sockname")
        self.is_of_others = self.client is None or is_of_another(self.client, server)
        others = sum(getattr(one, "is_of_others", False) for one in self.connections)
        if self.is_of_others and others > OTHERS:
            transport.abort()


class HookFailed(Exception):
    """Why a request sets nothing off, with the status of the reply."""

    def __init__(self, status: int, why: str, **headers: str) -> None:
        super().__init__(why)
        self.reply = JSONResponse(
            {"error": why}, status, {k.replace("_", "-"): v for k, v in headers.items()}
        )


class Webhooks:
    """Listens while it is entered and the home has a schedule with a webhook; an ASGI application."""

    def __init__(self, store: ScheduleStore, say: Callable[[str], None]) -> None:
        """`say` shows one line. It is called from another thread."""
        self._store = store
        self._say = say
        self._rate, self._bytes = HourlyRate(HOOKS_AN_HOUR), HourlyRate(BYTES_AN_HOUR)
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None
        self._fault = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._server is not None and self._thread is not None:
            self._server.should_exit = True
            self._thread.join()

    def listen(self) -> None:
        """Begin to listen, if that is wanted and not so yet. A port that is taken is tried again."""
        if self._server is not None or not any(one.webhook for one in self._store.all().values()):
            return
        listener = socket.socket()
        try:
            # So that a restart does not wait for the connections of the process before.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((HOOK_HOST, self._store.hook_port()))
            listener.listen(CONNECTIONS)
        except OSError as exc:
            listener.close()
            port = self._store.hook_port()
            self._say_once(f"Webhooks: {HOOK_HOST}:{port} cannot be listened at: {exc.strerror}")
            return
        self._say_once(f"Webhooks: listening at {self._store.hook_url()}")
        config = uvicorn.Config(
            self,
            http=HookProtocol,
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="critical",
            access_log=False,
            proxy_headers=False,
            server_header=False,
            backlog=CONNECTIONS,
            limit_concurrency=CONNECTIONS,
            timeout_graceful_shutdown=2,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, args=[[listener]], daemon=True)
        self._thread.start()

    def _say_once(self, line: str) -> None:
        if line != self._fault:
            self._fault = line
            self._say(line)

    async def __call__(self, scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        request = Request(scope, receive)
        try:
            reply: Response = await self._answered(request)
        except HookFailed as exc:
            reply = exc.reply
        except ClientDisconnect:
            return
        except OSError as exc:
            self._say_once(f"Webhooks: a request cannot be kept: {exc}")
            reply = JSONResponse({"error": "The request could not be kept."}, 503)
        # What is left of a body is not read.
        reply.headers["connection"] = "close"
        await reply(scope, receive, send)

    async def _answered(self, request: Request) -> Response:
        """The reply to a request that sets a run off. Raises `HookFailed`, `OSError`."""
        name = self._schedule_of(request)
        body = await _body_of(request)
        waiting = sum(1 for _ in self._store.triggered())
        if waiting >= MOST_WAITING:
            raise HookFailed(503, "Too many requests wait for Prefect's server.", retry_after="60")
        if not (self._rate.takes(name) and self._bytes.takes(name, len(body.encode()))):
            said = f"At most {HOOKS_AN_HOUR} requests and {BYTES_AN_HOUR >> 20} MB an hour."
            raise HookFailed(429, said, retry_after="600")
        run = new_run_id()
        self._store.trigger(name, "webhook", run, run=run, source="webhook", occasion=body)
        return JSONResponse({"run": run}, 202)

    def _schedule_of(self, request: Request) -> str:
        """The name of the schedule that a request is for, and may set off."""
        port = self._store.hook_port()
        if request.headers.getlist("host") not in ([f"{HOOK_HOST}:{port}"], [f"localhost:{port}"]):
            raise HookFailed(421, f"This server answers to {HOOK_HOST}:{port} only.")
        if "origin" in request.headers:
            raise HookFailed(403, "This server does not answer to web pages.")
        name = request.url.path.removeprefix(HOOKS)
        if not request.url.path.startswith(HOOKS):
            raise HookFailed(404, f"There is nothing but {HOOKS}NAME.")
        schedule = self._store.all().get(name)
        token = self._store.token(name) if schedule is not None and schedule.webhook else None
        given = request.headers.getlist("authorization")
        scheme, _, shown = given[0].partition(" ") if len(given) == 1 else ("", "", "")
        wanted = token or secrets.token_urlsafe()  # so that no name can be found out
        is_theirs = (
            hmac.compare_digest(shown.strip().encode(), wanted.encode()) and scheme.lower() == "bearer"
        )
        if schedule is None or not token or not is_theirs:
            raise HookFailed(401, "The token is not that of this schedule.", www_authenticate="Bearer")
        if request.method != "POST":
            raise HookFailed(405, "Send it with POST.", allow="POST")
        if schedule.paused:
            raise HookFailed(409, f"{name} is paused.")
        return name


async def _body_of(request: Request) -> str:
    """The body, if it is text of at most `BODY_BYTES` and comes in time. Raises `HookFailed`."""
    too_long = HookFailed(413, f"The body has more than {BODY_BYTES:,} bytes.")
    said = request.headers.get("content-length", "0")
    if said.isdigit() and int(said) > BODY_BYTES:
        raise too_long
    body = b""
    try:
        async with asyncio.timeout(BODY_S):
            async for part in request.stream():
                body += part
                if len(body) > BODY_BYTES:
                    raise too_long
    except TimeoutError as exc:
        raise HookFailed(408, f"The body did not come within {BODY_S:g} s.") from exc
    try:
        text = body.decode()
    except UnicodeDecodeError as exc:
        raise HookFailed(415, "The body is not UTF-8 text.") from exc
    if "\0" in text:
        raise HookFailed(415, "The body has a zero byte.")
    return text
