"""The connection to one third-party MCP server: opened with the first call, closed with the run.

A server's program runs on the host beneath a supervisor, which ends it with this process, however that ends.
It starts in an empty folder of its own: many programs run what the folder that they start in holds, and
strangers may have written the workspace. It gets the few variables that every program needs, the workspace's
path, and the variables that the user named. The length of its lines is limited; lines that are not messages
are kept for the text of errors.

Every error is `ServerFailed`, which names the server. It closes the connection, and the next call opens a
new one.
"""

import contextlib
import subprocess
import tempfile
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from concurrent.futures import CancelledError, Future
from contextlib import AbstractContextManager, asynccontextmanager
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from orchestrator_cli.cancellation import Cancellation, run_beside
from orchestrator_cli.errors import RecoverableError
from orchestrator_cli.http_bodies import BodyRefused
from orchestrator_cli.mcp_client.asked import within_bounds
from orchestrator_cli.mcp_client.login import LoginFailed
from orchestrator_cli.mcp_client.over_http import LINE_BYTES, START_S, Login, over_http
from orchestrator_cli.mcp_client.tools import kept_row
from orchestrator_cli.mcp_settings import McpServer, check_address
from orchestrator_cli.subprocesses.command import open_process

SAID_CHARS = 400
MAX_PAGES = 20
MAX_ROWS = 1_000
WORKSPACE = "ORCH_WORKSPACE"
"""The variable with the workspace's path that a server's program gets."""


class ServerFailed(RecoverableError):
    """The server could not be used, for a reason unrelated to the call itself."""


class Loop:
    """The event loop, in a thread, that all connections of a run share; started with the first."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._portal: Any = None
        self._running: AbstractContextManager[Any] | None = None

    @property
    def portal(self) -> Any:
        with self._lock:
            if self._portal is None:
                from anyio.from_thread import start_blocking_portal

                self._running = start_blocking_portal()
                self._portal = self._running.__enter__()
            return self._portal

    def close(self) -> None:
        with self._lock:
            if self._running is not None:
                # Do not wait for calls that hang in it.
                with contextlib.suppress(RuntimeError):
                    self._portal.call(self._portal.stop, True)
                self._running.__exit__(None, None, None)
                self._running = self._portal = None


@dataclass
class ServerOutput:
    """What a server wrote besides messages: the end of its standard error, and other lines."""

    lines: deque[str] = field(default_factory=lambda: deque(maxlen=5))
    closed: str = ""
    """Why reading its output ended."""

    def end(self, why: str) -> None:
        """Have a reason, unless there is one."""
        self.closed = self.closed or why

    def __str__(self) -> str:
        text = " ".join(" ".join(self.lines).split())[-SAID_CHARS:]
        return "; ".join(part for part in (self.closed, f"it said: {text}" if text else "") if part)


class Connection:
    """One server of a run. Every method may be called from any thread."""

    def __init__(
        self,
        name: str,
        server: McpServer,
        loop: Loop,
        *,
        workspace: Path,
        scratch: Path,
        env: Callable[[], Mapping[str, str]],
        login: Login = Login(),  # noqa: B008  (frozen)
    ) -> None:
        """
        Args:
            workspace: the folder that the program works in.
            scratch: where the empty folder is made that the program starts in.
            env: returns the variables of the user's that the registration names, as far as they are set; it
                may raise `ServerFailed`.
            login: for an address, what it may log in with.
        """
        self._name = name
        self._server = server
        self._loop = loop
        self._workspace = workspace
        self._scratch = scratch
        self._env = env
        self._login = login
        self._lock = threading.Lock()
        self._open: _Open | None = None
        self._ended = False

    def tools(self, cancellation: Cancellation) -> list[Any]:
        """The tools that the server lists, also malformed ones. Raises `ServerFailed`."""

        async def walk(client: Any) -> list[Any]:
            import anyio

            rows: list[Any] = []
            cursor = None
            with anyio.fail_after(START_S), _all_rows(client.session, rows):
                for _ in range(MAX_PAGES):
                    page = await client.list_tools(cursor=cursor)
                    cursor = page.next_cursor
                    if not cursor:
                        break
            return rows

        return self._through(walk, cancellation, START_S)  # type: ignore[no-any-return]

    def call(
        self, tool: str, arguments: Mapping[str, Any], *, key: str, cancellation: Cancellation
    ) -> dict[str, Any]:
        """The result of one call, in the protocol's form. Raises `ServerFailed`, and what cancels it."""
        seconds = self._server.timeout_s
        meta = {"orch/idempotencyKey": key} if key else None

        async def ask(client: Any) -> dict[str, Any]:
            import anyio

            with anyio.fail_after(seconds):
                # The library's own limit is longer, because its error is less clear.
                result = await client.call_tool(
                    tool, dict(arguments), read_timeout_seconds=seconds + START_S, meta=meta
                )
            found: dict[str, Any] = result.model_dump(mode="json", by_alias=True)
            return found

        return self._through(ask, cancellation, seconds)  # type: ignore[no-any-return]

    def close(self) -> None:
        """End the server."""
        with self._lock:
            self._ended = True
            open_, self._open = self._open, None
        if open_ is not None:
            open_.close()

    def _through(self, talk: Callable[[Any], Any], cancellation: Cancellation, seconds: float) -> Any:
        cancellation.check()
        open_ = cancellation.waiting_for(self._opened)
        future: Future[Any] = self._loop.portal.start_task_soon(talk, open_.client)

        def cancel() -> None:
            future.cancel()

        try:
            with cancellation.calling(cancel):
                return future.result()
        except CancelledError:
            cancellation.check()
            raise ServerFailed(f"the MCP server {self._name} was ended") from None
        except TimeoutError:
            self._give_up(open_)
            raise self._failed(f"did not answer within {seconds:g} s", open_.said) from None
        except Exception as exc:
            self._give_up(open_)
            raise self._failed(_reason(exc), open_.said) from exc

    def _opened(self) -> "_Open":
        with self._lock:
            if self._ended:
                raise ServerFailed(f"the MCP server {self._name} was ended with the run")
            if self._open is None:
                said = ServerOutput()
                client = _connected(
                    self._server, self._env(), self._workspace, self._scratch, said, self._login
                )
                holder = self._loop.portal.wrap_async_context_manager(client)
                try:
                    self._open = _Open(holder.__enter__(), holder, said)
                except TimeoutError:
                    raise self._failed(f"was not ready within {START_S:g} s", said) from None
                except Exception as exc:
                    raise self._failed(f"could not be reached: {_reason(exc)}", said) from exc
            return self._open

    def _give_up(self, open_: "_Open") -> None:
        with self._lock:
            if self._open is open_:
                self._open = None
        run_beside(open_.close)

    def _failed(self, what: str, said: ServerOutput) -> ServerFailed:
        more = str(said)
        return ServerFailed(f"the MCP server {self._name} {what}" + (f"; {more}" if more else ""))


@dataclass
class _Open:
    client: Any
    holder: AbstractContextManager[Any]
    said: ServerOutput

    def close(self) -> None:
        # The connection is over; no one could use an error.
        with contextlib.suppress(Exception):
            self.holder.__exit__(None, None, None)


def _reason(exc: BaseException) -> str:
    """The reason in one line; of a group, that of its first error."""
    from mcp.shared.exceptions import MCPError

    while isinstance(exc, BaseExceptionGroup):
        exc = exc.exceptions[0]
    text = str(exc).strip().partition("\n")[0]
    known = isinstance(exc, MCPError | BodyRefused | LoginFailed) or type(exc) is OSError
    return (text if known and text else f"{type(exc).__name__}: {text}".rstrip(": "))[:SAID_CHARS]


@asynccontextmanager
async def _connected(
    server: McpServer,
    env: Mapping[str, str],
    workspace: Path,
    scratch: Path,
    said: ServerOutput,
    login: Login,
) -> AsyncIterator[Any]:
    from mcp.client.client import Client
    from mcp_types import Implementation, ListRootsResult, Root

    async def roots(context: Any) -> ListRootsResult:  # noqa: ARG001
        return ListRootsResult(roots=[Root(uri=workspace.as_uri())])

    server = _expanded(server, env, workspace)
    env = {name: env[name] for name in server.env}
    about = Implementation(name="orch", version=metadata.version("orchestrator-cli"))
    async with contextlib.AsyncExitStack() as stack:
        if server.url is None:
            folder = stack.enter_context(_empty_folder(scratch))
            env = {WORKSPACE: str(workspace), "PYTHONSAFEPATH": "1", **server.variables, **env}
            transport: Any = _program(server.command, env, folder, said)
        else:
            token = next(iter(env.values()), "")
            transport = await stack.enter_async_context(over_http(server, token, login, said.end))
        client = Client(
            within_bounds(transport, said.end),
            client_info=about,
            cache=None,
            read_timeout_seconds=START_S,
            list_roots_callback=roots if server.url is None else None,
        )
        found = await stack.enter_async_context(client)
        # It would apply the server's own schema to a result, for as long as that takes.
        session: Any = found.session
        session.validate_tool_result = _unchecked
        yield found


async def _unchecked(_name: str, _result: object) -> None:
    """A result is data for an agent, whatever its server says of its form."""


@contextlib.contextmanager
def _all_rows(session: Any, rows: list[Any]) -> Iterator[None]:
    """Gathers what is listed, as it is: the library would refuse a whole page for one malformed tool."""
    from mcp_types.methods import validate_server_result

    dispatcher = session._dispatcher
    send = dispatcher.send_raw_request

    async def sent(method: str, *rest: Any) -> Any:
        raw = await send(method, *rest)
        if method != "tools/list" or not isinstance(raw, dict) or not isinstance(raw.get("tools"), list):
            return raw
        listed = raw["tools"][: MAX_ROWS - len(rows)]
        rows.extend(map(kept_row, listed))
        version = session.protocol_version
        return {**raw, "tools": [row for row in listed if is_sound(raw, row, version)]}

    def is_sound(raw: dict[str, Any], row: Any, version: str) -> bool:
        try:
            validate_server_result("tools/list", version, {**raw, "tools": [row]})
        except KeyError:
            return True  # the library does not know this version's results
        except ValueError:
            return False
        return True

    dispatcher.send_raw_request = sent
    try:
        yield
    finally:
        dispatcher.send_raw_request = send


def _empty_folder(scratch: Path) -> tempfile.TemporaryDirectory[str]:
    scratch.mkdir(parents=True, exist_ok=True, mode=0o700)
    return tempfile.TemporaryDirectory(prefix="start-", dir=scratch, ignore_cleanup_errors=True)


def _expanded(server: McpServer, env: Mapping[str, str], workspace: Path) -> McpServer:
    """The registration with the user's variables in place of their names. Raises `ServerFailed`."""
    try:
        made = server.expanded(env.get, str(workspace))
        if made.url is not None:
            check_address(made.url)
    except KeyError as exc:
        raise ServerFailed(f"{exc.args[0]} is not set: set it in the environment") from None
    except ValueError:
        raise ServerFailed("its address is none once its variables are replaced") from None
    return made


@asynccontextmanager
async def _program(
    command: tuple[str, ...], env: Mapping[str, str], cwd: str, said: ServerOutput
) -> AsyncIterator[Any]:
    """The transport to a program: messages are lines on its standard input and output."""
    import anyio
    from mcp.client.stdio import get_default_environment
    from mcp.shared.message import SessionMessage

    to_us, incoming = anyio.create_memory_object_stream[Any](0)
    outgoing, from_us = anyio.create_memory_object_stream[SessionMessage](0)
    given = get_default_environment() | dict(env)
    async with (
        open_process(command, cwd=cwd, env=given, stderr=subprocess.PIPE) as process,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(_read, process.stdout, to_us, said)
        tasks.start_soon(_write, process.stdin, from_us)
        tasks.start_soon(_overhear, process.stderr, said)
        try:
            yield incoming, outgoing
        finally:
            tasks.cancel_scope.cancel()
            for stream in (to_us, incoming, outgoing, from_us):
                stream.close()


async def _read(stdout: Any, to_us: Any, said: ServerOutput) -> None:
    """Pass on messages; the end of the stream tells the client that the program has ended."""
    from mcp.shared.message import SessionMessage
    from mcp_types import jsonrpc_message_adapter

    async with to_us:
        async for line in _bounded(stdout, said):
            try:
                message = jsonrpc_message_adapter.validate_json(line, by_name=False)
            except ValueError:
                said.lines.append(line[:SAID_CHARS].decode(errors="replace"))
                continue
            await to_us.send(SessionMessage(message))
    said.end("it ended")


async def _bounded(stream: Any, said: ServerOutput) -> AsyncIterator[bytes]:
    """The lines of a stream, up to one that exceeds the limit."""
    import anyio

    left = b""
    with contextlib.suppress(anyio.EndOfStream, anyio.ClosedResourceError, anyio.BrokenResourceError):
        while len(left) <= LINE_BYTES:
            *whole, left = (left + await stream.receive()).split(b"\n")
            for line in whole:
                if line.strip():
                    yield line
        said.closed = f"it wrote a line of more than {LINE_BYTES:,} bytes"


async def _write(stdin: Any, from_us: Any) -> None:
    import anyio

    async with from_us:
        with contextlib.suppress(anyio.ClosedResourceError, anyio.BrokenResourceError, OSError):
            async for message in from_us:
                text = message.message.model_dump_json(by_alias=True, exclude_unset=True)
                await stdin.send(text.encode() + b"\n")


async def _overhear(stderr: Any, said: ServerOutput) -> None:
    async for line in _bounded(stderr, ServerOutput()):
        said.lines.append(line[:SAID_CHARS].decode(errors="replace"))
